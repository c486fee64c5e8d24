// Resources opened in order, closed in reverse under one deadline.
// Owns: that order, the deadline, and the signal that tells everyone a stop has begun.
// A resource decides what its stop means: the drain of a gateway is the stop of its session resource.
// Does not own: signals, uncaught errors and exit codes of a process; service.ts connects those to this.

import { type Clock, systemClock } from './clock.ts'
import { DeltawatchError } from './errors.ts'
import type { Logger } from './logger.ts'

/** A way to close something. `signal` aborts when the deadline is reached; what is still open then is abandoned. */
export type Stop = (signal: AbortSignal) => void | Promise<void>

export interface Lifecycle {
  /**
   * Opens a resource and registers how to close it: its own dispose method, or `stop`.
   * Rejects with what `open` threw; with DW_STOPPING if a stop was asked for in the meantime (the resource is closed).
   */
  start<T extends AsyncDisposable | Disposable>(name: string, open: (signal: AbortSignal) => T | Promise<T>): Promise<T>
  start<T>(name: string, open: (signal: AbortSignal) => T | Promise<T>, stop: (it: T) => Stop): Promise<T>
  /** Aborts as soon as a stop is asked for, before anything is closed: answer `/readyz` with 503 from here on. */
  readonly stopping: AbortSignal
  /** Begins the stop, once; later calls only return the same promise. Resolves to the exit code, never rejects. */
  stop(reason: string, exitCode?: number): Promise<number>
  /** Resolves to the exit code when everything is closed or the deadline is over. */
  readonly stopped: Promise<number>
}

export interface LifecycleOptions {
  readonly logger: Logger
  readonly clock?: Clock
  /** For all stops together, default 10,000 ms. */
  readonly deadlineMs?: number
}

export class LifecycleError extends DeltawatchError {}

interface Opened {
  readonly name: string
  readonly stop: Stop
}

const DEFAULT_DEADLINE_MS = 10_000

export function createLifecycle(options: LifecycleOptions): Lifecycle {
  const { logger } = options
  const clock = options.clock ?? systemClock()
  const deadlineMs = options.deadlineMs ?? DEFAULT_DEADLINE_MS
  const opened: Opened[] = []
  const stopping = new AbortController()
  const { promise: stopped, resolve: finish } = Promise.withResolvers<number>()
  let opening: Promise<unknown> = Promise.resolve()

  async function start<T>(
    name: string,
    open: (signal: AbortSignal) => T | Promise<T>,
    stop: (it: T) => Stop = disposer,
  ): Promise<T> {
    refuseWhenStopping(name)
    const work = openOne(name, open, stop)
    opening = work.catch(() => undefined)
    return work
  }

  async function openOne<T>(name: string, open: (s: AbortSignal) => T | Promise<T>, stop: (it: T) => Stop): Promise<T> {
    const began = clock.monotonic()
    const it = await open(stopping.signal)
    // Registered even when a stop has begun: the stop waits for us, then closes it with the rest.
    opened.push({ name, stop: stop(it) })
    refuseWhenStopping(name)
    logger.debug('resource started', { resource: name, ms: Math.round(clock.monotonic() - began) })
    return it
  }

  function refuseWhenStopping(name: string): void {
    if (stopping.signal.aborted) {
      throw new LifecycleError('DW_STOPPING', `${name} was not started: the service is stopping`)
    }
  }

  async function closeAll(deadline: AbortSignal): Promise<boolean> {
    let clean = true
    await untilAborted(opening, deadline)
    for (let next = opened.pop(); next !== undefined; next = opened.pop()) {
      if (deadline.aborted) {
        logger.error('resource abandoned', { resource: next.name, deadlineMs })
        clean = false
        continue
      }
      try {
        const outcome = await untilAborted(Promise.resolve(next.stop(deadline)), deadline)
        if (outcome === 'aborted') {
          logger.error('resource did not stop in time', { resource: next.name, deadlineMs })
          clean = false
        }
      } catch (err) {
        logger.error('resource failed to stop', { resource: next.name, err })
        clean = false
      }
    }
    return clean
  }

  function stop(reason: string, exitCode = 0): Promise<number> {
    if (stopping.signal.aborted) return stopped
    logger.info('stopping', { reason, deadlineMs })
    const deadline = new AbortController()
    const timer = clock.setTimeout(
      () => deadline.abort(new LifecycleError('DW_DEADLINE', 'the stop deadline is over')),
      deadlineMs,
    )
    stopping.abort(new LifecycleError('DW_STOPPING', `the service is stopping: ${reason}`))
    void closeAll(deadline.signal).then((clean) => {
      timer[Symbol.dispose]()
      const code = exitCode === 0 && !clean ? 1 : exitCode
      logger.info('stopped', { reason, code })
      finish(code)
    })
    return stopped
  }

  return { start, stopping: stopping.signal, stop, stopped }
}

function disposer(it: unknown): Stop {
  if (typeof it === 'object' && it !== null) {
    if (Symbol.asyncDispose in it) {
      const resource = it as AsyncDisposable
      return async () => resource[Symbol.asyncDispose]()
    }
    if (Symbol.dispose in it) {
      const resource = it as Disposable
      return () => resource[Symbol.dispose]()
    }
  }
  return () => undefined
}

async function untilAborted(work: Promise<unknown>, signal: AbortSignal): Promise<'done' | 'aborted'> {
  const { promise: aborted, resolve } = Promise.withResolvers<'aborted'>()
  const onAbort = (): void => resolve('aborted')
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    if (signal.aborted) return 'aborted'
    return await Promise.race([work.then(() => 'done' as const), aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
