// The processes of the gateway's benchmarks and what the system says of them.
// Owns: forking a measured server, talking to it, CPU and memory from /proc. Refuses: cases and figures.

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

export type Server = AsyncDisposable & {
  readonly name: string
  readonly pid: number
  readonly port: number
  /** Events per second, per cluster. */
  start(...rates: readonly number[]): void
  stop(): void
}

export function forkHere(file: string, args: readonly string[]): ChildProcess {
  const path = fileURLToPath(new URL(file, import.meta.url))
  return fork(path, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
}

export async function forkServer(
  kind: 'deltawatch' | 'ws',
  load: { readonly bytes: number; readonly keys: number },
  clusters = 1,
): Promise<Server> {
  const child = forkHere('gateway-server.ts', [kind, String(clusters)])
  const { port } = (await nextMessage(child)) as { port: number }
  return {
    name: kind,
    pid: child.pid as number,
    port,
    start: (...rates) => void child.send({ rates, ...load }),
    stop: () => void child.send('stop'),
    [Symbol.asyncDispose]: () => endChild(child),
  }
}

/** The child's next message; throws what it reports as an error. */
export async function nextMessage(child: ChildProcess, patienceMs = 60_000): Promise<unknown> {
  const [first] = (await once(child, 'message', { signal: AbortSignal.timeout(patienceMs) })) as [unknown]
  if (typeof first === 'object' && first !== null && 'error' in first) throw new Error(`child: ${String(first.error)}`)
  return first
}

export async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  // Its own exit writes profiles, where one was asked for.
  if (child.connected) child.disconnect()
  const timer = setTimeout(() => child.kill('SIGKILL'), 3_000)
  await exited
  clearTimeout(timer)
}

/** User and system time of a process with all its threads. */
export async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

export async function rssBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024
}

/** Files a process of this user may have open; Node asks for all that is allowed when it starts. */
export function openFiles(): number {
  const limits = readFileSync('/proc/self/limits', 'utf8')
  const [, soft] = /^Max open files\s+(\d+|unlimited)/m.exec(limits) ?? []
  return soft === undefined || soft === 'unlimited' ? Infinity : Number(soft)
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
export const round = (n: number): number => Math.round(n * 100) / 100
