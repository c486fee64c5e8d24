// The deviation alarm: what etcd counts against what was seen.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Deviation } from '#agent/deviation.ts'
import { rev } from './fixtures.ts'

const EVERY = 60_000

/** Feeds intervals of [revisions etcd went on, revisions seen]; says in which ones the alarm was on. */
function run(whole: boolean, intervals: readonly (readonly [number, number])[], skipAt = -1): boolean[] {
  const deviation = new Deviation({ whole, everyMs: EVERY })
  let proven = 0
  let seen = 0
  let skips = 0
  deviation.tick(0, { proven: rev(0), seen, skips })
  return intervals.map(([advance, shown], i) => {
    if (i === skipAt) skips++
    proven += advance
    seen += shown
    deviation.tick((i + 1) * EVERY, { proven: rev(proven), seen, skips })
    return deviation.alarm
  })
}

describe('deviation', () => {
  it('over the whole key space every revision shows: a third missing twice in a row is an alarm, and it ends', () => {
    assert.deepEqual(
      run(true, [
        [1000, 1000],
        [1000, 690],
        [1000, 690],
        [1000, 1000],
      ]),
      [false, false, true, false],
    )
    assert.deepEqual(
      run(true, [
        [1000, 710],
        [1000, 710],
        [1000, 710],
      ]),
      [false, false, false],
    )
  })

  it('in a part of it the share seen so far is what the filter explains', () => {
    const steady = Array.from({ length: 5 }, () => [1000, 100] as const)
    assert.deepEqual(run(false, [...steady, [1000, 0], [1000, 0]]).slice(-2), [false, true])
    assert.deepEqual(run(false, [...steady, [1000, 120], [1000, 80]]).slice(-2), [false, false])
    assert.equal(
      run(false, [
        [1000, 500],
        [1000, 5],
      ]).some(Boolean),
      false,
      'nothing is learned yet',
    )
  })

  it('few revisions say nothing, and neither does an interval in which revisions were skipped on purpose', () => {
    assert.equal(
      run(
        true,
        Array.from({ length: 20 }, () => [4, 0] as const),
      ).some(Boolean),
      false,
    )
    assert.equal(
      run(
        true,
        [
          [1000, 0],
          [1000, 0],
        ],
        1,
      ).some(Boolean),
      false,
    )
  })

  it('is told once when raised', () => {
    const deviation = new Deviation({ whole: true, everyMs: EVERY })
    const raised = [0, 1, 2, 3, 4].map((i) => deviation.tick(i * EVERY, { proven: rev(i * 1000), seen: 0, skips: 0 }))
    assert.deepEqual(raised, [false, false, true, false, false])
    assert.equal(deviation.ratio, 1)
  })
})
