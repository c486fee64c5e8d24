// node test/faults/main.ts [--seed n] [--minutes n] [--events n] [--totals name [--resume]] [--scenario name]... [--rounds n] [--etcd 3.4|3.5|3.6|version]
// Owns: the command line, the budgets of time and events, and the order of runs. Exits 1 when anything was violated or did
// not recover. A run is repeated with its printed seed; which interleavings the machine adds is not in our hands.

import { optionsOf } from '#deploy/command-line.ts'
import { jsonReporter, terminalReporter } from './report.ts'
import { describeOutcome, type RunOptions, runScenario } from './run.ts'
import { SCENARIOS, type Scenario } from './scenarios.ts'
import { Totals } from './totals.ts'

const values = optionsOf(
  {
    use: 'npm run test:faults --',
    about: 'Breaks real servers, links and processes under load and judges what a subscriber saw.',
  },
  {
    seed: { type: 'string', about: 'repeat the run that printed it' },
    minutes: { type: 'string', default: '5', about: 'end after this long' },
    events: { type: 'string', about: 'end after this many judged events' },
    totals: { type: 'string', about: 'name under which totals are kept between slices' },
    resume: { type: 'boolean', default: false, about: 'go on from the totals of that name' },
    rounds: { type: 'string', default: '3', about: 'rounds of faults in one scenario' },
    scenario: { type: 'string', multiple: true, about: 'play only this one; --list names them' },
    etcd: { type: 'string', about: 'version of etcd' },
    'max-ops': { type: 'string', default: '40', about: 'operations of one transaction' },
    transactions: { type: 'string', default: '0.23', about: 'share of transactions' },
    keys: { type: 'string', default: '200', about: 'keys written to' },
    'per-second': { type: 'string', default: '250', about: 'writes per second' },
    list: { type: 'boolean', default: false, about: 'name the scenarios and end' },
    json: { type: 'boolean', default: !process.stdout.isTTY, about: 'one JSON object per run, as into a pipe' },
  },
)

type Numeric = 'minutes' | 'events' | 'rounds' | 'max-ops' | 'per-second' | 'keys' | 'transactions'
const positive = (name: Numeric): number => {
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
    for (const { name, about } of SCENARIOS) process.stdout.write(`${name.padEnd(18)} ${about}\n`)
    return 0
  }
  // Where a scenario names its own version, that is what it is about.
  if (values.etcd !== undefined) process.env.DELTAWATCH_TEST_ETCD = values.etcd
  const scenarios = chosen()
  const plan = {
    minutes: positive('minutes'),
    events: values.events === undefined ? undefined : positive('events'),
    scenarios: scenarios.length,
  }
  const { totals: kept } = values
  if (values.resume && kept === undefined) throw new RangeError('--resume needs --totals <name>: where to go on from')
  const resumed = values.resume && kept !== undefined ? await Totals.resumed(kept) : undefined
  const fresh = values.seed === undefined ? Math.floor(Math.random() * 2 ** 30) : Number(values.seed)
  const totals = resumed ?? new Totals(fresh)
  const reporter = values.json ? jsonReporter(process.stdout) : terminalReporter(process.stdout)
  const until = performance.now() + plan.minutes * 60_000
  const done = (): boolean => performance.now() >= until || (plan.events !== undefined && totals.events >= plan.events)

  reporter.begin(plan, totals)
  while (!done()) {
    // Each scenario once in order, then again with new seeds; a resumed campaign goes on where the last slice stopped.
    const scenario = scenarios[totals.runs % scenarios.length] as Scenario
    const options: RunOptions = {
      seed: totals.seed + totals.runs,
      rounds: positive('rounds'),
      maxOps: positive('max-ops'),
      perSecond: positive('per-second'),
      writer: { transactions: positive('transactions'), keys: positive('keys') },
    }
    const began = performance.now()
    const outcome = await (async () => {
      using _live = reporter.running(scenario, options.seed, totals)
      return runScenario(scenario, options)
    })()
    const seconds = (performance.now() - began) / 1000
    totals.add(`${scenario.name} ${options.seed}`, outcome.verdict, outcome.error !== undefined, seconds)
    if (kept !== undefined) await totals.keep(kept)
    const line = describeOutcome(scenario, options, outcome, seconds)
    reporter.ran(line, scenario, options.seed, outcome, seconds, totals)
  }
  reporter.end(totals)
  return totals.clean ? 0 : 1
}

try {
  // Not left to Node's own teardown, which waits for connections that were cut in the middle of a write.
  process.exit(await main())
} catch (error) {
  process.stderr.write(
    `${error instanceof RangeError ? error.message : String(error instanceof Error ? error.stack : error)}\n`,
  )
  process.exitCode = 2
}
