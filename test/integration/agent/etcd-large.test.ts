// Large revisions from a real etcd: many keys, large values, a slow line.
// Owns: that each arrives whole, as one revision, over the one stream it began on; or reaches the outcome named for it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { EtcdHttp, type WriteOp } from '../../judge/etcd-http.ts'
import { Writer } from '../../judge/writer.ts'
import { startEtcd } from '../../support/etcd.ts'
import { startNats } from '../../support/nats.ts'
import { type Agent, caughtUp, judge, startAgent } from './harness.ts'

const put = (key: string, value: string | Uint8Array): WriteOp => ({ op: 'put', key, value: Buffer.from(value) })
const FLAGS = ['--create-stream', '--log-level', 'info']
const PER_TRANSACTION = 2_000

const live = (agent: Agent) => agent.until('live', (s) => s.phase === 'live', 60_000)
const attachments = (agent: Agent): Promise<number> => agent.metric('deltawatch_agent_watch_attachments_total')
const MIB = 1024 * 1024

async function fill(writer: Writer, prefix: string, keys: number): Promise<void> {
  for (let from = 0; from < keys; from += PER_TRANSACTION) {
    await writer.put(
      Array.from({ length: PER_TRANSACTION }, (_, i) => put(`${prefix}${from + i}`, 'a value of no size')),
    )
  }
}

const startLarge = (options: Parameters<typeof startEtcd>[0] = {}) =>
  startEtcd({ args: ['--max-txn-ops', String(PER_TRANSACTION), '--max-request-bytes', String(12 * MIB)], ...options })

describe('large revisions', () => {
  it('I1: a range delete of 100,000 keys arrives as one revision, after at most one silent watch', async () => {
    await using etcd = await startLarge()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl, 30_000)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 41 })
    await fill(writer, '/range/', 100_000)
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: FLAGS })
    await live(agent)
    await caughtUp(agent, http, 60_000)
    const before = await attachments(agent)
    await writer.put([{ op: 'delete', key: '/range/', rangeEnd: '/range0' }])
    await writer.write(20)
    await caughtUp(agent, http, 60_000)
    assert.ok((await attachments(agent)) - before <= 1, 'no loop of watches')
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1, 'told as a revision, not by a checkpoint')
  })

  it('I1: 8 values of 1 MiB in one transaction and 10,000 keys deleted in one arrive over one stream', async () => {
    await using etcd = await startLarge()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl, 30_000)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 42 })
    await fill(writer, '/range/', 10_000)
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: FLAGS })
    await live(agent)
    const before = await attachments(agent)
    await writer.put(Array.from({ length: 8 }, (_, i) => put(`/large/${i}`, Buffer.alloc(MIB, i))))
    await writer.put([{ op: 'delete', key: '/range/', rangeEnd: '/range0' }])
    await writer.put([{ op: 'delete', key: '/large/', rangeEnd: '/large0' }])
    await caughtUp(agent, http, 60_000)
    assert.equal((await attachments(agent)) - before, 0)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
  })

  it('I1: a response that takes longer to arrive than silence is allowed to last is life all the while', async () => {
    await using etcd = await startLarge({ proxyFor: 'clients' })
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.directUrl, 30_000)
    await using writer = new Writer({ url: etcd.directUrl, seed: 43 })
    await using agent = await startAgent({
      etcd: etcd.clientUrl,
      nats: nats.clientUrl,
      flags: FLAGS,
      env: { DELTAWATCH_WATCH_DEAF_AFTER: '1500ms', DELTAWATCH_WATCH_STALE_AFTER: '1500ms' },
    })
    await live(agent)
    const before = await attachments(agent)
    etcd.proxy.throttle(1_200_000, 'toClient')
    const began = performance.now()
    await writer.put([put('/large', Buffer.alloc(8 * MIB, 1))])
    await caughtUp(agent, http, 60_000)
    const took = performance.now() - began
    assert.ok(took > 5_000, `the line was slow: ${Math.round(took)} ms`)
    assert.equal((await attachments(agent)) - before, 0)
    await judge(nats.clientUrl, http, writer.acks.byRevision)
  })
})
