// The engine decides like an independent reading of the specification, over random bundles, events, classes and times.
// The whole number of cases runs by policy-oracle-soak.ts; this is a slice, fixed by its seed.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createHash } from 'node:crypto'
import { chooseBundle } from '#policies/engine/canary.ts'
import { sha256 } from '#policies/node/hashing.ts'
import { runOracle } from './policy-oracle-run.ts'
import { Draw, drawSubscriber } from './policy-oracle-cases.ts'
import { seededRandom } from '#kit/random.ts'

const SEED = 20261122
const CASES = 20_000

test(`I6: the engine agrees with the oracle on ${CASES} cases (seed ${SEED})`, () => {
  const tally = runOracle(SEED, CASES)
  // A generator that stopped reaching some outcome would make the agreement worth less than it looks.
  for (const effect of ['allow', 'withhold', 'deny'] as const)
    assert.ok(tally[effect] > CASES / 50, `${effect}: ${tally[effect]}`)
  const expected = [
    'deny-rule',
    'basis-expired',
    'condition-error',
    'prev-unknown',
    'quarantined',
    'key-transform-conflict',
    'key-transform-failed',
    'key-reserved',
    'default-deny',
  ]
  for (const reason of expected)
    assert.ok((tally.reasons.get(`deny: ${reason}`) ?? 0) > 0, `deny: ${reason} never came up`)
  for (const change of ['put', 'delete', 'leave', 'nothing', 'unknown-needs-checkpoint'])
    assert.ok((tally.reasons.get(`change: ${change}`) ?? 0) > 0, `${change} never came up`)
  for (const reason of ['not-json', 'missing-field', 'missing-key', 'schema-invalid', 'rule', 'detected', 'egress']) {
    assert.ok((tally.reasons.get(`withhold: ${reason}`) ?? 0) > 0, `withhold: ${reason} never came up`)
  }
})

test('a canary takes whom an independent reading of the rule takes, by label and by share', () => {
  const d = new Draw(seededRandom(SEED))
  const taken = { stable: 0, canary: 0 }
  for (let i = 0; i < CASES; i++) {
    const who = drawSubscriber(d)
    const subject = `s${d.below(5_000)}`
    const salt = `bundle-${d.below(3)}`
    const percent = d.of([0, 1, 10, 50, 99, 100])
    const labels: Record<string, string> = d.maybe(0.3) ? { env: 'canary' } : {}
    // In integers: the first 48 bits of the digest against the share of 2^48.
    const digest = createHash('sha256').update(`${salt}|${subject}`).digest()
    const below = BigInt(`0x${digest.subarray(0, 6).toString('hex')}`) * 100n < BigInt(percent) * 2n ** 48n
    const named = labels['env'] !== undefined && who.labels['env'] === 'canary'
    const expected = !who.anonymous && (named || below) ? 'canary' : 'stable'
    const given = chooseBundle({ subject, ...who }, { salt, share: percent / 100, labels }, sha256)
    assert.equal(given, expected, JSON.stringify({ who, subject, salt, percent, labels }))
    taken[given]++
  }
  assert.ok(taken.stable > CASES / 20 && taken.canary > CASES / 20)
})
