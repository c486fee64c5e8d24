// node test/contract/policy-oracle-soak.ts [--cases 100000] [--seed N]: the oracle for as many cases as there is patience for.

import { parseArgs } from 'node:util'
import { runOracle } from './policy-oracle-run.ts'

const { values } = parseArgs({ options: { cases: { type: 'string', default: '100000' }, seed: { type: 'string' } } })
const cases = Number(values.cases)
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed)
if (!Number.isSafeInteger(cases) || cases < 1 || !Number.isSafeInteger(seed))
  throw new RangeError('--cases and --seed take whole numbers')

process.stdout.write(`policy oracle: seed ${seed}, ${cases} cases\n`)
const start = performance.now()
const tally = runOracle(seed, cases)
process.stdout.write(
  `agreed on ${tally.cases} decisions over ${tally.bundles} bundles (${tally.refused} drawn bundles refused) in ${((performance.now() - start) / 1000).toFixed(1)} s: ` +
    `${tally.allow} allow, ${tally.withhold} withhold, ${tally.deny} deny\n` +
    `${[...tally.reasons]
      .sort((a, b) => b[1] - a[1])
      .map(([reason, count]) => `  ${reason}: ${count}`)
      .join('\n')}\n`,
)
