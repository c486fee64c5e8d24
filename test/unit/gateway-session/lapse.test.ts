// A legal basis that lapses under live subscribers: what they hold by it leaves, what they do not hold by it stays.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EnginePolicy } from '#gateway/delivery/engine-policy.ts'
import { FakeSource, FakeSources } from '../../support/fake-source.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { allow, bundleOf, NOW, subscriber } from '../policies/fixture.ts'
import { FakeWire, Rig } from './rig.ts'

const LAPSES = NOW + 60_000
const to = { regions: ['sz'] }

test('S11: keys seen by a basis leave as scope at the instant it lapses', async () => {
  const bundle = bundleOf([
    allow('stays', ['/a/**'], { match: { keys: ['/a/**'], to } }),
    allow('lapses', ['/b/**'], {
      match: { keys: ['/b/**'], to },
      basis: { kind: 'contract', ref: 'C-1', expires: new Date(LAPSES).toISOString() },
    }),
  ])
  const sz = new FakeSource()
  sz.commit({ put: '/a/1', value: 'stays' }, { put: '/b/1', value: 'leaves' })
  using policy = new EnginePolicy(bundle, new ManualClock(NOW), () => [])
  using rig = new Rig(new FakeSources(sz), policy.current)
  rig.time = NOW
  const wire = new FakeWire()
  const reader = rig.connect(wire)
  const request = {
    id: 'w',
    clusters: '*',
    regions: undefined,
    start: 'snapshot',
    otherwise: 'snapshot',
    narrowed: undefined,
  } as const
  const range = { from: '/' as never, to: '0' as never }
  assert.equal(rig.delivery.open(reader, { range, mode: 'log', values: 'auto' }, request), undefined)
  await rig.run()
  assert.match(JSON.stringify(wire.take()), /leaves/)
  rig.time = LAPSES
  const policyClass = policy.current.classOf(subscriber({ region: 'sz' }))
  assert.ok(policyClass !== undefined)
  rig.delivery.reclass(reader, policyClass, new Map())
  await rig.run()
  const frames = wire.take()
  assert.deepEqual(
    frames.flatMap((frame) => (frame.type === 'scope' ? frame.left : [])),
    ['/b/1'],
  )
  assert.doesNotMatch(JSON.stringify(frames), /leaves/)
})
