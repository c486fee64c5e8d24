// What runs beside the live flow: the second opinion on etcd's head, checkpoints by size, fresh evidence for quiet ranges.
// Owns: one kept connection for probing, one piece of upkeep at a time, the wait after one that failed.
// Refuses: ending anything. Trouble here is logged and tried again later; only a hub without room is passed on.

import { maxRevision, REVISION_ZERO, type Revision } from '#protocol/revision.ts'
import type { Clock } from '#kit/clock.ts'
import { errorCode, errorMessage } from '#kit/errors.ts'
import type { Logger } from '#kit/logger.ts'
import type { Checkpoints } from './checkpoints.ts'
import { Deviation } from './deviation.ts'
import type { RelayCounters } from './relay-metrics.ts'
import type { RelayStatus } from './relay-status.ts'
import { pause } from './pause.ts'
import type { Fit } from './uplink/retention.ts'
import type { LogSession } from './uplink/session.ts'
import type { EtcdMember, KeyRange } from './watch/etcd.ts'

export type UpkeepOptions = {
  readonly range: KeyRange
  /** Without an event for this long the evidence of the whole state is kept fresh. */
  readonly quietMs: number
  /** Interval in which what arrives is held against etcd's own count. */
  readonly deviationEveryMs: number
  /** Between two looks at what the log still holds. */
  readonly logLookEveryMs: number
}

export type UpkeepDeps = {
  readonly clock: Clock
  readonly logger: Logger
  readonly connect: (endpoint: string) => EtcdMember
  readonly status: RelayStatus
  readonly counters: RelayCounters
  readonly session: LogSession
  readonly checkpoints: Checkpoints
  readonly signal: AbortSignal
  readonly onTooSmall: (fit: Extract<Fit, { fits: false }>) => void
}

/** Abandoned upkeep is not tried again at once. */
const RETRY_MS = 5_000
const HELD_LOOK_MS = 2_000

export class Upkeep implements Disposable {
  readonly #options: UpkeepOptions
  readonly #deps: UpkeepDeps
  #prober: EtcdMember | undefined
  readonly #deviation: Deviation
  #busy = false
  #lookedAt = Number.NEGATIVE_INFINITY
  #lastLookAt = Number.NEGATIVE_INFINITY

  constructor(options: UpkeepOptions, deps: UpkeepDeps) {
    this.#options = options
    this.#deps = deps
    const whole = options.range.from === '' && options.range.to === undefined
    this.#deviation = new Deviation({ whole, everyMs: options.deviationEveryMs })
  }

  /** Through a connection of its own, kept as long as it answers: each new one would cost etcd a login. */
  async probeHead(endpoint: string): Promise<Revision> {
    const { connect, status } = this.#deps
    if (this.#prober?.endpoint !== endpoint) this[Symbol.dispose]()
    this.#prober ??= connect(endpoint)
    try {
      const head = await this.#prober.head(this.#options.range)
      // Another cluster's head convicts nobody.
      if (head.clusterId !== status.clusterId) return REVISION_ZERO
      status.head = maxRevision(status.head, head.revision)
      return head.revision
    } catch (e) {
      this[Symbol.dispose]()
      throw e
    }
  }

  /** Call while live; does nothing when nothing is due or something is under way. */
  tick(now: number): void {
    const { checkpoints, logger, session, status } = this.#deps
    const counted = { proven: session.proven, seen: status.revisionsSeen, skips: status.skips }
    const raised = this.#deviation.tick(now, counted)
    status.lagMs(now, session.proven)
    status.deviation = this.#deviation.ratio
    status.deviationAlarm = this.#deviation.alarm
    if (raised) {
      logger.error('events relayed deviate from what etcd counts', {
        ratio: this.#deviation.ratio,
        advice: 'compare the range with etcdctl; a new workload outside the range explains it, a lost watch does not',
      })
    }
    if (this.#busy) return
    if (now - this.#lookedAt >= this.#options.logLookEveryMs) return void this.#look(now)
    if (checkpoints.isDue || now - status.lastEventAt >= this.#options.quietMs) void this.#work()
  }

  /** While held nothing is watched; how far etcd has gone meanwhile is still told. */
  tickHeld(now: number): void {
    const { status } = this.#deps
    if (now - this.#lastLookAt < HELD_LOOK_MS || status.endpoint === '') return
    this.#lastLookAt = now
    this.probeHead(status.endpoint).catch(() => undefined)
  }

  [Symbol.dispose](): void {
    this.#prober?.[Symbol.dispose]()
    this.#prober = undefined
  }

  /** The log may have been trimmed or purged since: a healthy agent notices by asking, and by nothing else. */
  async #look(now: number): Promise<void> {
    this.#lookedAt = now
    this.#busy = true
    try {
      await this.#deps.checkpoints.look()
    } catch (e) {
      this.#deps.logger.debug('the log was not looked at', { code: errorCode(e) })
    } finally {
      this.#busy = false
    }
  }

  async #work(): Promise<void> {
    const { clock, logger, counters, status, checkpoints, signal } = this.#deps
    this.#busy = true
    const connect = (): EtcdMember => this.#deps.connect(status.endpoint)
    try {
      if (checkpoints.isDue) await this.#routine(connect)
      else await checkpoints.refreshState(connect)
    } catch (e) {
      if (signal.aborted) return
      logger.warn('upkeep abandoned', { code: errorCode(e), detail: errorMessage(e) })
      counters.checkpointAbandoned()
      await pause(clock, RETRY_MS, signal)
    } finally {
      this.#busy = false
    }
  }

  async #routine(connect: () => EtcdMember): Promise<void> {
    const { checkpoints, session, signal } = this.#deps
    using member = connect()
    const fit = await checkpoints.room(member)
    if (!fit.fits) return this.#deps.onTooSmall(fit)
    const plan = { reason: 'routine', epoch: session.epoch, pinned: 'position', skips: false } as const
    await checkpoints.write(member, plan, signal)
  }
}
