// Running scenarios: one world each, some rounds, one verdict.
// Owns: the order within a scenario, its line of output, and keeping what explains a failure.
// Refuses: the command line (main.ts) and the fixed selection of npm test (faults.test.ts).

import { Verdict } from '../judge/verdict.ts'
import type { Scenario } from './scenarios.ts'
import { World } from './world.ts'

export type RunOptions = {
  readonly seed: number
  readonly rounds: number
  /** Operations of the writer's transactions; soaks use large ones. Default 5. */
  readonly maxOps?: number
  readonly perSecond?: number
}

export type Outcome = {
  readonly verdict: Verdict
  readonly error: Error | undefined
  readonly dump: string | undefined
}

export async function runScenario(scenario: Scenario, options: RunOptions): Promise<Outcome> {
  const { seed, rounds, maxOps = 5, perSecond = 250 } = options
  await using world = await World.start({ seed, writer: { maxOps, perSecond, ...scenario.writer } })
  let verdict = new Verdict()
  try {
    for (let round = 0; round < rounds; round++) {
      world.judged.writer.start()
      await scenario.round(world)
      await world.settle()
    }
    verdict = await world.verdict(scenario.allowed ?? {})
  } catch (error) {
    const dump = await world.dump(scenario.name)
    return { verdict, error: error instanceof Error ? error : new Error(String(error)), dump }
  }
  const dump = verdict.failed > 0 ? await world.dump(scenario.name) : undefined
  return { verdict, error: undefined, dump }
}

/** One line per scenario: what was judged, and what was found. */
export function describeOutcome(scenario: Scenario, options: RunOptions, outcome: Outcome, seconds: number): string {
  const { verdict, error, dump } = outcome
  const judged = `${verdict.total('events')} events, ${verdict.total('log events')} log events, ${verdict.total('void entries')} void`
  const state = error !== undefined ? `FAILED ${error.message}` : verdict.failed > 0 ? 'VIOLATED' : 'ok'
  const line = `${scenario.name.padEnd(18)} seed ${options.seed} ${seconds.toFixed(0).padStart(4)} s  ${judged}  ${state}`
  if (dump === undefined) return line
  return `${line}\n${verdict.toString()}\n${error?.stack ?? ''}\n  kept: ${dump}`
}
