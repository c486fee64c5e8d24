// More than one etcd member, and members in trouble: leaders lost, stopped, learning, of another history, out of space.
// Owns: that the agent finds out in time, goes where it is served, and neither loses nor repeats anything on the way.

import assert from 'node:assert/strict'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { resolveTool } from '#deploy/toolchain/resolve.ts'
import { EtcdHttp, EtcdHttpError } from '../../judge/etcd-http.ts'
import { History } from '../../judge/truth.ts'
import { Writer } from '../../judge/writer.ts'
import { type Etcd, type EtcdMember, startEtcd } from '../../support/etcd.ts'
import { startNats } from '../../support/nats.ts'
import { reservePort } from '../../support/ports.ts'
import { scratchDir } from '../../support/process.ts'
import { startServer } from '../../support/server.ts'
import { type Agent, type AgentStatus, caughtUp, judge, startAgent } from './harness.ts'

const FLAGS = ['--create-stream', '--log-level', 'info']
const live = (agent: Agent, timeoutMs?: number) => agent.until('live', (s) => s.phase === 'live', timeoutMs)
const attachments = (agent: Agent): Promise<number> => agent.metric('deltawatch_agent_watch_attachments_total')
const put = (key: string, value: Uint8Array) => ({ op: 'put' as const, key, value: Buffer.from(value) })

function memberAt(etcd: Etcd, url: string): EtcdMember {
  const found = etcd.members.find((member) => member.clientUrl === url)
  assert.ok(found, url)
  return found
}

async function isLeader(member: EtcdMember): Promise<boolean> {
  using http = new EtcdHttp(member.directUrl)
  const status = (await http.call('maintenance/status', {})) as { leader: string; header: { member_id: string } }
  return status.leader === status.header.member_id
}

const elsewhere = (agent: Agent, endpoint: string): Promise<AgentStatus> =>
  agent.until('live elsewhere', (s) => s.phase === 'live' && s.etcd.endpoint !== endpoint, 30_000)

/** Writes elsewhere than at the member that is about to be in trouble. */
function writerBeside(etcd: Etcd, endpoint: string, seed: number): Writer {
  const other = etcd.members.find((member) => member.clientUrl !== endpoint)
  assert.ok(other)
  return new Writer({ url: other.directUrl, seed, perSecond: 100 })
}

describe('members of etcd', () => {
  it('the leader killed under the watch is replaced within 10 s', async (t) => {
    await using etcd = await startEtcd({ members: 3 })
    await using nats = await startNats()
    const leading = await Promise.all(etcd.members.map(isLeader))
    const first = etcd.members.toSorted(
      (a, b) => Number(leading[etcd.members.indexOf(b)]) - Number(leading[etcd.members.indexOf(a)]),
    )
    await using agent = await startAgent({ etcd: first.map((m) => m.clientUrl), nats: nats.clientUrl, flags: FLAGS })
    const { endpoint } = (await live(agent)).etcd
    await using writer = writerBeside(etcd, endpoint, 61)
    writer.start()
    await writer.reached(50, 20_000)
    const began = performance.now()
    await memberAt(etcd, endpoint).kill()
    await elsewhere(agent, endpoint)
    await writer.reached(writer.acknowledged + 20, 20_000)
    const took = performance.now() - began
    t.diagnostic(`leader lost to writes acknowledged and watched again: ${Math.round(took)} ms`)
    assert.ok(took < 10_000, `${Math.round(took)} ms`)
    await writer.stop()
    using http = new EtcdHttp(etcd.members.find((m) => m.clientUrl !== endpoint)?.directUrl ?? '')
    await caughtUp(agent, http)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
  })

  it('a member that lost its quorum says so, and is believed again when it has one', async (t) => {
    await using etcd = await startEtcd({ members: 3 })
    await using nats = await startNats()
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: FLAGS })
    await live(agent)
    await using writer = new Writer({ url: etcd.directUrl, seed: 62 })
    await writer.write(50)
    const began = performance.now()
    await Promise.all(etcd.members.slice(1).map((member) => member.kill()))
    await agent.until('detached', (s) => s.phase === 'etcd-unreachable')
    t.diagnostic(`quorum lost to watch ended: ${Math.round(performance.now() - began)} ms`)
    assert.ok(performance.now() - began < 10_000)
    await Promise.all(etcd.members.slice(1).map((member) => member.restart()))
    await live(agent, 60_000)
    await writer.write(20)
    using http = new EtcdHttp(etcd.directUrl)
    await caughtUp(agent, http)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
  })

  it('a member that is connected and deaf is found out within 5 s and left for another', async (t) => {
    await using etcd = await startEtcd({ members: 3 })
    await using nats = await startNats()
    const leading = await Promise.all(etcd.members.map(isLeader))
    const followers = etcd.members.filter((_, i) => leading[i] !== true)
    await using agent = await startAgent({
      etcd: followers.map((m) => m.clientUrl),
      nats: nats.clientUrl,
      flags: FLAGS,
    })
    const { endpoint } = (await live(agent)).etcd
    await using writer = writerBeside(etcd, endpoint, 63)
    writer.start()
    await writer.reached(50, 20_000)
    const since = agent.process.lineCount()
    const began = performance.now()
    const stopped = memberAt(etcd, endpoint)
    stopped.pause()
    await agent.process.waitForLine(/"reason":"(deaf|stale).*"event":"etcd detached"/, { since })
    const found = performance.now() - began
    const served = await elsewhere(agent, endpoint)
    t.diagnostic(
      `stopped to found out: ${Math.round(found)} ms, served again: ${Math.round(performance.now() - began)} ms`,
    )
    assert.ok(found < 5_200, `found out after ${Math.round(found)} ms`)
    await writer.stop()
    using http = new EtcdHttp(served.etcd.endpoint)
    await caughtUp(agent, http)
    stopped.resume()
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
  })

  it('a learner and a stopped member among the endpoints are passed over', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    await using dir = await scratchDir('learner')
    using http = new EtcdHttp(etcd.directUrl)
    await using writer = new Writer({ url: etcd.directUrl, seed: 64 })
    await writer.write(20)
    await using learner = await startLearner(http, etcd, dir.path)
    await using gone = await reservePort()
    const endpoints = [`http://127.0.0.1:${gone.port}`, learner.url, etcd.clientUrl]
    await using agent = await startAgent({ etcd: endpoints, nats: nats.clientUrl, flags: FLAGS })
    const { endpoint } = (await live(agent)).etcd
    assert.equal(endpoint, etcd.clientUrl)
    assert.match(agent.process.log(), /is a learner: it serves no watches yet/)
    await writer.write(20)
    await caughtUp(agent, http)
    await judge(nats.clientUrl, http, writer.acks.byRevision)
  })

  it('I2: a member of the same cluster id and another history means a new epoch, though its head is further', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    await using copy = await scratchDir('twin')
    using http = new EtcdHttp(etcd.directUrl)
    await using writer = new Writer({ url: etcd.directUrl, seed: 65 })
    await writer.write(30)
    const common = await http.head()
    await etcd.stop()
    await cp(etcd.dataDir, join(copy.path, 'm1'), { recursive: true })
    await etcd.restart()
    await using twin = await startEtcd({ dir: copy.path })
    using twinHttp = new EtcdHttp(twin.directUrl)
    await using twinWriter = new Writer({ url: twin.directUrl, seed: 66 })
    await using agent = await startAgent({ etcd: [etcd.clientUrl, twin.clientUrl], nats: nats.clientUrl, flags: FLAGS })
    const { epoch } = await live(agent)
    await writer.write(40)
    await caughtUp(agent, http)
    const first = new History(1)
    await first.extend(http, writer.acks.byRevision, await http.head())
    for (const ack of writer.acks.byRevision.values()) if (ack.revision <= common) twinWriter.acks.add(ack.ops, ack)
    await twinWriter.write(90)
    assert.ok((await twinHttp.head()) > first.to)
    await etcd.kill()
    const moved = await elsewhere(agent, etcd.clientUrl)
    assert.notEqual(moved.epoch, epoch)
    await twinWriter.write(20)
    await caughtUp(agent, twinHttp)
    const second = new History(1)
    await second.extend(twinHttp, twinWriter.acks.byRevision, await twinHttp.head())
    await judge(nats.clientUrl, twinHttp, twinWriter.acks.byRevision, { histories: [first, second], from: second })
  })

  it('an etcd out of space is watched as before, and attached to as before', async () => {
    await using etcd = await startEtcd({
      proxyFor: 'clients',
      args: ['--quota-backend-bytes', String(6 * 1024 * 1024)],
    })
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.directUrl)
    await using writer = new Writer({ url: etcd.directUrl, seed: 67 })
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: FLAGS })
    await live(agent)
    await writer.write(30)
    const full = async (): Promise<void> => {
      for (let i = 0; i < 20; i++) await writer.put([put(`/fill/${i}`, Buffer.alloc(1_000_000, i))])
    }
    await assert.rejects(full(), (e) => e instanceof EtcdHttpError && /space exceeded/.test(e.message))
    const before = await attachments(agent)
    await writer.put([{ op: 'delete', key: '/fill/', rangeEnd: '/fill0' }])
    await caughtUp(agent, http)
    assert.equal(await attachments(agent), before)
    etcd.proxy.cut()
    await agent.until('cut', (s) => s.phase !== 'live')
    await live(agent)
    await writer.put([{ op: 'delete', key: '/w/', rangeEnd: '/w0' }])
    await caughtUp(agent, http)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
  })
})

async function startLearner(
  http: EtcdHttp,
  etcd: Etcd,
  dir: string,
): Promise<AsyncDisposable & { readonly url: string }> {
  await using stack = new AsyncDisposableStack()
  const client = `http://127.0.0.1:${stack.use(await reservePort()).port}`
  const peer = `http://127.0.0.1:${stack.use(await reservePort()).port}`
  type Members = { members: { name?: string; peerURLs: string[] }[] }
  const { members } = (await http.call('cluster/member/add', { peerURLs: [peer], isLearner: true })) as Members
  const cluster = members.flatMap(({ name, peerURLs }) => peerURLs.map((url) => `${name ?? 'learner'}=${url}`))
  const { path } = await resolveTool('etcd', { version: etcd.version })
  const flags = {
    name: 'learner',
    'data-dir': dir,
    logger: 'zap',
    'listen-client-urls': client,
    'advertise-client-urls': client,
    'listen-peer-urls': peer,
    'initial-advertise-peer-urls': peer,
    'initial-cluster': cluster.join(','),
    'initial-cluster-state': 'existing',
  }
  stack.use(
    await startServer({
      name: 'etcd learner',
      command: path,
      args: Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value]),
      env: { PATH: '/usr/bin:/bin', HOME: dir },
      ready: (process) => process.waitForLine(/serving client traffic (in)?securely/),
    }),
  )
  const owned = stack.move()
  return { url: client, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}
