// Hooks on real servers: a mass delete is held before it leaves, seen, and let go; the log stays exact either way.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { writeFile } from 'node:fs/promises'
import { setTimeout as wait } from 'node:timers/promises'
import { connect } from '@nats-io/transport-node'
import { decodeEntry } from '#protocol/log/decode.ts'
import type { Mark } from '#protocol/log/entry.ts'
import { ChainReader } from '#gateway/upstream/chain-reader.ts'
import { decodeMark } from '#gateway/upstream/marks.ts'
import type { ViewEvent } from '#gateway/view/contract.ts'
import { ViewCore } from '#gateway/view/view-core.ts'
import { EtcdHttp } from '../../judge/etcd-http.ts'
import { Writer } from '../../judge/writer.ts'
import { startEtcd } from '../../support/etcd.ts'
import { startNats } from '../../support/nats.ts'
import { readLog } from '../../judge/log-reader.ts'
import { type Agent, caughtUp, CLUSTER, judge, OPEN_POLICY, startAgent } from './harness.ts'

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
  await writer.put(['/secret/a', '/secret/b'].map((key) => put(key, 'hidden later')))
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

/** What a gateway would tell of the log: the differences each checkpoint but the first made, as `key op`. */
async function differencesOf(natsUrl: string): Promise<string[][]> {
  const resets: string[][] = []
  const note = (event: ViewEvent): void => {
    if (event.kind !== 'reset') return
    resets.push((event.differences ?? []).map((one) => `${one.key} ${'gone' in one ? one.gone : 'put'}`))
  }
  const roomy = { ringBytes: 1e8, ringRevisions: 1e6, stagingBytes: 1e8, holdBytes: 1e8, stateBytes: 1e8 }
  const core = new ViewCore(roomy, note)
  const chain = new ChainReader(1)
  for (const { seq, data } of await readLog(natsUrl, CLUSTER)) {
    const judged = chain.judge(seq, data)
    assert.equal(judged.kind, 'valid', `sequence ${seq}`)
    if (judged.kind !== 'valid') continue
    const { entry, state, completed } = judged
    core.apply({ entry, message: data, owned: false, position: state.revision, completed, arrivedAt: 0 })
  }
  return resets.slice(1)
}

/** Bookmarks as a gateway hears them, from now on. */
async function hearMarks(
  natsUrl: string,
): Promise<AsyncDisposable & { next(test: (mark: Mark) => boolean): Promise<Mark> }> {
  const nc = await connect({ servers: natsUrl })
  const heard: Mark[] = []
  nc.subscribe(`dw.mark.${CLUSTER}`, {
    callback: (_, { data }) => {
      const mark = decodeMark(data)
      if (mark !== undefined) heard.push(mark)
    },
  })
  await nc.flush()
  return {
    next: async (test) => {
      for (const until = performance.now() + 20_000; performance.now() < until; await wait(50)) {
        for (let mark = heard.shift(); mark !== undefined; mark = heard.shift()) if (test(mark)) return mark
      }
      return assert.fail('no such bookmark within 20 s')
    },
    [Symbol.asyncDispose]: () => nc.close(),
  }
}

const NARROWED = OPEN_POLICY.replace(
  '  rules:',
  '  rules:\n    - { id: no-secrets, effect: deny, match: { keys: ["/secret/**"] } }',
)

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

  it('I6: a policy that narrows while a hook holds takes keys away at once, as leave, and what is held stays held', async () => {
    await using world = await heldWorld()
    const { agent, before, nats } = world
    await writeFile(agent.policyFile, NARROWED)
    agent.process.kill('SIGHUP')
    await agent.until('the checkpoint', (s) => s.phase === 'held' && s.newestCompleteBeginSeq > 1)
    assert.deepEqual(await differencesOf(nats.clientUrl), [['/secret/a leave', '/secret/b leave']])
    assert.equal((await agent.status())?.position, String(before), 'nothing of what is held has left')
  })

  it('K4: released as a resync with a change of policy pending, its keys leave and only what was deleted is', async () => {
    await using world = await heldWorld()
    const { agent, http, nats } = world
    const hold = await holdOf(agent)
    // etcd does not answer: the change of policy is still pending when the operator releases.
    process.kill(world.etcd.pid, 'SIGSTOP')
    await writeFile(agent.policyFile, NARROWED)
    agent.process.kill('SIGHUP')
    await agent.process.waitForLine(/"event":"reloaded/)
    assert.equal((await release(agent, { revision: hold?.revision, as: 'resync' })).status, 200)
    process.kill(world.etcd.pid, 'SIGCONT')
    await caughtUp(agent, http)
    const [policy, gap, ...more] = await differencesOf(nats.clientUrl)
    assert.deepEqual(policy, ['/secret/a leave', '/secret/b leave'])
    assert.deepEqual(gap?.toSorted(), [...ALL.map((key) => `${key} delete`), '/app/after put'].toSorted())
    assert.deepEqual(more, [])
  })

  it('K6: with the position compacted as well nothing is shown while the hook holds, and a new epoch once it does not', async () => {
    await using world = await heldWorld()
    const { agent, http, nats, writer } = world
    const hold = await holdOf(agent)
    await http.compact(await writer.put([put('/app/late', 'behind it all')]))
    const entries = (await readLog(nats.clientUrl, CLUSTER)).length
    const since = agent.process.lineCount()
    await writeFile(agent.policyFile, NARROWED)
    agent.process.kill('SIGHUP')
    await agent.process.waitForLine(/"event":"leading"/, { since })
    await agent.until('held on', (s) => s.phase === 'held')
    await wait(500)
    assert.equal((await readLog(nats.clientUrl, CLUSTER)).length, entries)
    assert.equal((await release(agent, { revision: hold?.revision, as: 'resync' })).status, 200)
    await caughtUp(agent, http)
    const begins = (await readLog(nats.clientUrl, CLUSTER)).map(({ data }) => decodeEntry(data))
    const reasons = begins.flatMap((one) => (one.ok && one.value.kind === 'snapshot-begin' ? [one.value.reason] : []))
    assert.deepEqual(reasons, ['epoch', 'epoch'])
  })

  it('I9: a held log tells bookmarks that grow old and lag behind, of the entry they name, under its configuration', async () => {
    await using world = await heldWorld()
    const { agent, before, nats, writer } = world
    await using marks = await hearMarks(nats.clientUrl)
    const first = await marks.next((mark) => mark.state === 'lagging')
    assert.deepEqual([first.provenRevision, first.lag > 0], [String(before), true])
    await writer.put([put('/app/0', 'later')])
    const later = await marks.next((mark) => (mark.ageMs ?? 0) > (first.ageMs ?? 0) + 2_000 && mark.lag > first.lag)
    assert.deepEqual([later.state, later.provenRevision], ['lagging', String(before)])
    assert.ok((await agent.metric('deltawatch_agent_lag_seconds')) > 2)
    await writeFile(agent.policyFile, NARROWED)
    agent.process.kill('SIGHUP')
    await agent.until('the checkpoint', (s) => s.phase === 'held' && s.newestCompleteBeginSeq > 1)
    const newest = (await readLog(nats.clientUrl, CLUSTER)).at(-1)
    const entry = decodeEntry(newest?.data ?? new Uint8Array())
    const named = await marks.next((mark) => mark.seq === newest?.seq && mark.state === 'lagging')
    assert.deepEqual([named.entryId, named.configHash], entry.ok && [entry.value.entryId, entry.value.configHash])
    assert.ok((named.ageMs ?? 0) > (later.ageMs ?? 0), 'a checkpoint at the position proves nothing behind it')
  })
})
