// The hooks of one log: they see every revision before anything else does, and may stop the road there.
// Owns: the hold (one at a time: the road is one), its release by an operator or by time, and what a release covers.
// Refuses: dropping anything. A revision that is not admitted stays in etcd and is read again: the position stands before
// it until the hold is released, as events or, when the operator says so, as a resync. Nothing is kept across a restart:
// the next agent meets the same revision and judges it by the same rules.

import type { Epoch } from '#protocol/log/entry.ts'
import { compareRevisions, maxRevision, type Revision } from '#protocol/revision.ts'
import type { Clock } from '#kit/clock.ts'
import type { Logger } from '#kit/logger.ts'
import type { ChangedRevision } from '../egress/change.ts'
import { pause } from '../pause.ts'
import { type Decided, type Finding, type GuardOptions, Guards, type HookName, type Pattern } from './guards.ts'

export type HookOptions = GuardOptions & {
  /** A hold nobody releases ends after this; 0: it lasts until somebody does. */
  readonly holdMs: number
  readonly delayMs: number
}

export type Hold = {
  readonly hook: HookName
  readonly pattern: Pattern
  readonly action: 'hold' | 'delay'
  /** The first revision that is not relayed. */
  readonly revision: Revision
  readonly count: number
  readonly epoch: Epoch
  /** Monotonic ms. */
  readonly since: number
  readonly until: number | undefined
}

/** events: everything follows as it happened. resync: subscribers get the state as it is then, and never the way to it. */
export type ReleaseAs = 'events' | 'resync'
export type ReleaseResult = 'released' | 'nothing-held' | 'another-revision' | 'ends-before'

export type HookCounters = {
  found(finding: Finding): void
  held(hook: HookName): void
  released(by: 'operator-events' | 'operator-resync' | 'timeout'): void
}

export type HooksDeps = {
  readonly clock: Clock
  readonly logger: Logger
  readonly counters: HookCounters
  /** etcd's newest known revision: what an operator has seen when releasing. */
  readonly head: () => Revision
}

export type Admission = 'pass' | 'suspect' | 'held'

/** Patterns told by number alone once they repeat. */
const LOGGED: ReadonlySet<Pattern> = new Set<Pattern>(['mass-create', 'mass-update', 'mass-delete', 'hot-key'])

export class Hooks {
  readonly #options: HookOptions
  readonly #deps: HooksDeps
  readonly #guards: Guards
  #hold: Hold | undefined
  #released = new AbortController()
  #decided: Decided = {}
  /** What is decided and counted belongs to this epoch. */
  #epoch: Epoch | undefined
  #skipping: Pick<Hold, 'revision' | 'epoch'> | undefined

  constructor(options: HookOptions, deps: HooksDeps) {
    this.#options = options
    this.#deps = deps
    this.#guards = new Guards(options)
  }

  get hold(): Hold | undefined {
    return this.#hold
  }
  /** Released as a resync: nothing of what was held may be relayed, and a checkpoint comes next. */
  get skipping(): boolean {
    return this.#skipping !== undefined
  }
  get reason(): string {
    const hold = this.#hold
    if (hold === undefined) return ''
    const what = `${hold.hook}: ${hold.pattern} of ${hold.count} keys at revision ${hold.revision}`
    if (hold.action === 'delay') return `${what}; goes on after the delay`
    const ends = hold.until === undefined ? '' : `, or wait ${this.#options.holdMs / 1_000} s in all`
    return `${what}; look at it, then release it (POST /debug/holds/<cluster>)${ends}`
  }

  /** Call before anything else sees the revision. */
  admit(source: ChangedRevision, epoch: Epoch): Admission {
    if (this.#hold !== undefined) return 'held'
    if (this.#epoch !== epoch) this.#forget()
    this.#epoch = epoch
    const findings = this.#guards.judge(source, this.#decided)
    let admission: Admission = 'pass'
    for (const finding of findings) {
      this.#deps.counters.found(finding)
      if (finding.action === 'resync') admission = admission === 'held' ? admission : 'suspect'
      else if (finding.action !== 'annotate') {
        this.#holdAt(finding, finding.action, epoch)
        admission = 'held'
      } else if (LOGGED.has(finding.pattern)) this.#deps.logger.warn('hook', { ...finding })
    }
    return admission
  }

  /** The log has gone past what is held, or begun a new epoch: another agent led meanwhile, and it was decided there. */
  overtaken(position: Revision, epoch: Epoch): void {
    const past = (at: Pick<Hold, 'revision' | 'epoch'>): boolean =>
      at.epoch !== epoch || compareRevisions(at.revision, position) <= 0
    if (this.#skipping !== undefined && past(this.#skipping)) this.#skipping = undefined
    const hold = this.#hold
    if (hold === undefined || !past(hold)) return
    this.#hold = undefined
    this.#deps.logger.info('hold dropped: the log has gone past it', { hook: hold.hook, revision: hold.revision })
    this.#released.abort()
  }

  /** Events were skipped by a checkpoint. */
  skipped(): void {
    this.#skipping = undefined
    this.#forget()
  }

  /** `upTo`: the last revision it covers; etcd's newest known one when absent. */
  release(revision: string, as: ReleaseAs, upTo?: Revision): ReleaseResult {
    const hold = this.#hold
    if (hold === undefined) return 'nothing-held'
    if (hold.revision !== revision) return 'another-revision'
    const last = upTo ?? maxRevision(this.#deps.head(), hold.revision)
    if (compareRevisions(last, hold.revision) < 0) return 'ends-before'
    // Only who has looked decides about all there was to see.
    this.#decided = { onCreate: last, onUpdate: last, onDelete: last }
    this.#end(hold, as, as === 'events' ? 'operator-events' : 'operator-resync', last)
    return 'released'
  }

  /** Resolves when nothing is held, at once if so; false when the signal aborts first. */
  async free(signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#deps
    for (let hold = this.#hold; hold !== undefined; hold = this.#hold) {
      const wait = (hold.until ?? Number.POSITIVE_INFINITY) - clock.monotonic()
      const either = AbortSignal.any([signal, this.#released.signal])
      const over = await pause(clock, Math.min(wait, LONGEST_WAIT_MS), either)
      if (signal.aborted) return false
      if (over && this.#hold === hold && hold.until !== undefined && clock.monotonic() >= hold.until) {
        this.#decided = { ...this.#decided, [hold.hook]: hold.revision }
        this.#end(hold, 'events', 'timeout', hold.revision)
      }
    }
    return !signal.aborted
  }

  #holdAt(finding: Finding, action: 'hold' | 'delay', epoch: Epoch): void {
    const { clock, counters, logger } = this.#deps
    const since = clock.monotonic()
    const ms = action === 'delay' ? this.#options.delayMs : this.#options.holdMs
    const until = action === 'hold' && ms === 0 ? undefined : since + ms
    const { hook, pattern, revision, count } = finding
    // A hold outweighs a delay found in the same revision.
    if (this.#hold?.action === 'hold') return
    this.#hold = { hook, pattern, action, revision, count, epoch, since, until }
    this.#released = new AbortController()
    if (action === 'delay') return logger.info('delayed by a hook', { hook, pattern, revision, count, ms })
    counters.held(hook)
    logger.error('held by a hook: nothing more is relayed', { hook, pattern, revision, count, advice: this.reason })
  }

  #end(hold: Hold, as: ReleaseAs, by: 'operator-events' | 'operator-resync' | 'timeout', upTo: Revision): void {
    const { counters, logger } = this.#deps
    this.#hold = undefined
    this.#skipping = as === 'resync' ? hold : undefined
    if (hold.action === 'hold') counters.released(by)
    logger.warn('hold released', { hook: hold.hook, revision: hold.revision, by, upTo })
    this.#released.abort()
  }

  #forget(): void {
    this.#decided = {}
    this.#guards.forget()
  }
}

/** Timers take no infinity. */
const LONGEST_WAIT_MS = 60 * 60_000
