// A few minutes' share of the soak: every scenario once, with a fixed seed, judged.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { describeOutcome, runScenario } from './run.ts'
import { SCENARIOS } from './scenarios.ts'

describe('faults', () => {
  for (const [n, scenario] of SCENARIOS.entries()) {
    it(`I1 I2 I4: ${scenario.about}`, async () => {
      const options = { seed: 1000 + n, rounds: 1 }
      const began = performance.now()
      const outcome = await runScenario(scenario, options)
      const line = describeOutcome(scenario, options, outcome, (performance.now() - began) / 1000)
      assert.equal(outcome.error, undefined, line)
      assert.equal(outcome.verdict.failed, 0, line)
      assert.ok(outcome.verdict.total('frames') > 20, line)
    })
  }
})
