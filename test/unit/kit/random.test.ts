// Randomness as a port: ranges, repeatability, and no obvious bias.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Random, seededRandom, systemRandom } from '#kit/random.ts'

test('every source stays in [0, 1) and gives the asked number of bytes', () => {
  for (const random of [systemRandom(), seededRandom(7)] satisfies Random[]) {
    for (let i = 0; i < 1_000; i++) {
      const n = random.next()
      assert.ok(n >= 0 && n < 1)
    }
    assert.equal(random.bytes(0).length, 0)
    assert.equal(random.bytes(33).length, 33)
  }
})

test('the same seed repeats, another one differs', () => {
  const take = (seed: number): number[] => {
    const random = seededRandom(seed)
    return [random.next(), random.next(), ...random.bytes(4)]
  }
  assert.deepEqual(take(42), take(42))
  assert.notDeepEqual(take(42), take(43))
})

test('the seeded source has no bias that fuzzing would notice', () => {
  for (const seed of [0, 1, 2, 0xffff_ffff]) {
    const random = seededRandom(seed)
    const buckets = Array.from({ length: 16 }, () => 0)
    for (let i = 0; i < 16_000; i++) {
      const bucket = Math.floor(random.next() * 16)
      buckets[bucket] = (buckets[bucket] ?? 0) + 1
    }
    for (const count of buckets) assert.ok(count > 850 && count < 1150, `seed ${seed}: ${buckets.join(' ')}`)
  }
})

test('ids of the system source never repeat, across the reserves it draws from', () => {
  const random = systemRandom()
  const ids = new Set<string>()
  for (let i = 0; i < 5_000; i++) ids.add(Buffer.from(random.bytes(9)).toString('hex'))
  assert.equal(ids.size, 5_000)
  assert.equal(random.bytes(100_000).length, 100_000)
})
