// How a campaign tells what it is doing: lines and one live line on a terminal, a JSON object per line elsewhere.
// Owns: both voices. Refuses: deciding what is good or bad; exit codes are the command line's.

import type { Outcome } from './run.ts'
import type { Scenario } from './scenarios.ts'
import type { Totals } from './totals.ts'

export type Plan = { readonly minutes: number; readonly events: number | undefined; readonly scenarios: number }

export interface Reporter {
  begin(plan: Plan, totals: Totals): void
  running(scenario: Scenario, seed: number, totals: Totals): Disposable
  ran(line: string, scenario: Scenario, seed: number, outcome: Outcome, seconds: number, totals: Totals): void
  end(totals: Totals): void
}

const LIVE_MS = 500

export function terminalReporter(out: NodeJS.WriteStream): Reporter {
  const clear = (): void => void out.write('\r\x1b[2K')
  return {
    begin: ({ minutes, events, scenarios }, { seed, runs, events: judged }) => {
      const goal = events === undefined ? '' : `, until ${events} events`
      const before = runs === 0 ? '' : `; ${judged} events in ${runs} runs so far`
      out.write(`faults: seed ${seed}, at most ${minutes} minutes${goal}, ${scenarios} scenarios${before}\n`)
    },
    running: (scenario, seed, totals) => {
      const began = performance.now()
      const paint = (): void => {
        const seconds = ((performance.now() - began) / 1000).toFixed(0)
        clear()
        out.write(
          `${scenario.name} seed ${seed} ${seconds} s; ${totals.events} events so far`.slice(
            0,
            (out.columns ?? 80) - 1,
          ),
        )
      }
      const timer = setInterval(paint, LIVE_MS)
      paint()
      return {
        [Symbol.dispose]: () => {
          clearInterval(timer)
          clear()
        },
      }
    },
    ran: (line) => void out.write(`${line}\n`),
    end: ({ runs, failures, verdict }) => {
      out.write(`\n${runs} runs, ${failures} without recovery; ${verdict.toString()}\n`)
    },
  }
}

export function jsonReporter(out: NodeJS.WritableStream): Reporter {
  const say = (record: object): void => void out.write(`${JSON.stringify(record)}\n`)
  const sum = ({ runs, failures, events, violations, seconds }: Totals): object => ({
    runs,
    failures,
    events,
    violations,
    seconds: Math.round(seconds),
  })
  return {
    begin: (plan, totals) => say({ type: 'begin', seed: totals.seed, ...plan, total: sum(totals) }),
    running: () => ({ [Symbol.dispose]: () => undefined }),
    ran: (_line, { name }, seed, { verdict, error, dump }, seconds, totals) =>
      say({
        type: 'run',
        scenario: name,
        seed,
        seconds: Math.round(seconds * 10) / 10,
        events: verdict.total('events'),
        logEvents: verdict.total('log events'),
        voidEntries: verdict.total('void entries'),
        violations: verdict.violations.map(({ rule, detail }) => `${rule}: ${detail}`).slice(0, 20),
        ...(error === undefined ? {} : { error: error.message }),
        ...(dump === undefined ? {} : { kept: dump }),
        total: sum(totals),
      }),
    end: (totals) =>
      say({
        type: 'end',
        seed: totals.seed,
        total: sum(totals),
        judged: Object.fromEntries(totals.verdict.totals),
        troubled: totals.troubled,
      }),
  }
}
