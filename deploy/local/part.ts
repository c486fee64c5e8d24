// One supervised process of the local stack.
// Owns: its incarnations (start, readiness, restart with growing pauses, stop), its log file, its place in the reaper's list.
// Does not own: which parts there are (stack.ts), their order (supervisor.ts) or how states are shown (display.ts).

import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream, type WriteStream } from 'node:fs'
import { rename, stat } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import type { Reaper } from './reaper.ts'

export interface PartSpec {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly env: NodeJS.ProcessEnv
  readonly logFile: string
  /** Resolves when this incarnation serves. Aborted when it ends or when the stack stops. */
  readonly ready: (incarnation: Incarnation) => Promise<void>
  /** How long it may take to stop by itself. */
  readonly graceMs: number
}

export interface Incarnation {
  readonly pid: number
  readonly signal: AbortSignal
  /** First line of its output that matches; looks at lines from its start on. */
  waitForLine(pattern: RegExp): Promise<void>
}

export type PartState =
  | { readonly kind: 'starting' }
  | { readonly kind: 'ready'; readonly pid: number; readonly ms: number }
  | { readonly kind: 'restarting'; readonly why: string; readonly inMs: number }
  | { readonly kind: 'failed'; readonly why: string; readonly tail: readonly string[] }
  | { readonly kind: 'stopping' }
  | { readonly kind: 'stopped' }

export interface Part {
  readonly spec: PartSpec
  readonly state: PartState
  /** Resolves when it first serves; rejects when it fails to, three times in a row. */
  start(): Promise<void>
  /** SIGTERM, then SIGKILL after its grace. Resolves when the process is gone. Idempotent. */
  stop(): Promise<void>
  /** SIGKILL now. */
  kill(): void
}

const FIRST_START_TRIES = 3
const READY_WITHIN_MS = 30_000
const MIN_PAUSE_MS = 250
const MAX_PAUSE_MS = 10_000
/** An incarnation that lived this long starts the pauses from the beginning. */
const SETTLED_MS = 30_000
const MAX_LOG_BYTES = 32 * 1024 * 1024
const TAIL_LINES = 12
const LAST_WORDS_MS = 500

export function createPart(spec: PartSpec, reaper: Reaper, onState: (state: PartState) => void): Part {
  let state: PartState = { kind: 'stopped' }
  let child: ChildProcess | undefined
  let running: Promise<void> | undefined
  const stopping = new AbortController()
  const started = Promise.withResolvers<void>()
  started.promise.catch(() => {}) // whoever calls start() sees it; nobody has to

  const enter = (next: PartState): void => {
    state = next
    onState(next)
  }

  const run = async (): Promise<void> => {
    await rotate(spec.logFile)
    let everReady = false
    let failures = 0
    while (!stopping.signal.aborted) {
      const began = performance.now()
      enter({ kind: 'starting' })
      const end = await live(() => {
        everReady = true
        started.resolve()
      })
      if (stopping.signal.aborted) break
      failures = performance.now() - began >= SETTLED_MS ? 1 : failures + 1
      if (!everReady && failures >= FIRST_START_TRIES) {
        enter({ kind: 'failed', why: end.why, tail: end.tail })
        const said = end.tail.length === 0 ? '' : `\n${end.tail.map((line) => `  | ${line}`).join('\n')}`
        started.reject(new Error(`${spec.name} does not start: it ${end.why}${said}\n  (log: ${spec.logFile})`))
        return
      }
      const inMs = Math.min(MAX_PAUSE_MS, MIN_PAUSE_MS * 2 ** (failures - 1))
      enter({ kind: 'restarting', why: end.why, inMs })
      await delay(inMs, undefined, { signal: stopping.signal }).catch(() => {})
    }
    started.reject(new Error(`${spec.name} was stopped before it served`))
    enter({ kind: 'stopped' })
  }

  /** One incarnation, from spawn to exit. */
  const live = async (onReady: () => void): Promise<{ why: string; tail: string[] }> => {
    const log = createWriteStream(spec.logFile, { flags: 'a' })
    log.on('error', () => {}) // a full disk must not end the stack
    const tail: string[] = []
    const gone = new AbortController()
    const began = performance.now()
    // A group of its own: Ctrl-C reaches the supervisor only, which then stops the parts in their order.
    const process = spawn(spec.command, spec.args, { stdio: ['ignore', 'pipe', 'pipe'], env: spec.env, detached: true })
    child = process
    const exited = new Promise<string>((resolve) => {
      process.once('error', (error) => resolve(`could not be started (${error.message})`))
      process.once('exit', (code, signal) =>
        resolve(signal === null ? `ended with code ${code}` : `was ended by ${signal}`),
      )
    })
    // Its last words may still be in the pipe; a grandchild that holds the pipe open must not hold us up.
    const drained = new Promise<void>((resolve) => void process.once('close', () => resolve()))
    const { pid } = process
    const lines = listen(process, log, tail)
    if (pid !== undefined) {
      reaper.guard(pid)
      const ready = spec.ready({ pid, signal: gone.signal, waitForLine: lines.waitFor })
      void Promise.race([
        ready,
        delay(READY_WITHIN_MS, undefined, { signal: gone.signal }).then(() => Promise.reject(new Error('late'))),
      ])
        .then(() => {
          if (gone.signal.aborted) return
          enter({ kind: 'ready', pid, ms: Math.round(performance.now() - began) })
          onReady()
        })
        .catch(() => {
          // Not ready in time means broken: end it, and let the pauses and the limit of tries do the rest.
          if (!gone.signal.aborted && !stopping.signal.aborted) process.kill('SIGTERM')
        })
    }
    const why = await exited
    if (pid !== undefined) reaper.release(pid)
    gone.abort()
    child = undefined
    const patience = delay(LAST_WORDS_MS, undefined, { ref: false })
    await Promise.race([drained, patience])
    lines.close()
    await Promise.race([new Promise<void>((resolve) => log.end(() => resolve())), patience])
    return { why, tail }
  }

  const stop = async (): Promise<void> => {
    if (running === undefined) return
    if (!stopping.signal.aborted) {
      stopping.abort()
      if (child !== undefined) enter({ kind: 'stopping' })
    }
    child?.kill('SIGTERM')
    const timer = setTimeout(kill, spec.graceMs)
    await running
    clearTimeout(timer)
  }

  const kill = (): void => {
    stopping.abort()
    child?.kill('SIGKILL')
  }

  return {
    spec,
    get state() {
      return state
    },
    start: () => {
      running ??= run()
      return started.promise
    },
    stop,
    kill,
  }
}

/** Copies both streams to the log, keeps the last lines, and answers who waits for one. */
function listen(
  process: ChildProcess,
  log: WriteStream,
  tail: string[],
): { waitFor: (pattern: RegExp) => Promise<void>; close: () => void } {
  const early: string[] = []
  const waiting = new Set<{ pattern: RegExp; resolve: () => void }>()
  let open = true
  for (const stream of [process.stdout, process.stderr]) {
    if (stream === null) continue
    createInterface({ input: stream }).on('line', (line) => {
      log.write(`${line}\n`)
      // Frames of a stack push out the message they belong to; the log has them.
      if (line !== '' && !/^\s+at /.test(line)) tail.push(line.slice(0, 400))
      if (tail.length > TAIL_LINES) tail.shift()
      if (!open) return
      if (early.length < 1_000) early.push(line)
      for (const one of waiting) if (one.pattern.test(line)) one.resolve()
    })
  }
  return {
    waitFor: (pattern) =>
      new Promise((resolve) => {
        if (early.some((line) => pattern.test(line))) return resolve()
        const one = { pattern, resolve: () => (waiting.delete(one), resolve()) }
        waiting.add(one)
      }),
    close: () => {
      open = false
      early.length = 0
      waiting.clear()
    },
  }
}

/** Keeps one older log, so that a stack left running for weeks of restarts fills no disk. */
async function rotate(file: string): Promise<void> {
  const size = await stat(file).then(
    (info) => info.size,
    () => 0,
  )
  if (size > MAX_LOG_BYTES) await rename(file, `${file}.1`)
}
