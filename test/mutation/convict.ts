// One trial: a real scenario against the product, broken or whole, and what the judge said of it.
// Owns: running it with little patience, and telling a conviction from a time-out: only the judge's word counts.

import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { resolveTool } from '#deploy/toolchain/resolve.ts'
import { describeOutcome, runScenario } from '../faults/run.ts'
import { SCENARIOS } from '../faults/scenarios.ts'
import type { Verdict } from '../judge/verdict.ts'
import { importOption, type Mutation, MUTATIONS } from './mutations.ts'

/** A broken product may never catch up; this long is enough for one that does. */
const BROKEN_SETTLE_MS = 5_000

/** Fails unless the judge convicts the product under this mutation. */
export async function convict(mutation: Mutation, t: TestContext): Promise<void> {
  const { etcd } = mutation
  if (etcd !== undefined && !(await isThere(etcd))) return t.skip(`no etcd ${etcd} on this machine`)
  const { verdict, line } = await trial(mutation, {
    settleWithinMs: BROKEN_SETTLE_MS,
    node: { [mutation.part]: [importOption(mutation)] },
  })
  const found = convictions(verdict, mutation)
  t.diagnostic(`${mutation.name}: ${verdict.failed} violations, such as: ${found[0]}`)
  assert.ok(found.length > 0, `nothing was noticed\n${line}`)
}

/** Fails unless the whole product passes the very same trial. */
export async function acquit(mutation: Mutation, t: TestContext): Promise<void> {
  const { etcd } = mutation
  if (etcd !== undefined && !(await isThere(etcd))) return t.skip(`no etcd ${etcd} on this machine`)
  const { verdict, error, line } = await trial(mutation, {})
  assert.equal(error, undefined, line)
  assert.equal(verdict.failed, 0, line)
}

async function trial(
  { name, scenario: wanted, etcd, rounds = 1 }: Mutation,
  { settleWithinMs, node }: { readonly settleWithinMs?: number; readonly node?: object },
) {
  const scenario = SCENARIOS.find((one) => one.name === wanted)
  assert.ok(scenario, `no scenario ${wanted}`)
  const options = {
    seed: 7_000 + MUTATIONS.findIndex((one) => one.name === name),
    rounds,
    ...(settleWithinMs === undefined ? {} : { settleWithinMs }),
    stack: { ...(etcd === undefined ? {} : { etcd: { version: etcd } }), ...(node === undefined ? {} : { node }) },
  }
  const began = performance.now()
  const outcome = await runScenario(scenario, options)
  return { ...outcome, line: describeOutcome(scenario, options, outcome, (performance.now() - began) / 1000) }
}

/** What the judge said that counts against this mutation. */
function convictions({ violations }: Verdict, { rules, except }: Mutation): string[] {
  return violations
    .filter(({ rule, detail }) => rules.includes(rule) && except?.test(detail) !== true)
    .map(({ rule, detail }) => `${rule}: ${detail}`)
}

async function isThere(version: string): Promise<boolean> {
  return resolveTool('etcd', { version }).then(
    () => true,
    () => false,
  )
}
