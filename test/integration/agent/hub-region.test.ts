// Where the hub stands decides what may leave: configured, stated by the stream, both and different, or unknown.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { HUB_REGION_KEY } from '#protocol/log/stream.ts'
import { EtcdHttp } from '../../judge/etcd-http.ts'
import { readLog } from '../../judge/log-reader.ts'
import { Writer } from '../../judge/writer.ts'
import { startEtcd } from '../../support/etcd.ts'
import { startNats } from '../../support/nats.ts'
import { CLUSTER, caughtUp, judge, startAgent } from './harness.ts'

/** Creates the stream of the cluster, or updates it to state `region`. */
async function state(natsUrl: string, region: string | undefined, verb: 'add' | 'update'): Promise<void> {
  const nc = await connect({ servers: natsUrl })
  try {
    const { streams } = await jetstreamManager(nc)
    const metadata = region === undefined ? {} : { [HUB_REGION_KEY]: region }
    const config = { name: `DW_${CLUSTER}`, subjects: [`dw.log.${CLUSTER}`], metadata }
    await (verb === 'add' ? streams.add(config) : streams.update(config.name, config))
  } finally {
    await nc.close()
  }
}

describe('the region of the hub', () => {
  it('I6: nothing leaves before it is known; once the stream states it, everything allowed does', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    await state(nats.clientUrl, undefined, 'add')
    await using writer = new Writer({ url: etcd.clientUrl, seed: 61 })
    await writer.write(20)
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, hubRegion: null })
    const { reason } = await agent.until('waiting', (s) => s.phase === 'hub-region-unknown')
    assert.match(reason, /--hub-region/)
    assert.equal((await readLog(nats.clientUrl, CLUSTER)).length, 0)
    await state(nats.clientUrl, 'sz', 'update')
    await caughtUp(agent, http)
    await writer.write(20)
    await caughtUp(agent, http)
    await judge(nats.clientUrl, http, writer.acks.byRevision)
  })

  it('I6: a stream that states another region than configured is refused, and nothing leaves', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    await state(nats.clientUrl, 'hk', 'add')
    await using writer = new Writer({ url: etcd.clientUrl, seed: 62 })
    await writer.write(20)
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, hubRegion: 'sz' })
    const { reason } = await agent.until('refused', (s) => s.phase === 'hub-region-mismatch')
    assert.match(reason, /stands in hk, this agent is configured for sz/)
    assert.equal((await readLog(nats.clientUrl, CLUSTER)).length, 0)
    await state(nats.clientUrl, 'sz', 'update')
    await caughtUp(agent, http)
    await judge(nats.clientUrl, http, writer.acks.byRevision)
  })

  it('I6: a live stream that comes to state another region than configured is refused from then on', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    await state(nats.clientUrl, 'sz', 'add')
    await using writer = new Writer({ url: etcd.clientUrl, seed: 64 })
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, hubRegion: 'sz' })
    await agent.until('live', (s) => s.phase === 'live')
    await writer.write(20)
    await caughtUp(agent, http)
    await state(nats.clientUrl, 'hk', 'update')
    await agent.until('refused', (s) => s.phase === 'hub-region-mismatch')
    const before = (await readLog(nats.clientUrl, CLUSTER)).length
    await writer.write(20)
    await wait(1_000)
    assert.equal((await readLog(nats.clientUrl, CLUSTER)).length, before, 'something left')
    await state(nats.clientUrl, 'sz', 'update')
    await caughtUp(agent, http)
    await judge(nats.clientUrl, http, writer.acks.byRevision)
  })

  it('I6: a live stream that states a new region is a policy change, and a checkpoint tells it', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    await state(nats.clientUrl, 'sz', 'add')
    await using writer = new Writer({ url: etcd.clientUrl, seed: 63 })
    await writer.write(20)
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, hubRegion: null })
    await caughtUp(agent, http)
    const before = await agent.metric('deltawatch_agent_checkpoints_total')
    await state(nats.clientUrl, 'hk', 'update')
    const deadline = performance.now() + 20_000
    while ((await agent.metric('deltawatch_agent_checkpoints_total')) === before) {
      assert.ok(performance.now() < deadline, 'the new region was not noticed')
      await wait(100)
    }
    await caughtUp(agent, http)
    await judge(nats.clientUrl, http, writer.acks.byRevision, { pending: ['policy'] })
  })
})
