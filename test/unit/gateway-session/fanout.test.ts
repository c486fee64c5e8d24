// The fan-out: everybody once, in order, joined under load, and never longer than a slice at a time.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keyFromText, prefixEnd } from '#protocol/bytes.ts'
import type { Subscriber } from '#gateway/delivery/subscriber.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { FakeWire, policyOf, Rig } from './rig.ts'

type Seat = { readonly wire: FakeWire; readonly subscriber: Subscriber }

async function seats(rig: Rig, count: number, prefix = '/'): Promise<Seat[]> {
  const all = Array.from({ length: count }, () => {
    const wire = new FakeWire()
    const subscriber = rig.connect(wire, 'json', 1 << 20)
    const range = { from: keyFromText(prefix), to: prefixEnd(keyFromText(prefix)) }
    const request = {
      id: 'w',
      clusters: '*',
      regions: undefined,
      start: 'now',
      otherwise: 'snapshot',
      narrowed: undefined,
    } as const
    assert.equal(rig.delivery.open(subscriber, { range, mode: 'log', values: 'auto' }, request), undefined)
    return { wire, subscriber }
  })
  await rig.run()
  for (const { wire } of all) wire.take()
  return all
}

test('what arrives in one turn of the loop leaves in one write', async () => {
  const sz = new FakeSource()
  using rig = new Rig(new FakeSources(sz), policyOf({}))
  const [seat] = await seats(rig, 1)
  for (let i = 0; i < 10; i++) sz.commit({ put: `/k${i}`, value: 'v' })
  assert.equal(seat?.wire.chunks.length, 0)
  await rig.run()
  assert.equal(seat?.wire.chunks.length, 1)
  assert.deepEqual(
    seat?.wire.take().map((frame) => (frame.type === 'events' ? frame.revision : '')),
    ['2', '3', '4', '5', '6', '7', '8', '9', '10', '11'],
  )
})

test('a pass that costs makes the next one wait, and one that does not, not', async () => {
  const sz = new FakeSource()
  using rig = new Rig(new FakeSources(sz), policyOf({}), { restFactor: 2, maxDelayMs: 100, sliceWrites: 1_000 })
  const [slow] = await seats(rig, 1)
  assert.ok(slow !== undefined)
  const { wire } = slow
  // Each write takes 10 ms of this machine.
  wire.write = (bytes) => {
    rig.time += 10
    wire.chunks.push(bytes)
  }
  sz.commit({ put: '/a', value: '1' })
  await rig.run()
  assert.equal(wire.take().length, 1)
  sz.commit({ put: '/a', value: '2' })
  await rig.run(5)
  sz.commit({ put: '/a', value: '3' })
  await rig.run(5)
  assert.equal(wire.chunks.length, 0, 'it rests for twice its cost')
  await rig.run(20)
  assert.equal(wire.chunks.length, 1)
  assert.equal(wire.take().length, 2)
})

test('long fan-outs yield, meanwhile other feeds are served, and nobody is served twice', async () => {
  const sz = new FakeSource()
  using rig = new Rig(new FakeSources(sz), policyOf({}), { sliceWrites: 10 })
  const crowd = await seats(rig, 100, '/big/')
  const [few] = await seats(rig, 1, '/small/')
  assert.ok(few !== undefined)
  let writes = 0
  let servedBefore = -1
  for (const { wire } of crowd) {
    wire.write = (bytes) => {
      writes++
      wire.chunks.push(bytes)
    }
  }
  few.wire.write = (bytes) => {
    servedBefore = writes
    few.wire.chunks.push(bytes)
  }
  sz.commit({ put: '/big/a', value: '1' })
  sz.commit({ put: '/small/a', value: '1' })
  sz.commit({ put: '/big/a', value: '2' })
  await rig.run()
  assert.ok(servedBefore >= 0 && servedBefore <= 20, `the small feed came after ${servedBefore} writes`)
  for (const { wire } of crowd) {
    assert.deepEqual(
      wire.take().map((frame) => (frame.type === 'events' ? frame.revision : '')),
      ['2', '4'],
    )
  }
})

test('what gathers while a fan-out is under way goes out as one, after it', async () => {
  const sz = new FakeSource()
  using rig = new Rig(new FakeSources(sz), policyOf({}), { sliceWrites: 5 })
  const crowd = await seats(rig, 20)
  let writes = 0
  for (const { wire } of crowd) {
    wire.write = (bytes) => {
      // News arrives in the middle of the fan-out.
      if (++writes % 5 === 0 && writes <= 15) sz.commit({ put: '/b', value: String(writes) })
      wire.chunks.push(bytes)
    }
  }
  sz.commit({ put: '/a', value: '1' })
  await rig.run(50)
  assert.equal(writes, 40, 'two writes each: the first revision, then the three that gathered')
  for (const { wire } of crowd) assert.equal(wire.take().length, 4)
})

test('the start rotates: the same reader is not always last', async () => {
  const sz = new FakeSource()
  using rig = new Rig(new FakeSources(sz), policyOf({}))
  const crowd = await seats(rig, 5)
  const lasts = new Set<number>()
  let last = -1
  for (const [i, { wire }] of crowd.entries()) wire.write = () => void (last = i)
  for (let n = 0; n < 10; n++) {
    sz.commit({ put: '/a', value: String(n) })
    await rig.run(20)
    lasts.add(last)
  }
  assert.equal(lasts.size, 5)
})

test('interest: a revision costs its matches, whoever else is subscribed', async () => {
  const sz = new FakeSource()
  using rig = new Rig(new FakeSources(sz), policyOf({}))
  const all = await Promise.all(Array.from({ length: 50 }, (_, i) => seats(rig, 1, `/tenant/${i}/`)))
  sz.commit({ put: '/tenant/7/a', value: '1' }, { put: '/nobody', value: '2' })
  await rig.run()
  const reached = all.flatMap(([seat], i) => ((seat?.wire.chunks.length ?? 0) > 0 ? [i] : []))
  assert.deepEqual(reached, [7])
  const [hub] = rig.delivery.hubs.values()
  assert.equal(hub?.matched, 1)
})

test('a channel is forgotten with its last watch, and its feeds with it', async () => {
  const sz = new FakeSource()
  using rig = new Rig(new FakeSources(sz), policyOf({}))
  const [a, b] = await seats(rig, 2)
  const [hub] = rig.delivery.hubs.values()
  assert.deepEqual([rig.delivery.channels.size, hub?.feeds.size], [1, 1])
  rig.delivery.end(a?.subscriber as Subscriber)
  assert.deepEqual([rig.delivery.channels.size, hub?.feeds.size], [1, 1])
  rig.delivery.end(b?.subscriber as Subscriber)
  assert.deepEqual([rig.delivery.channels.size, hub?.feeds.size, hub?.waiting.size], [0, 0, 0])
  sz.commit({ put: '/a', value: '1' })
  await rig.run()
})
