// Stretches of the log that many readers share: few consumers, bounded bytes, nobody waits for a slow one for ever.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errorCode } from '#kit/errors.ts'
import type { StoredMessage } from '#gateway/upstream/log-stream.ts'
import { LogSegments, type SegmentBounds } from '#gateway/upstream/segments.ts'
import { ManualClock } from '#test/support/manual-clock.ts'

const never = new AbortController().signal
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const BOUNDS: SegmentBounds = { streams: 2, bytes: 1 << 20, patienceMs: 5_000, holdMs: 1_000, lingerMs: 2_000 }

/** A log of `last` entries, in batches of ten or as many as a test says; consumers open and most there ever were. */
class BatchedLog {
  last: number
  open = 0
  most = 0
  failing = false
  readonly starts: number[] = []
  readonly #size: number
  readonly #batch: number

  constructor(last: number, size = 100, batch = 10) {
    this.last = last
    this.#size = size
    this.#batch = batch
  }

  async *batches(fromSeq: number, signal: AbortSignal): AsyncGenerator<readonly StoredMessage[]> {
    this.starts.push(fromSeq)
    this.most = Math.max(this.most, ++this.open)
    let counted = true
    const over = (): void => {
      if (counted) this.open--
      counted = false
    }
    // Given up is given up, however long the deletion takes.
    signal.addEventListener('abort', over, { once: true })
    try {
      for (let next = fromSeq; next <= this.last; next += this.#batch) {
        await turn()
        signal.throwIfAborted()
        if (this.failing) throw new Error('the consumer is gone')
        const end = Math.min(this.last, next + this.#batch - 1)
        yield Array.from({ length: end - next + 1 }, (_, i) => ({
          seq: next + i,
          data: new Uint8Array(this.#size),
          storedAtMs: 0,
          pending: this.last - end,
        }))
      }
    } finally {
      over()
    }
  }
}

/** Reads to `last` as a replay does, which knows where the ring begins. */
async function readAll(segments: LogSegments, from: number, last: number, pause = false): Promise<number[]> {
  const seen: number[] = []
  for (let expected = from; ; ) {
    using held = expected > last ? undefined : await segments.take(expected, never)
    if (held === undefined) return seen
    for (let next = held.entry(expected); next !== undefined; next = held.entry(expected)) {
      const { seq } = next
      seen.push(seq)
      expected = seq + 1
      if (pause && seq % 7 === 0) await turn()
    }
  }
}
const through = (from: number, last: number): number[] => Array.from({ length: last - from + 1 }, (_, i) => from + i)

test('a crowd of readers reads the log about once, each everything from its own place', async () => {
  const log = new BatchedLog(2_000, 100, 200)
  using segments = new LogSegments(log, new ManualClock(0), BOUNDS)
  const places = Array.from({ length: 100 }, (_, i) => 1 + ((i * 37) % 1_900))
  const all = await Promise.all(places.map((from, i) => readAll(segments, from, 2_000, i % 3 === 0)))
  for (const [i, from] of places.entries()) assert.deepEqual(all[i], through(from, 2_000))
  assert.ok(log.most <= BOUNDS.streams, `${log.most} consumers at once`)
  assert.ok(log.starts.length <= 12, `${log.starts.length} consumers: ${log.starts.join(' ')}`)
})

test('entries appended after a consumer came to its end are found by the next', async () => {
  const log = new BatchedLog(20)
  using segments = new LogSegments(log, new ManualClock(0), BOUNDS)
  using _first = await segments.take(11, never)
  log.last = 25
  using second = await segments.take(21, never)
  assert.deepEqual(
    through(21, 26).map((seq) => second?.entry(seq)?.seq),
    [...through(21, 25), undefined],
  )
  assert.equal(await segments.take(26, never), undefined)
})

test('I8: stretches are bounded in bytes; who comes while all are held waits, and is served where one is released', async () => {
  const clock = new ManualClock(0)
  const log = new BatchedLog(100, 1_000)
  using segments = new LogSegments(log, clock, { ...BOUNDS, bytes: 60_000 })
  const first = await segments.take(1, never)
  using _second = await segments.take(11, never)
  assert.ok(segments.bytes >= 60_000)
  const waiting = segments.take(21, never)
  await turn()
  assert.equal(log.starts.length, 1)
  first?.[Symbol.dispose]()
  using served = await waiting
  assert.equal(served?.entry(1)?.seq, 21)
  assert.ok(segments.bytes <= 70_000, `${segments.bytes} bytes`)
})

test('I8: a reader that stalls has its stretch taken back for a newcomer, and goes on where it was', async () => {
  const clock = new ManualClock(0)
  const log = new BatchedLog(100, 1_000)
  using segments = new LogSegments(log, clock, { ...BOUNDS, bytes: 60_000 })
  const stalled = [await segments.take(1, never), await segments.take(11, never)]
  assert.equal(stalled[0]?.entry(1)?.seq, 1)
  const newcomer = segments.take(21, never)
  await clock.advance(BOUNDS.holdMs - 1)
  assert.equal(log.starts.length, 1, 'no room before its time')
  await clock.advance(1)
  using served = await newcomer
  assert.equal(served?.entry(1)?.seq, 21)
  assert.ok(segments.bytes <= 70_000, `${segments.bytes} bytes`)
  // The one that was taken back ends like one that was read through; the other is still whole.
  assert.deepEqual(
    stalled.map((held) => held?.entry(2)?.seq),
    [undefined, 11],
  )
  const again = segments.take(2, never)
  await clock.advance(BOUNDS.holdMs)
  assert.equal((await again)?.entry(2)?.seq, 2)
  for (const held of stalled) held?.[Symbol.dispose]()
  assert.ok(segments.bytes <= 70_000, `${segments.bytes} bytes`)
})

test('who waits longer than patience lasts, all the same, is refused', async () => {
  const clock = new ManualClock(0)
  const log = new BatchedLog(100, 1_000)
  using segments = new LogSegments(log, clock, { ...BOUNDS, bytes: 60_000, holdMs: 2 * BOUNDS.patienceMs })
  using _first = await segments.take(1, never)
  using _second = await segments.take(11, never)
  const waiting = segments.take(21, never).then(() => 'served', errorCode)
  await clock.advance(BOUNDS.patienceMs)
  assert.equal(await waiting, 'replay-busy')
})

test('consumers and stretches nobody wants are given up', async () => {
  const clock = new ManualClock(0)
  const log = new BatchedLog(100)
  using segments = new LogSegments(log, clock, BOUNDS)
  const held = await segments.take(1, never)
  held?.[Symbol.dispose]()
  assert.equal(log.open, 1)
  await clock.advance(BOUNDS.lingerMs)
  await clock.advance(BOUNDS.lingerMs)
  assert.deepEqual([log.open, segments.bytes, segments.streams], [0, 0, 0])
})

test('a consumer the hub gave up is replaced unseen; a hub that fails is told to who waits', async () => {
  const log = new BatchedLog(100)
  using segments = new LogSegments(log, new ManualClock(0), BOUNDS)
  using _held = await segments.take(1, never)
  log.failing = true
  await assert.rejects(segments.take(11, never), /the consumer is gone/)
  assert.equal(log.starts.length, 2, 'one new consumer was tried')
  log.failing = false
  using again = await segments.take(11, never)
  assert.equal(again?.entry(1)?.seq, 11)
})

test('a hub that fails or has nothing is told also to who waits a little further on', async () => {
  const log = new BatchedLog(20)
  using segments = new LogSegments(log, new ManualClock(0), BOUNDS)
  using _held = await segments.take(1, never)
  log.failing = true
  await assert.rejects(segments.take(15, never), /the consumer is gone/)
  log.failing = false
  using _next = await segments.take(15, never)
  assert.equal(await segments.take(25, never), undefined)
})

test('forgetting serves nothing of the old log, and who waits is served from the new one', async () => {
  const log = new BatchedLog(100)
  using segments = new LogSegments(log, new ManualClock(0), BOUNDS)
  using held = await segments.take(1, never)
  const waiting = segments.take(11, never)
  segments.forget()
  using fresh = await waiting
  assert.equal(fresh?.entry(1)?.seq, 11)
  assert.equal(held?.entry(1), undefined)
  using again = await segments.take(1, never)
  assert.equal(again?.entry(1)?.seq, 1)
})

test('a reader that goes away while waiting leaves nothing behind', async () => {
  const log = new BatchedLog(100)
  using segments = new LogSegments(log, new ManualClock(0), BOUNDS)
  const leaving = new AbortController()
  const waiting = segments.take(1, leaving.signal)
  leaving.abort(new Error('gone'))
  await assert.rejects(waiting, /gone/)
  assert.deepEqual(await readAll(segments, 91, 100), through(91, 100))
})
