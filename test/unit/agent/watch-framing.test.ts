// How the next watch is asked for, and what counts as life: pieces or whole, bytes under way, time spent on our own work.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { describe, it } from 'node:test'
import { Arrivals } from '#agent/watch/arrivals.ts'
import { EtcdFailure } from '#agent/watch/etcd.ts'
import type { FeedEnd } from '#agent/watch/feed.ts'
import { Framing } from '#agent/watch/framing.ts'
import { Liveness } from '#agent/watch/liveness.ts'
import { rev } from './fixtures.ts'

const TOO_LARGE: FeedEnd = { kind: 'failed', failure: new EtcdFailure('too-large', 'larger than max') }
const CUT: FeedEnd = { kind: 'failed', failure: new EtcdFailure('unavailable', 'cut') }

describe('framing', () => {
  it('begins in pieces, and only a silent watch changes that', () => {
    const framing = new Framing()
    assert.ok(framing.pieces)
    for (const end of [CUT, { kind: 'stopped' }, { kind: 'no-leader', reason: 'x' }] satisfies FeedEnd[]) {
      assert.equal(framing.ended(end, false), false)
      assert.ok(framing.pieces, end.kind)
    }
    framing.ended({ kind: 'deaf' }, true)
    assert.ok(!framing.pieces, 'what etcd cuts for minutes comes whole at once')
  })

  it('a whole response above the limit is asked for in pieces again', () => {
    const framing = new Framing()
    framing.ended({ kind: 'stale' }, false)
    assert.equal(framing.ended(TOO_LARGE, false), false)
    assert.ok(framing.pieces)
  })

  it('silent in pieces and too large whole, twice over, is a revision that cannot be had', () => {
    const framing = new Framing()
    framing.ended({ kind: 'deaf' }, false)
    assert.equal(framing.ended(TOO_LARGE, false), false)
    framing.ended({ kind: 'deaf' }, false)
    assert.equal(framing.ended(TOO_LARGE, false), true)
    framing.ended({ kind: 'deaf' }, false)
    assert.equal(framing.ended(TOO_LARGE, false), false, 'a verdict is given once')
  })

  it('whatever was delivered in between clears the suspicion', () => {
    const framing = new Framing()
    framing.ended({ kind: 'deaf' }, false)
    framing.ended(TOO_LARGE, false)
    framing.ended({ kind: 'deaf' }, true)
    assert.equal(framing.ended(TOO_LARGE, false), false)
  })
})

describe('signs of life', () => {
  const OPTIONS = { progressEveryMs: 1_000, deafAfterMs: 3_500, probeEveryMs: 1e9, staleAfterMs: 5_000 }
  const asked = (): Liveness => {
    const l = new Liveness(OPTIONS, 0)
    l.heard(0, rev(10), true)
    assert.equal(l.tick(1_000), 'ask-progress')
    return l
  }

  it('a message that is still arriving is neither deaf nor stale, however long it takes, and no longer', () => {
    const l = asked()
    l.headSeen(1_000, rev(20))
    for (let now = 1_100; now <= 30_000; now += 100) {
      l.arriving(now)
      assert.equal(l.tick(now), 'none')
    }
    assert.equal(l.tick(33_400), 'none')
    assert.equal(l.tick(33_500), 'deaf')
  })

  it('time in which this process did not listen is not counted', () => {
    const l = asked()
    l.headSeen(1_000, rev(20))
    l.excuse(60_000)
    assert.equal(l.tick(61_500), 'none')
    assert.equal(l.tick(64_499), 'none')
    assert.equal(l.tick(64_500), 'deaf')
  })

  it('bytes are counted for the connections opened inside, then and later, and for no others', async () => {
    const chunk = Buffer.alloc(10_000)
    const server = createServer((socket) => void socket.end(chunk)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    assert.ok(address !== null && typeof address === 'object')
    const open = async (): Promise<void> => void (await once(connect(address.port, '127.0.0.1').resume(), 'close'))
    using arrivals = new Arrivals()
    await open()
    assert.equal(arrivals.bytes, 0)
    await arrivals.during(async () => {
      await open()
      await new Promise(setImmediate)
      await open()
    })
    assert.equal(arrivals.bytes, 20_000)
    server.close()
  })
})
