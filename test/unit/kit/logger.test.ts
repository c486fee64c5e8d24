// What may be in a log line, and what never is.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLogger, type LogFields, prettyLine } from '#kit/logger.ts'

function capture(level: 'debug' | 'info' | 'warn' = 'debug') {
  const lines: string[] = []
  const logger = createLogger({ service: 'test', level, format: 'json', destination: (line) => lines.push(line) })
  const last = (): Record<string, unknown> => JSON.parse(lines.at(-1) ?? '{}') as Record<string, unknown>
  const logged = (fields: LogFields): Record<string, unknown> => {
    logger.info('event', fields)
    return last()
  }
  return { logger, lines, last, logged }
}

test('a line is one JSON object with time, level, service, event and fields', () => {
  const { lines, logged } = capture()
  const line = logged({ cluster: 'sz-edge-1', revision: '812', n: 3, ok: true, big: 12345678901234567890n })
  assert.equal(lines.length, 1)
  assert.match(lines[0] ?? '', /^\{.*\}\n$/)
  assert.ok(!Number.isNaN(Date.parse(String(line['time']))))
  const { time: _time, ...rest } = line
  assert.deepEqual(rest, {
    level: 'info',
    service: 'test',
    event: 'event',
    cluster: 'sz-edge-1',
    revision: '812',
    n: 3,
    ok: true,
    big: '12345678901234567890',
  })
})

test('levels below the chosen one are not written; children add their fields', () => {
  const { logger, lines, last } = capture('warn')
  logger.debug('x')
  logger.info('x')
  assert.equal(lines.length, 0)
  logger.child({ session: 's1', token: 'T0pSecret' }).child({ ch: 7 }).error('y')
  assert.equal(last()['session'], 's1')
  assert.equal(last()['ch'], 7)
  assert.equal(last()['token'], '***')
})

test('secrets are withheld by name, at any depth, and paths to them are not', () => {
  const { logged, lines } = capture()
  logged({
    password: 'hunter2',
    natsToken: 'hunter2',
    shared_secret: 'hunter2',
    headers: { Authorization: 'hunter2', accept: 'x' },
    list: [{ jwt: 'hunter2' }],
    map: new Map([['apiKey', 'hunter2']]),
    tokenFile: '/run/secrets/token',
    url: 'nats://a:hunter2@hub',
  })
  assert.ok(!lines.join('').includes('hunter2'), lines.join(''))
  assert.ok(lines.join('').includes('/run/secrets/token'))
})

test('watched values are withheld, bytes are counted, long strings and lists are cut', () => {
  const { logged, lines } = capture()
  const line = logged({
    value: 'private',
    event_: { values: ['private'] },
    raw: new Uint8Array(1234),
    buffer: Buffer.from('private'),
    long: 'x'.repeat(2_000),
    many: Array.from({ length: 100 }, (_, i) => i),
    deep: { a: { b: { c: { d: { e: 1 } } } } },
  })
  assert.ok(!lines.join('').includes('private'))
  assert.equal(line['raw'], '(1234 bytes)')
  assert.ok(String(line['long']).length < 600)
  assert.equal((line['many'] as unknown[]).at(-1), '(68 more)')
  assert.ok(JSON.stringify(line['deep']).includes('(nested)'))
})

test('an error is written as code and message, without a stack and with its cause', () => {
  const { logged } = capture()
  const err = Object.assign(new Error('read failed', { cause: new Error('password=hunter2 refused') }), { code: 'EIO' })
  assert.deepEqual(logged({ err })['err'], { code: 'EIO', message: 'read failed: password=*** refused' })
})

test('odd fields never break a line', () => {
  const { logged, lines } = capture()
  const circular: Record<string, unknown> = {}
  circular['self'] = circular
  logged({
    circular,
    fn: () => 1,
    symbol: Symbol('x'),
    nothing: null,
    missing: undefined,
    nan: Number.NaN,
    date: new Date(0),
  })
  for (const line of lines) assert.doesNotThrow(() => JSON.parse(line))
})

test('a terminal gets one readable line', () => {
  const colours = new RegExp(`${String.fromCodePoint(27)}\\[\\d+m`, 'g')
  const json = `${JSON.stringify({ level: 'warn', time: '2026-11-22T14:03:07.120Z', service: 'agent', event: 'stream lost', cluster: 'sz-edge-1', why: 'went away', n: 2 })}\n`
  assert.equal(
    prettyLine(json).replaceAll(colours, ''),
    '14:03:07.120 warn  agent  stream lost  cluster=sz-edge-1 why="went away" n=2\n',
  )
})
