// An etcd that misbehaves as no real one does on demand. Whatever it sends, the agent ends in a named state and the log
// holds what happened, no more and no less.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { judgeLog } from '../../judge/log-judge.ts'
import { decodeRaw, readLog } from '../../judge/log-reader.ts'
import { fingerprint, History } from '../../judge/truth.ts'
import { Verdict } from '../../judge/verdict.ts'
import { type FakeEtcd, type FakeWatch, startFakeEtcd } from '../../support/fake-etcd.ts'
import type { FakeStore } from '../../support/fake-etcd-store.ts'
import { type Nats, startNats } from '../../support/nats.ts'
import { type Agent, CLUSTER, startAgent } from './harness.ts'

const FLAGS = ['--create-stream', '--log-level', 'info']
/** Waits between attachments short enough for a test; where they are the subject, the defaults count. */
const QUICK = {
  DELTAWATCH_WATCH_BACKOFF_BASE: '10ms',
  DELTAWATCH_WATCH_BACKOFF_CAP: '60ms',
  DELTAWATCH_WATCH_PROGRESS_EVERY: '200ms',
  DELTAWATCH_UPLINK_MARK_EVERY: '200ms',
}

class Bench implements AsyncDisposable {
  readonly #owned: AsyncDisposableStack
  readonly etcd: FakeEtcd
  readonly nats: Nats
  readonly agent: Agent

  private constructor(owned: AsyncDisposableStack, etcd: FakeEtcd, nats: Nats, agent: Agent) {
    this.#owned = owned
    this.etcd = etcd
    this.nats = nats
    this.agent = agent
  }

  static async start(
    options: {
      readonly before?: bigint
      readonly env?: Readonly<Record<string, string>>
      readonly prepare?: (etcd: FakeEtcd) => void
    } = {},
  ): Promise<Bench> {
    await using owned = new AsyncDisposableStack()
    const etcd = owned.use(await startFakeEtcd(options.before === undefined ? {} : { before: options.before }))
    options.prepare?.(etcd)
    const nats = owned.use(await startNats())
    const env = options.env ?? QUICK
    const agent = owned.use(await startAgent({ etcd: etcd.url, nats: nats.clientUrl, flags: FLAGS, env }))
    return new Bench(owned.move(), etcd, nats, agent)
  }

  live(): Promise<unknown> {
    return this.agent.until('live', (s) => s.phase === 'live')
  }

  /** The log stands where the store stands. */
  async caughtUp(timeoutMs = 20_000): Promise<void> {
    const head = this.etcd.store.head
    await this.agent.until(`position ${head}`, (s) => s.phase === 'live' && BigInt(s.position) >= head, timeoutMs)
  }

  async judge(pending: readonly string[] = []): Promise<Verdict> {
    const messages = await readLog(this.nats.clientUrl, CLUSTER)
    const histories = [historyOf(this.etcd.store)]
    const verdict = judgeLog(messages, { cluster: CLUSTER, histories, pending }, new Verdict())
    assert.equal(verdict.failed, 0, `${verdict.toString()}\n${this.agent.process.log().slice(-3_000)}`)
    assert.equal(await this.agent.metric('deltawatch_stray_errors_total'), 0, 'an error that nobody caught')
    return verdict
  }

  /** Writes until the watch that a script took over is there, and hands it to `act`. Later ones are honest again. */
  async onNextWatch(act: (watch: FakeWatch) => void): Promise<FakeWatch> {
    const { script, proxy } = this.etcd
    const taken = new Promise<FakeWatch>((resolve) => {
      script.watch = (watch) => {
        delete script.watch
        act(watch)
        resolve(watch)
      }
    })
    proxy.cut('reset')
    return taken
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync()
  }
}

function historyOf(store: FakeStore): History {
  const history = new History(1)
  for (const { events } of store.revisions) {
    history.add(
      events.map(({ type, kv }) => {
        const key = kv.key.toString('latin1')
        if (type === 'Delete') return { op: 'delete' as const, key }
        return { op: 'put' as const, key, value: fingerprint(kv.value), lease: '0' }
      }),
    )
  }
  return history
}

const three = (store: FakeStore, n: number) =>
  store.write(...['a', 'b', 'c'].map((key) => ({ op: 'put' as const, key: `/${key}`, value: `${n}` })))

describe('an etcd that misbehaves', () => {
  it('I1: fragments that never end, or end in another revision, are read again as a whole', async () => {
    await using bench = await Bench.start()
    const { etcd } = bench
    await bench.live()
    for (let n = 0; n < 4; n++) etcd.store.publish(three(etcd.store, n))
    await bench.caughtUp()
    const whole = three(etcd.store, 9)
    const watch = await bench.onNextWatch((one) => {
      one.created()
      one.events(etcd.store.since(BigInt(one.startRevision)).slice(0, -1))
      const [first, ...rest] = whole.events
      one.events([{ ...whole, events: [first as (typeof rest)[0]] }], { fragment: true })
      one.end()
    })
    assert.ok(watch.n > 0)
    await bench.caughtUp()
    const next = three(etcd.store, 10)
    await bench.onNextWatch((one) => {
      one.created()
      // The first piece of one revision, then a whole later one: the first was complete for all the stream says.
      one.events(etcd.store.since(BigInt(one.startRevision)).slice(0, -1))
      one.events([next], { fragment: true })
      one.events([], { fragment: false })
      one.end()
    })
    await bench.caughtUp()
    await bench.judge()
  })

  it('I1: events out of order end the watch, twice the same are dropped, old ones are ignored', async () => {
    await using bench = await Bench.start()
    const { etcd } = bench
    await bench.live()
    const revisions = Array.from({ length: 6 }, (_, n) => etcd.store.put(`/k${n % 3}`, `${n}`))
    await bench.caughtUp()
    const late = [
      etcd.store.write({ op: 'put', key: '/k0', value: 'x' }),
      etcd.store.write({ op: 'put', key: '/k1', value: 'y' }),
    ]
    await bench.onNextWatch((one) => {
      one.created()
      const replayed = etcd.store.since(BigInt(one.startRevision)).slice(0, -2)
      one.events(replayed)
      one.events(late.toReversed(), { fragment: true })
    })
    await bench.caughtUp()
    const last = etcd.store.write({ op: 'put', key: '/k2', value: 'z' })
    await bench.onNextWatch((one) => {
      one.created()
      one.events(etcd.store.since(BigInt(one.startRevision)))
      one.events([last])
      one.events(revisions.slice(0, 2))
    })
    await bench.caughtUp()
    await bench.judge()
    assert.ok((await bench.agent.metric('deltawatch_agent_events_dropped_total')) >= 2)
  })

  it('I1: an event left out of the middle is noticed by the key that skipped a version, and repaired openly', async () => {
    await using bench = await Bench.start()
    const { etcd } = bench
    await bench.live()
    for (let n = 0; n < 5; n++) etcd.store.put('/k', `${n}`)
    await bench.caughtUp()
    etcd.store.write({ op: 'put', key: '/k', value: 'never told' })
    etcd.store.put('/k', 'after it')
    await bench.caughtUp()
    const verdict = await bench.judge(['gap'])
    assert.equal(verdict.total('checkpoints'), 2)
  })

  it('bookmarks below what was sent prove nothing and end nothing', async () => {
    await using bench = await Bench.start()
    const { etcd } = bench
    await bench.live()
    for (let n = 0; n < 20; n++) etcd.store.put(`/k${n}`, `${n}`)
    await bench.caughtUp()
    await bench.onNextWatch((one) => {
      one.created()
      one.events(etcd.store.since(BigInt(one.startRevision)))
      for (const low of [1n, 0n, 5n]) one.say({ header: one.header(low) })
      // Whoever believed them takes these for new.
      one.events(etcd.store.revisions.slice(6, 10))
      one.events([etcd.store.write({ op: 'put', key: '/late', value: '1' })])
    })
    await bench.caughtUp()
    await bench.judge()
  })

  it('a cancel with any reason is a named state, and the next watch goes on', async () => {
    await using bench = await Bench.start()
    const { etcd } = bench
    await bench.live()
    etcd.store.put('/k', '0')
    await bench.caughtUp()
    const reasons = ['', 'etcdserver: mvcc: weird', '💥'.repeat(500), 'etcdserver: no leader', '\0\0']
    for (const [n, cancel_reason] of reasons.entries()) {
      for (const created of [true, false]) {
        etcd.store.write({ op: 'put', key: '/k', value: `${n} ${created}` })
        await bench.onNextWatch((one) => {
          if (!created) one.created()
          one.say({ canceled: true, created, cancel_reason, watch_id: created ? '-1' : '0' })
        })
        await bench.caughtUp()
      }
    }
    await bench.judge()
  })

  it('a server without a cluster id is a proxy: refused by name, nothing is written', async () => {
    await using bench = await Bench.start({
      prepare: (etcd) => {
        etcd.identity = { ...etcd.identity, clusterId: '0' }
      },
    })
    const status = await bench.agent.until('refused', (s) => s.phase === 'etcd-unreachable')
    assert.match(status.reason, /grpc-proxy/)
    const { etcd, agent } = bench
    etcd.identity = { ...etcd.identity, clusterId: '77' }
    await bench.live()
    etcd.store.put('/k', '1')
    await bench.caughtUp()
    assert.equal(agent.process.exit, undefined)
    await bench.judge()
  })

  it('a member that closes at once, and one that refuses, are asked now and then: never a hot loop', async () => {
    await using bench = await Bench.start({
      env: { DELTAWATCH_WATCH_BACKOFF_CAP: '2s' },
      prepare: ({ script }) => {
        script.watch = (watch) => watch.end()
      },
    })
    const { etcd } = bench
    const seconds = 5
    await bench.agent.until('unreachable', (s) => s.phase === 'etcd-unreachable' || s.phase === 'live')
    const [before, watchesBefore] = [etcd.connections, etcd.watches.length]
    await wait(seconds * 1_000)
    const perSecond = (etcd.connections - before) / seconds
    assert.ok(perSecond <= 4, `${perSecond} connections a second`)
    assert.ok(etcd.watches.length > watchesBefore, 'it still tries')
    assert.ok((etcd.watches.length - watchesBefore) / seconds <= 2)
    await etcd.proxy.refuse()
    await wait(500)
    await etcd.proxy.accept()
    delete etcd.script.watch
    etcd.store.put('/k', '1')
    await bench.caughtUp()
    await bench.judge()
  })

  it('L4: revisions beyond 2^53 are exact, to the last digit', async () => {
    const before = 2n ** 53n + 5n
    await using bench = await Bench.start({ before })
    const { etcd } = bench
    await bench.live()
    for (let n = 0; n < 12; n++) etcd.store.put(`/k${n % 5}`, `${n}`)
    await bench.caughtUp()
    await bench.agent.kill()
    for (let n = 0; n < 12; n++) etcd.store.put(`/k${n % 5}`, `again ${n}`)
    await bench.agent.restart()
    await bench.caughtUp()
    const entries = (await readLog(bench.nats.clientUrl, CLUSTER)).map(({ data }) => decodeRaw(data))
    const told = entries.flatMap((entry) => entry.revisions)
    assert.deepEqual(
      told.map(({ revision }) => revision),
      etcd.store.revisions.map(({ revision }) => String(revision)),
    )
    assert.equal(entries.filter(({ kind }) => kind === 'SNAPSHOT_BEGIN').length, 1, 'one epoch, no gap')
    const created = told.flatMap(({ events }) => events.map((event) => event.create_revision))
    const expected = etcd.store.revisions.flatMap(({ events }) => events.map(({ kv }) => kv.create_revision))
    assert.deepEqual(created, expected)
  })

  it('odd watch ids are taken as given; a stream that changes its mind about them is left', async () => {
    await using bench = await Bench.start()
    const { etcd } = bench
    await bench.live()
    etcd.store.put('/k', '0')
    await bench.caughtUp()
    for (const watch_id of ['9223372036854775807', '-9223372036854775808', '4294967296']) {
      etcd.store.write({ op: 'put', key: '/k', value: watch_id })
      await bench.onNextWatch((one) => {
        one.created({ watch_id })
        one.events(etcd.store.since(BigInt(one.startRevision)), { watch_id })
      })
      await bench.caughtUp()
    }
    etcd.store.write({ op: 'put', key: '/k', value: 'of another watcher' })
    const odd = await bench.onNextWatch((one) => {
      one.created({ watch_id: '3' })
      one.events(etcd.store.since(BigInt(one.startRevision)), { watch_id: '4' })
    })
    await bench.caughtUp()
    assert.ok(etcd.watches.length > odd.n + 1)
    await bench.judge()
  })

  it('a response cut in the middle of its bytes leaves nothing behind', async () => {
    await using bench = await Bench.start()
    const { etcd } = bench
    await bench.live()
    etcd.store.put('/k', '0')
    await bench.caughtUp()
    for (let n = 0; n < 5; n++) {
      const value = 'v'.repeat(60_000)
      etcd.proxy.throttle(200_000, 'toClient')
      const before = etcd.proxy.stats().toClient
      etcd.store.publish(
        etcd.store.write(
          ...['a', 'b', 'c'].map((key) => ({ op: 'put' as const, key: `/${key}`, value: `${n}${value}` })),
        ),
      )
      const deadline = performance.now() + 5_000
      while (etcd.proxy.stats().toClient - before < 20_000 * (n + 1) && performance.now() < deadline) await wait(2)
      etcd.proxy.cut('reset')
      await etcd.proxy.heal()
      await bench.caughtUp()
    }
    await bench.judge()
  })
})
