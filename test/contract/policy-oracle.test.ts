// The engine decides like an independent reading of the specification, over random bundles, events, classes and times.
// The whole number of cases runs by policy-oracle-soak.ts; this is a slice, fixed by its seed.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runOracle } from './policy-oracle-run.ts'

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
  for (const reason of ['not-json', 'missing-field', 'missing-key', 'schema-invalid', 'rule', 'detected', 'egress']) {
    assert.ok((tally.reasons.get(`withhold: ${reason}`) ?? 0) > 0, `withhold: ${reason} never came up`)
  }
})
