// Snapshots of one position are encoded once, and nothing is shared that could differ.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Key } from '#protocol/bytes.ts'
import { keyFromText, prefixEnd } from '#protocol/bytes.ts'
import { SnapshotChunks } from '#gateway/delivery/snapshot-chunks.ts'
import type { Position } from '#gateway/delivery/encoder.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { FakeWire, policyOf, Rig } from './rig.ts'

class CountedSource extends FakeSource {
  scans = 0
  override scan(this: CountedSource, ...args: Parameters<FakeSource['scan']>): ReturnType<FakeSource['scan']> {
    this.scans++
    return super.scan(...args)
  }
}

function begin(rig: Rig, prefix = '/k/'): FakeWire {
  const wire = new FakeWire()
  const from = keyFromText(prefix)
  const request = { id: 'w', clusters: '*', regions: undefined, start: 'snapshot', otherwise: 'snapshot' } as const
  const spec = { range: { from, to: prefixEnd(from) }, mode: 'log', values: 'auto' } as const
  const refusal = rig.delivery.open(rig.connect(wire, 'json', 1 << 20), spec, { ...request, narrowed: undefined })
  assert.equal(refusal, undefined)
  return wire
}

const items = (wire: FakeWire): (string | undefined)[] =>
  wire
    .take()
    .flatMap((frame) => (frame.type === 'snapshot' && frame.phase === 'items' ? frame.items : []))
    .map((item) => ('key' in item ? item.key : undefined))

test('those who begin at one position share its chunks; the next position is encoded anew', async () => {
  const source = new CountedSource()
  using rig = new Rig(new FakeSources(source), policyOf({}))
  for (const name of ['a', 'b', 'c']) source.commit({ put: `/k/${name}`, value: name })
  source.scans = 0
  const wires = [begin(rig), begin(rig), begin(rig)]
  await rig.run()
  assert.equal(source.scans, 1)
  for (const wire of wires) assert.deepEqual(items(wire), ['/k/a', '/k/b', '/k/c'])
  source.commit({ put: '/k/d', value: 'd' })
  const later = begin(rig)
  const other = begin(rig, '/k/d')
  await rig.run()
  assert.deepEqual(items(later), ['/k/a', '/k/b', '/k/c', '/k/d'])
  assert.deepEqual(items(other), ['/k/d'])
})

test('chunks leave the memory within a second and a quarter although nobody asks for them again', async () => {
  const source = new CountedSource()
  using rig = new Rig(new FakeSources(source), policyOf({}))
  source.commit({ put: '/k/a', value: 'a'.repeat(1_000) })
  begin(rig)
  await rig.run()
  const { chunks } = rig.delivery
  assert.ok(chunks.bytes > 1_000)
  for (let i = 0; i < 3; i++) await rig.tick(250)
  assert.ok(chunks.bytes > 1_000, 'those who come within the second share')
  for (let i = 0; i < 2; i++) await rig.tick(250)
  assert.equal(chunks.bytes, 0)
})

test('a checkpoint that takes a key away leaves no chunk that shows it, though the class stands where it stood', async () => {
  const source = new CountedSource()
  using rig = new Rig(new FakeSources(source), policyOf({ hideActivity: true, hidden: ['/k/h'] }))
  source.commit({ put: '/k/a', value: 'a' }, { put: '/k/b', value: 'b' })
  const before = begin(rig)
  await rig.run()
  assert.deepEqual(items(before), ['/k/a', '/k/b'])
  // What stays is as old as before, so the newest revision the class may know of is the same.
  source.reset('policy', [{ leave: '/k/a' }, { put: '/k/hidden', value: 'h' }], { differences: false })
  const after = begin(rig)
  await rig.run()
  assert.deepEqual(items(before), ['/k/b'])
  assert.deepEqual(items(after), ['/k/b'])
})

const at = { epoch: '00000000000000aa', revision: '5' } as Position
const chunk = (bytes: number) => ({ bytes: Buffer.alloc(bytes), after: 'x' as Key, done: true })

test('a chunk is kept for a second and within the bound, the oldest leaving first', () => {
  const chunks = new SnapshotChunks(100, 3)
  const owner = {}
  const place = (pin: number) => ({ at, pin, after: undefined })
  chunks.put(owner, place(1), chunk(60), 0)
  chunks.put(owner, place(2), chunk(60), 0)
  assert.equal(chunks.get(owner, place(1), 0), undefined)
  assert.equal(chunks.bytes, 60)
  assert.equal(chunks.get({}, place(2), 0), undefined)
  assert.ok(chunks.get(owner, place(2), 999) !== undefined)
  assert.equal(chunks.get(owner, place(2), 1_000), undefined)
  assert.equal(chunks.bytes, 0)
  for (let pin = 3; pin < 9; pin++) chunks.put(owner, place(pin), chunk(1), 2_000)
  assert.equal(chunks.bytes, 3)
  // A larger one than all the room is given to its reader and not kept.
  chunks.put(owner, place(9), chunk(500), 2_000)
  assert.equal(chunks.bytes, 0)
})
