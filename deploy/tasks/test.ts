// npm test [-- <suite | file | node --test option>...]
// Owns: which files make up a suite, having the real servers ready before the first test, and the time limits.
// Does not own: the tests or the report (node --test). A named suite without files is an error, never a silent pass.

import { availableParallelism } from 'node:os'
import { glob } from 'node:fs/promises'
import { createProgress } from '../toolchain/progress.ts'
import { resolveTool, ToolMissingError } from '../toolchain/resolve.ts'
import { TOOLS } from '../toolchain/tools.ts'
import { ROOT, runTask } from './spawn.ts'

const SUITES = {
  unit: ['unit', 'contract', 'model'],
  integration: ['integration'],
  e2e: ['e2e'],
  browser: ['browser'],
  faults: ['faults'],
  mutation: ['mutation'],
} as const
type Suite = keyof typeof SUITES

const LONG: ReadonlySet<Suite> = new Set(['faults', 'mutation'])

const DEFAULT: readonly Suite[] = ['unit', 'integration', 'e2e', 'browser']
/** One file, all its tests together. Long enough for a loaded machine, short enough that a hang is found. */
const FILE_TIMEOUT_MS = 240_000
/** These run their scenarios one after another in one file. */
const LONG_FILE_TIMEOUT_MS = 900_000

const isSuite = (name: string): name is Suite => Object.hasOwn(SUITES, name)

async function filesOf(suite: Suite): Promise<string[]> {
  const patterns = SUITES[suite].map((folder) => `test/${folder}/**/*.test.ts`)
  const files: string[] = []
  for await (const file of glob(patterns, { cwd: ROOT })) files.push(file)
  if (files.length === 0) throw new RangeError(`suite ${suite}: no file matches ${patterns.join(' or ')}`)
  return files.sort()
}

/** Settings of the developer's own services must not reach the services under test; where the tools are, and which etcd is asked for, may. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const kept = new Set<string>([
    ...Object.values(TOOLS).map((tool) => tool.env),
    'DELTAWATCH_TOOL_CACHE',
    'DELTAWATCH_CHROMIUM',
    'DELTAWATCH_RELEASE_BASE',
    'DELTAWATCH_TEST_ETCD',
  ])
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('DELTAWATCH_') || kept.has(name)),
  )
}

async function main(args: readonly string[]): Promise<number> {
  const suites = args.filter(isSuite)
  const options = args.filter((arg) => arg.startsWith('-'))
  const named = args.filter((arg) => !arg.startsWith('-') && !isSuite(arg))
  const chosen = suites.length > 0 || named.length > 0 ? suites : DEFAULT
  const files = [...named]
  for (const suite of chosen) files.push(...(await filesOf(suite)))

  if (files.some((file) => !/^(\.\/)?test\/(unit|contract|model)\//.test(file))) {
    const progress = createProgress(process.stderr)
    for (const tool of ['etcd', 'nats-server'] as const) {
      const { path, version, source } = await resolveTool(tool, { progress })
      progress.step(`${tool} ${version} (${source}) ${path}`)
    }
    progress.end()
  }
  const { code } = await runTask(
    process.execPath,
    [
      '--import',
      new URL('../../test/support/ending.ts', import.meta.url).href,
      '--test',
      '--test-reporter=spec',
      `--test-timeout=${chosen.some((suite) => LONG.has(suite)) ? LONG_FILE_TIMEOUT_MS : FILE_TIMEOUT_MS}`,
      // They wait more than they work.
      `--test-concurrency=${Math.max(2, availableParallelism()) + 1}`,
      ...options,
      ...files,
    ],
    { output: 'inherit', env: cleanEnvironment() },
  )
  return code
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  const expected = error instanceof ToolMissingError || error instanceof RangeError
  process.stderr.write(`${expected ? error.message : String(error instanceof Error ? error.stack : error)}\n`)
  process.exitCode = 1
}
