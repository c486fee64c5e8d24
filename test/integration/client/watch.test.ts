// The client over real WebSockets, against a gateway that can be cut at any frame.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Change, type CursorStore, DeltaWatch, type Notice, type Watch, WatchError } from '#client/deltawatch.ts'
import { FakeGateway } from '#test/support/fake-gateway.ts'
import { ReferenceCluster } from '#test/support/reference-cluster.ts'

const QUICK = { baseMs: 5, maxMs: 20, stableMs: 50 }
const put = (key: string, value: string) => ({ op: 'put', key, value }) as const

/** Reads until `enough` says so; the changes so far are in `seen`. */
async function read(
  watch: AsyncIterator<Change, undefined>,
  seen: Change[],
  enough: (change: Change) => boolean,
): Promise<Change> {
  for (;;) {
    const { value } = await watch.next()
    assert.ok(value !== undefined, 'the watch ended early')
    seen.push(value)
    if (enough(value)) return value
  }
}
const iterate = (watch: Watch): AsyncIterator<Change, undefined> => watch[Symbol.asyncIterator]()
const revisionsOf = (changes: readonly Change[], cluster: string): number[] =>
  changes.flatMap((change) => (change.kind === 'events' && change.cluster === cluster ? [Number(change.revision)] : []))

function cluster(name = 'sz-edge-1'): ReferenceCluster {
  const made = new ReferenceCluster(name)
  made.write([put('/config/a', '1'), put('/config/b', '2'), put('/config/c', '3')])
  made.write([put('/other', 'x')])
  return made
}

describe('watching', () => {
  it('delivers a staged snapshot whole, then one change per revision, then bookmarks', async () => {
    const sz = cluster()
    await using fake = await FakeGateway.start(sz)
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
    const watch = dw.watch({ prefix: '/config/' })
    const reader = iterate(watch)
    const first = await reader.next()
    assert.ok(first.value?.kind === 'snapshot')
    assert.deepEqual(
      first.value.items.map((item) => item.key),
      ['/config/a', '/config/b', '/config/c'],
    )
    sz.write([put('/config/a', '9'), { op: 'delete', key: '/config/b' }, put('/other', 'y')])
    fake.pump()
    const second = await reader.next()
    assert.ok(second.value?.kind === 'events')
    assert.deepEqual(
      second.value.events.map((event) => `${event.op} ${event.key}`),
      ['put /config/a', 'delete /config/b'],
    )
    assert.equal(watch.cursor, undefined, 'no cursor before a bookmark names the view')
    fake.bookmark()
    assert.equal((await reader.next()).value?.kind, 'bookmark')
    assert.match(watch.cursor ?? '', /^dw1\./)
  })

  it('I2: dropped after every frame in turn, it delivers each revision once and skips none', async () => {
    for (let dropAfter = 1; dropAfter <= 12; dropAfter++) {
      const sz = cluster()
      const gz = cluster('gz-edge-1')
      await using fake = await FakeGateway.start(sz, gz)
      fake.plans.push({}, { dropAfter }, { dropAfter: dropAfter + 1 })
      await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
      const seen: Change[] = []
      const reader = iterate(dw.watch({ prefix: '/' }))
      await read(reader, seen, (change) => change.kind === 'snapshot' && change.cluster === 'gz-edge-1')
      fake.bookmark()
      await read(reader, seen, (change) => change.kind === 'bookmark')
      const wanted = new Map<string, number[]>()
      for (const one of [sz, gz]) {
        wanted.set(
          one.id,
          [1, 2, 3, 4].map((n) => one.write([put('/config/a', String(n))])),
        )
      }
      fake.drop()
      await fake.heard((frame) => frame.type === 'watch', 2)
      // One more in each, so that a repetition of the others would have been seen before it.
      for (const one of [sz, gz]) {
        const last = one.write([put('/config/a', 'last')])
        wanted.get(one.id)?.push(last)
        fake.pump()
        await read(reader, seen, (c) => c.kind === 'events' && c.cluster === one.id && c.revision === String(last))
      }
      for (const [name, revisions] of wanted) {
        assert.deepEqual(revisionsOf(seen, name), revisions, `${name}, dropped after ${dropAfter}`)
      }
      assert.equal(
        seen.some((change) => change.kind === 'resync'),
        false,
      )
    }
  })

  it('I1: a compacted position is a resync with a full snapshot, never a silent gap', async () => {
    const sz = cluster()
    await using fake = await FakeGateway.start(sz)
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
    const seen: Change[] = []
    const reader = iterate(dw.watch({ prefix: '/config/' }))
    await read(reader, seen, (change) => change.kind === 'snapshot')
    fake.bookmark()
    await read(reader, seen, (change) => change.kind === 'bookmark')
    sz.write([{ op: 'delete', key: '/config/a' }])
    sz.compact()
    fake.drop()
    const resync = await read(reader, seen, (change) => change.kind === 'resync')
    assert.ok(resync.kind === 'resync' && resync.reason === 'compacted')
    const snapshot = await read(reader, seen, (change) => change.kind === 'snapshot')
    assert.ok(snapshot.kind === 'snapshot' && snapshot.base === 'full')
    assert.deepEqual(
      snapshot.items.map((item) => item.key),
      ['/config/b', '/config/c'],
    )
  })

  it('a gateway that breaks the protocol is asked again, and the change says so', async () => {
    const sz = cluster()
    await using fake = await FakeGateway.start(sz)
    const notices: Notice[] = []
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
    dw.on('notice', (notice) => notices.push(notice))
    const seen: Change[] = []
    const reader = iterate(dw.watch({ prefix: '/config/' }))
    await read(reader, seen, (change) => change.kind === 'snapshot')
    const at = { cluster: 'sz-edge-1', epoch: 'ffffffffffffffff', revision: '99' }
    fake.say({ type: 'events', ch: 1, ...at, events: [{ op: 'delete', key: '/config/a' }] })
    const told = await read(reader, seen, (change) => change.kind === 'resync')
    assert.ok(told.kind === 'resync' && told.reason === 'violation')
    const again = await read(reader, seen, (change) => change.kind === 'snapshot')
    assert.ok(again.kind === 'snapshot' && again.items.length === 3)
    assert.deepEqual(
      notices.map(({ code }) => code),
      ['violation'],
    )
    assert.equal(fake.connections, 1, 'only the watch was renewed, not the connection')
  })

  it('text that is no frame ends the connection, and the next one resumes', async () => {
    const sz = cluster()
    await using fake = await FakeGateway.start(sz)
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
    const reader = iterate(dw.watch({ prefix: '/config/' }))
    await reader.next()
    fake.bookmark()
    await reader.next()
    fake.say('{"type":')
    await fake.heard((frame) => frame.type === 'watch', 2)
    const revision = sz.write([put('/config/a', 'after')])
    fake.pump()
    const next = await reader.next()
    assert.ok(next.value?.kind === 'events' && next.value.revision === String(revision))
    assert.equal(fake.connections, 2)
  })

  it('equal watches of one client get a connection each', async () => {
    const sz = cluster()
    await using fake = await FakeGateway.start(sz)
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
    const first = iterate(dw.watch({ prefix: '/config/' }))
    const second = iterate(dw.watch({ prefix: '/config/' }))
    assert.equal((await first.next()).value?.kind, 'snapshot')
    assert.equal((await second.next()).value?.kind, 'snapshot')
    assert.equal(fake.open, 2)
    sz.write([put('/config/a', '2')])
    fake.pump()
    assert.equal((await first.next()).value?.kind, 'events')
    assert.equal((await second.next()).value?.kind, 'events')
  })

  it('I8: a slow consumer makes the watch rest and take up again without loss', async () => {
    const sz = cluster()
    await using fake = await FakeGateway.start(sz)
    const notices: Notice[] = []
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK, maxQueue: 4_000 })
    dw.on('notice', (notice) => notices.push(notice))
    const seen: Change[] = []
    const reader = iterate(dw.watch({ prefix: '/config/' }))
    await read(reader, seen, (change) => change.kind === 'snapshot')
    fake.bookmark()
    await read(reader, seen, (change) => change.kind === 'bookmark')
    const wanted: number[] = []
    for (let n = 0; n < 60; n++) {
      wanted.push(sz.write([put('/config/a', 'v'.repeat(200))]))
      fake.pump()
    }
    await fake.heard((frame) => frame.type === 'unwatch')
    await read(reader, seen, (change) => change.kind === 'events' && change.revision === String(wanted.at(-1)))
    assert.deepEqual(revisionsOf(seen, 'sz-edge-1'), wanted)
    assert.equal(
      seen.some((change) => change.kind === 'resync'),
      false,
    )
    assert.ok(notices.some(({ code }) => code === 'slow-consumer'))
    assert.equal(fake.connections, 1)
  })

  it('a snapshot above the limit ends the watch with its name', async () => {
    await using fake = await FakeGateway.start(cluster())
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK, maxSnapshot: 100 })
    await assert.rejects(iterate(dw.watch({ prefix: '/config/' })).next(), (error) => {
      return error instanceof WatchError && error.code === 'client.snapshot-too-large'
    })
  })

  it('a cluster that comes is snapshotted, one that goes is told', async () => {
    const sz = cluster()
    const mo = cluster('mo-edge-1')
    await using fake = await FakeGateway.start(sz)
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
    const seen: Change[] = []
    const reader = iterate(dw.watch({ prefix: '/config/' }))
    await read(reader, seen, (change) => change.kind === 'snapshot')
    fake.offer(mo)
    const came = await read(reader, seen, (change) => change.kind === 'snapshot')
    assert.ok(came.kind === 'snapshot' && came.cluster === 'mo-edge-1')
    fake.remove(sz)
    const gone = await read(reader, seen, (change) => change.kind === 'cluster')
    assert.ok(gone.kind === 'cluster' && gone.cluster === 'sz-edge-1' && gone.state === 'removed')
  })
})

describe('ending', () => {
  it('a code of the never band ends every watch with that code', async () => {
    await using fake = await FakeGateway.start(cluster())
    fake.plans.push({ refuse: { code: 4003, reason: 'the token was refused' } })
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK, token: 'old' })
    await assert.rejects(iterate(dw.watch({ prefix: '/' })).next(), { code: 'DW4003' })
    assert.equal(dw.connection.phase, 'closed')
    await assert.rejects(iterate(dw.watch({ prefix: '/x' })).next(), { code: 'DW4003' })
    assert.equal(fake.connections, 1)
  })

  it('a refused token is fetched again once by the hook', async () => {
    await using fake = await FakeGateway.start(cluster())
    fake.plans.push({ refuse: { code: 4003, reason: 'expired on the way' } })
    let calls = 0
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK, token: async () => `token-${++calls}` })
    assert.equal((await iterate(dw.watch({ prefix: '/' })).next()).value?.kind, 'snapshot')
    assert.deepEqual(
      fake.received.filter((frame) => frame.type === 'hello').map((frame) => frame.token),
      ['token-1', 'token-2'],
    )
  })

  it('a failing token hook is told and tried again', async () => {
    await using fake = await FakeGateway.start(cluster())
    let calls = 0
    const notices: Notice[] = []
    await using dw = new DeltaWatch({
      url: fake.url,
      backoff: QUICK,
      token: () => {
        calls += 1
        if (calls < 3) throw new Error('the identity provider is away')
        return 'ok'
      },
    })
    dw.on('notice', (notice) => notices.push(notice))
    await dw.connect()
    assert.deepEqual(
      notices.map(({ code }) => code),
      ['token-failed', 'token-failed'],
    )
  })

  it('leaving the loop unwatches; close() and a signal end the iteration without an error', async () => {
    await using fake = await FakeGateway.start(cluster())
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
    for await (const change of dw.watch({ prefix: '/config/' })) if (change.kind === 'snapshot') break
    await fake.heard((frame) => frame.type === 'unwatch')
    const stop = new AbortController()
    const aborted = iterate(dw.watch({ prefix: '/config/', signal: stop.signal }))
    await aborted.next()
    const pending = aborted.next()
    stop.abort()
    assert.deepEqual(await pending, { done: true, value: undefined })
    const watch = dw.watch({ prefix: '/config/a' })
    const reader = iterate(watch)
    await reader.next()
    const last = reader.next()
    await dw.close()
    assert.deepEqual(await last, { done: true, value: undefined })
    await assert.rejects(iterate(dw.watch({ prefix: '/b' })).next(), { code: 'client.closed' })
  })

  it('subscribe() waits for each callback, and reports its failure once', async () => {
    const sz = cluster()
    await using fake = await FakeGateway.start(sz)
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
    const kinds: string[] = []
    const ended = await new Promise<unknown>((resolve) => {
      dw.watch({ prefix: '/config/' }).subscribe(async (change) => {
        await new Promise(setImmediate)
        kinds.push(change.kind)
        if (change.kind === 'events') throw new Error('the application failed')
        sz.write([put('/config/a', '2')])
        fake.pump()
      }, resolve)
    })
    assert.deepEqual(kinds, ['snapshot', 'events'])
    assert.equal((ended as Error).message, 'the application failed')
  })
})

describe('cursors across restarts', () => {
  const memory = (): CursorStore & { readonly saved: Map<string, string> } => {
    const saved = new Map<string, string>()
    return { saved, load: (name) => saved.get(name), save: (name, cursor) => void saved.set(name, cursor) }
  }

  it('saves only what the consumer took, and resumes from there', async () => {
    const sz = cluster()
    await using fake = await FakeGateway.start(sz)
    const store = memory()
    const taken: number[] = []
    const session = async (revisions: number): Promise<void> => {
      await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK, cursorStore: store })
      for await (const change of dw.watch({ prefix: '/config/', name: 'app', start: 'now' })) {
        if (change.kind !== 'events') continue
        if (revisions-- === 0) break
        taken.push(Number(change.revision))
      }
    }
    const wanted: number[] = []
    const first = session(2)
    await fake.heard((frame) => frame.type === 'watch')
    fake.bookmark()
    for (let n = 0; n < 5; n++) wanted.push(sz.write([put('/config/a', String(n))]))
    fake.pump()
    await first
    assert.deepEqual(taken, wanted.slice(0, 2), 'the third was in hand when the loop was left: not taken')
    await session(2)
    assert.deepEqual(taken, wanted.slice(0, 4))
    assert.equal(store.saved.size, 1)
  })

  it('a store that cannot load ends the watch; one that cannot save is told; a damaged cursor starts over', async () => {
    await using fake = await FakeGateway.start(cluster())
    const failing = new DeltaWatch({
      url: fake.url,
      backoff: QUICK,
      cursorStore: {
        load: () => Promise.reject(new Error('the disk is away')),
        save: () => undefined,
      },
    })
    await assert.rejects(iterate(failing.watch({ prefix: '/', name: 'app' })).next(), { code: 'client.cursor-store' })
    await failing.close()

    const notices: Notice[] = []
    await using dw = new DeltaWatch({
      url: fake.url,
      backoff: QUICK,
      cursorStore: { load: () => 'dw1.AAAA', save: () => Promise.reject(new Error('the disk is full')) },
    })
    dw.on('notice', (notice) => notices.push(notice))
    const watch = dw.watch({ prefix: '/', name: 'app' })
    const reader = iterate(watch)
    assert.equal((await reader.next()).value?.kind, 'snapshot')
    fake.bookmark()
    await reader.next()
    void reader.next()
    await watch.close()
    assert.deepEqual(
      notices.map(({ code }) => code),
      ['stored-cursor-unusable', 'cursor-store-failed'],
    )
  })

  it('a cursor given by hand that cannot be decoded is refused before anything is sent', async () => {
    await using fake = await FakeGateway.start(cluster())
    await using dw = new DeltaWatch({ url: fake.url, backoff: QUICK })
    await assert.rejects(iterate(dw.watch({ prefix: '/', start: 'dw1.nonsense' })).next(), { code: 'DW4012' })
    assert.equal(fake.connections, 0)
  })
})
