// CloudEvents ids: a consumer drops what it believes to have seen, so no two events may share source and id.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keyFromText, prefixEnd } from '#protocol/bytes.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { FakeWire, policyOf, Rig } from './rig.ts'

type Event = { readonly id: string; readonly source: string; readonly type: string; readonly time?: string }

/** What one connection is told: the answer, a bookmark, a status, an event, and the end. */
async function connection(rig: Rig, source: FakeSource): Promise<Event[]> {
  const wire = new FakeWire()
  const subscriber = rig.connect(wire, 'cloudevents', 1 << 20)
  const from = keyFromText('/k/')
  const spec = { range: { from, to: prefixEnd(from) }, mode: 'log', values: 'auto' } as const
  const request = { id: 'w', clusters: '*', regions: undefined, start: 'now', otherwise: 'snapshot' } as const
  assert.equal(rig.delivery.open(subscriber, spec, { ...request, narrowed: undefined }), undefined)
  await rig.run(10)
  source.commit({ put: '/k/a', value: 'v' })
  await rig.tick(1_000)
  subscriber.send({ type: 'heartbeat' })
  rig.delivery.conclude(subscriber)
  subscriber.send({ type: 'goodbye', code: 4200, reason: 'drain' })
  await rig.run(10)
  rig.delivery.end(subscriber)
  return wire.take() as unknown as Event[]
}

test('control events have ids of their own over connections, reconnects, and lives of the gateway', async () => {
  const source = new FakeSource()
  const sources = new FakeSources(source)
  const seen: Event[] = []
  for (let life = 0; life < 2; life++) {
    using rig = new Rig(sources, policyOf({}))
    for (let i = 0; i < 3; i++) seen.push(...(await connection(rig, source)))
  }
  const control = seen.filter(({ id }) => id.startsWith('control:'))
  const types = new Set(control.map(({ type }) => type.replace('io.deltawatch.', '')))
  for (const type of ['watching', 'bookmark', 'heartbeat', 'goodbye']) assert.ok(types.has(type), type)
  assert.ok(control.length >= 24, `${control.length} control events`)
  const names = control.map(({ id, source: from }) => `${from} ${id}`)
  assert.equal(new Set(names).size, names.length)
})

test('an event that is read again from the log tells the time of its entry, as it did when it was new', async () => {
  const source = new FakeSource()
  using rig = new Rig(new FakeSources(source), policyOf({}))
  const start = { epoch: source.epoch, revision: source.status.revision }
  source.commit({ put: '/k/old', value: 'v' })
  const { agentAtMs } = source.log[0] as (typeof source.log)[number]
  source.trimRing()
  const wire = new FakeWire()
  const subscriber = rig.connect(wire, 'cloudevents', 1 << 20)
  const from = keyFromText('/k/')
  const spec = { range: { from, to: prefixEnd(from) }, mode: 'log', values: 'auto' } as const
  const { policyClass } = subscriber
  const full = { ...spec, policyClass, format: 'cloudevents' } as const
  const { viewTag } = rig.delivery.channels.open(full, rig.policy, rig.time, rig.time)
  const cursor = { viewTag, positions: new Map([[source.cluster, start]]) }
  const request = { id: 'w', clusters: '*', regions: undefined, start: cursor, otherwise: 'snapshot' } as const
  assert.equal(rig.delivery.open(subscriber, spec, { ...request, narrowed: undefined }), undefined)
  await rig.run(10)
  assert.equal(source.replays, 1)
  const events = wire.take() as unknown as Event[]
  const put = events.find(({ type }) => type === 'io.deltawatch.put')
  assert.equal(put?.time, new Date(agentAtMs).toISOString())
})
