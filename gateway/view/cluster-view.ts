// One cluster as delivery sees it: the port's implementation around the core.
// Owns: listeners, status over time, and joining state, ring and log into the answers the port promises.
// Refuses: reading the log (upstream drives it through the methods of the second half) and policy.

import type { Key } from '#protocol/bytes.ts'
import type { KeyRange } from '#protocol/decode.ts'
import type { ClusterState, ResyncReason } from '#protocol/frames.ts'
import type { AgentState } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ClusterId, Region } from '#protocol/subjects.ts'
import type { Clock } from '#kit/clock.ts'
import type { ClusterSource, Located, RingRevision, SourceEvent, SourceStatus, StateEntry } from '../delivery/ports.ts'
import { StateScanner } from './scan.ts'
import { clusterState, DEFAULT_STATUS_LIMITS, type StatusFacts, type StatusLimits } from './status.ts'
import type { CheckpointOutcome, Demand, Position, Step, ViewBounds, ViewEvent } from './contract.ts'
import { ViewCore } from './view-core.ts'

export type ReplayedRevision = Pick<RingRevision, 'epoch' | 'revision' | 'events' | 'agentAtMs'>

/** What the view asks of the log behind it. */
export interface LogHistory {
  /** Undefined when everything after `position` can still be read as far as is known; else why not. */
  unreachable(position: Position): ResyncReason | undefined
  /** Whole revisions after `position` until `covered` says that the ring continues from there. */
  replay(
    position: Position,
    covered: (revision: Revision) => boolean,
    signal: AbortSignal,
  ): AsyncIterable<ReplayedRevision>
}

export type ClusterViewOptions = {
  readonly cluster: ClusterId
  readonly region: Region
  readonly bounds: ViewBounds
  readonly clock: Clock
  readonly limits?: StatusLimits
  readonly onCheckpoint?: (outcome: CheckpointOutcome, differences: number) => void
  readonly onListenerError?: (error: unknown) => void
}

const NO_HISTORY: LogHistory = {
  unreachable: () => 'trimmed',
  replay: () => {
    throw new RangeError('no log is attached to this view')
  },
}

export class ClusterView implements ClusterSource {
  readonly cluster: ClusterId
  readonly region: Region
  readonly #core: ViewCore
  readonly #scanner: StateScanner
  readonly #clock: Clock
  readonly #limits: StatusLimits
  readonly #onCheckpoint: (outcome: CheckpointOutcome, differences: number) => void
  readonly #onListenerError: (error: unknown) => void
  readonly #listeners = new Set<(event: SourceEvent) => void>()
  #history: LogHistory = NO_HISTORY
  #removed = false
  #log: StatusFacts['log'] = 'down'
  #behind = false
  #reason: string | undefined
  #agent: { readonly state: AgentState; readonly at: number } | undefined
  #provenAt: number | undefined
  #heardAt: number
  #eventAt: number | undefined
  #state: ClusterState = 'unreachable'
  #since: number

  constructor(options: ClusterViewOptions) {
    this.cluster = options.cluster
    this.region = options.region
    this.#clock = options.clock
    this.#limits = options.limits ?? DEFAULT_STATUS_LIMITS
    this.#onCheckpoint = options.onCheckpoint ?? (() => undefined)
    this.#onListenerError = options.onListenerError ?? (() => undefined)
    this.#core = new ViewCore(options.bounds, (event) => this.#onViewEvent(event))
    this.#scanner = new StateScanner(this.#core.ring)
    this.#heardAt = options.clock.monotonic()
    this.#since = options.clock.now()
  }

  get ready(): boolean {
    return this.#core.ready
  }
  get status(): SourceStatus {
    const { epoch, revision } = this.#core
    const status = { state: this.#state, epoch, revision, provenAt: this.#provenAt, since: this.#since }
    return this.#reason === undefined ? status : { ...status, reason: this.#reason }
  }
  get nextIndex(): number {
    return this.#core.ring.nextIndex
  }

  at(index: number): RingRevision | undefined {
    return this.#core.ring.at(index)
  }

  locate(position: Position): Located {
    const located = this.#core.locate(position)
    if (located.kind !== 'log') return located
    const reason = this.#history.unreachable(position)
    return reason === undefined ? located : { kind: 'resync', reason }
  }

  ambiguous(position: Position): boolean {
    return this.#core.ambiguous(position)
  }

  scan(range: KeyRange, after: Key | undefined, limit: number, undoTo?: number): readonly StateEntry[] | undefined {
    return this.#scanner.scan(this.#core.index, range, after, limit, undoTo)
  }

  get(key: Key): StateEntry | undefined {
    return this.#core.index.get(key)
  }

  replay(position: Position, signal: AbortSignal): AsyncIterable<ReplayedRevision> {
    const covered = (revision: Revision): boolean =>
      this.#core.locate({ epoch: position.epoch, revision }).kind !== 'log'
    return this.#history.replay(position, covered, signal)
  }

  listen(listener: (event: SourceEvent) => void): Disposable {
    // Wrapped, so that the same function may listen twice.
    const entry = (event: SourceEvent): void => listener(event)
    this.#listeners.add(entry)
    return { [Symbol.dispose]: () => void this.#listeners.delete(entry) }
  }

  // ---- for the reader of the log ----

  /** State, ring and checkpoint, for metrics and for the reader's decisions. */
  get core(): Pick<
    ViewCore,
    'resyncing' | 'behindHighWater' | 'stagingBytes' | 'epoch' | 'revision' | 'ring' | 'index'
  > {
    return this.#core
  }

  attach(history: LogHistory): void {
    this.#history = history
  }

  /** `provenAt` (monotonic ms): when the entry was news; long ago while catching up. */
  apply(step: Step, provenAt: number): Demand | undefined {
    this.#heardAt = step.arrivedAt
    if (step.entry.kind === 'events' || step.entry.kind === 'chunk') this.#eventAt = provenAt
    this.#provenAt = Math.max(this.#provenAt ?? provenAt, provenAt)
    const demand = this.#core.apply(step)
    if (this.#state !== 'live') this.refresh()
    return demand
  }

  /** An accepted bookmark: proof of everything up to `revision`, `ageMs` old when it comes at `now`. */
  prove(revision: Revision, now: number, ageMs = 0): Demand | undefined {
    this.#provenAt = now - ageMs
    this.#heardAt = now
    const demand = this.#core.prove(revision)
    this.refresh()
    return demand
  }

  /** The leading agent spoke, whether or not its bookmark proved anything. */
  heardAgent(state: AgentState, now: number): void {
    this.#agent = { state, at: now }
    this.#heardAt = now
    this.refresh()
  }

  /** `reason` says why the log is not open. */
  setLog(log: StatusFacts['log'], behind: boolean, reason?: string): void {
    this.#log = log
    this.#reason = reason
    this.#behind = behind
    this.refresh()
  }

  rejoin(): void {
    this.#core.rejoin()
  }

  yieldHighWater(): Demand | undefined {
    return this.#core.yieldHighWater()
  }

  remove(): void {
    if (this.#removed) return
    this.#removed = true
    this.refresh()
    this.#notify({ kind: 'removed' })
    this.#listeners.clear()
  }

  /** Looks at the clock again; call it every second or so. */
  refresh(): void {
    const now = this.#clock.monotonic()
    // What an agent said counts while it may still be true.
    const agent =
      this.#agent !== undefined && now - this.#agent.at <= this.#limits.lagAfterMs ? this.#agent.state : undefined
    const facts: StatusFacts = {
      removed: this.#removed,
      log: this.#log,
      resyncing: this.#core.resyncing,
      behind: this.#behind,
      provenAt: this.#provenAt,
      heardAt: this.#heardAt,
      eventAt: this.#eventAt,
      agent,
    }
    const state = clusterState(facts, this.#limits, now)
    if (state === this.#state) return
    this.#state = state
    this.#since = this.#clock.now()
    this.#notify({ kind: 'status' })
  }

  #onViewEvent(event: ViewEvent): void {
    if (event.kind === 'checkpoint') return this.#onCheckpoint(event.outcome, event.differences)
    if (event.kind === 'status') return this.refresh()
    this.#notify(event)
    if (event.kind === 'reset') this.refresh()
  }

  #notify(event: SourceEvent): void {
    for (const listener of Array.from(this.#listeners)) {
      if (!this.#listeners.has(listener)) continue
      try {
        listener(event)
      } catch (error) {
        // One reader's fault must not stop the log for the others.
        this.#onListenerError(error)
      }
    }
  }
}
