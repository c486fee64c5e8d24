// What an operator sees of a running agent: readiness that means it, every metric and fact, profiles for those who may.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { EtcdHttp } from '../../judge/etcd-http.ts'
import { Writer } from '../../judge/writer.ts'
import { startEtcd } from '../../support/etcd.ts'
import { startNats } from '../../support/nats.ts'
import { caughtUp, startAgent } from './harness.ts'

/** Whatever else is measured, these are promised. */
const PROMISED = [
  'deltawatch_agent_watch_streams_total',
  'deltawatch_agent_watch_created_total',
  'deltawatch_agent_watch_failed_total',
  'deltawatch_agent_reconnects_per_minute',
  'deltawatch_agent_events_seen_total',
  'deltawatch_agent_events_relayed_total',
  'deltawatch_agent_lag_revisions',
  'deltawatch_agent_lag_seconds',
  'deltawatch_agent_proof_age_seconds',
  'deltawatch_agent_resyncs_total',
  'deltawatch_agent_append_conflicts_total',
  'deltawatch_agent_void_entries_total',
  'deltawatch_agent_quarantined_total',
  'deltawatch_agent_oversize_total',
  'deltawatch_agent_appends_in_flight',
  'deltawatch_agent_held_bytes',
  'deltawatch_agent_deviation_ratio',
  'deltawatch_agent_deviation_alarm',
  'deltawatch_agent_holding',
  'deltawatch_breaker_state',
  'process_resident_memory_bytes',
]

describe('operations', () => {
  it('is ready once it is live and not before, and shows what it promises', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 61 })
    await etcd.kill()
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: ['--create-stream'] })
    await agent.until('etcd unreachable', (s) => s.phase === 'etcd-unreachable')
    const early = await fetch(`${agent.adminUrl}/readyz`)
    assert.equal(early.status, 503)
    assert.match(await early.text(), /\[-\]sz-edge-1 failed: etcd-unreachable/)
    assert.equal((await fetch(`${agent.adminUrl}/livez`)).status, 200)
    await etcd.restart()
    await agent.until('live', (s) => s.phase === 'live')
    assert.equal((await fetch(`${agent.adminUrl}/readyz`)).status, 200)
    await writer.write(50)
    const head = await caughtUp(agent, http)
    const text = await (await fetch(`${agent.adminUrl}/metrics`)).text()
    for (const name of PROMISED) assert.match(text, new RegExp(`^# TYPE ${name} `, 'm'), name)
    assert.equal(await agent.metric('deltawatch_agent_watch_created_total'), 1)
    assert.equal(await agent.metric('deltawatch_agent_lag_seconds'), 0)
    assert.ok((await agent.metric('deltawatch_agent_reconnects_per_minute')) >= 2)
    const status = (await (await fetch(`${agent.adminUrl}/debug/status`)).json()) as {
      logs: { etcd: Record<string, string>; watch: { phase: string; cursor: string }; seq: number; epoch: string }[]
      breakers: { name: string }[]
    }
    const [log] = status.logs
    assert.match(log?.etcd['raftTerm'] ?? '', /^[1-9]\d*$/)
    assert.match(log?.etcd['raftIndex'] ?? '', /^[1-9]\d*$/)
    assert.deepEqual([log?.watch.phase, Number(log?.watch.cursor) >= head], ['open', true])
    assert.deepEqual(
      status.breakers.map(({ name }) => name.split(' ').slice(0, 2).join(' ')),
      ['hub connect', 'hub read', 'hub append', 'etcd read'],
    )
    // Trouble after that is shown and heals by itself: nobody is asked to restart the agent for it.
    await etcd.kill()
    await agent.until('etcd unreachable', (s) => s.phase === 'etcd-unreachable')
    const late = await fetch(`${agent.adminUrl}/readyz?verbose`)
    assert.equal(late.status, 200)
    assert.match(await late.text(), /\[!\]sz-edge-1 degraded/)
  })

  it('takes a profile and a heap snapshot, one at a time, for those who show the token', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    const env = { DELTAWATCH_ADMIN_TOKEN: 'let-me-in' }
    await using agent = await startAgent({
      etcd: etcd.clientUrl,
      nats: nats.clientUrl,
      flags: ['--create-stream'],
      env,
    })
    const headers = { authorization: 'Bearer let-me-in' }
    const ask = (path: string, own: Record<string, string> = headers) =>
      fetch(`${agent.adminUrl}${path}`, { headers: own })
    while ((await ask('/readyz').catch(() => undefined))?.status !== 200) {
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    for (const path of ['/debug/status', '/debug/profile?seconds=1', '/debug/heap']) {
      assert.equal((await ask(path, {})).status, 403, path)
      assert.equal((await ask(path, { authorization: 'Bearer wrong' })).status, 403, path)
    }
    assert.equal((await ask('/debug/profile?seconds=0')).status, 400)
    assert.equal((await ask('/debug/profile?seconds=61')).status, 400)
    const profiling = ask('/debug/profile?seconds=2')
    await new Promise((resolve) => setTimeout(resolve, 500))
    assert.equal((await ask('/debug/heap')).status, 409)
    const profile = (await (await profiling).json()) as { nodes: unknown[]; endTime: number; startTime: number }
    assert.ok(profile.nodes.length > 1 && profile.endTime - profile.startTime >= 1_900_000)
    const heap = (await (await ask('/debug/heap')).json()) as { snapshot: { node_count: number } }
    assert.ok(heap.snapshot.node_count > 1_000)
  })
})
