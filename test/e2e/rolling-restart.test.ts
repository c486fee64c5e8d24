// Two gateways behind a balancer, restarted one after the other under write load: every subscriber ends with exactly
// etcd's history, judged apart, and what a drain promises is kept.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { reservePort } from '../support/ports.ts'
import { type Server, startServer } from '../support/server.ts'
import { Balancer } from './balancer.ts'
import { acquitted, JudgedCluster } from './judged.ts'
import { RawSession } from './raw-session.ts'
import { Recorder } from './recorder.ts'
import { Stack } from './stack.ts'

const SUBSCRIBERS = 12
/** Enough for several batches of goodbyes. */
const CROWD = 150
const DRAIN_MS = 5_000

describe('rolling restart of two gateways under write load', { timeout: 180_000 }, () => {
  const owned = new AsyncDisposableStack()
  let stack: Stack
  let judge: JudgedCluster
  let balancer: Balancer
  let second: Server
  const ports: number[] = []
  const recorders: Recorder[] = []

  before(async () => {
    stack = owned.use(await Stack.start())
    const { port } = owned.use(await reservePort())
    ports.push(Number(new URL(stack.url).port), port)
    const args = stack.gatewayArgs()
    args[args.indexOf('--listen') + 1] = `127.0.0.1:${port}`
    second = owned.use(
      await startServer({
        name: 'second gateway',
        command: process.execPath,
        args,
        env: { PATH: '/usr/bin:/bin', HOME: '/nonexistent' },
        ready: (running) => running.waitForLine(/"event":"listening"/),
      }),
    )
    balancer = owned.use(await Balancer.before(...ports))
    judge = owned.use(await JudgedCluster.begin(stack, stack.first, { seed: 11, perSecond: 300 }))
    for (let n = 0; n < SUBSCRIBERS; n++) {
      recorders.push(owned.use(new Recorder(balancer.url, { prefix: '/', start: 'snapshot' }, { keep: 100 })))
    }
    for (const recorder of recorders) await recorder.change((change) => change.kind === 'snapshot')
    judge.writer.start()
    await judge.writer.reached(200, 20_000)
  })
  after(() => owned.disposeAsync())

  const direct = (port: number): string => `ws://127.0.0.1:${port}/v1/watch`

  for (const turn of [0, 1] as const) {
    it(`B5 S12: gateway ${turn + 1} drains: not ready, bookmark, goodbye with a jittered time, closes spread; the other takes its cursor`, async () => {
      const gateway = turn === 0 ? (stack.gateway as Server) : second
      const [port = 0, other = 0] = turn === 0 ? ports : ports.toReversed()
      const crowd = await Promise.all(Array.from({ length: CROWD }, () => RawSession.welcomed(direct(port))))
      try {
        for (const session of crowd) session.send({ type: 'watch', id: 'w', prefix: '/', start: 'now' })
        await Promise.all(crowd.map((session) => session.frame((frame) => frame.type === 'events')))
        const began = performance.now()
        const closed = crowd.map(async (session) => ({ ...(await session.closed), at: performance.now() - began }))
        const stopped = gateway.stop(DRAIN_MS + 5_000)
        const ends = await Promise.all(closed)
        await stopped
        assert.deepEqual(new Set(ends.map((end) => end.code)), new Set([4201]))
        const times = ends.map((end) => end.at)
        const spread = Math.max(...times) - Math.min(...times)
        assert.ok(spread > DRAIN_MS / 4 && spread <= DRAIN_MS + 1_000, `closes were spread over ${spread} ms`)
        const retries = new Set<number>()
        for (const session of crowd) {
          const [bookmark, goodbye] = session.frames.slice(-2)
          assert.deepEqual([bookmark?.type, goodbye?.type, goodbye?.['code']], ['bookmark', 'goodbye', 4201])
          const retry = Number(goodbye?.['retryAfterMs'])
          assert.ok(retry >= 200 && retry <= 2_000, `told to come back after ${retry} ms`)
          retries.add(retry)
        }
        assert.ok(retries.size > CROWD / 3, `only ${retries.size} different times to come back`)
        assert.ok(balancer.statuses(port).includes(503), `readyz said ${balancer.statuses(port).join(', ')}`)
        // The cursor of the last bookmark is good at the other gateway, from the very next revision on.
        const cursor = crowd[0]?.frames.at(-2)?.['cursor']
        await using resumed = await RawSession.welcomed(direct(other))
        resumed.send({ type: 'watch', id: 'w', prefix: '/', start: cursor })
        const watching = await resumed.frame((frame) => frame.type === 'watching')
        const clusters = watching['clusters'] as Record<string, { outcome: string }>
        assert.equal(clusters[judge.cluster]?.outcome, 'resumed')
      } finally {
        for (const session of crowd) await session[Symbol.asyncDispose]()
      }
      const written = judge.writer.acknowledged
      await judge.writer.reached(written + 200, 20_000)
      await gateway.restart()
      await judge.writer.reached(written + 600, 20_000)
    })
  }

  it('I1 I2: nothing was lost or repeated, and nobody had to begin anew', async () => {
    let reconnected = 0
    for (const recorder of recorders) {
      const verdict = await judge.judge(recorder)
      acquitted(verdict, { frames: 800 }, () => `${stack.tail()}\n${recorder.notices.slice(-5).join('\n')}`)
      assert.equal(verdict.total('snapshots'), 1)
      assert.equal(verdict.total('resyncs'), 0)
      if (verdict.total('connections') >= 2) reconnected++
    }
    // Each stood at one of the two, and both went down.
    assert.equal(reconnected, SUBSCRIBERS)
  })
})
