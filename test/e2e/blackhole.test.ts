// One of three regions falls silent: its link swallows every byte and nothing is closed. Subscribers are told, with the
// age of the last proof; the other regions go on as if nothing had happened; afterwards nothing is missing.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { acquitted, JudgedCluster } from './judged.ts'
import { RawSession } from './raw-session.ts'
import { Recorder } from './recorder.ts'
import { Stack, THREE } from './stack.ts'

const SILENT = 'gz-edge-1'
const OTHERS = ['sz-edge-1', 'mo-edge-1']
type Listed = Readonly<Record<string, { readonly state: string; readonly ageMs: number; readonly revision: string }>>

describe('one region is swallowed by its link', { timeout: 120_000 }, () => {
  const owned = new AsyncDisposableStack()
  let stack: Stack
  let recorder: Recorder
  let raw: RawSession
  const judges = new Map<string, JudgedCluster>()
  const judgeOf = (cluster: string): JudgedCluster => judges.get(cluster) as JudgedCluster

  before(async () => {
    // By default an open breaker waits a minute before it asks again; what is tested does not hinge on that.
    const agentEnv = { DELTAWATCH_BREAKER_HALF_OPEN_AFTER: '2s' }
    stack = owned.use(await Stack.start({ clusters: THREE, proxied: true, agentEnv }))
    for (const [n, cluster] of stack.clusters.entries()) {
      const options = { seed: 21 + n, perSecond: 60, concurrency: 1 }
      judges.set(cluster.cluster, owned.use(await JudgedCluster.begin(stack, cluster, options)))
    }
    recorder = owned.use(new Recorder(stack.url, { prefix: '/', start: 'snapshot' }))
    for (const cluster of judges.keys())
      await recorder.change((change) => change.kind === 'snapshot' && change.cluster === cluster)
    raw = owned.use(await RawSession.welcomed(stack.url))
    raw.send({ type: 'watch', id: 'w', prefix: '/', start: 'now' })
    await raw.frame((frame) => frame.type === 'watching')
    for (const judge of judges.values()) judge.writer.start()
    for (const judge of judges.values()) await judge.writer.reached(60, 20_000)
  })
  after(() => owned.disposeAsync())

  const newest = (cluster: string): Listed[string] | undefined =>
    raw.frames.findLast((frame) => frame.type === 'bookmark' && Object.hasOwn(frame['clusters'] as Listed, cluster))?.[
      'clusters'
    ]?.[cluster as never]

  it('I9: the silent region is shown lagging, then unreachable, with an age that grows', async () => {
    const gz = stack.clusters.find((cluster) => cluster.cluster === SILENT)
    gz?.links?.hub.blackhole()
    const told = (state: string) =>
      raw.frame((f) => f.type === 'cluster' && f['cluster'] === SILENT && f['state'] === state, 30_000)
    const lagging = await told('lagging')
    const unreachable = await told('unreachable')
    assert.ok(raw.frames.indexOf(lagging) < raw.frames.indexOf(unreachable))
    assert.match(String(unreachable['lastRevision']), /^\d+$/)
    const bookmark = await raw.frame((f) => {
      const at = f.type === 'bookmark' ? (f['clusters'] as Listed)[SILENT] : undefined
      return at?.state === 'unreachable' && at.ageMs > 15_000
    }, 30_000)
    assert.equal((bookmark['clusters'] as Listed)[SILENT]?.revision, String(newest(SILENT)?.revision))
    // Who comes now is told at once, and is given the last known state.
    await using late = await RawSession.welcomed(stack.url)
    const welcome = await late.frame((f) => f.type === 'welcome')
    assert.equal((welcome['clusters'] as Listed)[SILENT]?.state, 'unreachable')
    late.send({ type: 'watch', id: 'w', prefix: '/', start: 'snapshot', clusters: [SILENT] })
    await late.frame((f) => f.type === 'snapshot' && f['phase'] === 'end')
  })

  it('I7: the others are delivered all the while, at once and without a resync', async () => {
    for (const cluster of OTHERS) {
      const judge = judgeOf(cluster)
      await judge.writer.stop()
      const waits: number[] = []
      for (let n = 0; n < 40; n++) {
        const revision = await judge.writer.put([{ op: 'put', key: '/probe', value: Buffer.from(String(n)) }])
        const written = performance.now()
        await recorder.reached(cluster, revision, 5_000)
        waits.push(performance.now() - written)
      }
      waits.sort((a, b) => a - b)
      // Far above what it takes, far below any time-out of the silent one.
      assert.ok((waits[37] ?? 0) < 500, `${cluster}: ${waits.map(Math.round).join(' ')} ms`)
      assert.notEqual(newest(cluster)?.state, 'unreachable')
    }
    assert.equal(raw.frames.filter((f) => f.type === 'resync').length, 0)
  })

  it('I1 I2: once the link heals the region catches up by itself, and every history is exact', async (t) => {
    const healed = performance.now()
    const gz = stack.clusters.find((cluster) => cluster.cluster === SILENT)
    await gz?.links?.hub.heal()
    const states = (): unknown[] =>
      raw.frames.flatMap((f) => (f.type === 'cluster' && f['cluster'] === SILENT ? [f['state']] : []))
    await raw.frame(
      (f) =>
        f.type === 'cluster' &&
        f['cluster'] === SILENT &&
        f['state'] === 'live' &&
        states().includes('unreachable') &&
        raw.frames.indexOf(f) > raw.frames.findLastIndex((g) => g.type === 'cluster' && g['state'] === 'unreachable'),
      45_000,
    )
    t.diagnostic(`live again after ${Math.round(performance.now() - healed)} ms`)
    for (const [cluster, judge] of judges) {
      const verdict = await judge.judge(recorder, {}, 60_000)
      acquitted(verdict, { frames: cluster === SILENT ? 100 : 60 }, () => stack.tail())
      assert.equal(verdict.total('snapshots'), 1)
      assert.equal(verdict.total('resyncs'), 0)
    }
  })
})
