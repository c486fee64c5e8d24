// A breaker over attempts that somebody else makes: it must not stay open over a connection that stands.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { observeRedials } from '#kit/redials.ts'
import { seededRandom } from '#kit/random.ts'
import { createResilience, DEFAULT_POLICIES } from '#kit/resilience.ts'
import { ManualClock } from '#test/support/manual-clock.ts'

const DIAL_MS = 300
const PROBE_AFTER_MS = 2_000

function setup() {
  const clock = new ManualClock()
  const policy = createResilience({ clock, random: seededRandom(1) }).policy('hub connect', {
    ...DEFAULT_POLICIES.hubConnect,
    breaker: { failureRatio: 0.35, samplingMs: 60_000, minimumCalls: 2, halfOpenAfterMs: PROBE_AFTER_MS },
    timeoutMs: 60_000,
  })
  const redials = observeRedials(policy, clock, DIAL_MS)
  const hang = async (): Promise<void> => {
    redials.began()
    await clock.advance(DIAL_MS)
    redials.failed()
    await clock.advance(0)
  }
  return { clock, policy, redials, hang }
}

async function opened() {
  const it = setup()
  // The second opens it; of the third it takes no notice, and nobody may be told of a rejection that nobody awaits.
  for (let i = 0; i < 3; i++) await it.hang()
  assert.equal(it.policy.state, 'open')
  return it
}

test('attempts that hang open the breaker, and the next one waits for it', async () => {
  const { clock, policy, redials } = await opened()
  assert.equal(policy.retryAfterMs, PROBE_AFTER_MS - DIAL_MS)
  assert.equal(redials.waitMs(20), PROBE_AFTER_MS)
  await clock.advance(PROBE_AFTER_MS)
  assert.equal(redials.waitMs(20), 20)
})

test('an attempt that the breaker takes as its probe closes it', async () => {
  const { clock, policy, redials } = await opened()
  await clock.advance(PROBE_AFTER_MS)
  redials.began()
  redials.succeeded()
  await clock.advance(0)
  assert.equal(policy.state, 'closed')
})

for (const early of [1, 500]) {
  test(`an attempt ${early} ms too early for the breaker closes it all the same once it has succeeded`, async () => {
    const { clock, policy, redials } = await opened()
    await clock.advance(policy.retryAfterMs - early)
    redials.began()
    // Dialling takes longer than the breaker had left, or shorter.
    await clock.advance(40)
    redials.succeeded()
    await clock.advance(early)
    await clock.advance(1)
    assert.equal(policy.state, 'closed')
    assert.equal(clock.pending, 0)
  })
}

test('a connection that was lost again proves nothing later', async () => {
  const { clock, policy, redials, hang } = await opened()
  await clock.advance(policy.retryAfterMs - 500)
  redials.began()
  redials.succeeded()
  await hang()
  await clock.advance(200)
  assert.equal(policy.state, 'open')
})
