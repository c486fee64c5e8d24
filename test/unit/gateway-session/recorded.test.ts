// Whose decisions are recorded: everybody's who is served, whichever channel serves them and whichever bundle made it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EnginePolicy } from '#gateway/delivery/engine-policy.ts'
import { PolicyRecorder } from '#gateway/policy-record.ts'
import { createMetrics } from '#kit/metrics.ts'
import type { PolicyClass } from '#policies/engine/types.ts'
import type { DecisionLog } from '#policies/node/decision-log.ts'
import type { ShadowTally } from '#policies/node/shadow-tally.ts'
import { FakeSource, FakeSources } from '../../support/fake-source.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { allow, bundleOf, deny, NOW, subscriber } from '../policies/fixture.ts'
import { FakeWire, Rig } from './rig.ts'

const rules = [
  allow('a', ['/a/**'], { match: { keys: ['/a/**'], to: { regions: ['sz'] } } }),
  deny('secret', ['/a/secret/**']),
]
const elsewhere = deny('elsewhere', ['/z/**'])

test('decisions are recorded, and compared with the shadow, after a bundle that leaves the watched keys alone', async () => {
  const [before, after] = [bundleOf(rules), bundleOf([...rules, elsewhere])]
  const shadow = bundleOf([...rules, deny('everything', ['/a/**'])])
  const sz = new FakeSource({ region: 'sz' })
  const sources = new FakeSources(sz)
  const inUse: { classes: Iterable<PolicyClass> } = { classes: [] }
  using policy = new EnginePolicy({ stable: before, shadow }, new ManualClock(NOW), () => inUse.classes)
  using rig = new Rig(sources, policy.current)
  rig.time = NOW
  const { delivery } = rig
  inUse.classes = delivery.classes
  const [reader, other] = [rig.connect(new FakeWire()), rig.connect(new FakeWire())]
  const request = {
    id: 'w',
    clusters: '*',
    regions: undefined,
    start: 'snapshot',
    otherwise: 'snapshot',
    narrowed: undefined,
  } as const
  const range = { from: '/a/' as never, to: '/a0' as never }
  assert.equal(delivery.open(reader, { range, mode: 'log', values: 'auto' }, request), undefined)
  const told: string[] = []
  const log: Pick<DecisionLog, 'decided'> = {
    decided: (_cluster, decision, _key, { bundle }) => void told.push(`${decision.effect} ${bundle}`),
  }
  let compared = 0
  const tally: Pick<ShadowTally, 'compare'> = { compare: () => void compared++ }
  using _recorder = new PolicyRecorder({
    sources,
    policy,
    classes: () => delivery.classes,
    log: log as DecisionLog,
    shadow: tally as ShadowTally,
    clock: new ManualClock(NOW),
    metrics: createMetrics(),
    soon: (fn) => void setImmediate(fn),
  })
  const change = async (): Promise<{ told: string[]; compared: number }> => {
    compared = 0
    sz.commit({ put: '/a/secret/1', value: 'x' }, { put: '/a/1', value: 'x' })
    await rig.run()
    await new Promise((resolve) => setImmediate(resolve))
    return { told: told.splice(0), compared }
  }
  const both = (revision: string) => ({ told: [`deny ${revision}`, `allow ${revision}`], compared: 2 })
  assert.deepEqual(await change(), both(before.revision))

  const [channel] = delivery.channels
  policy.replace({ stable: after, shadow })
  rig.policy = policy.current
  const policyClass = policy.current.classOf(subscriber({ region: 'sz', audiences: [], scopes: [] }))
  assert.ok(policyClass !== undefined)
  for (const one of [reader, other]) delivery.reclass(one, policyClass, new Map())
  assert.deepEqual([...delivery.channels], [channel])
  assert.deepEqual([...delivery.classes], [policyClass])
  assert.deepEqual(await change(), both(after.revision))

  delivery.end(reader)
  delivery.end(reader)
  assert.deepEqual([...delivery.classes], [policyClass], 'another is still served under it')
  delivery.end(other)
  assert.deepEqual([...delivery.classes], [])
  assert.deepEqual(await change(), { told: [], compared: 0 })
})
