// Running scenarios: one world each, some rounds, one verdict.
// Owns: the order within a scenario, its line of output, and keeping what explains a failure.
// Refuses: the command line (main.ts) and the fixed selection of npm test (faults.test.ts).

import type { StackOptions } from '../e2e/stack.ts'
import { Verdict } from '../judge/verdict.ts'
import type { WriterOptions } from '../judge/writer.ts'
import type { Scenario } from './scenarios.ts'
import { World } from './world.ts'

export type RunOptions = {
  readonly seed: number
  readonly rounds: number
  /** Operations of the writer's transactions; soaks use large ones. Default 5. */
  readonly maxOps?: number
  readonly perSecond?: number
  readonly concurrency?: number
  /** More of the writer; what a scenario asks of it comes first. */
  readonly writer?: Partial<WriterOptions>
  /** Time to catch up after a round. */
  readonly settleWithinMs?: number
  /** On top of what the scenario asks of the stack. */
  readonly stack?: StackOptions
}

export type Outcome = {
  readonly verdict: Verdict
  /** The scenario could not be played, or nothing caught up afterwards. What is there is judged all the same. */
  readonly error: Error | undefined
  readonly dump: string | undefined
}

export async function runScenario(scenario: Scenario, options: RunOptions): Promise<Outcome> {
  const { seed, rounds, maxOps = 5, perSecond = 250, concurrency = 4 } = options
  await using owned = new AsyncDisposableStack()
  const prepared = await scenario.prepare?.(owned)
  const stack = { ...scenario.stack, ...prepared?.stack, ...options.stack }
  await using world = await World.start({
    seed,
    writer: { maxOps, perSecond, concurrency, ...options.writer, ...scenario.writer },
    stack,
    ...(prepared === undefined ? {} : { prepared }),
    ...(scenario.before === undefined ? {} : { before: scenario.before }),
    ...(options.settleWithinMs === undefined ? {} : { settleWithinMs: options.settleWithinMs }),
  })
  let error: Error | undefined
  try {
    for (let round = 0; round < rounds; round++) {
      world.judged.writer.start()
      await scenario.round(world)
      await world.settle()
    }
  } catch (cause) {
    error = cause instanceof Error ? cause : new Error(String(cause))
  }
  let verdict = new Verdict()
  try {
    verdict = await world.verdict(scenario.allowed ?? {})
  } catch (cause) {
    error ??= cause instanceof Error ? cause : new Error(String(cause))
  }
  const dump = error !== undefined || verdict.failed > 0 ? await world.dump(scenario.name) : undefined
  return { verdict, error, dump }
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
