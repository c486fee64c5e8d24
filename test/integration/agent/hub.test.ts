// What a hub can do to a log, and what the agent makes of it: hold the position, say so, resume by itself.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { jetstreamManager, type JetStreamManager } from '@nats-io/jetstream'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { EtcdHttp } from '../../judge/etcd-http.ts'
import { decodeRaw, type RawMessage, readLog } from '../../judge/log-reader.ts'
import { Writer } from '../../judge/writer.ts'
import { startEtcd } from '../../support/etcd.ts'
import { type Nats, startNats } from '../../support/nats.ts'
import { type Agent, CLUSTER, caughtUp, judge, startAgent } from './harness.ts'

const STREAM = `DW_${CLUSTER}`
const put = (key: string, value: string | Uint8Array) => ({ op: 'put' as const, key, value: Buffer.from(value) })
const live = (agent: Agent) => agent.until('live', (s) => s.phase === 'live')

async function manage(nats: Nats): Promise<{ nc: NatsConnection; manager: JetStreamManager } & AsyncDisposable> {
  const nc = await connect({ servers: nats.directUrl })
  const manager = await jetstreamManager(nc)
  return { nc, manager, [Symbol.asyncDispose]: () => nc.close() }
}

const createStream = (manager: JetStreamManager, more: Record<string, unknown> = {}) =>
  manager.streams.add({ name: STREAM, subjects: [`dw.log.${CLUSTER}`], ...more })

/** Behind `after` an epoch's BEGIN starts the chain at its own place: its readers need nothing from before it. */
function beginsAnew(messages: readonly RawMessage[], after: number): void {
  const behind = messages.filter(({ seq }) => seq > after).map(({ seq, data }) => ({ seq, ...decodeRaw(data) }))
  assert.equal(behind[0]?.seq, after + 1)
  const at = behind.findIndex(({ kind }) => kind === 'SNAPSHOT_BEGIN')
  const begin = behind[at]
  assert.deepEqual(
    { reason: begin?.reason, base: Number(begin?.base.seq) },
    { reason: 'REASON_EPOCH', base: (begin?.seq ?? 0) - 1 },
  )
  assert.ok(
    begin?.prev_entry_id.every((byte) => byte === 0),
    'the chain starts here',
  )
  // Appends that were on their way found their place by chance. They continue one that was refused: void by the chain rule.
  const [stray] = behind.slice(0, at)
  if (stray === undefined) return
  const stored = messages.flatMap(({ seq, data }) => (seq < after ? [decodeRaw(data).entry_id] : []))
  const lost = Buffer.from(stray.prev_entry_id)
  assert.ok(!stored.some((id) => lost.equals(id)) && lost.some((byte) => byte !== 0), 'what follows nothing is void')
}

describe('hub', () => {
  it('a stream deleted and created again under a running agent starts over with an epoch and a checkpoint', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    await using hub = await manage(nats)
    using http = new EtcdHttp(etcd.clientUrl)
    await createStream(hub.manager)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 31 })
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl })
    const { epoch } = await live(agent)
    await writer.write(30)
    await caughtUp(agent, http)
    await hub.manager.streams.delete(STREAM)
    await writer.write(5)
    await agent.until('stream missing', (s) => s.phase === 'stream-missing')
    await createStream(hub.manager)
    await writer.write(20)
    await caughtUp(agent, http)
    assert.notEqual((await agent.status())?.epoch, epoch)
    const { messages } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    beginsAnew(messages, 0)
  })

  it('K5: a log purged under a healthy agent has a complete checkpoint again, so that a fresh reader can start', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    await using hub = await manage(nats)
    using http = new EtcdHttp(etcd.clientUrl)
    await createStream(hub.manager)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 36 })
    await using agent = await startAgent({
      etcd: etcd.clientUrl,
      nats: nats.clientUrl,
      env: { DELTAWATCH_CHECKPOINT_LOOK_EVERY: '200ms' },
    })
    await live(agent)
    await writer.write(30)
    await caughtUp(agent, http)
    const { state } = await hub.manager.streams.info(STREAM)
    await hub.manager.streams.purge(STREAM)
    const written = await agent.until('a checkpoint behind the purge', (s) => s.newestCompleteBeginSeq > state.last_seq)
    assert.equal(written.phase, 'live')
    await writer.write(20)
    await caughtUp(agent, http)
    const entries = (await readLog(nats.clientUrl, CLUSTER)).map((message) => decodeRaw(message.data))
    assert.ok(
      entries.some((entry) => entry.kind === 'SNAPSHOT_END'),
      entries.map((entry) => entry.kind).join(' '),
    )
  })

  it('a purged stream means an unknown position: a new epoch at the last sequence', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    await using hub = await manage(nats)
    using http = new EtcdHttp(etcd.clientUrl)
    await createStream(hub.manager)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 32 })
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl })
    const { epoch } = await live(agent)
    await writer.write(30)
    await caughtUp(agent, http)
    await agent.kill()
    const { state } = await hub.manager.streams.info(STREAM)
    await hub.manager.streams.purge(STREAM)
    await agent.restart()
    assert.notEqual((await live(agent)).epoch, epoch)
    await writer.write(20)
    await caughtUp(agent, http)
    const { messages } = await judge(nats.clientUrl, http, writer.acks.byRevision, { trimmed: true })
    beginsAnew(messages, state.last_seq)
  })

  it('a deleted tail message means an unknown position, never a guess', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    await using hub = await manage(nats)
    using http = new EtcdHttp(etcd.clientUrl)
    await createStream(hub.manager)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 33 })
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl })
    const { epoch } = await live(agent)
    await writer.write(30)
    await caughtUp(agent, http)
    await agent.kill()
    const { state } = await hub.manager.streams.info(STREAM)
    await hub.manager.streams.deleteMessage(STREAM, state.last_seq)
    await agent.restart()
    const status = await live(agent)
    assert.notEqual(status.epoch, epoch)
    await writer.write(20)
    await caughtUp(agent, http)
    // The log has a hole now, so that only this entry is read.
    const next = await hub.manager.streams.getMessage(STREAM, { seq: state.last_seq + 1 })
    assert.ok(next !== null)
    beginsAnew([{ seq: next.seq, data: next.data, headers: {} }], state.last_seq)
  })

  it('a foreign message at the tail is no entry: the position is unknown, and the log goes on behind it', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    await using hub = await manage(nats)
    using http = new EtcdHttp(etcd.clientUrl)
    await createStream(hub.manager)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 34 })
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl })
    const { seq } = await live(agent)
    const intruder = (await hub.nc.request(`dw.log.${CLUSTER}`, 'not an entry')).json<{ seq: number }>()
    await writer.write(20)
    await agent.until('beyond the intruder', (s) => s.phase === 'live' && s.seq > seq + 2)
    await caughtUp(agent, http)
    beginsAnew(await readLog(nats.clientUrl, CLUSTER), intruder.seq)
  })

  it('hub-too-small: a stream below four checkpoints holds the position without a loop, and goes on when enlarged', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    await using hub = await manage(nats)
    using http = new EtcdHttp(etcd.clientUrl)
    await createStream(hub.manager, { max_bytes: 64 * 1024 })
    await using writer = new Writer({ url: etcd.clientUrl, seed: 35 })
    for (let i = 0; i < 40; i++) await writer.put([put(`/fill/${i}`, Buffer.alloc(1_000, i))])
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl })
    const status = await agent.until('too small', (s) => s.phase === 'hub-too-small')
    assert.match(status.reason, /max_bytes/)
    assert.equal((await hub.manager.streams.info(STREAM)).state.messages, 0)
    // Every turn waits a quarter of a second at least.
    const turns = () => agent.metric('deltawatch_agent_watch_attachments_total')
    const before = await turns()
    await wait(2_000)
    assert.ok((await turns()) - before <= 8, 'it asks again, but not in a loop')
    assert.equal((await hub.manager.streams.info(STREAM)).state.messages, 0)
    const { config } = await hub.manager.streams.info(STREAM)
    await hub.manager.streams.update(STREAM, { ...config, max_bytes: 4 * 1024 * 1024 })
    await caughtUp(agent, http)
    await judge(nats.clientUrl, http, writer.acks.byRevision)
  })

  it('routine checkpoints by size keep a small stream readable from its newest one', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    await using hub = await manage(nats)
    using http = new EtcdHttp(etcd.clientUrl)
    await createStream(hub.manager, { max_bytes: 768 * 1024 })
    await using writer = new Writer({ url: etcd.clientUrl, seed: 36, keys: 60, valueBytes: 400 })
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl })
    await live(agent)
    const routine = () => agent.metric('deltawatch_agent_checkpoints_total{cluster="sz-edge-1",reason="routine"}')
    for (let i = 0; i < 40 && (await routine()) === 0; i++) await writer.write(100)
    await caughtUp(agent, http)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.ok(verdict.total('checkpoints') >= 2, verdict.toString())
    await writer.write(3_000)
    await caughtUp(agent, http)
    const log = await readLog(nats.clientUrl, CLUSTER)
    assert.ok((log[0]?.seq ?? 0) > 1, 'the stream has been trimmed')
    const newest = Number(decodeRaw(log.at(-1)?.data ?? new Uint8Array()).newest_complete_begin_seq)
    assert.ok(newest >= (log[0]?.seq ?? 0), 'the newest complete checkpoint is still in the stream')
  })

  it('I8: with the hub away, memory stays bounded and etcd is the buffer', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats({ proxyFor: 'clients' })
    await using hub = await manage(nats)
    using http = new EtcdHttp(etcd.clientUrl)
    await createStream(hub.manager)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 37 })
    const env = { DELTAWATCH_UPLINK_MAX_HELD: '1MiB' }
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, env })
    await live(agent)
    nats.proxy.throttle(20_000, 'toTarget')
    for (let i = 0; i < 120; i++) await writer.put([put(`/big/${i % 5}`, Buffer.alloc(100_000, i))])
    const status = await agent.until('paused', (s) => s.hub.heldBytes > 512 * 1024)
    assert.ok(status.hub.heldBytes < 4 * 1024 * 1024, `${status.hub.heldBytes} bytes held`)
    assert.ok((await agent.metric('deltawatch_agent_watch_pauses_total')) > 0)
    await nats.proxy.heal()
    await caughtUp(agent, http)
    await judge(nats.clientUrl, http, writer.acks.byRevision)
  })

  it('a link that flaps and stalls under load leaves neither a gap nor a repetition', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats({ proxyFor: 'clients' })
    await using hub = await manage(nats)
    using http = new EtcdHttp(etcd.clientUrl)
    await createStream(hub.manager)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 38, perSecond: 500 })
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl })
    await live(agent)
    nats.proxy.delay(20)
    writer.start()
    await using flapping = nats.proxy.flap({ upMs: 400, downMs: 100, cycles: 12 })
    await flapping.done
    await writer.stop()
    await nats.proxy.heal()
    await caughtUp(agent, http)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
  })
})
