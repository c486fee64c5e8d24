// The ring of recent revisions and the sparse index of the log.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { CHAIN_START } from '#protocol/log/chain.ts'
import { Ring } from '#gateway/view/ring.ts'
import { SeqIndex } from '#gateway/upstream/seq-index.ts'
import { epochOf, rev } from './log-writer.ts'

const push = (ring: Ring, revision: number, bytes: number): void => {
  ring.push({
    index: ring.nextIndex,
    epoch: epochOf(1),
    revision: rev(revision),
    events: [],
    bytes,
    arrivedAt: 0,
    agentAtMs: 0,
  })
  ring.trim()
}

test('I8: the oldest revisions go when a bound is reached; the newest stays whatever its size', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 200, size: 'max' }),
      fc.integer({ min: 1, max: 20 }),
      (sizes, count) => {
        const ring = new Ring({ bytes: 100, revisions: count }, rev(0))
        for (const [i, bytes] of sizes.entries()) {
          push(ring, 10 * (i + 1), bytes)
          const kept: number[] = []
          for (let at = ring.firstIndex; at < ring.nextIndex; at++) kept.push(Number(ring.at(at)?.revision))
          let expected = sizes
            .slice(0, i + 1)
            .map((size, n) => ({ size, revision: 10 * (n + 1) }))
            .slice(-count)
          while (expected.length > 1 && expected.reduce((sum, one) => sum + one.size, 0) > 100)
            expected = expected.slice(1)
          assert.deepEqual(
            kept,
            expected.map((one) => one.revision),
          )
          assert.equal(
            ring.bytes,
            expected.reduce((sum, one) => sum + one.size, 0),
          )
          const floor = (expected[0]?.revision ?? 0) - 10
          for (const position of [floor - 1, floor, floor + 1, floor + 10, 10 * (i + 1)]) {
            if (position < 0) continue
            const after = ring.after(rev(position))
            if (position < floor) assert.equal(after, undefined)
            else
              assert.equal(
                ring.at(after ?? -1)?.revision,
                expected.find((one) => one.revision > position)?.revision.toString(),
              )
          }
        }
      },
    ),
    { numRuns: 100 },
  )
})

test('a reset reaches nothing before it, and its index never meant anything else', () => {
  const ring = new Ring({ bytes: 1000, revisions: 100 }, rev(0))
  push(ring, 1, 1)
  const before = ring.nextIndex
  ring.reset(rev(50))
  assert.ok(ring.nextIndex > before)
  assert.equal(ring.at(0), undefined)
  assert.equal(ring.after(rev(49)), undefined)
  assert.equal(ring.after(rev(50)), ring.nextIndex)
})

test('the sparse index finds the last known state at or before a revision, whatever was thinned out', () => {
  const index = new SeqIndex()
  const epoch = epochOf(3)
  for (let seq = 1; seq <= 300_000; seq++) {
    index.note({ ...CHAIN_START, seq, epoch, revision: rev(seq * 2), entryId: `${seq}` as never })
  }
  assert.ok(index.size <= 4096 && index.size > 1000)
  for (const revision of [2, 3, 1000, 77_777, 600_000]) {
    const found = index.find(epoch, rev(revision), 1)
    assert.ok(found !== undefined && Number(found.revision) <= revision)
    assert.ok(revision - Number(found.revision) < 2 * 400)
  }
  assert.equal(index.find(epoch, rev(1), 1), undefined)
  assert.equal(index.find(epochOf(4), rev(1000), 1), undefined)
  assert.equal(index.find(epoch, rev(1000), 5000), undefined, 'its successor was trimmed')
  index.note({ ...CHAIN_START, seq: 300_001, epoch: epochOf(4), revision: rev(5), entryId: 'x' as never })
  assert.equal(index.find(epoch, rev(1000), 1), undefined)
  assert.equal(index.find(epochOf(4), rev(9), 1)?.seq, 300_001)
})
