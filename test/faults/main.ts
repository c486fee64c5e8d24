// node test/faults/main.ts [--seed n] [--minutes n] [--scenario name]... [--rounds n]
// Owns: the command line, the time budget, and the totals. Exits 1 when anything was violated or did not recover.
// A run is repeated with its printed seed; which interleavings the machine adds is not in our hands.

import { parseArgs } from 'node:util'
import { Verdict } from '../judge/verdict.ts'
import { describeOutcome, runScenario } from './run.ts'
import { SCENARIOS, type Scenario } from './scenarios.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    minutes: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '3' },
    scenario: { type: 'string', multiple: true },
    'max-ops': { type: 'string', default: '40' },
    'per-second': { type: 'string', default: '250' },
    list: { type: 'boolean', default: false },
  },
})
const print = (line: string): void => void process.stdout.write(`${line}\n`)
const positive = (name: 'minutes' | 'rounds' | 'max-ops' | 'per-second'): number => {
  const n = Number(values[name])
  if (!(n > 0)) throw new RangeError(`--${name} ${values[name]} is not a positive number`)
  return n
}

function chosen(): readonly Scenario[] {
  if (values.scenario === undefined) return SCENARIOS
  return values.scenario.map((name) => {
    const found = SCENARIOS.find((scenario) => scenario.name === name)
    if (found === undefined) throw new RangeError(`no scenario ${name}; --list shows them`)
    return found
  })
}

async function main(): Promise<number> {
  if (values.list) {
    for (const { name, about } of SCENARIOS) print(`${name.padEnd(18)} ${about}`)
    return 0
  }
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed)
  const until = performance.now() + positive('minutes') * 60_000
  const total = new Verdict()
  const scenarios = chosen()
  let failures = 0
  let runs = 0
  print(`faults: seed ${seed}, ${values.minutes} minutes, ${scenarios.length} scenarios`)
  for (let n = 0; performance.now() < until; n++) {
    // Each scenario once in order, then again with new seeds until the time is up.
    const scenario = scenarios[n % scenarios.length] as Scenario
    const options = {
      seed: seed + n,
      rounds: positive('rounds'),
      maxOps: positive('max-ops'),
      perSecond: positive('per-second'),
    }
    const began = performance.now()
    const outcome = await runScenario(scenario, options)
    print(describeOutcome(scenario, options, outcome, (performance.now() - began) / 1000))
    total.merge(outcome.verdict)
    if (outcome.error !== undefined) failures += 1
    runs += 1
  }
  print(`\n${runs} runs, ${failures} without recovery; ${total.toString()}`)
  return failures === 0 && total.failed === 0 ? 0 : 1
}

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(
    `${error instanceof RangeError ? error.message : String(error instanceof Error ? error.stack : error)}\n`,
  )
  process.exitCode = 2
}
