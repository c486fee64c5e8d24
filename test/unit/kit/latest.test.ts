// A changing value with slow readers: the newest state always arrives, nothing piles up.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLatest } from '#kit/latest.ts'

test('a reader gets the current value, then each newest one, then the end', async () => {
  const latest = createLatest(1)
  const seen: number[] = []
  const reading = (async () => {
    for await (const value of latest.changes()) seen.push(value)
  })()
  await Promise.resolve()
  latest.set(2)
  await new Promise((resolve) => setImmediate(resolve))
  latest.set(3)
  latest.close()
  await reading
  assert.deepEqual(seen, [1, 2, 3])
})

test('I8: a slow reader skips states instead of queueing them', async () => {
  const latest = createLatest(0)
  const reader = latest.changes()
  assert.equal((await reader.next()).value, 0)
  for (let i = 1; i <= 1_000; i++) latest.set(i)
  assert.equal((await reader.next()).value, 1_000)
  latest.close()
  assert.equal((await reader.next()).done, true)
})

test('the last value before the close is still delivered; later sets are ignored', async () => {
  const latest = createLatest('a')
  const reader = latest.changes()
  await reader.next()
  latest.set('b')
  latest.close()
  latest.set('c')
  assert.equal((await reader.next()).value, 'b')
  assert.equal((await reader.next()).done, true)
  assert.equal(latest.value, 'b')
})

test('a signal ends a waiting reader, and `until` with its reason', async () => {
  const latest = createLatest(0)
  const controller = new AbortController()
  const reader = latest.changes(controller.signal)
  await reader.next()
  const next = reader.next()
  const isTwo = (n: number): n is 2 => n === 2
  const waiting = latest.until(isTwo, controller.signal)
  controller.abort(new Error('enough'))
  assert.equal((await next).done, true)
  await assert.rejects(waiting, /enough/)
})

test('`until` sees the current value and later ones, and rejects when closed', async () => {
  const latest = createLatest(2)
  const isTwo = (n: number): n is 2 => n === 2
  const isFive = (n: number): n is 5 => n === 5
  assert.equal(await latest.until(isTwo), 2)
  const five = latest.until(isFive)
  latest.set(4)
  latest.set(5)
  assert.equal(await five, 5)
  const never = latest.until(isTwo)
  latest.close()
  await assert.rejects(never, RangeError)
})
