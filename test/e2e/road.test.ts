// The road of one event, on real processes: three etcds, three agents, nats-server, gateway, SDK.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { connect } from '@nats-io/transport-node'
import { valueBytes } from '#client/deltawatch.ts'
import { frameFault } from '../contract/protocol/frame-schemas.ts'
import { decodeRaw, readLog } from '../judge/log-reader.ts'
import { judgeSubscription } from '../judge/subscription.ts'
import { readTranscript } from '../judge/seen.ts'
import { fingerprint } from '../judge/truth.ts'
import { Verdict } from '../judge/verdict.ts'
import { prefixed } from '../judge/view.ts'
import { acquitted, JudgedCluster } from './judged.ts'
import { Recorder } from './recorder.ts'
import { type Cluster, Stack, THREE } from './stack.ts'

const text = (value: string): Buffer => Buffer.from(value)

describe('the whole road', () => {
  let stack: Stack
  let recorder: Recorder
  const judged = new Map<string, JudgedCluster>()
  const of = (cluster: Cluster): JudgedCluster => judged.get(cluster.cluster) as JudgedCluster
  const each = (act: (cluster: Cluster, judge: JudgedCluster) => Promise<void>): Promise<unknown> =>
    Promise.all(stack.clusters.map((cluster) => act(cluster, of(cluster))))

  before(async () => {
    stack = await Stack.start({ clusters: THREE })
    for (const cluster of stack.clusters) judged.set(cluster.cluster, await JudgedCluster.begin(stack, cluster))
    recorder = new Recorder(stack.url, { prefix: '/', start: 'snapshot' })
  })
  after(async () => {
    await recorder?.[Symbol.asyncDispose]()
    for (const one of judged.values()) await one[Symbol.asyncDispose]()
    await stack?.[Symbol.asyncDispose]()
  })

  it('I1: a write acknowledged by etcd in any cluster is seen', async () => {
    await each(async ({ cluster }, { writer }) => {
      const revision = await writer.put([
        { op: 'put', key: '/microservices/pay/1', value: text(`{"in":"${cluster}"}`) },
      ])
      await recorder.reached(cluster, revision)
    })
  })

  it('I1 S7: a three-key transaction arrives as one frame, in the order of its operations', async () => {
    await each(async ({ cluster }, { writer }) => {
      const revision = await writer.put([
        { op: 'put', key: '/t/z', value: text('1') },
        { op: 'put', key: '/t/a', value: text('2') },
        { op: 'delete', key: '/microservices/pay/1' },
      ])
      await recorder.reached(cluster, revision)
      const whole = await recorder.change(
        (c) => c.kind === 'events' && c.cluster === cluster && c.revision === String(revision),
      )
      assert.ok(whole.kind === 'events')
      assert.deepEqual(
        whole.events.map((e) => `${e.op} ${e.key}`),
        ['put /t/z', 'put /t/a', 'delete /microservices/pay/1'],
      )
    })
  })

  it('I1: a delete, a range delete and a lease expiry arrive as deletes', async () => {
    await each(async ({ cluster }, { writer, http }) => {
      const lease = await http.grant(2)
      await writer.put([
        { op: 'put', key: '/l/1', value: text('x'), lease },
        { op: 'put', key: '/l/2', value: text('x'), lease },
      ])
      await writer.put([{ op: 'delete', key: '/t/a' }])
      await writer.put([
        { op: 'put', key: '/r/1', value: text('') },
        { op: 'put', key: '/r/2', value: text('') },
      ])
      await writer.put([{ op: 'delete', key: '/r/', rangeEnd: '/r0' }])
      const gone = (...keys: string[]) =>
        recorder.change(
          (c) =>
            c.kind === 'events' &&
            c.cluster === cluster &&
            c.events.length === keys.length &&
            c.events.every((e) => e.op === 'delete' && keys.includes(e.key)),
        )
      await gone('/t/a')
      await gone('/r/1', '/r/2')
      await gone('/l/1', '/l/2')
    })
  })

  it('I1 I3 L12: what a writer does in three clusters at once arrives exactly, judged by etcd’s own history', async () => {
    for (const { writer } of judged.values()) await writer.write(200)
    await each(async (_, judge) => {
      acquitted(await judge.judge(recorder), { frames: 150, snapshots: 1, bookmarks: 1 }, () => stack.tail())
      acquitted(await judge.judgeLog(), { revisions: 150, checkpoints: 1 })
    })
  })

  it('S6: a prefix of one cluster shows that and nothing else, and a late snapshot is exact', async () => {
    const { cluster } = stack.first
    await using narrow = new Recorder(stack.url, { prefix: '/w/3/', clusters: [cluster], start: 'snapshot' })
    await narrow.change((c) => c.kind === 'snapshot')
    const judge = of(stack.first)
    await judge.writer.write(100)
    await narrow.reached(cluster, await judge.learn())
    const expect = { cluster, histories: [judge.history], view: prefixed('/w/3/') }
    const verdict = judgeSubscription(readTranscript(narrow.connections), expect, new Verdict())
    acquitted(verdict, { snapshots: 1, frames: 5 })
    assert.ok(narrow.changes.every((c) => c.kind === 'bookmark' || c.kind === 'resync' || c.cluster === cluster))
  })

  it('I2: the client’s live map equals etcd’s state in every cluster, byte for byte', async () => {
    using live = recorder.client.state({ prefix: '/', values: 'base64' })
    await live.ready
    await each(async ({ cluster }, judge) => {
      const truth = judge.history.stateAt(await judge.learn())
      assert.equal(live.size(cluster), truth.size)
      for (const entry of live.entries(cluster)) {
        const key = entry.binary === true ? entry.key : Buffer.from(entry.key).toString('latin1')
        const held = truth.get(key)
        assert.equal(held?.value, fingerprint(valueBytes(entry) ?? Buffer.from('?')), entry.key)
        assert.equal(String(held?.version), entry.version)
      }
    })
  })

  it('B1: every agent says where it stands, naming the entry that its proof covers', async () => {
    const connection = await connect({ servers: stack.nats.directUrl, reconnect: false })
    try {
      const waiting = new Set(stack.clusters.map((c) => c.cluster))
      const marks = connection.subscribe('dw.mark.*')
      const timer = setTimeout(() => marks.unsubscribe(), 10_000)
      for await (const message of marks) {
        const mark = message.json<Record<string, unknown>>()
        const cluster = message.subject.slice('dw.mark.'.length)
        const log = await readLog(stack.nats.directUrl, cluster, Number(mark.seq))
        const named = decodeRaw(log[0]?.data ?? new Uint8Array(0))
        assert.equal(mark.v, 1)
        assert.equal(mark.entryId, named.entry_id.toString('hex'))
        assert.equal(mark.epoch, named.epoch.toString('hex'))
        assert.match(String(mark.provenRevision), /^[0-9]+$/)
        assert.ok(Number(mark.provenRevision) >= Number(named.revision))
        assert.ok(Math.abs(Date.now() - Number(mark.atMs)) < 60_000)
        waiting.delete(cluster)
        if (waiting.size === 0) break
      }
      clearTimeout(timer)
      assert.deepEqual([...waiting], [])
    } finally {
      await connection.close()
    }
  })

  it('S1: every frame that was captured validates against the published schemas', () => {
    assert.ok(recorder.transcript.texts.length > 400)
    for (const frame of recorder.transcript.texts)
      assert.equal(frameFault('server', JSON.parse(frame)), undefined, frame.slice(0, 300))
  })
})
