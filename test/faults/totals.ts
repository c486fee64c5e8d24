// What a campaign has judged so far, kept between slices of it.
// Owns: the file, its shape, and adding one slice to another. Refuses: running anything.

import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Verdict } from '../judge/verdict.ts'

const folder = fileURLToPath(new URL('../../.deltawatch/faults/', import.meta.url))
const fileOf = (name: string): string => join(folder, `${name}.json`)

type Kept = {
  readonly seed: number
  readonly runs: number
  readonly failures: number
  readonly seconds: number
  readonly totals: Readonly<Record<string, number>>
  readonly violations: number
  readonly troubled: readonly string[]
}

export class Totals {
  readonly seed: number
  readonly verdict = new Verdict()
  runs = 0
  /** Runs that could not be played or did not catch up. */
  failures = 0
  seconds = 0
  violations = 0
  /** Scenario and seed of every run that was not clean. */
  readonly troubled: string[] = []

  constructor(seed: number) {
    this.seed = seed
  }

  /** Where the last slice stopped; undefined when there is none. */
  static async resumed(name: string): Promise<Totals | undefined> {
    const text = await readFile(fileOf(name), 'utf8').catch(() => undefined)
    if (text === undefined) return undefined
    const kept = JSON.parse(text) as Kept
    const totals = new Totals(kept.seed)
    totals.runs = kept.runs
    totals.failures = kept.failures
    totals.seconds = kept.seconds
    totals.violations = kept.violations
    totals.troubled.push(...kept.troubled)
    for (const [what, n] of Object.entries(kept.totals)) totals.verdict.count(what, n)
    return totals
  }

  get events(): number {
    return this.verdict.total('events')
  }
  get clean(): boolean {
    return this.failures === 0 && this.violations === 0
  }

  add(what: string, verdict: Verdict, failed: boolean, seconds: number): void {
    this.verdict.merge(verdict)
    this.violations += verdict.failed
    this.runs += 1
    this.seconds += seconds
    if (failed) this.failures += 1
    if (failed || verdict.failed > 0) this.troubled.push(what)
  }

  async keep(name: string): Promise<void> {
    const { seed, runs, failures, seconds, violations, troubled } = this
    const kept: Kept = {
      seed,
      runs,
      failures,
      seconds,
      violations,
      troubled,
      totals: Object.fromEntries(this.verdict.totals),
    }
    await mkdir(folder, { recursive: true })
    await writeFile(fileOf(name), `${JSON.stringify(kept, null, 2)}\n`)
  }
}
