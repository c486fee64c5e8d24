// Hooks on real servers: a mass delete is held before it leaves, seen, and let go; the log stays exact either way.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { EtcdHttp } from '../../judge/etcd-http.ts'
import { Writer } from '../../judge/writer.ts'
import { startEtcd } from '../../support/etcd.ts'
import { startNats } from '../../support/nats.ts'
import { type Agent, caughtUp, judge, startAgent } from './harness.ts'

const KEYS = 120
const put = (key: string, value: string) => ({ op: 'put' as const, key, value: Buffer.from(value) })
const ALL = Array.from({ length: KEYS }, (_, i) => `/app/${i}`)
const GUARDED = { DELTAWATCH_HOOKS_ON_DELETE_MAX_KEYS: '100', DELTAWATCH_HOOKS_HOLD_FOR: '0ms' }

type Hold = { readonly revision: string; readonly pattern: string; readonly count: number }

async function holdOf(agent: Agent): Promise<Hold | null> {
  const response = await fetch(`${agent.adminUrl}/debug/status`)
  return ((await response.json()) as { logs: { hold: Hold | null }[] }).logs[0]?.hold ?? null
}

const release = (agent: Agent, body: object, type = 'application/json') =>
  fetch(`${agent.adminUrl}/debug/holds/sz-edge-1`, {
    method: 'POST',
    headers: { 'content-type': type },
    body: JSON.stringify(body),
  })

async function heldWorld() {
  await using stack = new AsyncDisposableStack()
  const etcd = stack.use(await startEtcd())
  const nats = stack.use(await startNats())
  const http = stack.use(new EtcdHttp(etcd.clientUrl))
  const writer = stack.use(new Writer({ url: etcd.clientUrl, seed: 81 }))
  await writer.put(ALL.map((key) => put(key, 'precious')))
  const flags = ['--create-stream']
  const agent = stack.use(await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags, env: GUARDED }))
  await agent.until('live', (s) => s.phase === 'live')
  await writer.put([put('/app/0', 'changed')])
  await caughtUp(agent, http)
  const before = await http.head()
  await writer.put(ALL.map((key) => ({ op: 'delete' as const, key })))
  await writer.put([put('/app/after', 'behind the delete')])
  const status = await agent.until('held', (s) => s.phase === 'held')
  assert.match(status.reason, /mass-delete of 120 keys/)
  const owned = stack.move()
  return { etcd, nats, http, writer, agent, before, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

describe('hooks', () => {
  it('I1: a mass delete is held and alarmed, survives a kill -9, and once released the log is exact', async () => {
    await using world = await heldWorld()
    const { agent, before, http, nats, writer } = world
    const hold = await holdOf(agent)
    assert.deepEqual(
      { revision: hold?.revision, pattern: hold?.pattern, count: hold?.count },
      { revision: String(before + 1), pattern: 'mass-delete', count: KEYS },
    )
    assert.equal(await agent.metric('deltawatch_agent_holding'), 1)
    assert.match(await (await fetch(`${agent.adminUrl}/readyz?verbose`)).text(), /degraded: held: onDelete/)
    await agent.kill()
    await agent.restart()
    await agent.until('held again', (s) => s.phase === 'held')
    await wait(500)
    assert.equal((await agent.status())?.position, String(before), 'nothing of it has left')
    assert.equal((await release(agent, { revision: '1', as: 'events' })).status, 409)
    assert.equal((await release(agent, { revision: hold?.revision, as: 'events' }, 'text/plain')).status, 415)
    assert.equal((await release(agent, { revision: hold?.revision, as: 'never' })).status, 400)
    assert.equal((await release(agent, { revision: hold?.revision, as: 'events', upTo: '1' })).status, 400)
    assert.equal((await release(agent, { revision: hold?.revision, as: 'events', upTo: '-1' })).status, 400)
    assert.equal((await release(agent, { revision: hold?.revision, as: 'resync', upTo: hold?.revision })).status, 400)
    assert.equal((await release(agent, { revision: hold?.revision, as: 'events', upTo: hold?.revision })).status, 200)
    await caughtUp(agent, http)
    assert.equal(await agent.metric('deltawatch_agent_holding'), 0)
    const { verdict, entries } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
    const deletes = entries
      .flatMap((e) => e.revisions ?? [])
      .flatMap((r) => r.events)
      .filter((e) => e.op === 'DELETE')
    assert.equal(deletes.length, KEYS)
  })

  it('I1: released as a resync after the keys were restored, the log never shows the delete', async () => {
    await using world = await heldWorld()
    const { agent, http, nats, writer } = world
    await writer.put(ALL.map((key) => put(key, 'restored')))
    const hold = await holdOf(agent)
    assert.equal((await release(agent, { revision: hold?.revision, as: 'resync' })).status, 200)
    await caughtUp(agent, http)
    await writer.write(50)
    await caughtUp(agent, http)
    const { verdict, entries } = await judge(nats.clientUrl, http, writer.acks.byRevision, { pending: ['gap'] })
    assert.equal(verdict.total('checkpoints'), 2)
    const gone = new Set(ALL)
    const shown = entries
      .flatMap((e) => e.revisions ?? [])
      .flatMap((r) => r.events)
      .filter((e) => e.op === 'DELETE' && gone.has(e.key.toString('latin1')))
    assert.equal(shown.length, 0)
  })
})
