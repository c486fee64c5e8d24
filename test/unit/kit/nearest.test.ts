// The suggestion for a mistyped name: near enough to be meant, or none.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { editDistance, nearest } from '#kit/config/nearest.ts'

test('typing errors find their word', () => {
  const names = ['listen', 'listenBacklog', 'pingInterval', 'servers', 'log']
  const cases: [string, string | undefined][] = [
    ['lsiten', 'listen'],
    ['LISTEN', 'listen'],
    ['ping_interval', 'pingInterval'],
    ['pingIntreval', 'pingInterval'],
    ['sever', 'servers'],
    ['lok', 'log'],
    ['ok', undefined],
    ['completely', undefined],
    ['', undefined],
  ]
  for (const [typed, meant] of cases) assert.equal(nearest(typed, names), meant, typed)
})

test('the distance is a metric that counts a swap once', () => {
  assert.equal(editDistance('ab', 'ba'), 1)
  assert.equal(editDistance('kitten', 'sitting'), 3)
  const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 8 })
  fc.assert(
    fc.property(word, word, (a, b) => {
      const d = editDistance(a, b)
      assert.equal(d, editDistance(b, a))
      assert.equal(d === 0, a === b)
      assert.ok(d >= Math.abs(a.length - b.length) && d <= Math.max(a.length, b.length))
    }),
  )
})
