// Figures as they are read: tables on a terminal, one JSON object per line in a pipe; the machine and the versions first.
// Owns: the printing, and what was missed. Refuses: measuring.

import { readFileSync } from 'node:fs'
import { cpus, loadavg, totalmem } from 'node:os'

export type Cell = string | number | boolean | undefined
export type Row = Readonly<Record<string, Cell>>
/** A figure below its floor, in words. */
export type Miss = string

export interface Report {
  /** One case: its rows at once, and what fell below a floor. */
  add(name: string, rows: readonly Row[], misses?: readonly Miss[]): void
  readonly misses: readonly Miss[]
}

export function openReport(bench: string, versions: Readonly<Record<string, string>>): Report {
  const terminal = process.stdout.isTTY
  const misses: Miss[] = []
  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    kernel: readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim(),
    load: loadavg()[0],
    node: process.versions.node,
    ...versions,
  }
  const print = (text: string): void => void process.stdout.write(`${text}\n`)
  const line = (facts: Row): void => print(JSON.stringify(facts))
  if (terminal) {
    print(
      Object.entries(machine)
        .map(([name, value]) => `${name} ${value}`)
        .join(', '),
    )
  } else line({ bench, ...machine })
  return {
    misses,
    add(name, rows, missed = []) {
      misses.push(...missed)
      if (terminal) {
        print(`\n${name}`)
        // oxlint-disable-next-line no-console -- a table on a terminal is what this program is for
        console.table(rows)
        for (const miss of missed) print(`below the floor: ${miss}`)
      } else {
        for (const row of rows) line({ bench, case: name, ...row })
        for (const miss of missed) line({ bench, case: name, miss })
      }
    },
  }
}

/** A case that hangs ends the run instead of holding the machine. */
export async function within<T>(what: string, ms: number, work: () => Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took longer than ${ms / 1000} s`)), ms)
  })
  try {
    return await Promise.race([work(), late])
  } finally {
    clearTimeout(timer)
  }
}

/** The cases to run: all, or those named by --only. */
export function chosen<T extends string>(all: readonly T[], only: string | undefined): readonly T[] {
  if (only === undefined) return all
  return only.split(',').map((name) => {
    const found = all.find((one) => one === name)
    if (found !== undefined) return found
    process.stderr.write(`${name} is none of ${all.join(', ')}\n`)
    process.exit(2)
  })
}
