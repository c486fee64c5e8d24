// `deltawatch policy …` as its users meet it: exit codes, reports, files written.

import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { Command } from 'commander'
import { CliError, explain } from '#client/cli/failure.ts'
import { registerPolicyCommands } from '#client/cli/policy/commands.ts'
import { formatted } from '#client/cli/policy/format.ts'
import { lineDifference } from '#client/cli/policy/test.ts'
import type { Output, Terminal } from '#client/cli/terminal.ts'

let dir = ''
let policies = ''

before(() => {
  dir = mkdtempSync(join(tmpdir(), 'deltawatch-policy-cli-'))
  policies = join(dir, 'policies')
  for (const folder of ['regions', 'tests'])
    cpSync(new URL(`../../../policies/${folder}`, import.meta.url), join(policies, folder), { recursive: true })
})
after(() => rmSync(dir, { recursive: true, force: true }))

/** Runs one command line; the exit code, and all that was printed. */
async function run(...args: readonly string[]): Promise<{ exit: number; text: string }> {
  let text = ''
  let exit = 0
  const output: Output = {
    isTTY: false,
    columns: 120,
    write: (part) => {
      text += typeof part === 'string' ? part : new TextDecoder().decode(part)
      return Promise.resolve()
    },
  }
  const io: Terminal = {
    env: {},
    out: output,
    err: output,
    stop: new AbortController().signal,
    readFile: (path) => readFileSync(path, 'utf8'),
    writeFile: (path, content) => writeFileSync(path, content),
    colour: true,
  }
  const program = new Command('deltawatch')
    .exitOverride()
    .configureOutput({ writeErr: (part) => void (text += part), writeOut: (part) => void (text += part) })
  registerPolicyCommands(program, async (action) => {
    exit = await action(io)
  })
  try {
    await program.parseAsync(['policy', ...args], { from: 'user' })
  } catch (error) {
    if (!(error instanceof CliError)) throw error
    const failure = explain(error)
    text += failure.text
    exit = failure.exit
  }
  return { exit, text: stripVTControlCharacters(text) }
}

function variant(name: string, file: string, edit: (text: string) => string): string {
  const copy = join(dir, name)
  cpSync(policies, copy, { recursive: true })
  const path = join(copy, file)
  writeFileSync(path, edit(readFileSync(path, 'utf8')))
  return copy
}

test('check: fine, warned, refused', async () => {
  const fine = await run('check', policies, '--hub', 'sz', '--strict')
  assert.equal(fine.exit, 0)
  assert.match(fine.text, /rules for gz, hk, mo, sz, revision [0-9a-f]{12}/)
  const late = await run('check', policies, '--at', '2029-11-15T00:00:00Z', '--strict')
  assert.equal(late.exit, 1)
  assert.match(late.text, /lapses at 2029-11-30T16:00:00.000Z, in 16 days \(rule device-state\) \[basis-expiring\]/)
  assert.match((await run('check', policies, '--hub', 'us')).text, /can let nothing through/)
  const bad = await run(
    'check',
    variant('bad', 'regions/sz.yaml', (text) =>
      text.replace('mode: enforce', 'mode: audit').replace('effect: deny', 'effect: forbid'),
    ),
  )
  assert.equal(bad.exit, 78)
  assert.match(bad.text, /refused, 2 problems/)
  assert.match(bad.text, /regions\/sz\.yaml spec\.mode: /)
  assert.equal((await run('check', join(dir, 'nowhere'))).exit, 78)
  assert.equal((await run('check', policies, '--at', 'noon')).exit, 2)
  const json = JSON.parse((await run('check', policies, '--json')).text) as { rules: number; warnings: unknown[] }
  assert.ok(json.rules > 20 && json.warnings.length === 0)
})

test('test: passes, fails with a difference, and insists on coverage', async () => {
  assert.deepEqual(await run('test', policies), { exit: 0, text: '70 cases passed\n' })
  const broken = await run(
    'test',
    variant('broken', 'regions/sz.yaml', (text) =>
      text.replace('/phone, action: keepLast, n: 4', '/phone, action: drop'),
    ),
  )
  assert.equal(broken.exit, 1)
  assert.match(broken.text, /failed {2}tests\/sz\.yaml: the hub sees an order cut down\n {4}value:/)
  assert.match(broken.text, /\n {6}- {2}"phone": "\*{7}8000",\n/)
  const bare = variant('bare', 'tests/sz.yaml', (text) =>
    text.replace(/ {2}- name: health records stay, for[^]*?change: nothing \}\n/, ''),
  )
  const uncovered = await run('test', bare)
  assert.equal(uncovered.exit, 1)
  assert.match(uncovered.text, /uncovered {2}gba-sz: rule never-health has no case that denies/)
  assert.equal((await run('test', bare, '--no-coverage')).exit, 0)
  const untested = variant('untested', 'tests/sz.yaml', () =>
    readFileSync(join(policies, 'tests/gz.yaml'), 'utf8').replace('# What', '# Other'),
  )
  assert.match((await run('test', untested)).text, /untested {2}gba-sz has no tests/)
})

test('explain: which rules decided, at both ends', async () => {
  const value = '{"class":"normal","phone":"13800138000"}'
  const args = [
    'explain',
    policies,
    '--source',
    'sz',
    '--hub',
    'sz',
    '--key',
    '/orders/17/status',
    '--at',
    '2026-11-22T00:00:00Z',
  ]
  const { exit, text } = await run(...args, '--value', value, '--to', 'hk')
  assert.equal(exit, 0)
  assert.match(
    text,
    /egress: leaving sz for the hub in sz at 2026-11-22T00:00:00\.000Z: allow \(orders-on-the-mainland\)/,
  )
  assert.match(text, /deliver: delivered to a subscriber in hk .*: allow \(order-status-across-the-border\)/)
  assert.match(text, /value {6}\{"class":"normal","phone":"\*\*\*"\}/)
  assert.match(text, /orders-on-the-mainland +allow +no: region +regions\/sz\.yaml/)
  const denied = await run(
    'explain',
    policies,
    '--source',
    'sz',
    '--hub',
    'sz',
    '--key',
    '/health/1',
    '--value',
    'x',
    '--to',
    'hk',
  )
  assert.match(denied.text, /deny \(deny-rule, never-health\)/)
  assert.ok(!denied.text.includes('deliver:'))
  const json = JSON.parse((await run(...args, '--value', value, '--json')).text) as {
    stages: { decision: { effect: string; value: string } }[]
  }
  assert.equal(json.stages[0]?.decision.effect, 'allow')
  assert.equal((await run(...args)).exit, 2, 'a put without a value')
  assert.equal((await run(...args, '--op', 'delete', '--prev', value)).exit, 0)
  assert.equal((await run(...args, '--value', value, '--to', 'hk', '--label', 'nonsense')).exit, 2)
})

test('diff: rules, recorded events, recorded decisions', async () => {
  const candidate = variant('candidate', 'regions/sz.yaml', (text) =>
    text.replaceAll('action: keepLast, n: 4', 'action: keepLast, n: 2'),
  )
  assert.deepEqual(await run('diff', policies, policies), { exit: 0, text: 'no rule changes\n' })
  const events = join(dir, 'events.jsonl')
  const event = (key: string, region: string): string =>
    JSON.stringify({
      source: 'sz',
      op: 'put',
      key,
      value: { class: 'normal', phone: '13800138000' },
      subscriber: { region },
    })
  writeFileSync(events, `${event('/orders/1/status', 'sz')}\n\n${event('/config/a/b', 'hk')}\n`)
  const replayed = await run('diff', policies, candidate, '--events', events, '--hub', 'sz')
  assert.equal(replayed.exit, 1)
  assert.match(replayed.text, /sz +changed +allow +orders-on-the-mainland/)
  assert.match(replayed.text, /1 of 2 recorded events come out differently/)
  assert.equal((await run('diff', policies, candidate, '--events', events)).exit, 2)
  const decisions = join(dir, 'decisions.jsonl')
  writeFileSync(
    decisions,
    `${JSON.stringify({ id: '1', at: 1, bundle: 'b', cluster: 'c', stage: 'egress', to: 'sz', rule: 'orders-on-the-mainland', effect: 'allow', keyHash: 'h', transforms: [], mode: 'enforce', reason: 'allowed' })}\n`,
  )
  assert.match(
    (await run('diff', policies, candidate, '--decisions', decisions)).text,
    /orders-on-the-mainland +1 recorded decisions/,
  )
  for (const bad of ['nonsense', '{"source":"sz"}', '{"source":"sz","op":"put","key":"/a"}']) {
    writeFileSync(events, `${bad}\n`)
    const refused = await run('diff', policies, candidate, '--events', events, '--hub', 'sz')
    assert.equal(refused.exit, 78)
    assert.match(refused.text, /events\.jsonl line 1/)
  }
})

test('bundle and sign: sealed only when the tests pass, then verified', async () => {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const [pub, priv] = [join(dir, 'pub.pem'), join(dir, 'priv.pem')]
  writeFileSync(pub, publicKey.export({ type: 'spki', format: 'pem' }))
  writeFileSync(priv, privateKey.export({ type: 'pkcs8', format: 'pem' }))
  const file = join(dir, 'policies.bundle')
  assert.equal((await run('bundle', policies, '--out', file)).exit, 0)
  assert.equal((await run('check', file, '--public-key', pub)).exit, 78, 'not signed yet')
  assert.match((await run('sign', file, '--key', priv)).text, /signed, revision [0-9a-f]{64}/)
  assert.equal((await run('check', file, '--public-key', pub)).exit, 0)
  const sealed = variant('sealed', 'regions/sz.yaml', (text) => text)
  assert.equal((await run('sign', sealed, '--key', priv)).exit, 78, 'nothing to sign yet')
  assert.equal((await run('bundle', sealed, '--manifest')).exit, 0)
  assert.equal((await run('sign', sealed, '--key', priv)).exit, 0)
  assert.equal((await run('check', sealed, '--public-key', pub)).exit, 0)
  assert.equal((await run('fmt', sealed)).exit, 78, 'a sealed bundle is not touched')
  writeFileSync(join(sealed, 'regions/sz.yaml'), `${readFileSync(join(sealed, 'regions/sz.yaml'), 'utf8')}\n`)
  assert.match((await run('check', sealed)).text, /is not the file the manifest lists/)
  const failing = variant('failing', 'tests/sz.yaml', (text) => text.replace('effect: withhold', 'effect: allow'))
  const refused = await run('bundle', failing, '--out', join(dir, 'never.bundle'))
  assert.equal(refused.exit, 78)
  assert.match(refused.text, /fails on effect/)
})

test('what is not there is named with its option, and a region nobody speaks for is said', async () => {
  const missing = join(dir, 'missing')
  for (const args of [
    ['sign', policies, '--key', missing],
    ['check', policies, '--public-key', missing],
    ['diff', policies, policies, '--hub', 'sz', '--events', missing],
    ['explain', policies, '--source', 'sz', '--hub', 'sz', '--key', '/a', '--value-file', missing],
  ]) {
    const { exit, text } = await run(...args)
    assert.equal(exit, 2, text)
    assert.match(text, /--[a-z-]+: .* cannot be read \(ENOENT\)/)
  }
  const nobody = await run('explain', policies, '--source', 'xx', '--hub', 'sz', '--key', '/a', '--value', '1')
  assert.match(nobody.text, /no document speaks for xx, only for gz, hk, mo, sz/)
})

test('check --canary-of warns of rates that a canary would lift', async () => {
  const limited = variant('limited', 'regions/sz.yaml', (text) => `${text}    - { events: 9000/s }\n`)
  assert.equal((await run('check', limited, '--canary-of', limited, '--strict')).exit, 0)
  const freed = await run('check', policies, '--canary-of', limited, '--strict')
  assert.equal(freed.exit, 1)
  assert.match(freed.text, /has no rate of events for everybody.*\[lost-limits\]/)
})

test('bundle says when a file is larger than what an entry of a bucket holds', async () => {
  const wide = variant(
    'wide',
    'regions/sz.yaml',
    (text) => `${text}${`# ${'x'.repeat(98)}\n`.repeat(Math.ceil((1024 * 1024) / 101))}`,
  )
  const written = await run('bundle', wide, '--out', join(dir, 'wide.bundle'))
  assert.equal(written.exit, 0)
  assert.match(written.text, /holds at most the hub's max_payload/)
})

test('fmt: the shipped documents are formatted; formatting keeps comments and never a value', async () => {
  assert.deepEqual(await run('fmt', policies, '--check'), { exit: 0, text: '' })
  const messy = variant('messy', 'regions/sz.yaml', (text) =>
    text.replace('{ region: sz, regime: PIPL }', '{region: sz,   regime: PIPL}   # where'),
  )
  assert.deepEqual(await run('fmt', messy, '--check'), { exit: 1, text: 'regions/sz.yaml\n' })
  assert.equal((await run('fmt', messy)).exit, 0)
  assert.match(readFileSync(join(messy, 'regions/sz.yaml'), 'utf8'), /source: \{ region: sz, regime: PIPL \} # where/)
  assert.equal((await run('fmt', messy, '--check')).exit, 0)
  assert.equal(
    formatted('# top\na:   [ 1,2 ]   # c\nb: "x[ y ]"\nc: |\n  [ raw ]\nd: {x: y}\ne: plain [ z\n'),
    '# top\na: [1, 2] # c\nb: "x[ y ]"\nc: |\n  [ raw ]\nd: { x: y }\ne: plain [ z\n',
  )
  assert.equal(formatted('a: &x 1\nb: *x\n'), undefined)
})

test('schema prints what editors read', async () => {
  for (const kind of ['policy', 'tests'])
    assert.equal((JSON.parse((await run('schema', '--kind', kind)).text) as { type: string }).type, 'object')
})

test('a difference of lines keeps what both say', () => {
  assert.deepEqual(lineDifference('a\nb\nc', 'a\nx\nc'), ['  a', '- b', '+ x', '  c'])
  assert.deepEqual(lineDifference('a', 'b'), ['- a', '+ b'])
})
