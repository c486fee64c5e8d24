// Runs a child whose output is either shown as it comes or kept until it is known whether anybody wants to read it.
// Owns: exit codes and passing an interrupt on. Does not own: what is run.

import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

export interface Finished {
  readonly code: number
  readonly output: string
  readonly ms: number
}

export interface TaskOptions {
  readonly output: 'inherit' | 'collect'
  readonly env?: NodeJS.ProcessEnv
}

const MAX_OUTPUT = 4 * 1024 * 1024
const running = new Set<ChildProcess>()

// The whole task stops when it is told to: each child gets the signal once, and our exit code says why.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    for (const child of running) child.kill(signal)
    process.exitCode = 130
    if (running.size === 0) process.exit()
  })
}

/** Resolves with the exit code; 127 when the command does not exist, 1 when it died by a signal. */
export async function runTask(command: string, args: readonly string[], options: TaskOptions): Promise<Finished> {
  const began = performance.now()
  const kept: Buffer[] = []
  let size = 0
  const stdio = options.output === 'inherit' ? 'inherit' : (['ignore', 'pipe', 'pipe'] as const)
  const child = spawn(command, args, {
    cwd: ROOT,
    stdio: typeof stdio === 'string' ? stdio : [...stdio],
    ...(options.env === undefined ? {} : { env: options.env }),
  })
  running.add(child)
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size <= MAX_OUTPUT) kept.push(chunk)
    })
  }
  const code = await new Promise<number>((resolve) => {
    child.once('error', (error) => {
      kept.push(Buffer.from(`${command}: ${error.message}\n`))
      resolve(127)
    })
    child.once('close', (exit) => resolve(exit ?? 1))
  })
  running.delete(child)
  return { code, output: Buffer.concat(kept).toString(), ms: performance.now() - began }
}
