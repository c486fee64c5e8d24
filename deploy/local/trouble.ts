// Why a cluster is not live, from the logs of the parts that could know.
// Owns: choosing the newest warning about that cluster, and the few lines that say it with the log to read on in.
// Does not own: states (clusters.ts). Only the end of a log is read: what matters now was written last.

import { open } from 'node:fs/promises'
import { relative } from 'node:path'

export interface LogLine {
  /** ISO 8601. */
  readonly time: string
  readonly text: string
}

const TAIL_BYTES = 256 * 1024

/** `logs` are the files that may mention the cluster, such as its agent's and the gateway's. */
export async function explainTrouble(cluster: string, state: string, logs: readonly string[]): Promise<string> {
  const found: { file: string; line: LogLine }[] = []
  for (const file of logs) {
    const line = newestWarning(await tailOf(file), cluster)
    if (line !== undefined) found.push({ file, line })
  }
  const [newest] = found.toSorted((a, b) => (a.line.time < b.line.time ? 1 : -1))
  const shown = (file: string): string => relative(process.cwd(), file) || file
  if (newest === undefined) return `  ${cluster}: ${state}; no warning in ${logs.map(shown).join(', ')}`
  return `  ${cluster}: ${state}; ${newest.line.text}\n    (log: ${shown(newest.file)})`
}

/** The last warning or error that names the cluster; when none does, the last error that names no cluster. */
export function newestWarning(log: string, cluster: string): LogLine | undefined {
  let general: LogLine | undefined
  for (const line of log.split('\n').toReversed()) {
    const entry = parse(line)
    if (entry === undefined) continue
    const { level, time, event, cluster: named } = entry
    if (level !== 'warn' && level !== 'error' && level !== 'fatal') continue
    const told = { time: String(time), text: `${String(event)}${reasonOf(entry)}` }
    if (named === cluster) return told
    if (named === undefined && level !== 'warn') general ??= told
  }
  return general
}

function reasonOf({ err, reason, detail, advice }: Readonly<Record<string, unknown>>): string {
  const message = typeof err === 'object' && err !== null && 'message' in err ? err.message : undefined
  const why = [message, reason, detail, advice].find((text) => typeof text === 'string')
  return why === undefined ? '' : `: ${why}`
}

function parse(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    return JSON.parse(line) as Record<string, unknown>
  } catch {
    return undefined // cut by the start of the tail, or by a crash
  }
}

async function tailOf(path: string): Promise<string> {
  try {
    await using file = await open(path, 'r')
    const { size } = await file.stat()
    const from = Math.max(0, size - TAIL_BYTES)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - from), 0, size - from, from)
    return buffer.toString('utf8', 0, bytesRead)
  } catch {
    return ''
  }
}
