// Replays whose readers stop pulling: what they keep from others, and how they go on.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errorCode } from '#kit/errors.ts'
import type { StoredMessage, StreamFacts } from '#gateway/upstream/log-stream.ts'
import { LogReplay } from '#gateway/upstream/replay.ts'
import { ReplaySlots } from '#gateway/upstream/replay-slots.ts'
import { DEFAULT_SEGMENT_BOUNDS, LogSegments } from '#gateway/upstream/segments.ts'
import { SeqIndex } from '#gateway/upstream/seq-index.ts'
import { ManualClock } from '#test/support/manual-clock.ts'
import { LogWriter, rev } from './log-writer.ts'

const never = new AbortController().signal
const ENTRIES = 60
const BATCH = 5
const REST_MS = 250
/** Room for two stretches. */
const HELD_BYTES = 30_000

/** A log of one revision per entry, and two at the very end of each batch's first entry. */
class World {
  readonly clock = new ManualClock(0)
  readonly data: Uint8Array[] = []
  readonly writer = new LogWriter({ sink: (_seq, data) => void this.data.push(data) })
  readonly slots: ReplaySlots
  readonly segments: LogSegments
  readonly replays: LogReplay
  readonly outcomes: string[] = []
  readonly segmentBytes: number

  constructor(maxWorking: number, maxOpen: number) {
    for (let i = 0; i < ENTRIES; i++) {
      const put = { op: 'put', key: `/k${i % 7}`, value: 'v'.repeat(1_000) } as const
      if (i % BATCH === 0) this.writer.events([put], [put])
      else this.writer.events([put])
    }
    const one = 3 * (this.data[1] as Uint8Array).length
    this.segmentBytes = BATCH * 2 * one
    const bounds = { ...DEFAULT_SEGMENT_BOUNDS, bytes: HELD_BYTES }
    this.slots = new ReplaySlots(this.clock, { maxWorking, maxOpen, restMs: REST_MS })
    this.segments = new LogSegments(this, this.clock, bounds)
    this.replays = new LogReplay({
      log: this,
      segments: this.segments,
      index: new SeqIndex(),
      facts: () => this.#facts,
      slots: this.slots,
      onReplay: (outcome) => this.outcomes.push(outcome),
    })
  }

  get #facts(): StreamFacts {
    return { created: 'first', firstSeq: 1, lastSeq: this.data.length, bytes: 0, maxBytes: -1 }
  }

  async facts(): Promise<StreamFacts> {
    return this.#facts
  }
  async get(seq: number): Promise<Pick<StoredMessage, 'seq' | 'data'> | undefined> {
    const data = this.data[seq - 1]
    return data === undefined ? undefined : { seq, data }
  }
  async *batches(from: number): AsyncGenerator<readonly StoredMessage[]> {
    for (let next = from; next <= this.data.length; next += BATCH) {
      const batch = this.data.slice(next - 1, next - 1 + BATCH)
      yield batch.map((data, i) => ({ seq: next + i, data, storedAtMs: 0, pending: 0 }))
    }
  }

  /** Revisions after `from`, pulled one by one. */
  reader(from: number): AsyncGenerator<string> {
    const { replays, writer } = this
    const last = String(writer.position)
    return (async function* revisions() {
      const position = { epoch: writer.epoch, revision: rev(from) }
      for await (const { revision } of replays.replay(position, (at) => at === last, never)) yield revision
    })()
  }

  revisionsAfter(from: number): string[] {
    return Array.from({ length: this.writer.position - from }, (_, i) => String(from + 1 + i))
  }
}

const rest = async (reader: AsyncGenerator<string>): Promise<string[]> => {
  const seen: string[] = []
  for await (const revision of reader) seen.push(revision)
  return seen
}

test('I8: readers that stall hold up no newcomer, hold no stretch of the log, and go on exactly where they were', async () => {
  const world = new World(100, 100)
  const places = [2, 20, 40, 60]
  const stalled = places.map((from) => world.reader(from))
  for (const [i, reader] of stalled.entries()) {
    const first = reader.next()
    await world.clock.advance(DEFAULT_SEGMENT_BOUNDS.holdMs)
    assert.equal((await first).value, String((places[i] as number) + 1))
  }
  assert.ok(world.segments.bytes <= HELD_BYTES + world.segmentBytes, `${world.segments.bytes} bytes`)
  const newcomer = rest(world.reader(30)).catch(errorCode)
  await world.clock.advance(DEFAULT_SEGMENT_BOUNDS.patienceMs)
  assert.deepEqual(await newcomer, world.revisionsAfter(30))
  for (const [i, reader] of stalled.entries()) {
    const seen = rest(reader)
    await world.clock.advance(DEFAULT_SEGMENT_BOUNDS.patienceMs)
    assert.deepEqual(await seen, world.revisionsAfter((places[i] as number) + 1))
  }
  assert.deepEqual(new Set(world.outcomes), new Set(['done']))
})

test('a revision of the log comes with the time its entry tells', async () => {
  const world = new World(1, 1)
  world.writer.nowMs = () => 77_000
  world.writer.events([{ op: 'put', key: '/k', value: 'v' }])
  const position = { epoch: world.writer.epoch, revision: rev(world.writer.position - 1) }
  const last = String(world.writer.position)
  const replay = world.replays.replay(position, (at) => at === last, never)
  assert.equal((await replay.next()).value?.agentAtMs, 77_000)
  await replay.return(undefined)
})

test('I8: the slot of a reader that stalls goes to a newcomer; it goes on once there is one again', async () => {
  const world = new World(2, 4)
  const stalled = [world.reader(2), world.reader(3)]
  const pulling = stalled.map((reader) => reader.next())
  // Both are at work: nobody's slot is taken.
  assert.equal(await world.reader(4).next().catch(errorCode), 'replay-busy')
  assert.deepEqual(
    (await Promise.all(pulling)).map(({ value }) => value as string),
    ['3', '4'],
  )
  await world.clock.advance(REST_MS - 1)
  assert.equal(await world.reader(4).next().catch(errorCode), 'replay-busy')
  await world.clock.advance(1)
  assert.deepEqual(await rest(world.reader(4)), world.revisionsAfter(4))
  // The newcomer is done, so the one that lost its slot finds another.
  for (const [i, reader] of stalled.entries()) assert.deepEqual(await rest(reader), world.revisionsAfter(3 + i))
  assert.deepEqual([world.slots.working, world.slots.open], [0, 0])
})

test('a reader without a slot comes again where there is none, and has been told nothing twice', async () => {
  const world = new World(1, 4)
  const stalled = world.reader(2)
  assert.equal((await stalled.next()).value, '3')
  await world.clock.advance(REST_MS)
  const other = world.reader(2)
  assert.equal((await other.next()).value, '3')
  assert.equal(await stalled.next().catch(errorCode), 'replay-busy')
  assert.deepEqual(await rest(other), world.revisionsAfter(3))
  assert.deepEqual(await rest(world.reader(3)), world.revisionsAfter(3))
  assert.deepEqual([world.slots.working, world.slots.open], [0, 0])
})

test('I8: readers that stalled and those at work are bounded together', async () => {
  const world = new World(1, 3)
  const open: AsyncGenerator<string>[] = []
  for (let i = 0; i < 3; i++) {
    const reader = world.reader(2)
    assert.equal((await reader.next()).value, '3')
    open.push(reader)
    await world.clock.advance(REST_MS)
  }
  assert.deepEqual([world.slots.working, world.slots.open], [1, 3])
  assert.equal(await world.reader(2).next().catch(errorCode), 'replay-busy')
  await open[0]?.return(undefined)
  assert.equal((await world.reader(2).next()).value, '3')
})
