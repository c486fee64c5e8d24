// Runs one external command to its end.
// Owns: collecting output within a bound, streaming lines to a listener, and a message that says what failed and how.
// Does not own: long-lived children (deploy/local, test/support).

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

const MAX_OUTPUT = 256 * 1024

export interface CommandOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  readonly signal?: AbortSignal | undefined
  /** Sees every line of standard error and standard output as it comes. */
  readonly onLine?: (line: string) => void
  readonly timeoutMs?: number
}

export interface CommandResult {
  readonly stdout: string
  readonly stderr: string
}

/** Resolves on exit code 0. Any other end rejects with the last lines of standard error in the message. */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
  })
  const out: Record<'stdout' | 'stderr', string> = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) {
    createInterface({ input: child[stream] }).on('line', (line) => {
      out[stream] = `${out[stream]}${line}\n`.slice(-MAX_OUTPUT)
      options.onLine?.(line)
    })
  }
  const end = await new Promise<{ code: number | null; signal: string | null }>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal }))
  })
  if (end.code === 0) return out
  const why = end.signal === null ? `exit code ${end.code}` : `signal ${end.signal}`
  const said = (out.stderr.trim() || out.stdout.trim()).split('\n').slice(-12).join('\n')
  throw new Error(`${command} ${args.join(' ')}: ${why}${said === '' ? '' : `\n${said}`}`)
}
