// npm run check: types, lint, format and architecture at once.
// Owns: running the four side by side and one readable line for each; the output of those that failed follows below.
// Does not own: their rules (tsconfig.json, .oxlintrc.json, biome.json, test/unit/architecture.test.ts).

import { join } from 'node:path'
import { ROOT, runTask } from './spawn.ts'

interface Check {
  readonly name: string
  readonly bin?: string
  readonly args: readonly string[]
}

const CHECKS: readonly Check[] = [
  {
    name: 'types',
    bin: 'tsc',
    args: ['--noEmit', '--pretty', 'false', '--incremental', '--tsBuildInfoFile', '.deltawatch/tsc.tsbuildinfo'],
  },
  { name: 'lint', bin: 'oxlint', args: ['--deny-warnings'] },
  { name: 'format', bin: 'biome', args: ['format', '--reporter=summary'] },
  { name: 'architecture', args: ['--test', '--test-reporter=spec', 'test/unit/architecture.test.ts'] },
]

const began = performance.now()
const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`

const results = await Promise.all(
  CHECKS.map(async (check) => {
    const command = check.bin === undefined ? process.execPath : join(ROOT, 'node_modules', '.bin', check.bin)
    const result = await runTask(command, check.args, { output: 'collect' })
    process.stdout.write(`${result.code === 0 ? 'ok    ' : 'FAILED'} ${check.name.padEnd(13)} ${seconds(result.ms)}\n`)
    return { ...check, ...result }
  }),
)
const failed = results.filter((result) => result.code !== 0)
for (const { name, output } of failed) process.stdout.write(`\n--- ${name} ---\n${output.trimEnd()}\n`)
const verdict = failed.length === 0 ? 'all checks passed' : `failed: ${failed.map(({ name }) => name).join(', ')}`
process.stdout.write(`\n${verdict} in ${seconds(performance.now() - began)}\n`)
process.exitCode = failed.length === 0 ? 0 : 1
