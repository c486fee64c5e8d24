// Liveness, endpoints, versions, continuity: the small judgements around a watch.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Continuity } from '#agent/watch/continuity.ts'
import { Endpoints } from '#agent/watch/endpoints.ts'
import { Liveness } from '#agent/watch/liveness.ts'
import { isSupported, knownWatchBugs, parseVersion, trustsManualProgress } from '#agent/watch/versions.ts'
import { change, changed, rev } from './fixtures.ts'

const OPTIONS = { progressEveryMs: 1_000, deafAfterMs: 3_500, probeEveryMs: 5_000, staleAfterMs: 5_000 }
/** Level with the head since time 0. */
const level = () => {
  const l = new Liveness(OPTIONS, 0)
  l.heard(0, rev(10), true)
  return l
}

describe('liveness', () => {
  it('asks after a second of silence, once, and convicts a watch that does not answer within 5 s of it', () => {
    const l = level()
    assert.equal(l.tick(999), 'none')
    assert.equal(l.tick(1_000), 'ask-progress')
    assert.equal(l.tick(1_100), 'none')
    assert.equal(l.tick(4_499), 'none')
    assert.equal(l.tick(4_500), 'deaf')
  })

  it('anything heard is an answer', () => {
    const l = level()
    l.tick(1_000)
    l.heard(4_400, rev(10), true)
    assert.equal(l.tick(4_600), 'none')
  })

  it('a head seen elsewhere must come nearer within 5 s', () => {
    const l = level()
    l.headSeen(0, rev(20))
    for (let now = 500; now < 5_000; now += 500) l.heard(now, rev(10), false)
    assert.equal(l.tick(5_000), 'stale')
  })

  it('coming nearer is enough: a watch that catches up is not stale', () => {
    const l = level()
    l.headSeen(0, rev(1_000))
    for (let now = 1_000; now <= 60_000; now += 1_000) {
      l.heard(now, rev(10 + now / 1_000), false)
      assert.notEqual(l.tick(now), 'stale')
    }
    l.heard(61_000, rev(1_000), false)
    assert.notEqual(l.tick(70_000), 'stale')
  })

  it('before it has been level with the head, deadlines are longer: etcd answers no question of such a watch', () => {
    const l = new Liveness(OPTIONS, 0)
    assert.equal(l.tick(1_000), 'ask-progress')
    assert.notEqual(l.tick(10_000), 'deaf')
    assert.equal(l.tick(15_000), 'deaf')
  })

  it("a pause is our silence, not the watch's, and ends being level", () => {
    const l = level()
    l.headSeen(0, rev(20))
    l.paused(100)
    assert.equal(l.tick(90_000), 'none')
    l.resumed(90_000)
    assert.equal(l.isLevel, false)
    assert.equal(l.tick(94_000), 'ask-progress', 'neither stale nor deaf by what was before')
  })

  it('probes the head at its interval', () => {
    const l = level()
    l.heard(4_900, rev(10), true)
    assert.equal(l.tick(5_000), 'probe-head')
    assert.equal(l.tick(5_100), 'none')
  })
})

describe('endpoints', () => {
  const make = (...urls: string[]) => new Endpoints(urls, { baseMs: 1_000, capMs: 30_000, stableMs: 30_000 })

  it('the first retry is immediate and elsewhere, later ones wait, up to the cap', () => {
    const e = make('a', 'b', 'c')
    assert.deepEqual(
      e.next(() => 0.5),
      { endpoint: 'a', waitMs: 0 },
    )
    e.ended(10)
    assert.deepEqual(
      e.next(() => 0.5),
      { endpoint: 'b', waitMs: 0 },
    )
    e.ended(10)
    assert.equal(e.next(() => 0.5).endpoint, 'c')
    assert.ok(e.next(() => 0).waitMs > 0, 'even the luckiest jitter waits')
    for (let i = 0; i < 20; i++) e.ended(10)
    assert.ok(e.next(() => 0.999).waitMs <= 30_000 + 250)
  })

  it('a member that closes at once never causes a hot loop', () => {
    fc.assert(
      fc.property(fc.infiniteStream(fc.double({ min: 0, max: 0.999, noNaN: true })), (random) => {
        const e = make('a')
        let waited = 0
        for (let i = 0; i < 20; i++) {
          waited += e.next(() => random.next().value ?? 0).waitMs
          e.ended(0)
        }
        assert.ok(waited >= 18 * 250)
      }),
    )
  })

  it('an attachment that lived long clears the count', () => {
    const e = make('a', 'b')
    for (let i = 0; i < 9; i++) e.ended(10)
    e.ended(60_000)
    assert.equal(e.next(() => 0.9).waitMs, 0)
  })

  it('a fresh token is tried at the same member', () => {
    const e = make('a', 'b')
    e.ended(10, true)
    assert.deepEqual(
      e.next(() => 0.5),
      { endpoint: 'a', waitMs: 0 },
    )
  })

  it('a second opinion comes from another member where there is one', () => {
    assert.equal(make('a', 'b').other('a'), 'b')
    assert.equal(make('a').other('a'), 'a')
  })
})

describe('versions', () => {
  const v = (text: string) => parseVersion(text)

  it('manual progress counts from 3.4.31, 3.5.13 and 3.6 on, and never for a version nobody can read', () => {
    for (const text of ['3.4.31', '3.5.13', '3.6.0', '3.7.3', '4.0.0']) assert.ok(trustsManualProgress(v(text)), text)
    for (const text of ['3.4.23', '3.4.30', '3.5.12', '3.3.9', 'x']) assert.ok(!trustsManualProgress(v(text)), text)
  })

  it('names the bugs of old servers, and none of new ones', () => {
    assert.equal(knownWatchBugs(v('3.4.23')).length, 9)
    assert.deepEqual(knownWatchBugs(v('3.4.38')), [])
    assert.deepEqual(knownWatchBugs(v('3.5.22')), [])
    assert.deepEqual(
      knownWatchBugs(v('3.6.1')).map((name) => name.includes('20221')),
      [true],
    )
    assert.deepEqual(knownWatchBugs(v('3.7.3')), [])
    assert.equal(knownWatchBugs(undefined).length, 9)
  })

  it('reads suffixed versions and refuses the rest', () => {
    assert.deepEqual(v('3.6.0-rc.1'), [3, 6, 0])
    assert.equal(v('3.6'), undefined)
    assert.ok(isSupported(v('3.4.0')))
    assert.ok(!isSupported(v('3.3.27')))
  })
})

describe('continuity of keys', () => {
  const at = (n: number, version: string, createRevision = 1) =>
    changed(n, change('/k', { version, createRevision: rev(createRevision) }))
  const gone = (n: number) => changed(n, change('/k', { op: 'delete', version: '0', createRevision: rev(0) }))

  it('accepts every history etcd can write', () => {
    const c = new Continuity(100)
    for (const r of [at(1, '1'), at(2, '2'), at(3, '3'), gone(4), at(5, '1', 5), at(6, '2', 5)]) {
      assert.deepEqual(c.check(r), [])
    }
  })

  it('finds what a skipped event leaves behind', () => {
    const after = (first: ReturnType<typeof at>, second: ReturnType<typeof at>) => {
      const c = new Continuity(100)
      c.check(first)
      return c.check(second)[0]?.reason
    }
    assert.equal(after(at(1, '1'), at(3, '3')), 'version-skipped')
    assert.equal(after(at(2, '2'), at(3, '3', 2)), 'create-revision-changed')
    assert.equal(after(at(1, '1'), at(3, '1', 3)), 'created-while-present')
    assert.equal(after(gone(1), at(3, '2')), 'changed-while-deleted')
    assert.equal(after(gone(1), gone(3)), 'changed-while-deleted')
  })

  it('I8: remembers a bounded number of keys and judges none it forgot', () => {
    const c = new Continuity(10)
    for (let i = 0; i < 1_000; i++) c.check(changed(i + 1, change(`/k${i}`, { version: '1' })))
    assert.ok(c.keys <= 20)
    assert.deepEqual(c.check(changed(2_000, change('/k0', { version: '9' }))), [])
  })
})
