// The agent end to end: everything etcd did is in the log, whole, in order, once.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { EtcdHttp } from '../../judge/etcd-http.ts'
import { Writer } from '../../judge/writer.ts'
import { startEtcd } from '../../support/etcd.ts'
import { startNats } from '../../support/nats.ts'
import { caughtUp, judge, startAgent } from './harness.ts'

const put = (key: string, value: string | Uint8Array) => ({ op: 'put' as const, key, value: Buffer.from(value) })

describe('relay', () => {
  it('I1: relays transactions whole, deletes, lease expiries, binary keys, empty and 1.4 MB values', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 1 })
    await writer.put([put('/before', 'there when the agent starts')])
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: ['--create-stream'] })
    await agent.until('live', (s) => s.phase === 'live')
    await writer.put([put('/t/a', '1'), put('/t/b', '2'), { op: 'delete', key: '/before' }])
    await writer.put([put('/bin/\xff\x00\n *>.', Buffer.from([0, 255, 10, 13]))])
    await writer.put([put('/empty', '')])
    await writer.put([put('/large', Buffer.alloc(1_400_000, 7))])
    await writer.write(300)
    const lease = await http.grant(1)
    await writer.put([
      { ...put('/leased/a', 'x'), lease },
      { ...put('/leased/b', 'y'), lease },
    ])
    const before = await http.head()
    while ((await http.head()) === before) await new Promise((resolve) => setTimeout(resolve, 100))
    await caughtUp(agent, http)
    const { verdict, entries } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.ok(verdict.total('chunks') >= 2, verdict.toString())
    assert.equal(verdict.total('checkpoints'), 1)
    assert.ok(entries.every((entry) => entry.kind !== 'PROGRESS' || Number(entry.revision) > 0))
  })

  it('I4: a kill -9 at any instant is continued exactly where the log ends', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 2, perSecond: 400 })
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: ['--create-stream'] })
    await agent.until('live', (s) => s.phase === 'live')
    writer.start()
    for (let round = 0; round < 5; round++) {
      await agent.until('moving', (s) => s.hub.inFlight > 0 || Number(s.position) > 50 * (round + 1))
      await agent.kill()
      await agent.restart()
      await agent.until('live again', (s) => s.phase === 'live')
    }
    await writer.stop()
    await caughtUp(agent, http)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1, 'a restart needs no checkpoint')
    assert.ok(verdict.total('events') > 300)
  })

  it('I4: a hub that dies and returns finds the agent where it was, unasked', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 3, perSecond: 300 })
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: ['--create-stream'] })
    await agent.until('live', (s) => s.phase === 'live')
    writer.start()
    for (let round = 0; round < 3; round++) {
      await nats.kill()
      await agent.until('unreachable', (s) => s.phase === 'hub-unreachable')
      await nats.restart()
      await agent.until('live again', (s) => s.phase === 'live')
    }
    await writer.stop()
    await caughtUp(agent, http)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
  })

  it('starts before etcd and the hub, says so, and recovers by itself', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 4 })
    await nats.kill()
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: ['--create-stream'] })
    await agent.until('hub unreachable', (s) => s.phase === 'hub-unreachable')
    await etcd.kill()
    await nats.restart()
    const down = await agent.until('etcd unreachable', (s) => s.phase === 'etcd-unreachable')
    assert.match(down.reason, /127\.0\.0\.1/)
    await etcd.restart()
    await writer.write(50)
    await caughtUp(agent, http)
    await judge(nats.clientUrl, http, writer.acks.byRevision)
  })

  it('waits for a stream that is missing and says which command creates it', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl })
    const status = await agent.until('stream missing', (s) => s.phase === 'stream-missing')
    assert.match(status.reason, /deltawatch hub apply/)
  })
})
