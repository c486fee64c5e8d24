// Circuit breakers of the agent: they open on silence, show it, probe, close by themselves, and cost the log nothing.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { EtcdHttp } from '../../judge/etcd-http.ts'
import { Writer } from '../../judge/writer.ts'
import { startEtcd } from '../../support/etcd.ts'
import { startNats } from '../../support/nats.ts'
import { type Agent, caughtUp, judge, startAgent } from './harness.ts'

const OPEN = 2
const QUICK = {
  DELTAWATCH_BREAKER_MINIMUM_CALLS: '2',
  DELTAWATCH_BREAKER_HALF_OPEN_AFTER: '2s',
  DELTAWATCH_ETCD_CALL_TIMEOUT: '400ms',
  DELTAWATCH_WATCH_BACKOFF_BASE: '50ms',
  DELTAWATCH_WATCH_BACKOFF_CAP: '200ms',
  DELTAWATCH_UPLINK_ACK_TIMEOUT: '400ms',
  DELTAWATCH_UPLINK_BACKOFF_CAP: '300ms',
  DELTAWATCH_NATS_CONNECT_TIMEOUT: '300ms',
  DELTAWATCH_NATS_BACKOFF_BASE: '20ms',
  DELTAWATCH_NATS_BACKOFF_CAP: '100ms',
}

type Breaker = { readonly name: string; readonly breaker: string; readonly opened: number }

async function breakers(agent: Agent): Promise<readonly Breaker[]> {
  const response = await fetch(`${agent.adminUrl}/debug/status`)
  return ((await response.json()) as { breakers: Breaker[] }).breakers
}

async function untilState(agent: Agent, name: string, state: number, timeoutMs = 20_000): Promise<void> {
  const series = `deltawatch_breaker_state{dep="${name}`
  const deadline = performance.now() + timeoutMs
  while (performance.now() < deadline) {
    if ((await agent.metric(series)) === state) return
    await wait(20)
  }
  assert.fail(
    `${name} never became ${state}: ${JSON.stringify(await breakers(agent))}\n${agent.process.log().slice(-3_000)}`,
  )
}

describe('circuit breakers', () => {
  it('etcd read: a silent etcd opens it, no connection is tried while it is open, a probe closes it, nothing is lost', async () => {
    await using etcd = await startEtcd({ proxyFor: 'clients' })
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.directUrl)
    await using writer = new Writer({ url: etcd.directUrl, seed: 71, perSecond: 200 })
    await using agent = await startAgent({
      etcd: etcd.clientUrl,
      nats: nats.clientUrl,
      flags: ['--create-stream'],
      env: QUICK,
    })
    await agent.until('live', (s) => s.phase === 'live')
    const name = 'etcd read sz-edge-1'
    assert.deepEqual(
      (await breakers(agent)).map(({ breaker }) => breaker),
      ['closed', 'closed', 'closed', 'closed'],
    )
    writer.start()
    etcd.proxy.blackhole()
    await untilState(agent, name, OPEN)
    const held = await agent.until('held', (s) => s.phase === 'etcd-unreachable' && /next probe/.test(s.reason))
    const { accepted } = etcd.proxy.stats()
    await wait(1_000)
    assert.ok(etcd.proxy.stats().accepted - accepted <= 1, 'an open breaker asks nobody')
    assert.equal((await agent.status())?.position, held.position, 'the position is held')
    await etcd.proxy.heal()
    await untilState(agent, name, 0)
    await writer.stop()
    await caughtUp(agent, http)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
    assert.ok((await agent.metric('deltawatch_breaker_opened_total')) >= 1)
  })

  it('hub read and append: a hub that stops answering opens them, the position is held, and nothing is lost or repeated', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats({ proxyFor: 'clients' })
    using http = new EtcdHttp(etcd.clientUrl)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 72, perSecond: 200 })
    await using agent = await startAgent({
      etcd: etcd.clientUrl,
      nats: nats.clientUrl,
      flags: ['--create-stream'],
      env: { ...QUICK, DELTAWATCH_NATS_PING_INTERVAL: '2m' },
    })
    await agent.until('live', (s) => s.phase === 'live')
    writer.start()
    nats.proxy.blackhole()
    await untilState(agent, 'hub read sz-edge-1', OPEN)
    const held = await agent.until('held', (s) => s.phase === 'hub-unreachable' && /next probe/.test(s.reason))
    const attachments = await agent.metric('deltawatch_agent_watch_attachments_total')
    await wait(1_500)
    assert.equal(await agent.metric('deltawatch_agent_watch_attachments_total'), attachments, 'etcd is left alone')
    assert.equal((await agent.status())?.position, held.position)
    await nats.proxy.heal()
    await untilState(agent, 'hub read sz-edge-1', 0)
    await writer.stop()
    await caughtUp(agent, http)
    const { verdict } = await judge(nats.directUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
  })

  it('hub connect: a hub that takes connections and says nothing opens it, and is found again', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats({ proxyFor: 'clients' })
    using http = new EtcdHttp(etcd.clientUrl)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 73 })
    await using agent = await startAgent({
      etcd: etcd.clientUrl,
      nats: nats.clientUrl,
      flags: ['--create-stream'],
      env: QUICK,
    })
    await agent.until('live', (s) => s.phase === 'live')
    nats.proxy.blackhole()
    nats.proxy.cut()
    await writer.write(50)
    await untilState(agent, 'hub connect', OPEN)
    const { accepted } = nats.proxy.stats()
    await wait(1_000)
    assert.ok(nats.proxy.stats().accepted - accepted <= 1, 'an open breaker dials nobody')
    await nats.proxy.heal()
    await untilState(agent, 'hub connect', 0)
    await caughtUp(agent, http)
    await judge(nats.directUrl, http, writer.acks.byRevision)
  })
})
