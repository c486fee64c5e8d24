// The hand-driven pull consumer against a client that says exactly what the test wants.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import type { StoredMessage } from '#gateway/upstream/log-stream.ts'
import { parseDelivery, PullReading } from '#gateway/upstream/pull-reading.ts'
import { ManualClock } from '#test/support/manual-clock.ts'

type Pull = { readonly batch: number; readonly max_bytes?: number; readonly no_wait?: boolean }

const setUp = (options: { requestMessages?: number; stopAt?: number; once?: { delivered: number } } = {}) => {
  const clock = new ManualClock()
  const pulls: { readonly reply: string; readonly pull: Pull }[] = []
  let deliver: (message: Partial<Msg>) => void = () => undefined
  let subscribed = true
  const nc = {
    isClosed: () => false,
    publish: (_: string, body: string, { reply }: { reply: string }) =>
      pulls.push({ reply, pull: JSON.parse(body) as Pull }),
    subscribe: (_: string, { callback }: { callback: (e: Error | null, m: Msg) => void }) => {
      deliver = (message) => callback(null, message as Msg)
      return { unsubscribe: () => void (subscribed = false) }
    },
  }
  const seen: StoredMessage[] = []
  const reading = new PullReading({
    nc: nc as unknown as NatsConnection,
    inboxPrefix: '_INBOX_t',
    stream: 'DW_a',
    consumer: 'c',
    sink: (message) => seen.push(message) === options.stopAt,
    bounds: { requestBytes: 1000, requestMessages: options.requestMessages ?? 100, heartbeatMs: 1000 },
    clock,
    ...(options.once === undefined ? {} : { once: options.once }),
  })
  const message = (seq: number, delivered: number, pending = 1): void =>
    deliver({
      reply: `$JS.ACK.DW_a.c.1.${seq}.${delivered}.1700000000000000000.${pending}`,
      data: new Uint8Array([seq]),
      subject: 'dw.log.a',
    })
  const status = (request: number, code: number, description: string): void =>
    deliver({
      reply: '',
      data: new Uint8Array(0),
      subject: pulls[request]?.reply ?? '',
      headers: { code, description } as Msg['headers'] & object,
    })
  return { clock, pulls, seen, reading, message, status, isSubscribed: () => subscribed }
}

test('two requests are outstanding, each replaced when it is used up or ended', () => {
  const { pulls, message, status, seen } = setUp({ requestMessages: 2 })
  assert.equal(pulls.length, 2)
  message(10, 1)
  assert.equal(pulls.length, 2)
  message(11, 2)
  assert.equal(pulls.length, 3)
  status(1, 408, 'Request Timeout')
  assert.equal(pulls.length, 4)
  status(1, 408, 'Request Timeout')
  assert.equal(pulls.length, 4, 'an ended request ends once')
  status(2, 100, 'Idle Heartbeat')
  assert.equal(pulls.length, 4)
  assert.deepEqual(
    seen.map(({ seq, storedAtMs }) => [seq, storedAtMs]),
    [
      [10, 1_700_000_000_000],
      [11, 1_700_000_000_000],
    ],
  )
})

test('a message above the byte bound is asked for alone', () => {
  const { pulls, message, status } = setUp()
  status(0, 409, 'Message Size Exceeds MaxBytes')
  assert.equal(pulls[2]?.pull.max_bytes, undefined)
  assert.equal(pulls[2]?.pull.batch, 1)
  message(1, 1)
  // The bound cuts a request that had delivered: nothing special about the next message.
  status(1, 409, 'Message Size Exceeds MaxBytes')
  assert.equal(pulls.at(-1)?.pull.max_bytes, 1026, 'from then on there is room for two of the largest')
})

test('a delivery that is missing ends the reading; nothing after it is handed on', async () => {
  const { message, reading, seen, isSubscribed } = setUp()
  message(1, 1)
  message(3, 3)
  message(4, 4)
  assert.deepEqual(await reading.done, { end: 'gap' })
  assert.deepEqual(
    seen.map(({ seq }) => seq),
    [1],
  )
  assert.equal(isSubscribed(), false)
})

test('the hub dropping the consumer, and silence, end the reading by name', async () => {
  const dropped = setUp()
  dropped.status(0, 409, 'Consumer Deleted')
  const result = await dropped.reading.done
  assert.equal(result.end, 'dropped')
  assert.match(result.error?.message ?? '', /409 Consumer Deleted/)
  const silent = setUp()
  await silent.clock.advance(2_000)
  silent.status(0, 100, 'Idle Heartbeat')
  await silent.clock.advance(2_400)
  silent.message(1, 1)
  const asked = silent.pulls.length
  await silent.clock.advance(2_100)
  assert.equal(silent.pulls.length, asked + 2, 'asked anew before it is given up')
  await silent.clock.advance(2_000)
  assert.equal((await silent.reading.done).end, 'stalled')
  assert.equal(silent.clock.pending, 0)
})

test('the sink stops it; one request only, when only what is there now is wanted', async () => {
  const stopped = setUp({ stopAt: 2 })
  stopped.message(1, 1)
  stopped.message(2, 2)
  stopped.message(3, 3)
  assert.equal((await stopped.reading.done).end, 'stopped')
  assert.equal(stopped.seen.length, 2)
  const once = setUp({ once: { delivered: 7 } })
  assert.equal(once.pulls.length, 1)
  assert.equal(once.pulls[0]?.pull.no_wait, true)
  once.message(30, 8)
  once.status(0, 404, 'No Messages')
  assert.equal((await once.reading.done).end, 'stopped')
  assert.equal(once.reading.delivered, 8)
  assert.equal(once.pulls.length, 1)
})

test('the delivery subject is read in both its forms, and refused in any other', () => {
  const short = parseDelivery('$JS.ACK.S.C.1.22.3.1700000000123456789.9')
  const long = parseDelivery('$JS.ACK.hub.ACCHASH.S.C.1.22.3.1700000000123456789.9.rand')
  assert.deepEqual(short, long)
  assert.deepEqual([short?.seq, short?.delivered, short?.pending], [22, 3, 9])
  for (const text of ['', 'x', '$JS.ACK.S.C.1.2.3', 'a.b.c.d.e.f.g.h.i', '$JS.ACK.S.C.1.x.3.4.5']) {
    assert.equal(parseDelivery(text), undefined, text)
  }
})
