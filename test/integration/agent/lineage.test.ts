// Is this still the same etcd? Wiped, restored, compacted, and the innocent cases that must not look like any of them.

import assert from 'node:assert/strict'
import { cp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { EtcdHttp } from '../../judge/etcd-http.ts'
import { AckBook, History } from '../../judge/truth.ts'
import { prefixed } from '../../judge/view.ts'
import { Writer } from '../../judge/writer.ts'
import { startEtcd } from '../../support/etcd.ts'
import { startNats } from '../../support/nats.ts'
import { scratchDir } from '../../support/process.ts'
import { type Agent, caughtUp, judge, startAgent } from './harness.ts'

const put = (key: string, value: string) => ({ op: 'put' as const, key, value: Buffer.from(value) })
const FLAGS = ['--create-stream', '--log-level', 'info']

/** One lineage's history: everything the given etcd holds from its first revision on. */
async function historyOf(http: EtcdHttp, acks: AckBook): Promise<History> {
  const history = new History(1)
  await history.extend(http, acks.byRevision, await http.head())
  return history
}

const live = (agent: Agent) => agent.until('live', (s) => s.phase === 'live')

describe('lineage', () => {
  it('I2: a wiped etcd under the same address, cluster id and term starts a new epoch, even when it has grown past the old head', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    await using before = new Writer({ url: etcd.clientUrl, seed: 21 })
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: FLAGS })
    await live(agent)
    await before.write(60)
    await caughtUp(agent, http)
    const first = await historyOf(http, before.acks)
    await agent.kill()
    await etcd.stop()
    await rm(etcd.dataDir, { recursive: true })
    await etcd.restart()
    await using after = new Writer({ url: etcd.clientUrl, seed: 22 })
    await after.write(120)
    assert.ok((await http.head()) > first.to, 'the new history has passed the old head')
    await agent.restart()
    await live(agent)
    await after.write(20)
    await caughtUp(agent, http)
    const second = await historyOf(http, after.acks)
    await judge(nats.clientUrl, http, after.acks.byRevision, { histories: [first, second], from: second })
  })

  it('I2: a backup restored under the same cluster id is told by its history alone', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    await using backup = await scratchDir('backup')
    using http = new EtcdHttp(etcd.clientUrl)
    await using before = new Writer({ url: etcd.clientUrl, seed: 23 })
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: FLAGS })
    await live(agent)
    await before.write(30)
    await caughtUp(agent, http)
    await etcd.stop()
    await cp(etcd.dataDir, join(backup.path, 'data'), { recursive: true })
    await etcd.restart()
    const common = new AckBook()
    for (const ack of before.acks.byRevision.values()) common.add(ack.ops, ack)
    await live(agent)
    await before.write(40)
    await caughtUp(agent, http)
    const first = await historyOf(http, before.acks)
    await etcd.stop()
    await rm(etcd.dataDir, { recursive: true })
    await cp(join(backup.path, 'data'), etcd.dataDir, { recursive: true })
    await etcd.restart()
    await using after = new Writer({ url: etcd.clientUrl, seed: 24 })
    await after.write(90)
    await live(agent)
    await caughtUp(agent, http)
    const acks = new AckBook()
    for (const ack of [...common.byRevision.values(), ...after.acks.byRevision.values()]) acks.add(ack.ops, ack)
    const second = await historyOf(http, acks)
    await judge(nats.clientUrl, http, acks.byRevision, { histories: [first, second], from: second })
  })

  it('a restarted etcd, an agent killed right after its first checkpoint and a quiet range are the same lineage', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 25 })
    await writer.write(20)
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: FLAGS })
    const { epoch } = await live(agent)
    await agent.kill()
    await agent.restart()
    await live(agent)
    await etcd.kill()
    await agent.until('unreachable', (s) => s.phase === 'etcd-unreachable')
    await etcd.restart()
    await live(agent)
    await writer.write(20)
    await caughtUp(agent, http)
    assert.equal((await agent.status())?.epoch, epoch)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
  })

  it('a quiet range stays resumable after compaction, away or connected, by the proof of its state', async () => {
    // Servers before 3.4.31 and 3.5.13 prove a quiet range by timed notifications alone.
    await using etcd = await startEtcd({ progressNotify: '1s' })
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    const history = new History(1)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 26, prefix: '/q/' })
    await writer.write(50)
    await using agent = await startAgent({
      etcd: etcd.clientUrl,
      nats: nats.clientUrl,
      prefix: '/q/',
      flags: FLAGS,
      env: { DELTAWATCH_UPLINK_PROGRESS_EVERY: '500ms' },
    })
    const { epoch } = await live(agent)
    // Others write outside the range; the range itself is quiet.
    for (let i = 0; i < 30; i++) await writer.put([put(`/other/${i}`, 'x')])
    const head = await caughtUp(agent, http)
    const { position } = await agent.until('a PROGRESS entry', (s) => Number(s.position) >= head)
    assert.equal(position, String(head), 'it proves what etcd has, and nothing to come')
    await agent.kill()
    for (let i = 0; i < 30; i++) await writer.put([put(`/other/${i}`, 'y')])
    await history.extend(http, writer.acks.byRevision, await http.head())
    await http.compact(await http.head())
    await agent.restart()
    await live(agent)
    assert.equal((await agent.status())?.epoch, epoch, 'the state is what it was')
    await writer.put([put('/q/late', '1')])
    await caughtUp(agent, http)
    const { entries } = await judge(nats.clientUrl, http, writer.acks.byRevision, {
      from: history,
      view: prefixed('/q/'),
    })
    assert.ok(entries.some((entry) => entry.kind === 'PROGRESS'))
  })

  it('a range that fell quiet after events is proved anew by its state, before compaction takes the events', async () => {
    await using etcd = await startEtcd({ progressNotify: '1s' })
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    const history = new History(1)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 28, prefix: '/q/' })
    await using agent = await startAgent({
      etcd: etcd.clientUrl,
      nats: nats.clientUrl,
      prefix: '/q/',
      flags: FLAGS,
      env: { DELTAWATCH_UPLINK_PROGRESS_EVERY: '500ms', DELTAWATCH_WATCH_QUIET_AFTER: '1s' },
    })
    const { epoch } = await live(agent)
    // The events end what the checkpoint proved; the agent that continues knows them alone.
    await writer.write(30)
    await caughtUp(agent, http)
    await agent.kill()
    await agent.restart()
    await live(agent)
    await wait(2_500)
    for (let i = 0; i < 30; i++) await writer.put([put(`/other/${i}`, 'x')])
    const head = await http.head()
    await agent.until('a PROGRESS entry', (s) => Number(s.position) >= head)
    await agent.kill()
    await writer.put([put('/other/last', 'y')])
    await history.extend(http, writer.acks.byRevision, await http.head())
    await http.compact(await http.head())
    await agent.restart()
    assert.equal((await live(agent)).epoch, epoch, 'the state is what it was')
    await writer.put([put('/q/late', '1')])
    await caughtUp(agent, http)
    await judge(nats.clientUrl, http, writer.acks.byRevision, { from: history, view: prefixed('/q/') })
  })

  it('compaction past the position of an absent agent means a new epoch and a full checkpoint, never a silent gap', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    const history = new History(1)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 27 })
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: FLAGS })
    const { epoch } = await live(agent)
    await writer.write(50)
    await caughtUp(agent, http)
    await agent.kill()
    await writer.write(80)
    await history.extend(http, writer.acks.byRevision, await http.head())
    await http.compact(await http.head())
    await agent.restart()
    const status = await live(agent)
    assert.notEqual(status.epoch, epoch)
    await writer.write(20)
    await caughtUp(agent, http)
    await judge(nats.clientUrl, http, writer.acks.byRevision, { from: history, lineages: 2 })
  })
})
