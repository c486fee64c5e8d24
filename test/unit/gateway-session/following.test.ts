// A connection that only reads is classed by the policy that holds when it begins, not when it was let in.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemRandom } from '#kit/random.ts'
import type { Principal } from '#gateway/auth/principal.ts'
import type { Lease } from '#gateway/session/admission.ts'
import { type FollowingSpec, openFollowing } from '#gateway/session/following.ts'
import { DEFAULT_LIMITS } from '#gateway/session/limits.ts'
import type { SessionContext } from '#gateway/session/sessions.ts'
import { TimingWheel } from '#gateway/session/wheel.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { FakeWire, policyOf, Rig } from './rig.ts'

const principal: Principal = {
  subscriber: { subject: 'anna', region: 'sz', audiences: [], scopes: [], anonymous: false },
  expiresAt: undefined,
  tokenId: undefined,
  issuedAt: undefined,
  clusters: undefined,
  dev: true,
}

/** A lease that is granted when the test says so. */
function begin(rig: Rig) {
  const granted = Promise.withResolvers<boolean>()
  let returned = false
  const lease: Lease = { identify: () => granted.promise, [Symbol.dispose]: () => void (returned = true) }
  const endpoint = { wire: new FakeWire(), close: () => undefined, reset: () => undefined }
  const spec: FollowingSpec = { format: 'cloudevents', principal, endpoint: () => endpoint, lease, address: '' }
  const context = {
    limits: DEFAULT_LIMITS,
    delivery: rig.delivery,
    budget: rig.budget,
    wheel: new TimingWheel(),
    random: systemRandom(),
    policy: () => rig.policy,
    now: () => rig.time,
    monotonic: () => rig.time,
    chance: () => 0.5,
    opened: () => undefined,
    follow: () => ({ [Symbol.dispose]: () => undefined }),
    countPeer: () => undefined,
  } as unknown as SessionContext
  return { opened: openFollowing(spec, context), grant: granted.resolve, returned: () => returned }
}

test('a bundle that comes while the subject is being counted decides the class of the connection', async () => {
  using rig = new Rig(new FakeSources(new FakeSource()), policyOf({}, 'old'))
  const { opened, grant } = begin(rig)
  rig.policy = policyOf({ hidden: ['/k/'] }, 'new')
  grant(true)
  const outcome = await opened
  assert.ok(outcome.ok)
  assert.equal(outcome.following.subscriber.policyClass.bundle, 'new')
  outcome.following.gone()
})

test('a bundle that comes meanwhile and has no class for it refuses the connection and returns what it took', async () => {
  using rig = new Rig(new FakeSources(new FakeSource()), policyOf({}, 'old'))
  const { opened, grant, returned } = begin(rig)
  rig.policy = { ...policyOf({}, 'new'), classOf: () => undefined }
  grant(true)
  const outcome = await opened
  assert.ok(!outcome.ok)
  assert.equal(outcome.code.name, 'Overloaded')
  assert.ok(returned())
})
