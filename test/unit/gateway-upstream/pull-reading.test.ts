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
  const inboxes = new Map<string, (message: Partial<Msg>) => void>()
  const nc = {
    isClosed: () => false,
    publish: (_: string, body: string, { reply }: { reply: string }) =>
      pulls.push({ reply, pull: JSON.parse(body) as Pull }),
    subscribe: (subject: string, { callback }: { callback: (e: Error | null, m: Msg) => void }) => {
      const inbox = subject.replace(/\.\*$/, '')
      inboxes.set(inbox, (message) => callback(null, message as Msg))
      return { unsubscribe: () => void inboxes.delete(inbox) }
    },
  }
  /** To the inbox of the request made as number `request`, counted from 0. */
  const deliver = (request: number, message: Partial<Msg>): void =>
    inboxes.get(pulls[request]?.reply.replace(/\.\d+$/, '') ?? '')?.(message)
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
  const message = (seq: number, delivered: number, request = 0, data = new Uint8Array([seq])): void => {
    const reply = `$JS.ACK.DW_a.c.1.${seq}.${delivered}.1700000000000000000.1`
    const subject = 'dw.log.a'
    const size = (): number => subject.length + reply.length + data.length
    deliver(request, { reply, data, subject, size } as Partial<Msg>)
  }
  const status = (request: number, code: number, description: string): void =>
    deliver(request, {
      reply: '',
      data: new Uint8Array(0),
      subject: pulls[request]?.reply ?? '',
      headers: { code, description } as Msg['headers'] & object,
    })
  return { clock, pulls, seen, reading, message, status, isSubscribed: () => inboxes.size > 0 }
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

test('a request used up to the byte is replaced: the hub ends it without a word', () => {
  const { pulls, message } = setUp()
  const around = 'dw.log.a'.length + '$JS.ACK.DW_a.c.1.1.1.1700000000000000000.1'.length
  message(1, 1, 0, new Uint8Array(1000 - around - 1))
  assert.equal(pulls.length, 2, 'one byte is left')
  message(2, 2, 1, new Uint8Array(1000 - around))
  assert.equal(pulls.length, 3)
  assert.match(pulls[2]?.reply ?? '', /\.1\.3$/, 'in the place of the one that was used up')
})

test('what one request delivers is not taken off another', () => {
  const { pulls, message, status } = setUp({ requestMessages: 2 })
  message(1, 1, 1)
  message(2, 2, 0)
  assert.equal(pulls.length, 2, 'each has one message left')
  message(3, 3, 1)
  assert.equal(pulls.length, 3)
  // The other delivered something too: the bound cut it, no message is too large for it.
  status(0, 409, 'Message Size Exceeds MaxBytes')
  assert.equal(pulls[3]?.pull.batch, 2)
})

test('a message above the byte bound is asked for alone', () => {
  const { pulls, message, status } = setUp()
  status(0, 409, 'Message Size Exceeds MaxBytes')
  assert.equal(pulls[2]?.pull.max_bytes, undefined)
  assert.equal(pulls[2]?.pull.batch, 1)
  message(1, 1)
  assert.equal(pulls[3]?.pull.max_bytes, 1026, 'from then on there is room for two of the largest')
  // The bound cuts a request that had delivered: nothing special about the next message.
  message(2, 2, 1)
  status(1, 409, 'Message Size Exceeds MaxBytes')
  assert.deepEqual([pulls.length, pulls[4]?.pull.max_bytes], [5, 1026])
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
