// A newcomer's first moments: what it is answered leaves in one write, and who is near the head is live at once.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Key } from '#protocol/bytes.ts'
import type { Position } from '#gateway/delivery/encoder.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { FakeWire, policyOf, Rig } from './rig.ts'

/** Notes what was written outside a cork: each would be a system call of its own. */
class CorkedWire extends FakeWire {
  loose = 0
  override write(bytes: Buffer): void {
    if (this.corked === 0) this.loose++
    super.write(bytes)
  }
}

function resume(rig: Rig, wire: FakeWire, source: FakeSource, position: Position) {
  const subscriber = rig.connect(wire)
  const refusal = rig.delivery.open(
    subscriber,
    { range: { from: '/k/' as Key, to: '/k0' as Key }, mode: 'log', values: 'auto' },
    {
      id: 'w',
      clusters: '*',
      regions: undefined,
      start: 'now',
      otherwise: 'now',
      narrowed: undefined,
      ...startAt(rig, subscriber, source, position),
    },
  )
  assert.equal(refusal, undefined)
  return subscriber
}

/** A cursor needs the channel's own tag, which the channel of an open watch tells. */
function startAt(
  rig: Rig,
  subscriber: ReturnType<Rig['connect']>,
  source: FakeSource,
  { epoch, revision }: Position,
): object {
  const range = { from: '/k/' as Key, to: '/k0' as Key }
  const spec = { range, mode: 'log', values: 'auto', policyClass: subscriber.policyClass, format: 'json' } as const
  const { viewTag } = rig.delivery.channels.open(spec, rig.policy, rig.time, rig.time)
  return { start: { viewTag, positions: new Map([[source.cluster, { epoch, revision }]]) } }
}

const positionOf = (source: FakeSource): Position => {
  const { epoch, revision } = source.status
  assert.ok(epoch !== undefined)
  return { epoch, revision }
}

test('a reader near the head is answered, brought up and live in one write', () => {
  const source = new FakeSource()
  using rig = new Rig(new FakeSources(source), policyOf({}))
  source.commit({ put: '/k/a', value: '0' })
  const from = positionOf(source)
  for (let n = 1; n <= 3; n++) source.commit({ put: '/k/a', value: String(n) })
  const wire = new CorkedWire()
  const subscriber = resume(rig, wire, source, from)
  // Nothing was scheduled in between.
  assert.deepEqual(
    wire.take().map(({ type }) => type),
    ['watching', 'bookmark', 'events', 'events', 'events'],
  )
  assert.equal(wire.loose, 0)
  assert.equal(wire.corked, 0)
  assert.equal(subscriber.watches.get('w')?.readers.get(source.cluster)?.state.kind, 'live')
})

test('a reader far behind waits for its turn, so that thousands of them do not hold up the rest', async () => {
  const source = new FakeSource()
  using rig = new Rig(new FakeSources(source), policyOf({}))
  source.commit({ put: '/k/a', value: '0' })
  const from = positionOf(source)
  for (let n = 1; n <= 65; n++) source.commit({ put: '/k/a', value: String(n) })
  const wire = new CorkedWire()
  resume(rig, wire, source, from)
  assert.deepEqual(
    wire.take().map(({ type }) => type),
    ['watching', 'bookmark'],
  )
  assert.equal(wire.corked, 0)
  await rig.run()
  assert.ok(wire.take().some(({ type }) => type === 'events'))
})
