// The SDK where most subscribers are: in a browser, on a page of another origin, against the gateway's own sessions.
// The clusters behind the first gateway are in memory, so that a test can trim, reset and cut at will; the last test
// runs the whole road: etcd, agent, hub, gateway.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { Browser } from 'playwright-core'
import type { Change } from '#client/deltawatch.ts'
import { Stack } from '../e2e/stack.ts'
import { startGateway } from '../integration/gateway-session/gateway.ts'
import { EtcdHttp } from '../judge/etcd-http.ts'
import { FakeSource, FakeSources } from '../support/fake-source.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'
import { findChromium, launch, skipWithout } from './chromium.ts'
import { Site, Tab } from './page.ts'

const QUICK = { baseMs: 10, maxMs: 200, stableMs: 10_000 }
const found = findChromium()

const revisions = (changes: readonly Change[]): string[] =>
  changes.flatMap((change) => (change.kind === 'events' ? [change.revision] : []))
const kinds = (changes: readonly Change[]): Set<string> => new Set(changes.map(({ kind }) => kind))

describe('in Chromium', { skip: skipWithout(found) }, () => {
  let browser: Browser
  let site: Site
  before(async () => {
    browser = await launch(found)
    site = await Site.start()
  })
  after(async () => {
    await browser?.close()
    await site?.[Symbol.asyncDispose]()
  })

  async function world(sz = new FakeSource()) {
    const stack = new AsyncDisposableStack()
    const gateway = stack.use(await startGateway({ sources: new FakeSources(sz) }))
    const proxy = stack.use(await startTcpProxy({ host: '127.0.0.1', port: gateway.port }))
    const tab = stack.use(await Tab.open(browser, site))
    const url = `ws://127.0.0.1:${proxy.port}`
    const open = (): Promise<void> => tab.call('open', { url, backoff: QUICK })
    await open()
    return { sz, gateway, proxy, tab, open, [Symbol.asyncDispose]: () => stack.disposeAsync() }
  }

  it('a snapshot, then each transaction as one change', async () => {
    await using w = await world()
    w.sz.commit({ put: '/config/a', value: '{"n":1}' }, { put: '/config/b', value: 'text' })
    await w.tab.call('watch', 'w', { prefix: '/config/' })
    const first = (await w.tab.call('until', 'w', 'snapshot')).find(({ kind }) => kind === 'snapshot')
    assert.ok(first?.kind === 'snapshot' && first.base === 'full')
    assert.deepEqual(
      first.items.map(({ key }) => key),
      ['/config/a', '/config/b'],
    )
    const revision = w.sz.commit(
      { put: '/config/a', value: '2' },
      { delete: '/config/b' },
      { put: '/config/é', value: 'ü' },
    )
    const changes = await w.tab.call('until', 'w', 'events', revision)
    const last = changes.at(-1)
    assert.ok(last?.kind === 'events')
    assert.deepEqual(
      last.events.map(({ op, key }) => `${op} ${key}`),
      ['put /config/a', 'delete /config/b', 'put /config/é'],
    )
    assert.deepEqual(await w.tab.call('notices'), [])
    assert.deepEqual(w.tab.errors, [])
  })

  it('I1, I2: its connection cut again and again under writes, it delivers every revision once and in order', async () => {
    await using w = await world()
    await w.tab.call('watch', 'w', { prefix: '/' })
    await w.tab.call('until', 'w', 'snapshot')
    const wanted: string[] = []
    for (let round = 0; round < 6; round++) {
      for (let n = 0; n < 20; n++)
        wanted.push(w.sz.commit({ put: `/k${n % 7}`, value: `${round}.${n}` }, { put: '/b', value: 'x' }))
      assert.ok(w.proxy.cut() > 0)
      await w.tab.call('until', 'w', 'events', wanted.at(-1))
    }
    const changes = await w.tab.call('until', 'w', 'bookmark')
    assert.deepEqual(revisions(changes), wanted)
    assert.equal(changes.filter(({ kind }) => kind === 'snapshot').length, 1, 'resumed by its cursor every time')
    assert.ok(!kinds(changes).has('resync'))
    assert.ok(changes.every((change) => change.kind !== 'events' || change.events.length === 2))
  })

  it('I1: the live map is right the moment a resync is repaired, and never in between', async () => {
    await using w = await world()
    w.sz.commit({ put: '/a', value: '1' }, { put: '/b', value: '2' })
    await w.tab.call('state', '/')
    await w.tab.call('holds', { '/a': '1', '/b': '2' })
    // The log forgets what it missed while it was away.
    await w.proxy.refuse()
    w.proxy.cut()
    await w.tab.call('phase', 'waiting')
    w.sz.commit({ delete: '/a' }, { put: '/c', value: '3' })
    w.sz.trimLog()
    const after = w.tab.call('holds', { '/b': '2', '/c': '3' })
    await w.proxy.accept()
    const whole = [
      { '/a': '1', '/b': '2' },
      { '/b': '2', '/c': '3' },
    ]
    for (const seen of await after) assert.ok(whole.some((one) => JSON.stringify(one) === JSON.stringify(seen)))
    // Another history.
    const reset = w.tab.call('holds', { '/c': '3', '/d': '4' })
    w.sz.reset('epoch', [{ delete: '/b' }, { put: '/d', value: '4' }], { epoch: '00000000000000bb' })
    await reset
    w.sz.commit({ put: '/d', value: '5' })
    await w.tab.call('holds', { '/c': '3', '/d': '5' })
    assert.deepEqual(await w.tab.call('notices'), [])
  })

  it('I2: a position kept in localStorage survives a reload of the page', async () => {
    await using w = await world()
    w.sz.commit({ put: '/a', value: '1' })
    await w.tab.call('watch', 'w', { prefix: '/' })
    await w.tab.call('until', 'w', 'snapshot')
    const early = await w.tab.call('stored', 'w', null)
    const taken = w.sz.commit({ put: '/a', value: '2' })
    await w.tab.call('until', 'w', 'events', taken)
    await w.tab.call('stored', 'w', early)
    await w.tab.reload()
    const missed = [w.sz.commit({ put: '/a', value: '3' }), w.sz.commit({ put: '/b', value: '4' })]
    await w.open()
    await w.tab.call('watch', 'w', { prefix: '/' })
    const changes = await w.tab.call('until', 'w', 'events', missed[1])
    assert.deepEqual(revisions(changes), missed)
    assert.ok(!kinds(changes).has('snapshot'), 'it resumed; the state was not sent again')
  })

  it('an AbortSignal ends the loop without an error, and the gateway holds nothing of it any more', async () => {
    await using w = await world()
    await w.tab.call('watch', 'one', { prefix: '/one/' })
    await w.tab.call('watch', 'two', { prefix: '/two/' })
    await w.tab.call('until', 'one', 'bookmark')
    await w.tab.call('until', 'two', 'bookmark')
    assert.equal(w.gateway.front.delivery.channels.size, 2)
    assert.equal(await w.tab.call('abort', 'one'), 'done')
    const revision = w.sz.commit({ put: '/two/a', value: '1' })
    await w.tab.call('until', 'two', 'events', revision)
    assert.equal(w.gateway.front.delivery.channels.size, 1)
  })

  it('offline it says so and waits; online again it goes on where it was, at once', async () => {
    await using w = await world()
    await w.tab.reload()
    // Waiting this long, only the browser's word that it is online can be what wakes it.
    const patient = { baseMs: 600_000, maxMs: 600_000, stableMs: 10_000 }
    await w.tab.call('open', { url: `ws://127.0.0.1:${w.proxy.port}`, backoff: patient })
    await w.tab.call('watch', 'w', { prefix: '/' })
    await w.tab.call('until', 'w', 'snapshot')
    await w.tab.context.setOffline(true)
    w.proxy.cut()
    await w.tab.call('phase', 'waiting')
    const missed = w.sz.commit({ put: '/a', value: '1' })
    await w.tab.context.setOffline(false)
    const changes = await w.tab.call('until', 'w', 'events', missed)
    assert.deepEqual(revisions(changes), [missed])
    assert.equal(changes.filter(({ kind }) => kind === 'snapshot').length, 1)
  })

  it('I1, I2: over the whole road, a gateway killed and brought back loses and repeats nothing', async () => {
    await using stack = await Stack.start()
    using etcd = new EtcdHttp(stack.first.etcd.directUrl)
    await using tab = await Tab.open(browser, site)
    await tab.call('open', { url: stack.url, backoff: QUICK })
    await tab.call('watch', 'w', { prefix: '/' })
    await tab.call('until', 'w', 'snapshot')
    const wanted: string[] = []
    const write = async (count: number): Promise<void> => {
      for (let n = 0; n < count; n++) {
        const put = (key: string) => ({ op: 'put', key, value: Buffer.from(String(n)) }) as const
        const { revision } = await etcd.write([put('/a'), put('/b'), put(`/k/${n}`)])
        wanted.push(String(revision))
      }
    }
    await write(20)
    await stack.gateway?.kill()
    await write(20)
    await stack.gateway?.restart()
    await write(20)
    const changes = await tab.call('until', 'w', 'events', wanted.at(-1))
    assert.deepEqual(revisions(changes), wanted)
    assert.ok(changes.every((change) => change.kind !== 'events' || change.events.length === 3))
    assert.deepEqual(tab.errors, [])
  })
})

describe('without a browser', () => {
  it('the tests are skipped with what to install, and on a build machine they fail', () => {
    const missing = findChromium({ PATH: '/nowhere' })
    assert.match(String(skipWithout(missing, {})), /install/)
    assert.equal(skipWithout(missing, { CI: 'true' }), false)
    assert.equal(skipWithout(found, {}) === false, 'path' in found)
    assert.match(
      String(skipWithout(findChromium({ DELTAWATCH_CHROMIUM: '/nowhere/chromium' }), {})),
      /\/nowhere\/chromium/,
    )
  })
})
