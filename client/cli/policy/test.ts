// `deltawatch policy test`: the cases beside the documents, each failure with what was expected and what came.

import { covered, suitePassed } from '#policies/engine/suite.ts'
import type { CaseResult, RuleCoverage, SuiteResult } from '#policies/engine/suite.ts'
import { parseFiles, testDocuments } from '#policies/node/open-bundle.ts'
import { Exit, type ExitCode } from '../failure.ts'
import { printable } from '../printable.ts'
import { painter, type Paint, type Terminal } from '../terminal.ts'
import { readFiles, refused } from './bundle-input.ts'

export type TestOptions = { readonly coverage: boolean; readonly json?: boolean }

export async function test(path: string, options: TestOptions, io: Terminal): Promise<ExitCode> {
  const documents = parseFiles((await readFiles(path)).files)
  if (!documents.ok) throw refused(path, documents.error)
  const results = testDocuments(documents.value)
  if (!results.ok) throw refused(path, results.error)
  const tested = new Set(results.value.map((result) => result.policy))
  const untested = documents.value.flatMap((d) =>
    d.kind === 'policy' && d.policy.spec.rules.length > 0 && !tested.has(d.policy.metadata.name)
      ? [d.policy.metadata.name]
      : [],
  )
  const passed = results.value.every(suitePassed)
  const complete = !options.coverage || (untested.length === 0 && results.value.every(covered))
  if (options.json === true)
    await io.out.write(`${JSON.stringify({ passed: passed && complete, suites: results.value, untested })}\n`)
  else await report(results.value, untested, options, io)
  return passed && complete ? Exit.Ok : Exit.Found
}

async function report(
  results: readonly SuiteResult[],
  untested: readonly string[],
  options: TestOptions,
  io: Terminal,
): Promise<void> {
  const paint = painter(io.colour)
  let cases = 0
  let failures = 0
  for (const result of results) {
    if (result.problem !== undefined)
      await io.out.write(`${paint('red', 'not run')}  ${result.path}: ${printable(result.problem)}\n`)
    for (const one of result.cases) {
      cases++
      if (one.mismatches.length === 0) continue
      failures++
      await io.out.write(failure(result, one, paint))
    }
  }
  if (options.coverage) await coverage(results, untested, paint, io)
  const verdict =
    failures === 0 ? paint('green', `${cases} cases passed`) : paint('red', `${failures} of ${cases} cases failed`)
  await io.out.write(`${verdict}\n`)
}

function failure(result: SuiteResult, { name, mismatches }: CaseResult, paint: Paint): string {
  const lines = mismatches.flatMap(({ field, expected, actual }) => {
    if (!expected.includes('\n') && !actual.includes('\n'))
      return [
        `    ${field}: ${paint('red', `expected ${printable(expected)}`)}, ${paint('green', `got ${printable(actual)}`)}`,
      ]
    return [
      `    ${field}:`,
      ...lineDifference(expected, actual).map(
        (line) =>
          `      ${paint(line.startsWith('-') ? 'red' : line.startsWith('+') ? 'green' : 'grey', printable(line))}`,
      ),
    ]
  })
  return `${paint('red', 'failed')}  ${result.path}: ${printable(name)}\n${lines.join('\n')}\n`
}

/** Lines of both texts: `-` only expected, `+` only actual. Longest common subsequence, which short values can afford. */
export function lineDifference(expected: string, actual: string): string[] {
  const [a, b] = [expected.split('\n').slice(0, 500), actual.split('\n').slice(0, 500)]
  const lengths = Array.from({ length: a.length + 1 }, () => new Int32Array(b.length + 1))
  const at = (i: number, j: number): number => lengths[i]?.[j] ?? 0
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--)
      (lengths[i] as Int32Array)[j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1))
  }
  const lines: string[] = []
  let i = 0
  let j = 0
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push(`  ${a[i++]}`)
      j++
    } else if (j >= b.length || (i < a.length && at(i + 1, j) >= at(i, j + 1))) lines.push(`- ${a[i++]}`)
    else lines.push(`+ ${b[j++]}`)
  }
  return lines
}

async function coverage(
  results: readonly SuiteResult[],
  untested: readonly string[],
  paint: Paint,
  io: Terminal,
): Promise<void> {
  const seen = new Map<string, RuleCoverage & { policy: string }>()
  for (const { policy, coverage: rules } of results)
    for (const rule of rules) seen.set(`${policy} ${rule.rule}`, { ...rule, policy })
  for (const { policy, rule, allow, deny } of seen.values()) {
    if (allow && deny) continue
    const missing = !allow && !deny ? 'no case' : allow ? 'no case that denies' : 'no case that allows'
    await io.out.write(`${paint('red', 'uncovered')}  ${policy}: rule ${rule} has ${missing}\n`)
  }
  for (const name of untested) await io.out.write(`${paint('red', 'untested')}  ${name} has no tests\n`)
}
