// The surface of configuration: secrets that stay secret, the command line, the printed form, the reference.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { parse } from 'yaml'
import * as z from 'zod'
import { defineConfig } from '#kit/config/definition.ts'
import { ConfigError } from '#kit/config/errors.ts'
import { byteSize, duration, formatDuration, formatSize, secret } from '#kit/config/fields.ts'
import { loadConfig, loadConfigOrThrow } from '#kit/config/load.ts'
import { renderReference } from '#kit/config/reference.ts'
import { breakerOptions, natsOptions } from '#kit/config/sections.ts'
import { config, type Given, MINIMAL, problems, sample, surroundings } from './fixtures/sample-config.ts'

describe('secrets', () => {
  const SECRET = 'hunter2'
  const files = { '/run/token': `${SECRET}\n` }
  const ways: [string, Given][] = [
    ['the file', { file: MINIMAL.replace('}', `, token: ${SECRET}}`) }],
    ['a path in the file', { file: MINIMAL.replace('}', ', tokenFile: /run/token}'), files }],
    ['the environment', { file: MINIMAL, env: { DELTAWATCH_NATS_TOKEN: SECRET } }],
    ['a path in the environment', { file: MINIMAL, env: { DELTAWATCH_NATS_TOKEN_FILE: '/run/token' }, files }],
    ['a path on the command line', { file: MINIMAL, args: ['--nats-token-file', '/run/token'], files }],
  ]
  for (const [name, given] of ways) {
    test(`come from ${name} and are never printed`, () => {
      assert.equal(config(given).config.nats.token, SECRET)
      const printed = loadConfig(sample, surroundings({ ...given, args: [...(given.args ?? []), '--print-config'] }))
      assert.equal(printed.kind, 'exit')
      assert.ok(!JSON.stringify(printed).includes(SECRET))
      const wrong = loadConfig(sample, surroundings({ ...given, args: [...(given.args ?? []), '--workers', '0'] }))
      assert.ok(!JSON.stringify(wrong).includes(SECRET))
    })
  }

  test('a wrong secret is reported without its value', () => {
    const file = MINIMAL.replace('}', `, token: [${SECRET}]}`)
    const found = problems({ file })
    assert.deepEqual(found, [
      'nats.token = *** (file c.yaml) is not text; write the secret, or better the path of a file that holds it',
    ])
  })

  test('inside lists too, from a path or not', () => {
    const file = `${MINIMAL}logs: [{id: a, passwordFile: /run/token}, {id: b, password: ${SECRET}}]\n`
    assert.deepEqual(
      config({ file, files }).config.logs.map((l) => l.password),
      [SECRET, SECRET],
    )
    const printed = loadConfig(sample, surroundings({ file, files, args: ['--print-config'] }))
    assert.ok(!JSON.stringify(printed).includes(SECRET))
    const wrong = problems({ file: `${MINIMAL}logs: [{id: a, password: [${SECRET}]}]\n` })
    assert.ok(!wrong.join('').includes(SECRET), wrong.join('\n'))
  })

  test('a value and a path together are refused, and so is a path that cannot be read', () => {
    assert.match(
      problems({ file: MINIMAL.replace('}', ', token: a, tokenFile: /run/token}'), files }).join(),
      /nats\.token and nats\.tokenFile are both given/,
    )
    assert.match(
      problems({
        file: MINIMAL,
        env: { DELTAWATCH_NATS_TOKEN: 'a', DELTAWATCH_NATS_TOKEN_FILE: '/run/token' },
        files,
      }).join(),
      /DELTAWATCH_NATS_TOKEN and DELTAWATCH_NATS_TOKEN_FILE are both set/,
    )
    assert.match(
      problems({ file: MINIMAL, args: ['--nats-token-file', '/none'] }).join(),
      /nats\.tokenFile = \/none: cannot be read \(ENOENT\)/,
    )
  })

  test('a flag can never hold a secret itself', () => {
    const spec = { program: 'x', summary: 'x', schema: z.strictObject({ token: secret() }) }
    assert.throws(
      () => defineConfig({ ...spec, flags: { token: '--token <t>' } }),
      /token is no field that a flag can set/,
    )
    assert.throws(() => defineConfig({ ...spec, flags: { tokne: '--token <t>' } }), RangeError)
    assert.ok(defineConfig({ ...spec, flags: { tokenFile: '--token-file <f>' } }))
  })
})

describe('command line', () => {
  const run = (...args: string[]) => loadConfig(sample, surroundings({ file: MINIMAL, args }))

  test('--version and --help are made from the definition', () => {
    const version = run('--version')
    assert.match(version.kind === 'exit' ? version.stdout : '', /^deltawatch-sample \d+\.\d+\.\d+ \(node \d+/)
    const help = run('--help')
    assert.equal(help.kind === 'exit' && help.code, 0)
    const text = help.kind === 'exit' ? help.stdout.replaceAll(/\s+/g, ' ') : ''
    for (const part of [
      '--cluster <id> cluster id (required; env DELTAWATCH_CLUSTER)',
      'default 127.0.0.1:7400',
      '--nats-token-file <file>',
      '_FILE',
      'Examples:',
    ]) {
      assert.ok(text.includes(part), part)
    }
  })

  test('a wrong command line exits 2 with a hint', () => {
    for (const args of [['--worker', '2'], ['--workers'], ['stray'], ['config', 'frobnicate']]) {
      const loaded = run(...args)
      assert.equal(loaded.kind === 'exit' && loaded.code, 2, args.join(' '))
      assert.match(loaded.kind === 'exit' ? loaded.stderr : '', /--help/)
    }
    const typo = run('--worker', '2')
    assert.match(typo.kind === 'exit' ? typo.stderr : '', /Did you mean --workers\?/)
  })

  test('`config check` and --check-config say valid or name the problem', () => {
    const at = (args: string[], file: string) =>
      loadConfig(sample, { ...surroundings({ files: { 'c.yaml': file } }), args })
    for (const check of [
      ['config', 'check', '--config', 'c.yaml'],
      ['--config', 'c.yaml', '--check-config'],
    ]) {
      const good = at(check, MINIMAL)
      assert.deepEqual(
        [good.kind === 'exit' && good.code, good.kind === 'exit' && good.stdout],
        [0, 'deltawatch-sample: the configuration is valid\n'],
      )
      const bad = at(check, `${MINIMAL}workers: 0\n`)
      assert.equal(bad.kind === 'exit' && bad.code, 78)
    }
  })

  test('what is printed is a file that gives the same configuration, with origins', () => {
    const args = ['--workers', '3', '--listen', '[::1]:9', '--prefix', '/a,/b']
    const printed = run(...args, '--print-config')
    const text = printed.kind === 'exit' ? printed.stdout : ''
    assert.match(text, /^workers: 3 # --workers$/m)
    assert.match(text, /^listen: "\[::1\]:9" # --listen$/m)
    assert.match(text, /^ {2}pingInterval: 5s # default$/m)
    assert.match(text, /^cluster: sz-edge-1 # file c\.yaml$/m)
    assert.deepEqual(config({ file: text }).config, config({ file: MINIMAL, args }).config)
    assert.ok(parse(text))
  })

  test('loadConfigOrThrow throws one error with every problem', () => {
    assert.equal(loadConfigOrThrow(sample, surroundings({ file: MINIMAL })).cluster, 'sz-edge-1')
    assert.throws(
      () => loadConfigOrThrow(sample, surroundings({ file: 'workers: 0\n' })),
      (e) => e instanceof ConfigError && e.code === 'DW_CONFIG_INVALID' && e.problems.length === 3,
    )
  })
})

describe('definition', () => {
  test('fields that would share a variable are refused when declared', () => {
    const schema = z.strictObject({ a: z.strictObject({ bC: z.string() }), aB: z.strictObject({ c: z.string() }) })
    assert.throws(
      () => defineConfig({ program: 'x', summary: 'x', schema, flags: {} }),
      /share the environment name DELTAWATCH_A_B_C/,
    )
  })

  test('durations and sizes print in the largest exact unit and read back', () => {
    assert.deepEqual([0, 1, 999, 1_000, 90_000, 3_600_000, 86_400_000].map(formatDuration), [
      '0ms',
      '1ms',
      '999ms',
      '1s',
      '90s',
      '1h',
      '1d',
    ])
    assert.deepEqual([1, 1024, 1536, 16 * 1024 ** 2].map(formatSize), ['1B', '1KiB', '1536B', '16MiB'])
    fc.assert(
      fc.property(fc.nat(), (n) => {
        assert.equal(duration().parse(formatDuration(n)), n)
        assert.equal(byteSize().parse(formatSize(n)), n)
      }),
    )
  })

  test('the reference lists every field with default, variable and flag', () => {
    const page = renderReference([sample])
    assert.match(
      page,
      /^\| `listen` \| `127\.0\.0\.1:7400` \| `DELTAWATCH_LISTEN` \| `-l, --listen <address>` \| address to listen on; host:port; example `127\.0\.0\.1:7400` \|$/m,
    )
    assert.match(page, /^\| `nats\.token` \|  \| `DELTAWATCH_NATS_TOKEN`, `…_FILE` \| `--nats-token-file <file>`/m)
    assert.match(page, /^\| `logs` \| `\[\]` \| file only/m)
    for (const f of sample.shape.fields) assert.ok(page.includes(`\`${f.name}\``), f.name)
  })

  test('the shared sections become the options of the parts they configure', () => {
    const { config: c } = config({ file: MINIMAL })
    const options = natsOptions(c.nats, { name: 'x', inboxPrefix: '_INBOX.x' })
    assert.deepEqual(
      [options.servers, options.pingIntervalMs, options.backoff],
      [['nats://file:1'], 5_000, { baseMs: 250, capMs: 15_000 }],
    )
    assert.deepEqual(breakerOptions(c.breaker), {
      failureRatio: 0.35,
      samplingMs: 60_000,
      minimumCalls: 5,
      halfOpenAfterMs: 60_000,
    })
  })
})
