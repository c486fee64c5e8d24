// Several agents of one cluster: work is saved by standing by, safety never depends on it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { EtcdHttp } from '../../judge/etcd-http.ts'
import { Writer } from '../../judge/writer.ts'
import { startEtcd } from '../../support/etcd.ts'
import { type Nats, startNats } from '../../support/nats.ts'
import { type Agent, CLUSTER, caughtUp, judge, startAgent } from './harness.ts'

const live = (agent: Agent, timeoutMs?: number) => agent.until('live', (s) => s.phase === 'live', timeoutMs)
const standby = (agent: Agent) => agent.until('standby', (s) => s.phase === 'standby')

async function createStream(nats: Nats, replicas: number): Promise<void> {
  const nc = await connect({ servers: [...nats.clientUrls] })
  const manager = await jetstreamManager(nc)
  await manager.streams.add({ name: `DW_${CLUSTER}`, subjects: [`dw.log.${CLUSTER}`], num_replicas: replicas })
  await nc.close()
}

/** Agents that never stand by: each believes it leads, for as long as it lives. */
const ALWAYS_LEADING = {
  DELTAWATCH_UPLINK_SILENCE: '0ms',
  DELTAWATCH_UPLINK_STEP_DOWN: '0ms',
  DELTAWATCH_UPLINK_MARK_EVERY: '30s',
}

describe('several agents', () => {
  it("I5: the standby takes over within 5 s of the leader's silence, and the old leader stands by when it returns", async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    await createStream(nats, 1)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 41, perSecond: 200 })
    await using first = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, name: 'first' })
    await live(first)
    await using second = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, name: 'second' })
    await standby(second)
    writer.start()
    first.process.pause()
    const silentSince = performance.now()
    await second.until('appending', (s) => s.phase === 'live' && s.seq > 2)
    assert.ok(performance.now() - silentSince < 5_000, `took over after ${performance.now() - silentSince} ms`)
    first.process.resume()
    await standby(first)
    await second.kill()
    await live(first)
    await writer.stop()
    await caughtUp(first, http)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1, 'a takeover needs no checkpoint')
  })

  for (const [what, cluster] of [
    ['one server', undefined],
    ['three servers with three replicas', 3],
  ] as const) {
    it(`I5: three agents that all append are harmless on ${what}`, async () => {
      await using etcd = await startEtcd()
      await using nats = await startNats(
        cluster === undefined ? { proxyFor: 'clients' } : { cluster, proxyFor: 'clients' },
      )
      using http = new EtcdHttp(etcd.clientUrl)
      await createStream(nats, cluster ?? 1)
      await using writer = new Writer({ url: etcd.clientUrl, seed: 42, perSecond: 400 })
      const url = nats.clientUrls.join(',')
      const start = (name: string) => startAgent({ etcd: etcd.clientUrl, nats: url, name, env: ALWAYS_LEADING })
      await using a = await start('a')
      await live(a)
      await using b = await start('b')
      await using c = await start('c')
      for (const agent of [b, c]) await live(agent)
      writer.start()
      for (let round = 0; round < 6; round++) {
        await new Promise((resolve) => setTimeout(resolve, 700))
        for (const server of nats.servers) server.proxy.cut()
      }
      await writer.stop()
      // All of them may lead and none need be ahead of the others: one that has everything is enough.
      const done = new AbortController()
      await Promise.any([a, b, c].map((agent) => caughtUp(agent, http, 30_000, done.signal)))
      done.abort()
      const conflicts = await Promise.all(
        [a, b, c].map((agent) => agent.metric('deltawatch_agent_append_conflicts_total')),
      )
      assert.ok(conflicts.reduce((x, y) => x + y) > 0, "they did get in each other's way")
      const { verdict } = await judge(nats.servers[0]?.directUrl ?? '', http, writer.acks.byRevision)
      assert.equal(verdict.total('checkpoints'), 1)
    })
  }

  it('L14: an agent under another configuration stays out while the leader lives, with a clear reason', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    await createStream(nats, 1)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 43, prefix: '/w/', perSecond: 100 })
    await using elder = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, name: 'elder' })
    await live(elder)
    await writer.write(20)
    await using younger = await startAgent({
      etcd: etcd.clientUrl,
      nats: nats.clientUrl,
      name: 'younger',
      prefix: '/w/',
    })
    const status = await younger.until('mismatch', (s) => s.phase === 'config-mismatch')
    assert.match(status.reason, /another configuration/)
    // And it stays so while the elder is busy: the reason is what an operator looks for.
    writer.start()
    const seen = new Set<string>()
    for (let look = 0; look < 60; look++) {
      seen.add((await younger.status())?.phase ?? 'away')
      await wait(50)
    }
    await writer.stop()
    assert.deepEqual([...seen], ['config-mismatch'])
    await caughtUp(elder, http)
    await elder.kill()
    // With the elder gone the change is legitimate: a policy checkpoint first.
    await live(younger)
    await writer.write(20)
    await caughtUp(younger, http)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision, { pending: ['policy'] })
    assert.equal(verdict.total('checkpoints'), 2)
  })
})
