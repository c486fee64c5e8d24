// A watch that runs, on a clock of the test's: what it takes for life, and how it asks for the next one.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { EtcdFailure, type EtcdMember, type WatchRequest, type WatchSink } from '#agent/watch/etcd.ts'
import { Feed, type FeedEnd } from '#agent/watch/feed.ts'
import { Framing } from '#agent/watch/framing.ts'
import type { Clock } from '#kit/clock.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { created, key, put, response, rev } from './fixtures.ts'

const LIVENESS = { progressEveryMs: 1_000, deafAfterMs: 3_500, probeEveryMs: 5_000, staleAfterMs: 5_000 }
const NEVER = (): never => assert.fail('not asked for')

/** One feed from revision 101 on a member that says only what the test says; `busy` is time in which no timer fires. */
async function rig(framing = new Framing()) {
  const manual = new ManualClock()
  let busyMs = 0
  const clock: Clock = {
    now: () => manual.now() + busyMs,
    monotonic: () => manual.monotonic() + busyMs,
    setTimeout: (fn, ms) => manual.setTimeout(fn, ms),
    sleep: (ms, signal) => manual.sleep(ms, signal),
  }
  let arrived = 0
  let ended: FeedEnd | undefined
  const asked: { request?: WatchRequest; sink?: WatchSink } = {}
  const member: EtcdMember = {
    endpoint: 'fake',
    status: NEVER,
    head: NEVER,
    page: NEVER,
    watch: (request, sink) => {
      Object.assign(asked, { request, sink })
      return Promise.resolve({
        pause: NEVER,
        resume: NEVER,
        requestProgress: () => undefined,
        get arrived() {
          return arrived
        },
        close: () => undefined,
      })
    },
    [Symbol.dispose]: () => undefined,
  }
  const range = { from: key('/'), to: undefined }
  const bounds = { maxRevisionBytes: 1_000, maxResponseBytes: 2_000, trustsManualProgress: true }
  const feed = new Feed(
    {
      range,
      prevValues: false,
      liveness: LIVENESS,
      framing,
      startRevision: rev(101),
      requestFrom: rev(101),
      ...bounds,
    },
    { member, clock, onOutputs: () => undefined, probeHead: () => Promise.resolve(rev(100)) },
  )
  void feed.ended.then((end) => {
    ended = end
  })
  await feed.start()
  asked.sink?.message(created(100))
  return {
    pieces: asked.request?.pieces,
    sink: asked.sink,
    advance: (ms: number) => manual.advance(ms),
    busy: (ms: number) => {
      busyMs += ms
    },
    arrive: (bytes: number) => {
      arrived += bytes
    },
    get ended() {
      return ended
    },
  }
}

describe('feed', () => {
  it('a silent watch is deaf within its deadlines, and the next is asked for whole', async () => {
    const framing = new Framing()
    const feed = await rig(framing)
    assert.equal(feed.pieces, true)
    await feed.advance(4_400)
    assert.equal(feed.ended, undefined)
    await feed.advance(400)
    assert.deepEqual(feed.ended, { kind: 'deaf' })
    assert.equal((await rig(framing)).pieces, false)
  })

  it('pings alone do not keep a deaf watch alive', async () => {
    const feed = await rig()
    for (let i = 0; i < 48; i++) {
      feed.arrive(17)
      await feed.advance(100)
    }
    assert.deepEqual(feed.ended, { kind: 'deaf' })
  })

  it('a message that takes a minute to arrive keeps its watch', async () => {
    const feed = await rig()
    for (let i = 0; i < 600; i++) {
      feed.arrive(2_000)
      await feed.advance(100)
    }
    assert.equal(feed.ended, undefined)
    await feed.advance(4_800)
    assert.deepEqual(feed.ended, { kind: 'deaf' }, 'and loses it when nothing more comes')
  })

  it('a process that was busy or stopped judges nobody by that time', async () => {
    const feed = await rig()
    await feed.advance(1_100)
    feed.busy(60_000)
    await feed.advance(200)
    assert.equal(feed.ended, undefined)
    feed.sink?.message(response({ events: [put('/a', 101)] }))
    for (let i = 0; i < 10; i++) {
      feed.busy(3_000)
      await feed.advance(100)
    }
    assert.equal(feed.ended, undefined)
    await feed.advance(4_800)
    assert.deepEqual(feed.ended, { kind: 'deaf' }, 'once it listens again, silence counts')
  })

  it('I8: what can be had neither in pieces nor whole ends as oversize, at the revision it stands before', async () => {
    const framing = new Framing()
    const tooLarge = new EtcdFailure('too-large', 'larger than max')
    const ends: (FeedEnd | undefined)[] = []
    for (let i = 0; i < 4; i++) {
      const feed = await rig(framing)
      if (feed.pieces === false) feed.sink?.closed(tooLarge)
      await feed.advance(5_000)
      ends.push(feed.ended)
    }
    assert.deepEqual(
      ends.map((end) => end?.kind),
      ['deaf', 'failed', 'deaf', 'oversize'],
    )
    assert.deepEqual(ends.at(-1), { kind: 'oversize', revision: '101', bytes: 2_000 })
  })
})
