// The client against the gateway's own sessions and delivery, over real sockets that are cut on the way.
// The clusters behind it are in memory; what is proved here is that both sides mean the same by the protocol.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Change, DeltaWatch, type LiveState, type Notice } from '#client/deltawatch.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { startTcpProxy } from '#test/support/tcp-proxy.ts'
import { startGateway } from '../gateway-session/gateway.ts'

const QUICK = { baseMs: 5, maxMs: 50, stableMs: 10_000 }

async function world(...sources: FakeSource[]) {
  const stack = new AsyncDisposableStack()
  const gateway = stack.use(await startGateway({ sources: new FakeSources(...sources) }))
  const proxy = stack.use(await startTcpProxy({ host: '127.0.0.1', port: gateway.port }))
  const dw = stack.use(new DeltaWatch({ url: `ws://127.0.0.1:${proxy.port}`, backoff: QUICK }))
  const notices: Notice[] = []
  dw.on('notice', (notice) => notices.push(notice))
  return { gateway, proxy, dw, notices, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

async function until(reader: AsyncIterator<Change, undefined>, wanted: (change: Change) => boolean): Promise<Change[]> {
  const seen: Change[] = []
  for (;;) {
    const { value } = await reader.next()
    assert.ok(value !== undefined, 'the watch ended early')
    seen.push(value)
    if (wanted(value)) return seen
  }
}
/** The state of the first cluster is there; a bookmark may come before it, naming the view. */
const begun = (change: Change): boolean => change.kind === 'snapshot' && change.cluster === 'sz-edge-1'
const isEvents = (revision: string) => (change: Change) => change.kind === 'events' && change.revision === revision
const revisions = (changes: readonly Change[]): string[] =>
  changes.flatMap((change) => (change.kind === 'events' ? [change.revision] : []))
const held = (live: LiveState): Record<string, string | undefined> =>
  Object.fromEntries([...live.entries('sz-edge-1')].map(({ key, text }) => [key, text]))
const settled = (live: LiveState, wanted: Record<string, string>): Promise<void> =>
  new Promise((resolve) => {
    const look = (): void => {
      try {
        assert.deepEqual(held(live), wanted)
      } catch {
        return
      }
      stop()
      resolve()
    }
    const stop = live.subscribe(look)
    look()
  })

describe('against the real gateway', () => {
  it('I1, I2: cut again and again under writes, it delivers every revision once and in order', async () => {
    const sz = new FakeSource()
    sz.commit({ put: '/a', value: 'first' })
    await using w = await world(sz)
    const reader = w.dw.watch({ prefix: '/' })[Symbol.asyncIterator]()
    await until(reader, begun)
    const wanted: string[] = []
    const seen: Change[] = []
    for (let round = 0; round < 8; round++) {
      for (let n = 0; n < 20; n++)
        wanted.push(sz.commit({ put: `/k${n % 7}`, value: `${round}.${n}` }, { put: '/b', value: 'x' }))
      // Some of them are on their way when the line is cut, others wait for the next connection.
      if (round % 2 === 0) await new Promise(setImmediate)
      w.proxy.cut()
      seen.push(...(await until(reader, isEvents(wanted.at(-1) ?? ''))))
    }
    assert.deepEqual(revisions(seen), wanted)
    assert.equal(
      seen.some((change) => change.kind === 'resync' || change.kind === 'snapshot'),
      false,
    )
    assert.ok(
      seen.every((change) => change.kind !== 'events' || change.events.length === 2),
      'a transaction stays whole',
    )
  })

  it('I1: positions the log no longer holds, and a new epoch, are resyncs with the state', async () => {
    const sz = new FakeSource()
    sz.commit({ put: '/a', value: '1' }, { put: '/b', value: '2' })
    await using w = await world(sz)
    using live = w.dw.state({ prefix: '/' })
    await live.ready
    await settled(live, { '/a': '1', '/b': '2' })
    sz.commit({ delete: '/a' })
    await settled(live, { '/b': '2' })
    w.proxy.cut()
    sz.commit({ put: '/c', value: '3' })
    sz.trimLog()
    await settled(live, { '/b': '2', '/c': '3' })
    sz.reset('epoch', [{ delete: '/b' }, { put: '/d', value: '4' }], { epoch: '00000000000000bb' })
    await settled(live, { '/c': '3', '/d': '4' })
    assert.equal(live.freshness('sz-edge-1').epoch, '00000000000000bb')
    sz.commit({ put: '/d', value: '5' })
    await settled(live, { '/c': '3', '/d': '5' })
    assert.deepEqual(w.notices, [], 'the gateway broke nothing')
  })

  it('a policy that hides keys and shows them again keeps the live map right, also across a cut', async () => {
    const sz = new FakeSource()
    sz.commit({ put: '/a', value: '1' }, { put: '/secret/b', value: '2' })
    await using w = await world(sz)
    using live = w.dw.state({ prefix: '/' })
    await live.ready
    w.gateway.policy.replace({ hidden: ['/secret/'] })
    await settled(live, { '/a': '1' })
    w.gateway.policy.replace({})
    await settled(live, { '/a': '1', '/secret/b': '2' })
    w.proxy.cut()
    w.gateway.policy.replace({ hidden: ['/a'] })
    await settled(live, { '/secret/b': '2' })
    assert.deepEqual(w.notices, [], 'the gateway broke nothing')
  })

  it('equal watches, a slow consumer and a cluster that goes: each is served, nothing is lost', async () => {
    const sz = new FakeSource()
    const gz = new FakeSource({ cluster: 'gz-edge-1', region: 'gz' })
    gz.commit({ put: '/g', value: '1' })
    await using w = await world(sz, gz)
    const [one, two] = [w.dw.watch({ prefix: '/' }), w.dw.watch({ prefix: '/' })].map((watch) =>
      watch[Symbol.asyncIterator](),
    )
    assert.ok(one !== undefined && two !== undefined)
    await Promise.all([until(one, begun), until(two, begun)])
    const wanted = Array.from({ length: 300 }, (_, n) => sz.commit({ put: '/big', value: `${n} ${'v'.repeat(5_000)}` }))
    const [first, second] = await Promise.all([
      until(one, isEvents(wanted.at(-1) ?? '')),
      until(two, isEvents(wanted.at(-1) ?? '')),
    ])
    assert.deepEqual(revisions(first), wanted)
    assert.deepEqual(revisions(second), wanted)
    gz.remove()
    const told = (await until(one, (change) => change.kind === 'cluster' && change.state === 'removed')).at(-1)
    assert.ok(told?.kind === 'cluster' && told.cluster === 'gz-edge-1')
  })

  it('I8: a consumer that stops makes the watch rest; taking up again loses and repeats nothing', async () => {
    const sz = new FakeSource({ ring: 10_000 })
    await using w = await world(sz)
    await using small = new DeltaWatch({ url: w.gateway.url, backoff: QUICK, maxQueue: 50_000 })
    const rested = new Promise<void>((resolve) => {
      small.on('notice', ({ code }) => {
        if (code === 'slow-consumer') resolve()
      })
    })
    const reader = small.watch({ prefix: '/' })[Symbol.asyncIterator]()
    await until(reader, begun)
    const wanted = Array.from({ length: 500 }, (_, n) => sz.commit({ put: '/k', value: `${n} ${'v'.repeat(500)}` }))
    await rested
    const seen = await until(reader, isEvents(wanted.at(-1) ?? ''))
    assert.deepEqual(revisions(seen), wanted)
  })
})
