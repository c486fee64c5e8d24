// Values above what one message may hold: cut live, named in checkpoints; and the routine checkpoints by age and revisions.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { EtcdHttp } from '../../judge/etcd-http.ts'
import { decodeRaw, readLog } from '../../judge/log-reader.ts'
import { Writer } from '../../judge/writer.ts'
import { startEtcd } from '../../support/etcd.ts'
import { startNats } from '../../support/nats.ts'
import { CLUSTER, caughtUp, judge, startAgent } from './harness.ts'

const put = (key: string, value: string | Uint8Array) => ({ op: 'put' as const, key, value: Buffer.from(value) })
const MAX_PAYLOAD = 256 * 1024

describe('oversize values', () => {
  it('L11: a 1.4 MB value crosses a hub that takes 256 KiB in slices, whole', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats({ config: `max_payload: ${MAX_PAYLOAD}` })
    using http = new EtcdHttp(etcd.clientUrl)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 91 })
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: ['--create-stream'] })
    await agent.until('live', (s) => s.phase === 'live')
    await writer.put([put('/small', 'a'), put('/large', Buffer.alloc(1_400_000, 7)), put('/other', 'b')])
    await writer.put([put('/after', 'c')])
    await caughtUp(agent, http)
    const { verdict, messages } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.ok(verdict.total('chunks') >= 6, verdict.toString())
    assert.ok(messages.every(({ data }) => data.length <= MAX_PAYLOAD))
    assert.equal(await agent.metric('deltawatch_agent_oversize_total'), 0)
  })

  it('K1: in a checkpoint a value no entry can hold keeps its key and says that it is withheld, counted and logged without it', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats({ config: `max_payload: ${MAX_PAYLOAD}` })
    using http = new EtcdHttp(etcd.clientUrl)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 92 })
    await writer.put([put('/small', 'a')])
    await writer.put([put('/large', Buffer.alloc(1_400_000, 'Z'))])
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags: ['--create-stream'] })
    await agent.until('live', (s) => s.phase === 'live')
    await caughtUp(agent, http)
    const entries = (await readLog(nats.clientUrl, CLUSTER)).map(({ data }) => decodeRaw(data))
    const items = new Map(entries.flatMap((e) => e.items ?? []).map((item) => [item.key.toString('latin1'), item]))
    assert.equal(items.get('/small')?.value.toString(), 'a')
    assert.equal(items.get('/large')?.value.length, 0)
    assert.equal(items.get('/large')?.withheld, 'dw:oversize')
    assert.equal(await agent.metric('deltawatch_agent_oversize_total'), 1)
    assert.match(agent.process.log(), /values too large for a checkpoint entry/)
    assert.doesNotMatch(agent.process.log(), /ZZZZ/)
    // A change of the same key that fits is there with its value again.
    await writer.put([put('/large', 'small now')])
    await caughtUp(agent, http)
    const last = (await readLog(nats.clientUrl, CLUSTER))
      .map(({ data }) => decodeRaw(data))
      .flatMap((e) => e.revisions ?? [])
    assert.equal(last.at(-1)?.events.at(-1)?.value.toString(), 'small now')
  })

  it('a revision above maxRevision is a gap: a checkpoint takes its place, and the log says so', async () => {
    await using etcd = await startEtcd()
    await using nats = await startNats()
    using http = new EtcdHttp(etcd.clientUrl)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 93 })
    const env = { DELTAWATCH_WATCH_MAX_REVISION: '64KiB' }
    await using agent = await startAgent({
      etcd: etcd.clientUrl,
      nats: nats.clientUrl,
      flags: ['--create-stream'],
      env,
    })
    await agent.until('live', (s) => s.phase === 'live')
    await writer.put([put('/large', Buffer.alloc(100_000, 7))])
    await writer.put([put('/after', 'c')])
    await caughtUp(agent, http)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision, { pending: ['gap', 'gap'] })
    assert.ok(verdict.total('checkpoints') >= 2, verdict.toString())
    assert.ok((await agent.metric(`deltawatch_agent_resyncs_total{cluster="${CLUSTER}",reason="gap"}`)) >= 1)
  })
})

describe('routine checkpoints', () => {
  for (const [what, env] of [
    ['revisions', { DELTAWATCH_CHECKPOINT_MAX_REVISIONS: '50' }],
    ['age', { DELTAWATCH_CHECKPOINT_MAX_AGE: '1s' }],
  ] as const) {
    it(`K3: come by ${what}, agree with the live view, and come only when something changed`, async () => {
      await using etcd = await startEtcd()
      await using nats = await startNats()
      using http = new EtcdHttp(etcd.clientUrl)
      await using writer = new Writer({ url: etcd.clientUrl, seed: 94 })
      await using agent = await startAgent({
        etcd: etcd.clientUrl,
        nats: nats.clientUrl,
        flags: ['--create-stream'],
        env,
      })
      await agent.until('live', (s) => s.phase === 'live')
      const routine = () => agent.metric(`deltawatch_agent_checkpoints_total{cluster="${CLUSTER}",reason="routine"}`)
      await new Promise((resolve) => setTimeout(resolve, 1_500))
      assert.equal(await routine(), 0, 'nothing changed')
      await writer.write(120)
      await caughtUp(agent, http)
      const deadline = performance.now() + 15_000
      while ((await routine()) === 0 && performance.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      await caughtUp(agent, http)
      const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
      assert.ok(verdict.total('checkpoints') >= 2, verdict.toString())
    })
  }
})
