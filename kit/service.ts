// Runs a service as a process: connects signals, uncaught errors and the parent's death to a lifecycle, then exits.
// Owns: the meaning of signals, the fate of errors nobody caught, and the exit code. The only caller of process.exit.
// Does not own: the order of stopping (lifecycle.ts) or what the service is made of (`main`).
//
// Signals: SIGINT or SIGTERM drains and exits 0; a second one exits 1 at once; SIGHUP runs the reload that `main` returned.
// Errors nobody caught:
//   - an unhandled rejection is logged, counted and survived: no input may end a process, and whoever awaited nothing
//     was not relied upon;
//   - an uncaught exception that is a failed system call of some socket (ECONNRESET, EPIPE, ...) likewise;
//   - any other uncaught exception has unwound code that did not expect it. Going on could lose an event in silence,
//     while a restart is safe by design, so the service drains and exits 1 for its supervisor to start it again.

import { systemClock } from './clock.ts'
import { errorCode } from './errors.ts'
import { createLifecycle, type Lifecycle, type LifecycleOptions } from './lifecycle.ts'

/** What a stalled reader of the log may cost an ending process. */
const LOG_SETTLE_MS = 500

/** What `main` may hand back: how to take up a changed configuration. Throwing keeps the old one. */
export interface Running {
  readonly reload?: () => void | Promise<void>
}

export interface ServiceOptions extends LifecycleOptions {
  /** Also stop when the parent goes away: IPC channel closed, or end of stdin when there is no channel. Default false. */
  readonly parentDeath?: boolean
  /** Called for every survived rejection or exception; make it a counter. */
  readonly onStray?: (kind: 'rejection' | 'exception', code: string) => void
}

/** Opens everything in `main`, waits for a reason to stop, stops, and ends the process. */
export async function runService(
  options: ServiceOptions,
  main: (lifecycle: Lifecycle) => Promise<Running | void>,
): Promise<never> {
  const { logger } = options
  const lifecycle = createLifecycle(options)
  let running: Running | undefined
  attach(options, lifecycle, () => running?.reload)
  try {
    running = (await main(lifecycle)) ?? undefined
  } catch (err) {
    if (!lifecycle.stopping.aborted) {
      logger.error('start failed', { err })
      void lifecycle.stop('start failed', 1)
    }
  }
  const code = await lifecycle.stopped
  // A reader that stalls must not keep the process: after a moment the blocking flush has the last word.
  await Promise.race([logger.settled(), (options.clock ?? systemClock()).sleep(LOG_SETTLE_MS)])
  logger.flush()
  process.exit(code)
}

function attach(options: ServiceOptions, lifecycle: Lifecycle, reload: () => Running['reload']): void {
  const { logger } = options
  const onSignal = (signal: NodeJS.Signals): void => {
    if (lifecycle.stopping.aborted) {
      logger.error('second signal, exiting at once', { signal })
      logger.flush()
      process.exit(1)
    }
    void lifecycle.stop(signal)
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  process.on('SIGHUP', () => reloader.run())

  process.on('unhandledRejection', (reason) => {
    logger.error('unhandled rejection survived', { code: errorCode(reason), err: reason, stack: firstFrames(reason) })
    options.onStray?.('rejection', errorCode(reason))
  })
  process.on('uncaughtException', (err) => {
    if (isSystemCallError(err)) {
      logger.error('uncaught system call error survived', { code: errorCode(err), err, stack: firstFrames(err) })
      options.onStray?.('exception', errorCode(err))
      return
    }
    logger.error('uncaught exception, stopping', { code: errorCode(err), err, stack: firstFrames(err) })
    void lifecycle.stop('uncaught exception', 1)
  })
  if (options.parentDeath === true) watchParent(() => void lifecycle.stop('parent went away'))

  const reloader = createReloader(options, lifecycle, reload)
}

function createReloader({ logger }: ServiceOptions, lifecycle: Lifecycle, reload: () => Running['reload']) {
  let busy = false
  let again = false
  const run = async (): Promise<void> => {
    // A hang-up during a reload asks for one more afterwards: the file may have changed after it was read.
    if (busy) {
      again = true
      return
    }
    const fn = reload()
    if (fn === undefined || lifecycle.stopping.aborted) {
      logger.info('reload ignored', { reason: fn === undefined ? 'nothing to reload yet' : 'stopping' })
      return
    }
    busy = true
    try {
      await fn()
      logger.info('reloaded')
    } catch (err) {
      logger.error('reload refused, the old configuration stays', { err })
    }
    busy = false
    if (again) {
      again = false
      await run()
    }
  }
  return { run: () => void run() }
}

function watchParent(onGone: () => void): void {
  if (process.channel !== undefined && process.channel !== null) {
    process.once('disconnect', onGone)
    return
  }
  process.stdin.once('end', onGone)
  process.stdin.once('close', onGone)
  process.stdin.on('error', onGone)
  // Only a flowing stream notices its end; what the parent writes is of no interest.
  process.stdin.resume()
}

function isSystemCallError(err: unknown): boolean {
  return err instanceof Error && 'syscall' in err && 'errno' in err && typeof err.syscall === 'string'
}

/** Where it came from, without the message, which has been cleaned separately. */
function firstFrames(err: unknown): string[] {
  if (!(err instanceof Error)) return []
  const frames = (err.stack ?? '').split('\n').filter((line) => line.startsWith('    at '))
  return frames.slice(0, 6).map((line) => line.trim().replace(/file:\/\/\S*\/(?=[^/]+\/[^/]+$)/, ''))
}
