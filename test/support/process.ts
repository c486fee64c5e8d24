// One child process of a test: started, read line by line, signalled, and certainly gone afterwards.
// Owns: the spawn, a bounded log of both output streams, and waiting for a line instead of sleeping.
// Does not own: what the process is (see etcd.ts, nats.ts) or which port it uses (ports.ts).
// Children stay in the test's process group; a reaper kills them when the test process dies without cleaning up.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { createReaper } from '#deploy/local/reaper.ts'

const MAX_LINES = 5_000
const MAX_LINE_CHARS = 8_192
const DEFAULT_WAIT_MS = 30_000
const DEFAULT_GRACE_MS = 10_000
const STOP_MS = 1_000

const reaper = createReaper()

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface ProcessOptions {
  readonly command: string
  readonly args?: readonly string[]
  readonly cwd?: string
  /** Complete environment of the child; default: the test's own. */
  readonly env?: NodeJS.ProcessEnv
  /** Name used in messages; default: the command. */
  readonly name?: string
  readonly stdin?: 'ignore' | 'pipe'
}

export interface WaitOptions {
  /** Milliseconds before giving up with the end of the log in the message; default 30,000. */
  readonly timeoutMs?: number
  /** Look only at lines from this number on (see `lineCount`); default 0, all of them. */
  readonly since?: number
}

export interface RunningProcess extends AsyncDisposable {
  readonly name: string
  readonly pid: number
  /** Resolves when the process has ended and both streams are read to their end. Never rejects. */
  readonly exited: Promise<Exit>
  /** undefined while it runs. */
  readonly exit: Exit | undefined
  readonly stdin: Writable | null
  /** Lines of stdout and stderr so far, the oldest dropped beyond 5,000 lines. */
  log(): string
  lines(): readonly string[]
  /** Number of lines ever written; pass it as `since` to wait for a line that comes after this moment. */
  lineCount(): number
  /** First line that matches, past or future. Rejects on exit and on timeout, with the end of the log. */
  waitForLine(pattern: RegExp, options?: WaitOptions): Promise<RegExpMatchArray>
  kill(signal?: NodeJS.Signals): void
  /** SIGSTOP: alive for the kernel, deaf for everybody else. */
  pause(): void
  resume(): void
  /** SIGTERM, then SIGKILL after the grace (default 10 s); resolves when it is gone. */
  stop(graceMs?: number): Promise<Exit>
}

export async function startProcess(options: ProcessOptions): Promise<RunningProcess> {
  const { command, args = [], name = command } = options
  const child = spawn(command, args, {
    stdio: [options.stdin ?? 'ignore', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: options.env }),
  })
  try {
    await once(child, 'spawn')
  } catch (cause) {
    throw new Error(`${name}: could not start ${command}`, { cause })
  }
  const { pid } = child
  if (pid === undefined) throw new Error(`${name}: started without a process id`)
  reaper.guard(pid)
  return wrap(child, pid, name)
}

function wrap(child: ChildProcess, pid: number, name: string): RunningProcess {
  const lines: string[] = []
  let dropped = 0
  let exit: Exit | undefined
  const watchers = new Set<(line: string | undefined) => void>()

  const take = (line: string): void => {
    const kept = line.slice(0, MAX_LINE_CHARS)
    lines.push(kept)
    if (lines.length > MAX_LINES) {
      lines.shift()
      dropped += 1
    }
    for (const watcher of watchers) watcher(kept)
  }
  const streams = [child.stdout, child.stderr].filter((stream): stream is Readable => stream !== null)
  for (const input of streams) createInterface({ input, crlfDelay: Infinity }).on('line', take)

  // 'close' comes after both streams ended, so the log is complete when `exited` resolves.
  const exited = new Promise<Exit>((resolve) => {
    child.once('exit', () => reaper.release(pid))
    child.once('close', (code, signal) => {
      exit = { code, signal }
      resolve(exit)
      for (const watcher of watchers) watcher(undefined)
    })
  })

  const log = (): string => lines.join('\n')
  const tail = (): string =>
    lines
      .slice(-15)
      .map((line) => line.slice(0, 300))
      .join('\n')
  const kill = (signal: NodeJS.Signals = 'SIGKILL'): void => {
    if (exit === undefined) child.kill(signal)
  }

  const waitForLine = async (pattern: RegExp, wait: WaitOptions = {}): Promise<RegExpMatchArray> => {
    for (const line of lines.slice(Math.max(0, (wait.since ?? 0) - dropped))) {
      const match = line.match(pattern)
      if (match !== null) return match
    }
    const timeoutMs = wait.timeoutMs ?? DEFAULT_WAIT_MS
    return await new Promise<RegExpMatchArray>((resolve, reject) => {
      const settle = (act: () => void): void => {
        clearTimeout(timer)
        watchers.delete(watcher)
        act()
      }
      const fail = (why: string): void =>
        settle(() => reject(new Error(`${name}: ${why} before a line matched ${pattern}; its log ends:\n${tail()}`)))
      const watcher = (line: string | undefined): void => {
        if (line === undefined) return fail(`ended (${describe(exit)})`)
        const match = line.match(pattern)
        if (match !== null) settle(() => resolve(match))
      }
      const timer = setTimeout(() => fail(`${timeoutMs} ms passed`), timeoutMs)
      watchers.add(watcher)
      if (exit !== undefined) watcher(undefined)
    })
  }

  const stop = async (graceMs: number = DEFAULT_GRACE_MS): Promise<Exit> => {
    kill('SIGCONT') // a stopped process would only see SIGTERM after somebody wakes it
    kill('SIGTERM')
    const timer = setTimeout(() => kill('SIGKILL'), graceMs)
    const result = await exited
    clearTimeout(timer)
    return result
  }

  return {
    name,
    pid,
    exited,
    get exit() {
      return exit
    },
    stdin: child.stdin,
    log,
    lines: () => [...lines],
    lineCount: () => dropped + lines.length,
    waitForLine,
    kill,
    pause: () => {
      kill('SIGSTOP')
      untilStopped(pid)
    },
    resume: () => kill('SIGCONT'),
    stop,
    [Symbol.asyncDispose]: async () => {
      await stop()
    },
  }
}

/** A signal is on its way when `kill` returns: threads on other cores run on for a moment. Blocks until all have stopped. */
function untilStopped(pid: number): void {
  const tasks = `/proc/${pid}/task`
  const deadline = performance.now() + STOP_MS
  const state = (task: string): string => /\) (\S)/.exec(readFileSync(`${tasks}/${task}/stat`, 'utf8'))?.[1] ?? 'X'
  try {
    while (performance.now() < deadline) if (readdirSync(tasks).every((task) => 'TtZX'.includes(state(task)))) return
  } catch {
    // Gone, or a system without /proc: nothing to wait for, or no way to.
  }
}

function describe(exit: Exit | undefined): string {
  if (exit === undefined) return 'still running'
  return exit.signal === null ? `code ${exit.code}` : exit.signal
}

export interface ScratchDir extends AsyncDisposable {
  readonly path: string
}

/** A fresh directory under the system's temporary one; removed on dispose, or by the reaper if the test process dies first. */
export async function scratchDir(label: string): Promise<ScratchDir> {
  const path = await mkdtemp(join(tmpdir(), `deltawatch-${label}-`))
  reaper.discard(path)
  return {
    path,
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true, maxRetries: 3 }),
  }
}
