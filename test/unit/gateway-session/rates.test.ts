// A class's rate on every road to a reader: live, out of the ring, out of the log, conflated. Time is the test's.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Key } from '#protocol/bytes.ts'
import type { ServerFrame } from '#protocol/frames.ts'
import type { Subscriber } from '#gateway/delivery/subscriber.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { FakeWire, policyOf, Rig } from './rig.ts'

const RATE = 10
const WHOLE = { from: '/' as Key, to: undefined }

type Arrival = { readonly at: number; readonly frame: ServerFrame }

class Reading {
  readonly arrivals: Arrival[] = []
  readonly rig: Rig
  readonly wire = new FakeWire()
  readonly subscriber: Subscriber

  constructor(rig: Rig, mode: 'log' | 'state' = 'log') {
    this.rig = rig
    this.subscriber = rig.connect(this.wire, 'json', 1 << 20)
    const request = { id: 'w', clusters: '*', regions: undefined, start: 'now', otherwise: 'now', narrowed: undefined }
    const refusal = rig.delivery.open(
      this.subscriber,
      { range: WHOLE, mode, values: 'auto' },
      request as Parameters<typeof rig.delivery.open>[2],
    )
    assert.equal(refusal, undefined)
  }

  /** Lets `ms` pass in steps of housekeeping. */
  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed <= ms; passed += 250) {
      await this.rig.tick(passed === 0 ? 0 : 250)
      // A replay takes a real turn of the loop per revision, and no time.
      for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
      await this.rig.run(0)
      this.rig.pong(this.subscriber, this.wire)
      for (const frame of this.wire.take()) this.arrivals.push({ at: this.rig.time, frame })
    }
  }

  /** When each event came, or each item of a difference, with its key. */
  get changes(): readonly { readonly at: number; readonly key: string | undefined }[] {
    return this.arrivals.flatMap(({ at, frame }) => {
      const items = frame.type === 'events' ? frame.events : frame.type === 'state' ? frame.items : []
      return items.map((item) => ({ at, key: 'key' in item ? item.key : undefined }))
    })
  }
}

/** A full bucket at the beginning, then the rate. */
function assertPaced(reading: Reading, began: number): void {
  for (const [i, { at }] of reading.changes.entries()) {
    const allowed = RATE + (RATE * (at - began)) / 1000
    assert.ok(i + 1 <= allowed, `change ${i + 1} came after ${at - began} ms`)
  }
}

const ROADS = [
  ['live and from the ring', 1_000, 'one by one'],
  ['from the ring', 1_000, 'at once'],
  ['from the log', 5, 'at once'],
] as const

for (const [road, ring, how] of ROADS) {
  test(`X3: sixty changes at ten per second come ${road} over five seconds, in order, each once`, async () => {
    const source = new FakeSource({ ring })
    using rig = new Rig(new FakeSources(source), policyOf({ eventsPerSecond: RATE }))
    const reading = new Reading(rig)
    await reading.pass(0)
    const began = rig.time
    for (let i = 0; i < 60; i++) {
      source.commit({ put: `/k/${i}`, value: 'v' })
      if (how === 'one by one') await reading.pass(0)
    }
    await reading.pass(5_000)
    assert.deepEqual(
      reading.changes.map(({ key }) => key),
      Array.from({ length: 60 }, (_, i) => `/k/${i}`),
    )
    assertPaced(reading, began)
    assert.deepEqual(rig.errors, ['RateLimited'])
    assert.equal(source.replays > 0, ring < 60)
    assert.deepEqual(rig.resyncs, [])
  })
}

test('a replay that the rate holds back stands where its last written frame leads', async () => {
  const source = new FakeSource({ ring: 5 })
  using rig = new Rig(new FakeSources(source), policyOf({ eventsPerSecond: RATE }))
  const reading = new Reading(rig)
  await reading.pass(0)
  for (let i = 0; i < 60; i++) source.commit({ put: `/k/${i}`, value: 'v' })
  await reading.pass(1_000)
  const last = reading.arrivals.findLast(({ frame }) => frame.type === 'events')?.frame
  const reader = reading.subscriber.watches.get('w')?.readers.get(source.cluster)
  assert.ok(last?.type === 'events')
  assert.equal(reader?.state.kind, 'replaying')
  assert.equal(reader.position?.revision, last.revision)
})

test('what a class may not see is not charged to its rate, however often its frame is used', async () => {
  const source = new FakeSource()
  using rig = new Rig(new FakeSources(source), policyOf({ eventsPerSecond: RATE, hidden: ['/h/'] }))
  const reading = new Reading(rig)
  await reading.pass(0)
  const began = rig.time
  const hidden = Array.from({ length: 40 }, (_, i) => ({ put: `/h/${i}`, value: 'v' }))
  for (let i = 0; i < 20; i++) source.commit({ put: `/k/${i}`, value: 'v' }, ...hidden)
  await reading.pass(1_000)
  assert.equal(reading.changes.length, 20)
  assertPaced(reading, began)
})

test('who is classified anew, as by a renewed token, has no new bucket for it', async () => {
  const source = new FakeSource()
  using rig = new Rig(new FakeSources(source), policyOf({ eventsPerSecond: RATE }))
  const reading = new Reading(rig)
  await reading.pass(0)
  const began = rig.time
  for (let i = 0; i < 30; i++) {
    source.commit({ put: `/k/${i}`, value: 'v' })
    await reading.pass(0)
    rig.delivery.reclass(reading.subscriber, reading.subscriber.policyClass, new Map())
  }
  await reading.pass(2_000)
  assert.equal(reading.changes.length, 30)
  assertPaced(reading, began)
})

test('in state mode a rate conflates: hot keys cost one item at a time, and the newest is not behind a queue', async () => {
  const source = new FakeSource({ ring: 10_000 })
  using rig = new Rig(new FakeSources(source), policyOf({ eventsPerSecond: RATE }))
  const reading = new Reading(rig, 'state')
  await reading.pass(0)
  const began = rig.time
  for (let i = 0; i < 100; i++) {
    for (let n = 0; n < 5; n++) source.commit({ put: `/k/${n}`, value: String(i) })
    await reading.pass(i % 5 === 0 ? 250 : 0)
  }
  await reading.pass(1_000)
  const { changes } = reading
  assert.ok(changes.length < 110, `${changes.length} of 500 changes were written`)
  assertPaced(reading, began)
  const reader = reading.subscriber.watches.get('w')?.readers.get(source.cluster)
  assert.equal(reader?.position?.revision, source.status.revision)
  const last = reading.arrivals.findLast(({ frame }) => frame.type === 'events' || frame.type === 'state')
  assert.match(JSON.stringify(last?.frame), /"99"/)
  assert.deepEqual(rig.errors, ['RateLimited'])
})

test('in state mode a difference of more keys than the bucket holds goes whole, and its debt is paid before the next', async () => {
  const source = new FakeSource()
  using rig = new Rig(new FakeSources(source), policyOf({ eventsPerSecond: RATE }))
  const reading = new Reading(rig, 'state')
  await reading.pass(0)
  const began = rig.time
  for (let i = 0; i < 60; i++) source.commit({ put: `/k/${i}`, value: 'v' })
  await reading.pass(0)
  assert.equal(reading.changes.length, 60)
  assert.equal(reading.arrivals.filter(({ frame }) => frame.type === 'state').length, 1)
  source.commit({ put: '/k/0', value: 'w' })
  await reading.pass(4_750)
  assert.equal(reading.changes.length, 60)
  assert.deepEqual(rig.errors, ['RateLimited'])
  await reading.pass(500)
  assert.equal(reading.changes.length, 61)
  assert.ok(rig.time - began >= 5_000)
})
