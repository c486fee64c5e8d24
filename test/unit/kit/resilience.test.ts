// The named policies: what is retried, what opens a breaker, what a caller gets to see.

import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import fc from 'fast-check'
import { type Clock, systemClock } from '#kit/clock.ts'
import { createMetrics } from '#kit/metrics.ts'
import { seededRandom } from '#kit/random.ts'
import { createResilience, fullJitter, type PolicyOptions, ResilienceError } from '#kit/resilience.ts'
import { ManualClock } from '#test/support/manual-clock.ts'

const OPTIONS: PolicyOptions = {
  timeoutMs: 1_000,
  retries: 2,
  backoff: { baseMs: 1, capMs: 2 },
  breaker: { failureRatio: 0.35, samplingMs: 30_000, minimumCalls: 10, halfOpenAfterMs: 60_000 },
  bulkhead: { concurrent: 4, queued: 4 },
}
const NO_RETRY = { ...OPTIONS, retries: 0 }

function setup(options: Partial<PolicyOptions> = {}) {
  return setupOn(new ManualClock(), options)
}

function setupOn<C extends Clock>(clock: C, options: Partial<PolicyOptions> = {}) {
  const metrics = createMetrics()
  const changes: string[] = []
  const resilience = createResilience({
    clock,
    random: seededRandom(1),
    metrics,
    onStateChange: (name, state) => changes.push(`${name} ${state}`),
  })
  const policy = resilience.policy('etcdRead', { ...OPTIONS, ...options })
  const gauge = async (): Promise<string | undefined> =>
    (await metrics.expose()).split('\n').find((line) => line.startsWith('deltawatch_breaker_state'))
  return { clock, resilience, policy, changes, gauge }
}

const fail = (): Promise<never> => Promise.reject(new Error('down'))
const succeed = (): Promise<string> => Promise.resolve('ok')

async function open(policy: { execute(call: () => Promise<unknown>): Promise<unknown> }): Promise<void> {
  for (let i = 0; i < 10; i++) await policy.execute(fail).catch(() => undefined)
}

test('a failing call is tried again as often as allowed, and its own error comes out', async () => {
  const { policy } = setupOn(systemClock())
  let calls = 0
  const answer = await policy.execute(async () => {
    if (++calls < 3) throw new Error(`attempt ${calls}`)
    return 'ok'
  })
  assert.deepEqual([answer, calls], ['ok', 3])
  calls = 0
  await assert.rejects(
    policy.execute(async () => {
      throw new Error(`attempt ${++calls}`)
    }),
    /^Error: attempt 3$/,
  )
})

test('a call that asks for one attempt is not tried again, and counts for the breaker all the same', async () => {
  const { policy } = setup({ retries: 5 })
  let calls = 0
  const counted = (): Promise<never> => {
    calls++
    return fail()
  }
  for (let i = 0; i < 10; i++) await assert.rejects(policy.execute(counted, undefined, { once: true }), /down/)
  assert.equal(calls, 10)
  assert.equal(policy.state, 'open')
})

test('each attempt has its own time-out, its signal aborts, and the caller gets DW_TIMEOUT', async () => {
  const { policy } = setupOn(systemClock(), { timeoutMs: 20, retries: 1 })
  const signals: AbortSignal[] = []
  const never = (signal: AbortSignal): Promise<never> => {
    signals.push(signal)
    return new Promise(() => undefined)
  }
  await assert.rejects(policy.execute(never), { code: 'DW_TIMEOUT', message: 'etcdRead: no answer within 20 ms' })
  assert.deepEqual(
    signals.map((s) => s.aborted),
    [true, true],
  )
})

test('the breaker opens at the failure share, refuses at once, probes after the wait, and closes on success', async () => {
  const { policy, clock, changes, gauge, resilience } = setup(NO_RETRY)
  for (let i = 0; i < 6; i++) await policy.execute(succeed)
  for (let i = 0; i < 3; i++) await assert.rejects(policy.execute(fail))
  assert.equal(policy.state, 'closed', '3 of 9 is below the minimum of calls')
  await assert.rejects(policy.execute(fail), /down/)
  assert.equal(policy.state, 'open', '4 of 10 is above 35 %')
  assert.equal(await gauge(), 'deltawatch_breaker_state{dep="etcdRead"} 2')
  assert.deepEqual(resilience.status(), [
    { name: 'etcdRead', breaker: 'open', retryAfterMs: 60_000, opened: 1, lastFailure: 'down' },
  ])

  let called = false
  const spy = async (): Promise<void> => void (called = true)
  await assert.rejects(policy.execute(spy), { code: 'DW_BREAKER_OPEN' })
  await clock.advance(59_999)
  assert.equal(policy.retryAfterMs, 1)
  await assert.rejects(policy.execute(spy), { code: 'DW_BREAKER_OPEN' })
  assert.equal(called, false)
  await clock.advance(1)
  assert.equal(policy.retryAfterMs, 0)
  await policy.execute(spy)
  assert.equal(policy.state, 'closed')
  assert.deepEqual(changes, ['etcdRead open', 'etcdRead half-open', 'etcdRead closed'])
})

test('a failed probe opens the breaker for another wait', async () => {
  const { policy, clock } = setup(NO_RETRY)
  await open(policy)
  await clock.advance(60_000)
  await assert.rejects(policy.execute(fail), /down/)
  assert.equal(policy.state, 'open')
  await clock.advance(59_999)
  await assert.rejects(policy.execute(succeed), { code: 'DW_BREAKER_OPEN' })
  await clock.advance(1)
  assert.equal(await policy.execute(succeed), 'ok')
})

test('an open breaker whose other side was heard of lets one call probe, and one only', async () => {
  const { policy, clock } = setup(NO_RETRY)
  await open(policy)
  await clock.advance(10)
  policy.heard()
  assert.equal(policy.retryAfterMs, 0)
  await assert.rejects(policy.execute(fail), /down/)
  assert.ok(policy.retryAfterMs > 0, 'what was heard before the probe says nothing any more')
  await assert.rejects(policy.execute(succeed), { code: 'DW_BREAKER_OPEN' })
  policy.heard()
  assert.equal(await policy.execute(succeed), 'ok')
  assert.equal(policy.state, 'closed')
})

test('a wall clock set back or forward neither prolongs nor shortens the wait of an open breaker', async () => {
  const { policy, clock } = setup(NO_RETRY)
  mock.timers.enable({ apis: ['Date'], now: Date.UTC(2026, 0, 1) })
  try {
    await open(policy)
    mock.timers.setTime(Date.UTC(2026, 0, 2))
    await assert.rejects(policy.execute(succeed), { code: 'DW_BREAKER_OPEN' })
    mock.timers.setTime(Date.UTC(2025, 0, 1))
    await clock.advance(60_000)
    assert.equal(await policy.execute(succeed), 'ok')
  } finally {
    mock.timers.reset()
  }
})

test('an open breaker ends the retries of a call at once', async () => {
  const { policy } = setupOn(systemClock(), { retries: 50, backoff: { baseMs: 1, capMs: 1 } })
  let calls = 0
  const counted = (): Promise<never> => {
    calls++
    return fail()
  }
  await assert.rejects(policy.execute(counted), { code: 'DW_BREAKER_OPEN' })
  assert.equal(calls, 10)
})

test('errors that say nothing about the other side are neither retried nor counted', async () => {
  const { policy } = setup({ countsAsFailure: (e) => !(e instanceof RangeError) })
  let calls = 0
  const wrong = async (): Promise<never> => {
    calls++
    throw new RangeError('key too long')
  }
  for (let i = 0; i < 20; i++) await assert.rejects(policy.execute(wrong), RangeError)
  assert.equal(calls, 20)
  assert.equal(policy.state, 'closed')
})

test("the caller's cancellation comes out as its own reason, at once, and is not held against the other side", async () => {
  const { policy, resilience } = setup({ retries: 2 })
  const reason = new Error('the service is stopping')
  for (let i = 0; i < 20; i++) {
    const controller = new AbortController()
    let inner: AbortSignal | undefined
    const pending = policy.execute((signal) => {
      inner = signal
      return new Promise<never>((_, reject) =>
        signal.addEventListener('abort', () => reject(new Error('aborted inside'))),
      )
    }, controller.signal)
    controller.abort(reason)
    await assert.rejects(pending, reason)
    assert.equal(inner?.aborted ?? true, true)
  }
  assert.deepEqual(resilience.status(), [{ name: 'etcdRead', breaker: 'closed', retryAfterMs: 0, opened: 0 }])
  await assert.rejects(policy.execute(succeed, AbortSignal.abort(reason)), reason)
})

test('cancelling during a backoff does not wait for it and leaves no timer behind', async () => {
  const { policy, clock } = setup({ backoff: { baseMs: 600_000, capMs: 600_000 } })
  const controller = new AbortController()
  const pending = policy.execute(fail, controller.signal)
  await turns(() => clock.pending === 1)
  controller.abort(new Error('enough'))
  await assert.rejects(pending, /enough/)
  assert.equal(clock.pending, 0)
})

test('the wait between attempts is jittered on the given clock', async () => {
  const { policy, clock } = setup({ backoff: { baseMs: 1_000, capMs: 1_000 } })
  let calls = 0
  const pending = policy.execute(async () => {
    if (++calls < 2) throw new Error('down')
  })
  await turns(() => clock.pending === 1)
  assert.equal(calls, 1)
  await clock.advance(1_000)
  await pending
  assert.equal(calls, 2)
})

test('a cancelled probe proves no recovery', async () => {
  const { policy, clock } = setup(NO_RETRY)
  await open(policy)
  await clock.advance(60_000)
  const controller = new AbortController()
  const probe = policy.execute(() => new Promise<never>(() => undefined), controller.signal)
  setImmediate(() => controller.abort(new Error('enough')))
  await assert.rejects(probe, /enough/)
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(policy.state, 'open')
})

test('I8: the bulkhead bounds what runs and what waits', async () => {
  const { policy } = setup({ bulkhead: { concurrent: 1, queued: 1 }, retries: 0 })
  const gate = Promise.withResolvers<string>()
  const running = policy.execute(() => gate.promise)
  const waiting = policy.execute(succeed)
  await assert.rejects(policy.execute(succeed), { code: 'DW_BULKHEAD_FULL' })
  gate.resolve('done')
  assert.deepEqual(await Promise.all([running, waiting]), ['done', 'ok'])
})

test('a policy is declared once', () => {
  const { resilience } = setup()
  assert.throws(() => resilience.policy('etcdRead', OPTIONS), ResilienceError)
})

test('full jitter is uniform below a bound that doubles up to the cap', () => {
  const options = { baseMs: 100, capMs: 1_000 }
  const top = { next: () => 0.999_999 }
  assert.deepEqual(
    [0, 1, 2, 3, 4, 99, 5_000].map((n) => fullJitter(n, options, top)),
    [99, 199, 399, 799, 999, 999, 999],
  )
  fc.assert(
    fc.property(fc.integer({ min: -5, max: 100_000 }), fc.integer(), (attempt, seed) => {
      const wait = fullJitter(attempt, options, seededRandom(seed))
      assert.ok(Number.isInteger(wait) && wait >= 0 && wait < options.capMs)
    }),
  )
  const random = seededRandom(3)
  const waits = Array.from({ length: 2_000 }, () => fullJitter(9, options, random))
  const mean = waits.reduce((a, b) => a + b, 0) / waits.length
  assert.ok(mean > 450 && mean < 550, `mean ${mean}`)
})

/** Lets the event loop turn until the condition holds; cockatiel passes through timers of zero length. */
async function turns(done: () => boolean): Promise<void> {
  for (let i = 0; i < 1_000 && !done(); i++) await new Promise((resolve) => setTimeout(resolve, 0))
  assert.ok(done(), 'the condition was never met')
}
