// Revisions as decimal strings against BigInt.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  addRevision,
  compareRevisions,
  maxRevision,
  parseRevision,
  type Revision,
  revisionDistance,
} from '#protocol/revision.ts'
import { revisionArb } from './entries.ts'

const runs = { numRuns: 5000 }
const near = fc.tuple(revisionArb, fc.integer({ min: -1000, max: 1000 })).map(([r, d]) => {
  const sum = BigInt(r) + BigInt(d)
  return [r, String(sum < 0n ? 0n : sum > 2n ** 63n - 1n ? 2n ** 63n - 1n : sum) as Revision] as const
})

describe('revisions', () => {
  it('L4: order is the order of the integers, far apart and side by side', () => {
    fc.assert(
      fc.property(fc.oneof(fc.tuple(revisionArb, revisionArb), near), ([a, b]) => {
        const expected = BigInt(a) < BigInt(b) ? -1 : BigInt(a) > BigInt(b) ? 1 : 0
        assert.equal(Math.sign(compareRevisions(a, b)), expected)
        assert.equal(maxRevision(a, b), expected >= 0 ? a : b)
      }),
      runs,
    )
  })

  it('L4: only canonical decimals of 63 bits parse', () => {
    fc.assert(
      fc.property(fc.bigInt(-(2n ** 65n), 2n ** 65n), (n) => {
        assert.equal(parseRevision(n.toString()), n >= 0n && n < 2n ** 63n ? n.toString() : undefined)
      }),
      runs,
    )
    for (const bad of ['', '00', '01', '+1', '-0', '1 ', ' 1', '1e3', '0x1', '1.0', '1_0', '١', 5, 5n, null, {}]) {
      assert.equal(parseRevision(bad), undefined)
    }
    assert.equal(parseRevision('9223372036854775807'), '9223372036854775807')
    assert.equal(parseRevision('9223372036854775808'), undefined)
  })

  it('L4: addition is exact, clamped at zero and at the largest revision', () => {
    const delta = fc.oneof(fc.integer(), fc.constantFrom(-1, 0, 1), fc.maxSafeInteger())
    fc.assert(
      fc.property(revisionArb, delta, (a, d) => {
        const sum = BigInt(a) + BigInt(d)
        const clamped = sum < 0n ? 0n : sum >= 2n ** 63n ? 2n ** 63n - 1n : sum
        assert.equal(addRevision(a, d), clamped.toString())
      }),
      runs,
    )
  })

  it('L4: distance is exact where a number can hold it, and saturates elsewhere', () => {
    fc.assert(
      fc.property(fc.oneof(fc.tuple(revisionArb, revisionArb), near), ([a, b]) => {
        const exact = BigInt(a) - BigInt(b)
        const limit = BigInt(Number.MAX_SAFE_INTEGER)
        const expected = exact > limit ? limit : exact < -limit ? -limit : exact
        assert.equal(BigInt(revisionDistance(a, b)), expected)
      }),
      runs,
    )
  })
})
