// From what a watch puts out to what the session is offered.
// Owns: continuity of keys, egress, the digests for reattaching, and the moment when feeding must stop for a checkpoint.
// Refuses: stopping the feed and writing checkpoints (term.ts).

import { maxRevision } from '#protocol/revision.ts'
import type { Clock } from '#kit/clock.ts'
import type { Egress } from './egress/decide.ts'
import type { ChangedRevision } from './egress/change.ts'
import type { LocalEnd } from './ends.ts'
import type { Hooks } from './hooks/hooks.ts'
import type { DigestRing } from './lineage/digest.ts'
import type { RelayCounters } from './relay-metrics.ts'
import { pause } from './pause.ts'
import type { RelayStatus } from './relay-status.ts'
import type { Evidence } from './uplink/ports.ts'
import { encodedBound } from './uplink/queue.ts'
import type { LogSession } from './uplink/session.ts'
import { Continuity } from './watch/continuity.ts'
import type { WatchOutput } from './watch/state.ts'

export type IntakeOptions = {
  readonly continuityKeys: number
  /** A resync caused by suspicious events follows the last one no sooner than this. */
  readonly resyncEveryMs: number
}

export type IntakeDeps = {
  readonly clock: Clock
  readonly session: LogSession
  readonly egress: Egress
  readonly heard: DigestRing
  readonly hooks: Hooks
  readonly status: RelayStatus
  readonly counters: RelayCounters
}

export class Intake {
  readonly #options: IntakeOptions
  readonly #deps: IntakeDeps
  readonly #continuity: Continuity
  #lastRepairAt = Number.NEGATIVE_INFINITY

  constructor(options: IntakeOptions, deps: IntakeDeps) {
    this.#options = options
    this.#deps = deps
    this.#continuity = new Continuity(options.continuityKeys)
  }

  /** Events were skipped: what was known of keys no longer says anything. */
  forget(): void {
    this.#continuity.forget()
  }

  /** An end when feeding must stop here; nothing behind it has been taken then. */
  take(outputs: readonly WatchOutput[]): LocalEnd | undefined {
    const { session, status, counters, clock } = this.#deps
    for (const output of outputs) {
      switch (output.kind) {
        case 'revision': {
          const end = this.#relay(output.revision)
          if (end !== undefined) return end
          break
        }
        case 'proved':
          session.proved(output.revision)
          status.lastProofAt = clock.monotonic()
          status.head = maxRevision(status.head, output.revision)
          break
        case 'reached':
          status.head = maxRevision(status.head, output.revision)
          break
        case 'dropped':
          counters.dropped(output.reason, output.count)
          break
        case 'impossible':
          counters.impossible(output.events)
          // Something was left out: the position stays before it until a checkpoint has repaired it.
          return { kind: 'suspicious' }
        case 'created':
        case 'ended':
          break
        default: {
          const never: never = output
          return never
        }
      }
    }
    return undefined
  }

  #relay(source: ChangedRevision): LocalEnd | undefined {
    const { clock, session, egress, heard, hooks, status, counters } = this.#deps
    // Before anything remembers it: what is held comes a second time.
    const admission = hooks.admit(source, session.epoch)
    if (admission === 'held') return { kind: 'held' }
    if (admission === 'suspect') return { kind: 'suspicious' }
    const breaks = this.#continuity.check(source)
    if (breaks.length > 0) {
      counters.broken(breaks)
      return { kind: 'suspicious' }
    }
    const outcome = egress.revision(source, clock.now())
    if (outcome.kind === 'unknown-previous') return { kind: 'unknown-previous' }
    const record = outcome.kind === 'record' ? outcome.record : undefined
    const { revision, bytes, arrivedAt } = source
    const evidence: Evidence = { revision, source, digest: undefined }
    heard.push(evidence)
    counters.seen(source.changes.length)
    status.lastEventAt = clock.monotonic()
    status.revisionsSeen++
    status.head = maxRevision(status.head, revision)
    const encodedBytes = record === undefined ? 0 : encodedBound(record)
    session.offer({ revision, record, evidence, bytes, arrivedAt, encodedBytes })
    return undefined
  }

  /**
   * Has what was doubted announced in the log, for nobody else knows of it, and waits until the checkpoint that repairs
   * it may begin; false when stopped before.
   */
  async rested(announce: () => Promise<void>, signal: AbortSignal): Promise<boolean> {
    const { clock, status } = this.#deps
    await announce()
    const now = clock.monotonic()
    const waitMs = this.#lastRepairAt + this.#options.resyncEveryMs - now
    if (waitMs > 0) {
      const seconds = Math.ceil(waitMs / 1000)
      status.enter('checkpoint', now, `events do not fit together again; the next resync begins in ${seconds} s`)
      if (!(await pause(clock, waitMs, signal))) return false
    }
    this.#lastRepairAt = clock.monotonic()
    return true
  }
}
