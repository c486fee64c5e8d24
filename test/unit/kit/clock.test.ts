// The system clock, the manual clock that replaces it in tests, and the rules of sleeping they share.

import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { describe, test } from 'node:test'
import { type Clock, systemClock } from '#kit/clock.ts'
import { ManualClock } from '#test/support/manual-clock.ts'

const clocks: [string, () => { clock: Clock; pass: (ms: number) => Promise<void> }][] = [
  ['system', () => ({ clock: systemClock(), pass: () => Promise.resolve() })],
  [
    'manual',
    () => {
      const clock = new ManualClock()
      return { clock, pass: (ms) => clock.advance(ms) }
    },
  ],
]

for (const [name, make] of clocks) {
  describe(`${name} clock`, () => {
    test('a sleep ends after its time and leaves no listener behind', async () => {
      const { clock, pass } = make()
      const signal = new AbortController().signal
      const before = clock.monotonic()
      const sleeping = clock.sleep(10, signal)
      await pass(10)
      await sleeping
      // Node may fire up to a millisecond early by the monotonic clock's own resolution.
      assert.ok(clock.monotonic() - before >= 9)
      assert.equal(getEventListeners(signal, 'abort').length, 0)
    })

    test('a sleep rejects with the reason as soon as the signal aborts', async () => {
      const { clock } = make()
      const controller = new AbortController()
      const sleeping = clock.sleep(60_000, controller.signal)
      const reason = new Error('enough')
      controller.abort(reason)
      await assert.rejects(sleeping, reason)
      await assert.rejects(clock.sleep(60_000, controller.signal), reason)
      assert.equal(getEventListeners(controller.signal, 'abort').length, 0)
    })

    test('a disposed timer never fires, and disposing it later does nothing', async () => {
      const { clock, pass } = make()
      let fired = 0
      const cancelled = clock.setTimeout(() => fired++, 1)
      cancelled[Symbol.dispose]()
      const kept = clock.setTimeout(() => (fired += 10), 2)
      const done = clock.sleep(5)
      await pass(5)
      await done
      kept[Symbol.dispose]()
      assert.equal(fired, 10)
    })

    test('a wait beyond 31 bits does not fire at once', async () => {
      const { clock, pass } = make()
      let fired = false
      using timer = clock.setTimeout(() => (fired = true), 2 ** 33)
      assert.ok(timer)
      const a_while = clock.sleep(20)
      await pass(20)
      await a_while
      assert.equal(fired, false)
    })
  })
}

test('the manual clock fires in order of time, then of creation, timers set on the way included', async () => {
  const clock = new ManualClock()
  const order: string[] = []
  clock.setTimeout(() => order.push('b'), 20)
  clock.setTimeout(() => {
    order.push('a')
    clock.setTimeout(() => order.push('nested'), 5)
  }, 10)
  clock.setTimeout(() => order.push('c'), 20)
  clock.setTimeout(() => order.push('late'), 30)
  await clock.advance(20)
  assert.deepEqual(order, ['a', 'nested', 'b', 'c'])
  assert.equal(clock.pending, 1)
})

test('the manual clock runs code that awaits in between, and a wall jump moves no timer', async () => {
  const clock = new ManualClock(1_000)
  let woke = 0
  const loop = (async () => {
    for (let i = 0; i < 3; i++) {
      await clock.sleep(10)
      woke++
    }
  })()
  clock.jumpWall(-500)
  assert.equal(clock.now(), 500)
  await clock.advance(29)
  assert.equal(woke, 2)
  await clock.advance(1)
  await loop
  assert.equal(clock.now(), 530)
  assert.equal(clock.monotonic(), 30)
})
