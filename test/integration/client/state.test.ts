// The live map over real WebSockets: right across drops, resyncs, policy changes and clusters that come and go.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { DeltaWatch, type Difference, type LiveState } from '#client/deltawatch.ts'
import { FakeGateway } from '#test/support/fake-gateway.ts'
import { ReferenceCluster } from '#test/support/reference-cluster.ts'

const QUICK = { baseMs: 5, maxMs: 20, stableMs: 50 }
const put = (key: string, value: string) => ({ op: 'put', key, value }) as const

function cluster(name = 'sz-edge-1'): ReferenceCluster {
  const made = new ReferenceCluster(name)
  made.write([put('/services/a', '1'), put('/services/b', '2')])
  return made
}
const held = (live: LiveState, name = 'sz-edge-1'): Record<string, string | undefined> =>
  Object.fromEntries([...live.entries(name)].map(({ key, text }) => [key, text]))
/** The next difference that satisfies `wanted`. */
function next(live: LiveState, wanted: (difference: Difference) => boolean = () => true): Promise<Difference> {
  return new Promise((resolve) => {
    const stop = live.subscribe((difference) => {
      if (!wanted(difference)) return
      stop()
      resolve(difference)
    })
  })
}

describe('a live state', () => {
  it('is ready with the first snapshots, changes once per revision, and knows how fresh it is', async () => {
    const sz = cluster()
    await using fake = await FakeGateway.start(sz)
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
    using live = dw.state({ prefix: '/services/' })
    assert.equal(live.freshness('sz-edge-1').state, 'disconnected')
    await live.ready
    assert.deepEqual(held(live), { '/services/a': '1', '/services/b': '2' })
    assert.equal(live.get('sz-edge-1', '/services/a')?.text, '1')
    assert.equal(live.freshness('sz-edge-1').state, 'live')
    assert.equal(live.freshness('sz-edge-1').revision, String(sz.seen))
    const told = next(live)
    sz.write([put('/services/a', '9'), { op: 'delete', key: '/services/b' }, put('/services/c', '3')])
    fake.pump()
    const { changed, cause } = await told
    assert.equal(cause, 'events')
    assert.deepEqual(
      changed.map(({ name, before, after }) => [name.key, before?.text, after?.text]),
      [
        ['/services/a', '1', '9'],
        ['/services/b', '2', undefined],
        ['/services/c', undefined, '3'],
      ],
    )
    assert.ok((live.freshness('sz-edge-1').ageMs ?? Infinity) < 5_000)
    assert.equal(live.freshness('nowhere').state, 'unknown')
  })

  it('keeps the old state whole until a resync is repaired, then reports only what differs', async () => {
    const sz = cluster()
    await using fake = await FakeGateway.start(sz)
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
    using live = dw.state({ prefix: '/services/' })
    await live.ready
    const seen: Record<string, string | undefined>[] = []
    const repaired = next(live, ({ cause }) => cause === 'snapshot')
    live.subscribe(() => seen.push(held(live)))
    sz.write([{ op: 'delete', key: '/services/a' }])
    sz.compact()
    fake.drop()
    const { changed } = await repaired
    assert.deepEqual(
      changed.map(({ name }) => name.key),
      ['/services/a'],
    )
    assert.deepEqual(seen, [{ '/services/b': '2' }], 'no listener saw a state in between')
  })

  it('follows policy: keys leave by scope and enter by a diff', async () => {
    const sz = cluster()
    await using fake = await FakeGateway.start(sz)
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
    using live = dw.state({ prefix: '/services/' })
    await live.ready
    const left = next(live, ({ cause }) => cause === 'scope')
    fake.toggle('/services/a')
    await left
    assert.deepEqual(held(live), { '/services/b': '2' })
    const entered = next(live, ({ cause }) => cause === 'snapshot')
    fake.toggle('/services/a')
    await entered
    assert.deepEqual(held(live), { '/services/a': '1', '/services/b': '2' })
  })

  it('I7: a cluster that is not ready does not keep the others from being ready; one that goes leaves nothing', async () => {
    const sz = cluster()
    const gz = cluster('gz-edge-1')
    gz.ready = false
    await using fake = await FakeGateway.start(sz, gz)
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
    using live = dw.state({ prefix: '/services/' })
    await live.ready
    assert.deepEqual(held(live), { '/services/a': '1', '/services/b': '2' })
    assert.equal(live.freshness('gz-edge-1').state, 'unreachable')
    const came = next(live, (difference) => difference.cluster === 'gz-edge-1')
    gz.ready = true
    fake.pump()
    await came
    assert.equal(live.size('gz-edge-1'), 2)
    const gone = next(live, ({ cause }) => cause === 'cluster')
    fake.remove(gz)
    assert.equal((await gone).changed.length, 2)
    assert.equal(live.freshness('gz-edge-1').state, 'removed')
    assert.deepEqual(
      [...live.entries()].map(({ cluster: name }) => name),
      ['sz-edge-1', 'sz-edge-1'],
    )
  })

  it('says why it ended', async () => {
    await using fake = await FakeGateway.start(cluster())
    fake.plans.push({ refuse: { code: 4004, reason: 'this origin may not connect' } })
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
    const refused = dw.state({ prefix: '/services/' })
    assert.equal((await refused.closed)?.code, 'DW4004')
    await refused.ready
    const stop = new AbortController()
    await using other = new DeltaWatch({ url: fake.url, backoff: QUICK })
    const live = other.state({ prefix: '/services/', signal: stop.signal })
    await live.ready
    stop.abort()
    assert.equal(await live.closed, undefined)
    await fake.heard((frame) => frame.type === 'unwatch')
  })
})
