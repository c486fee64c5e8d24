// Digests, their proofs, the replay that reproduces them, and the verdict before it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { ChangedRevision } from '#agent/egress/change.ts'
import { DIGEST_BYTES, DigestRing, keyedDigest, WINDOW } from '#agent/lineage/digest.ts'
import { judgeLineage, provable } from '#agent/lineage/judge.ts'
import { lineageKeys } from '#agent/lineage/key.ts'
import { LineageReplay } from '#agent/lineage/replay.ts'
import { STATE_BYTES, StateSum, stateProof } from '#agent/lineage/state-sum.ts'
import { Trail } from '#agent/lineage/trail.ts'
import { bytes, change, changed, key, rev } from './fixtures.ts'

const digest = keyedDigest(bytes('secret of the tests'))
const evidence = (source: ChangedRevision) => ({ revision: source.revision, source, digest: undefined })
const ringOf = (history: readonly ChangedRevision[]) => {
  const ring = new DigestRing(digest)
  for (const one of history) ring.push(evidence(one))
  return ring
}
const history = (length: number, step = 3) => Array.from({ length }, (_, i) => changed(10 + i * step))
const replayOf = (proofs: ReturnType<DigestRing['proofs']>, position: number) =>
  new LineageReplay({ proofs, position: rev(position), digest, seed: digest })

describe('digests', () => {
  it('differ in everything that a change is made of', () => {
    const base = changed(5, change('/a'))
    const variants = [
      changed(6, change('/a')),
      changed(5, change('/b')),
      changed(5, change('/a', { value: bytes('w') })),
      changed(5, change('/a', { version: '3' })),
      changed(5, change('/a', { createRevision: rev(2) })),
      changed(5, change('/a', { lease: '7' })),
      changed(5, change('/a', { op: 'delete' })),
      changed(5, change('/a'), change('/a')),
      changed(5, change('/av', { value: bytes('') })),
    ]
    const seen = new Set([base, ...variants].map((one) => Buffer.from(digest(one)).toString('hex')))
    assert.equal(seen.size, variants.length + 1)
  })

  it('depend on the key: nobody without it can test a guess', () => {
    const other = keyedDigest(bytes('another secret'))
    assert.notDeepEqual(digest(changed(5)), other(changed(5)))
  })

  it('let go of the content once they are known', () => {
    const one = evidence(changed(5))
    const ring = new DigestRing(digest)
    ring.push(one)
    ring.proofs()
    assert.equal(one.source, undefined)
  })

  it('a few proofs cover the last 64 revisions, ascending, the newest last', () => {
    const proofs = ringOf(history(200)).proofs()
    assert.equal(proofs.length, 7)
    assert.equal(proofs.at(-1)?.revision, String(10 + 199 * 3))
    assert.equal(proofs[0]?.revision, String(10 + (200 - WINDOW) * 3))
    assert.ok(proofs.every((proof) => proof.digest.length === DIGEST_BYTES))
  })

  it('a proof is the XOR of the digests from its revision on, whenever proofs were asked for before', () => {
    // Pushes between two readings: none, a few, more than the ring holds.
    const gaps = fc.array(fc.nat({ max: 150 }), { minLength: 1, maxLength: 6 })
    fc.assert(
      fc.property(gaps, (pushes) => {
        const ring = new DigestRing(digest)
        const all: ChangedRevision[] = []
        for (const count of pushes) {
          for (let i = 0; i < count; i++) {
            const next = changed(10 + all.length)
            all.push(next)
            ring.push(evidence(next))
          }
          const held = all.slice(-WINDOW)
          const from = [held.length, 64, 32, 16, 8, 4, 2, 1].filter(
            (back, i, of) => back <= held.length && !of.includes(back, i + 1) && back > 0,
          )
          const expected = from.map((back) => {
            const suffix = held.slice(-back)
            const sum = new Uint8Array(DIGEST_BYTES)
            for (const one of suffix) for (const [i, byte] of digest(one).entries()) sum[i] = (sum[i] ?? 0) ^ byte
            return { revision: suffix[0]?.revision, digest: Buffer.from(sum).toString('hex') }
          })
          const proofs = ring.proofs().map((one) => ({ ...one, digest: Buffer.from(one.digest).toString('hex') }))
          assert.deepEqual(proofs, expected)
        }
      }),
      { numRuns: 60 },
    )
  })
})

describe('replay', () => {
  it('L16: the same history proves, from whatever proof compaction left', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 90 }), fc.nat(), (length, cut) => {
        const past = history(length)
        const proofs = ringOf(past).proofs()
        const left = proofs.slice(cut % proofs.length)
        const position = Number(past.at(-1)?.revision) + 5
        const check = replayOf(left, position)
        const from = Number(left[0]?.revision)
        for (const one of past) if (Number(one.revision) >= from) check.revision(one)
        assert.equal(check.verdict, 'proved')
        assert.equal(check.revision(changed(position + 1)), 'proved')
      }),
    )
  })

  it('L16: any other history diverges before anything new gets through', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 70 }),
        fc.nat(),
        fc.constantFrom('value', 'missing', 'extra', 'later', 'swapped'),
        (length, at, how) => {
          const past = history(length)
          const proofs = ringOf(past).proofs()
          const window = past.slice(-Math.min(length, WINDOW))
          const i = at % window.length
          const other = [...window]
          const one = other[i] as ChangedRevision
          if (how === 'value') other[i] = { ...one, changes: [change('/k', { value: bytes('other') })] }
          if (how === 'missing') other.splice(i, 1)
          if (how === 'extra') other.splice(i, 0, changed(Number(one.revision) - 1))
          if (how === 'later') other[i] = { ...one, revision: rev(Number(one.revision) + 1) }
          if (how === 'swapped') other[i] = { ...one, changes: [...one.changes, change('/also')] }
          const position = Number(past.at(-1)?.revision)
          const check = replayOf(proofs, position)
          let relayed = 0
          for (const r of [...other, changed(position + 1)]) {
            if (check.revision(r) === 'proved' && Number(r.revision) > position) relayed++
          }
          assert.equal(check.verdict, 'diverged')
          assert.equal(relayed, 0)
        },
      ),
    )
  })

  it('a watch that is past the newest proof without it diverges', () => {
    const check = replayOf(ringOf(history(5)).proofs(), 30)
    assert.equal(check.provedUpTo(rev(10)), 'open')
    assert.equal(check.provedUpTo(rev(22)), 'diverged')
  })

  it('L16: an event inside proven history that was not there before is a broken lineage', () => {
    const past = history(3)
    const check = replayOf(ringOf(past).proofs(), 40)
    for (const one of past) check.revision(one)
    assert.equal(check.verdict, 'proved')
    assert.equal(check.revision(changed(35)), 'diverged')
  })

  it('remembers what it reproduced under the key in use, also after a rotation', () => {
    const next = keyedDigest(bytes('the next secret'))
    const past = history(3)
    const check = new LineageReplay({ proofs: ringOf(past).proofs(), position: rev(16), digest, seed: next })
    for (const one of past) check.revision(one)
    assert.equal(check.verdict, 'proved')
    assert.deepEqual(
      check.reproduced.map((one) => one.digest),
      past.map(next),
    )
  })
})

describe('the verdict before a replay', () => {
  const lineage = { clusterId: '7', raftTerm: '3', keyId: 'k', proofs: ringOf(history(3)).proofs() }
  const facts = { clusterId: '7', raftTerm: '3', head: rev(50) }
  const judge = (more: object, factsMore: object = {}) => {
    const verdict = judgeLineage(
      { lineage: { ...lineage, ...more }, position: rev(20) },
      { ...facts, ...factsMore },
      new Set(['k']),
    )
    return verdict.kind === 'new-epoch' ? verdict.reason : verdict.kind
  }

  it('another cluster, a head behind the position, a lower term, an unknown key: a new epoch', () => {
    assert.equal(judge({}), 'replay')
    assert.equal(judge({}, { clusterId: '8' }), 'cluster-id')
    assert.equal(judge({}, { head: rev(19) }), 'head-behind')
    assert.equal(judge({}, { raftTerm: '2' }), 'term-decreased')
    assert.equal(judge({}, { raftTerm: '10' }), 'replay')
    assert.equal(judge({ keyId: 'other' }), 'no-evidence')
    const none = judgeLineage({ lineage: undefined, position: rev(20) }, facts, new Set(['k']))
    assert.deepEqual(none, { kind: 'new-epoch', reason: 'no-evidence' })
  })

  it('only proofs that compaction left are provable', () => {
    assert.deepEqual(
      provable(lineage.proofs, rev(13)).map((p) => p.revision),
      ['13', '16'],
    )
    assert.deepEqual(provable(lineage.proofs, rev(17)), [])
  })
})

describe('the state of a range', () => {
  const held = (name: string, more: object = {}) => ({
    key: key(name),
    value: bytes('v'),
    modRevision: rev(5),
    createRevision: rev(1),
    version: '2',
    lease: '0',
    ...more,
  })
  const sumOf = (...list: ReturnType<typeof held>[]) => {
    const sum = new StateSum(bytes('secret'))
    for (const one of list) sum.add(one)
    return Buffer.from(sum.digest()).toString('hex')
  }

  it('is the same in any order of reading, and another for any other state', () => {
    assert.equal(sumOf(held('/a'), held('/b')), sumOf(held('/b'), held('/a')))
    const others = [
      sumOf(),
      sumOf(held('/a')),
      sumOf(held('/a'), held('/b', { value: bytes('w') })),
      sumOf(held('/a'), held('/b', { modRevision: rev(6) })),
      sumOf(held('/a'), held('/a'), held('/b'), held('/b')),
      sumOf(held('/a'), held('/b')),
    ]
    assert.equal(new Set(others).size, others.length)
  })

  it('is proved by a digest of its own length, and only until the next event', () => {
    const trail = new Trail('k', digest)
    trail.include(evidence(changed(5)))
    trail.stateAt(rev(4), new Uint8Array(STATE_BYTES))
    assert.equal(trail.state, undefined, 'older than the newest event')
    trail.stateAt(rev(6), new Uint8Array(STATE_BYTES))
    assert.equal(stateProof(trail.evidence().proofs)?.revision, '6')
    trail.include(evidence(changed(7)))
    assert.equal(stateProof(trail.evidence().proofs), undefined)
  })
})

describe("the agents' key", () => {
  it('the first of the file signs, all verify, comments and blank lines do not count', () => {
    const keys = lineageKeys('# agents of sz\n\nfirst-key-of-the-file\nsecond-key-of-the-file\n')
    assert.equal(keys.byId.size, 2)
    assert.equal(keys.isDefault, false)
    assert.equal(keys.current.id, lineageKeys('first-key-of-the-file').current.id)
  })

  it('refuses a short key without repeating it, and an empty file', () => {
    assert.throws(
      () => lineageKeys('short'),
      (e: Error) => /key 1 has 5 characters/.test(e.message) && !e.message.includes('"short"'),
    )
    assert.throws(() => lineageKeys('\n#\n'), /no key/)
  })

  it('says when it is the public one of development', () => {
    assert.equal(lineageKeys(undefined).isDefault, true)
  })
})
