// Loading configuration: precedence, and the refusal of what is unknown or wrong in words that help.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { loadConfig } from '#kit/config/load.ts'
import { config, type Given, MINIMAL, problems, sample, surroundings } from './fixtures/sample-config.ts'

describe('precedence', () => {
  test('defaults < file < environment < flags, field by field, and every origin is known', () => {
    const { config: c, origins } = config({
      file: `${MINIMAL}workers: 2\nauth: dev\nnats:\n  servers: [nats://file:1]\n  pingInterval: 7s\n`.replace(
        /nats: \{.*\}\n/,
        '',
      ),
      env: { DELTAWATCH_WORKERS: '3', DELTAWATCH_NATS_SERVERS: 'nats://env:1', DELTAWATCH_NATS_CONNECT_TIMEOUT: '2s' },
      args: ['--workers', '4'],
    })
    assert.deepEqual(
      [c.workers, c.auth, c.nats.servers, c.nats.pingInterval, c.nats.connectTimeout, c.listen.port],
      [4, 'dev', ['nats://env:1'], 7_000, 2_000, 7400],
    )
    assert.equal(origins.get('workers'), '--workers')
    assert.equal(origins.get('nats.servers'), 'DELTAWATCH_NATS_SERVERS')
    assert.equal(origins.get('auth'), 'file c.yaml')
    assert.equal(origins.get('listen'), undefined)
  })

  test('text becomes lists, maps, booleans, numbers, addresses, durations and sizes', () => {
    const { config: c } = config({
      file: MINIMAL,
      env: { DELTAWATCH_BUFFER: '64KiB', DELTAWATCH_PROCESS_STOP_DEADLINE: '2m' },
      args: [
        '--clusters',
        'sz-edge-1=sz,gz-edge-1=gz',
        '--clusters',
        'mo-edge-1=mo',
        '--prefix',
        '/a/, /b/',
        '--prefix',
        '/c',
        '--standby',
        '-l',
        ':0',
      ],
    })
    assert.deepEqual(c.clusters, { 'sz-edge-1': 'sz', 'gz-edge-1': 'gz', 'mo-edge-1': 'mo' })
    assert.deepEqual(c.prefixes, ['/a/', '/b/', '/c'])
    assert.deepEqual(
      [c.standby, c.listen, c.buffer, c.process.stopDeadline],
      [true, { host: '::', port: 0 }, 65_536, 120_000],
    )
    assert.equal(config({ file: MINIMAL, args: ['--standby', 'no'] }).config.standby, false)
  })

  test('an empty variable is not set; DELTAWATCH_CONFIG names the file', () => {
    assert.equal(config({ file: MINIMAL, env: { DELTAWATCH_WORKERS: '', DELTAWATCH_CONFIG: '' } }).config.workers, 1)
    const given = surroundings({ files: { 'd.yaml': MINIMAL }, env: { DELTAWATCH_CONFIG: 'd.yaml' } })
    assert.equal(loadConfig(sample, given).kind, 'run')
  })

  test('an optional section stays absent, a mandatory one gets its defaults', () => {
    const { config: c } = config({ file: MINIMAL })
    assert.equal(c.extra, undefined)
    assert.equal(c.nats.tls, undefined)
    assert.equal(c.breaker.halfOpenAfter, 60_000)
  })
})

describe('refusal', () => {
  const cases: [string, Given, RegExp][] = [
    ['a mistyped field', { file: `${MINIMAL}workres: 2\n` }, /^workres is not a known field; did you mean workers\?$/],
    [
      'another spelling',
      { file: `${MINIMAL}log: {LEVEL: info}\n` },
      /^log\.LEVEL is not a known field; did you mean log\.level\?$/,
    ],
    [
      'a field in the wrong place',
      { file: `${MINIMAL}pingInterval: 5s\n` },
      /^pingInterval .* did you mean nats\.pingInterval\?$/,
    ],
    [
      'a field that resembles nothing',
      { file: `${MINIMAL}log: {zzzzzz: 1}\n` },
      /^log\.zzzzzz is not a known field; known in log: level, format$/,
    ],
    [
      'a mistyped variable',
      { file: MINIMAL, env: { DELTAWATCH_WORKRES: '2' } },
      /^DELTAWATCH_WORKRES .* did you mean DELTAWATCH_WORKERS\?$/,
    ],
    [
      'a missing field',
      { file: 'nats: {servers: ["nats://a:1"]}' },
      /^cluster is required; give cluster in the file or DELTAWATCH_CLUSTER or --cluster <id>, for example sz-edge-1$/,
    ],
    ['a missing section', { file: 'cluster: a' }, /^nats\.servers is required/],
    [
      'a value of the wrong form',
      { file: MINIMAL, args: ['--cluster', 'SZ'] },
      /^cluster = "SZ" \(--cluster\) has the wrong form; write 1 to 32 of a-z, 0-9 and -, for example sz-edge-1$/,
    ],
    [
      'a number that is none',
      { file: MINIMAL, env: { DELTAWATCH_WORKERS: 'many' } },
      /^workers = "many" \(DELTAWATCH_WORKERS\) is not a number; write a number$/,
    ],
    [
      'a number out of range',
      { file: `${MINIMAL}workers: 65\n` },
      /^workers = 65 \(file c\.yaml\) is above 64; write a number$/,
    ],
    [
      'a choice that is none',
      { file: `${MINIMAL}auth: none\n` },
      /^auth = "none" \(file c\.yaml\) is not one of the choices; write dev, jwt$/,
    ],
    [
      'a duration without a unit that exists',
      { file: `${MINIMAL}process: {stopDeadline: 5 weeks}\n` },
      /^process\.stopDeadline = "5 weeks" .* is not a duration; write a duration such as .*, at least 100ms and at most 10m$/,
    ],
    [
      'a duration out of range',
      { file: `${MINIMAL}process: {stopDeadline: 1h}\n` },
      /is out of range; .* at most 10m$/,
    ],
    ['a size', { file: `${MINIMAL}buffer: 12XB\n` }, /^buffer = "12XB" .* is not a size; write a size/],
    [
      'an address',
      { file: MINIMAL, args: ['--listen', 'host'] },
      /^listen = "host" \(--listen\) is not an address; write host:port/,
    ],
    ['a port out of range', { file: MINIMAL, args: ['--listen', 'host:70000'] }, /^listen = "host:70000"/],
    ['a scalar for a section', { file: 'cluster: a\nnats: 5\n' }, /^nats = 5 is not a mapping/],
    [
      'a list item',
      { file: 'cluster: a\nnats: {servers: ["http://a:1"]}\n' },
      /^nats\.servers\.0 = "http:\/\/a:1" .*; write one or more of nats:\/\/host:port/,
    ],
    [
      'a broken pair',
      { file: MINIMAL, args: ['--clusters', 'sz'] },
      /^clusters = "sz" \(--clusters\) is not a mapping; write pairs such as a=b,c=d$/,
    ],
    [
      'a field twice in the file',
      { file: `${MINIMAL}cluster: b\n` },
      /^c\.yaml:3: not valid YAML: Map keys must be unique/,
    ],
    ['no YAML', { file: 'a: [\n' }, /^c\.yaml:2: not valid YAML/],
    ['a list as file', { file: '- a\n' }, /^c\.yaml: the file must hold a mapping/],
    ['a missing file', { args: ['--config', 'none.yaml'] }, /^none\.yaml: no such file; check --config$/],
    [
      'YAML that unfolds',
      {
        file: `${MINIMAL}a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n`,
      },
      /cannot be read: Excessive alias count/,
    ],
  ]
  for (const [name, given, expected] of cases) {
    test(name, () => {
      const found = problems(given)
      assert.ok(
        found.some((line) => expected.test(line)),
        found.join('\n'),
      )
    })
  }

  test('all problems are reported at once', () => {
    assert.equal(problems({ file: 'workers: 0\nauht: dev\n', env: { DELTAWATCH_BUFFER: '1B' } }).length, 5)
  })

  test('a strange variable of another program is mentioned, not refused', () => {
    const env = { DELTAWATCH_GATEWAY_SERVICE_HOST: '10.0.0.1', DELTAWATCH_ETCD: '/usr/bin/etcd', OTHER: '1' }
    assert.deepEqual(config({ file: MINIMAL, env }).warnings, [
      'DELTAWATCH_GATEWAY_SERVICE_HOST is set but is not a field of this service; ignored',
    ])
  })

  test('I10: no file, argument or variable makes loading throw', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 40 }), fc.string({ maxLength: 40 }), fc.jsonValue(), (a, b, json) => {
        loadConfig(sample, surroundings({ file: a, args: [b], env: { DELTAWATCH_CLUSTERS: b } }))
        loadConfig(
          sample,
          surroundings({ file: JSON.stringify({ nats: json, logs: json, clusters: json, [a]: json }) }),
        )
      }),
      { numRuns: 200 },
    )
  })
})
