// A watch that runs: one raw stream, its machine, its deadlines.
// Owns: feeding responses to the machine in arrival order, asking for progress, probing the head through another
// endpoint, pausing by reasons, and ending exactly once with a cause.
// Refuses: deciding what follows the end (relay.ts). Whatever the end, everything put out before it stands.

import type { Clock } from '#kit/clock.ts'
import { addRevision, compareRevisions, maxRevision, type Revision } from '#protocol/revision.ts'
import type { EtcdFailure, EtcdMember, KeyRange, RawWatch } from './etcd.ts'
import type { Framing } from './framing.ts'
import { Liveness, type LivenessOptions } from './liveness.ts'
import { type EndCause, type WatchMachineOptions, WatchMachine, type WatchOutput } from './state.ts'

export type FeedEnd =
  | EndCause
  | { readonly kind: 'failed'; readonly failure: EtcdFailure }
  /** Connected, and no longer hearing. */
  | { readonly kind: 'deaf' }
  /** Hearing, but behind a head that another endpoint has shown. */
  | { readonly kind: 'stale' }
  /** History below the position is not what it was: found after the watch had started. */
  | { readonly kind: 'diverged' }
  | { readonly kind: 'stopped' }

export type FeedOptions = WatchMachineOptions & {
  /**
   * What the watch is asked for, when that is not `startRevision`: etcd answers no progress question of a watch that
   * begins beyond its head, so a quiet store would look deaf. The revision too many is dropped as stale.
   */
  readonly requestFrom: Revision
  readonly range: KeyRange
  readonly prevValues: boolean
  readonly liveness: LivenessOptions
  /** Shared by the watches of one log, one after another: what one ended of decides how the next is asked for. */
  readonly framing: Framing
  readonly maxResponseBytes: number
}

export type FeedDeps = {
  readonly member: EtcdMember
  readonly clock: Clock
  /** Outputs of one response, in order. */
  readonly onOutputs: (outputs: readonly WatchOutput[]) => void
  /** The head as another endpoint sees it; a failure there says nothing about this watch. */
  readonly probeHead: () => Promise<Revision>
}

export type PauseReason = 'backpressure' | 'hold'

const TICK_MS = 100
/** Between two ticks pings and their like come to less than this. */
const NO_MESSAGE_BYTES = 256

export class Feed {
  readonly ended: Promise<FeedEnd>
  readonly #deps: FeedDeps
  readonly #options: FeedOptions
  readonly #machine: WatchMachine
  readonly #liveness: Liveness
  readonly #paused = new Set<PauseReason>()
  #resolve: (end: FeedEnd) => void = () => undefined
  #raw: RawWatch | undefined
  #timer: Disposable | undefined
  #over = false
  #responses = 0
  #arrived = 0
  #tickDueAt = 0

  constructor(options: FeedOptions, deps: FeedDeps) {
    this.#options = options
    this.#deps = deps
    this.#machine = new WatchMachine(options)
    this.#liveness = new Liveness(options.liveness, deps.clock.monotonic())
    this.ended = new Promise((resolve) => {
      this.#resolve = resolve
    })
  }

  get machine(): WatchMachine {
    return this.#machine
  }
  get pausedFor(): readonly PauseReason[] {
    return [...this.#paused]
  }
  get responses(): number {
    return this.#responses
  }
  /** Milliseconds since the stream last showed life. */
  get silenceMs(): number {
    return this.#liveness.silence(this.#deps.clock.monotonic())
  }

  async start(): Promise<void> {
    const { member } = this.#deps
    const { range, requestFrom, prevValues, framing, maxResponseBytes } = this.#options
    try {
      const raw = await member.watch(
        { range, startRevision: requestFrom, prevValues, pieces: framing.pieces, maxResponseBytes },
        {
          message: (response) => this.#receive(response),
          closed: (failure) => this.#finish({ kind: 'failed', failure }),
        },
      )
      if (this.#over) return raw.close()
      this.#raw = raw
      if (this.#paused.size > 0) raw.pause()
      this.#schedule()
    } catch (failure) {
      this.#finish({ kind: 'failed', failure: failure as EtcdFailure })
    }
  }

  pause(reason: PauseReason): void {
    if (this.#paused.has(reason)) return
    this.#paused.add(reason)
    this.#liveness.paused(this.#deps.clock.monotonic())
    this.#raw?.pause()
  }

  resume(reason: PauseReason): void {
    if (!this.#paused.delete(reason) || this.#paused.size > 0) return
    this.#liveness.resumed(this.#deps.clock.monotonic())
    this.#raw?.resume()
  }

  askProgress(): void {
    this.#raw?.requestProgress()
  }

  /** Ends the stream and the server's watcher; the reason is what `ended` resolves with. */
  stop(end: FeedEnd = { kind: 'stopped' }): void {
    this.#finish(end)
  }

  #receive(response: unknown): void {
    if (this.#over) return
    this.#responses++
    const now = this.#deps.clock.monotonic()
    const outputs = this.#machine.receive(response, now)
    let end: FeedEnd | undefined
    let reached = this.#machine.cursor
    let level = reached === this.#machine.header?.revision
    for (const output of outputs) {
      if (output.kind === 'ended') end = output.cause
      if (output.kind !== 'reached') continue
      // Only a watch that is level with the head is told of progress, trusted or not.
      level = true
      reached = maxRevision(reached, output.revision)
    }
    this.#liveness.heard(now, reached, level)
    // What came before the end in the same response is complete and counts.
    this.#deps.onOutputs(outputs)
    if (end !== undefined) this.#finish(end)
  }

  #tick(): void {
    if (this.#over) return
    const now = this.#deps.clock.monotonic()
    const late = now - this.#tickDueAt
    // This process was busy or stopped: what arrived meanwhile waits behind this very timer.
    if (late > TICK_MS) this.#liveness.excuse(late)
    const { arrived = 0 } = this.#raw ?? {}
    if (arrived - this.#arrived > NO_MESSAGE_BYTES) this.#liveness.arriving(now)
    this.#arrived = arrived
    const action = this.#liveness.tick(now)
    switch (action) {
      case 'none':
        break
      case 'ask-progress':
        this.#raw?.requestProgress()
        break
      case 'probe-head':
        void this.#probe()
        break
      case 'deaf':
      case 'stale':
        return this.#finish({ kind: action })
      default: {
        const never: never = action
        return never
      }
    }
    this.#schedule()
  }

  #schedule(): void {
    const { clock } = this.#deps
    this.#tickDueAt = clock.monotonic() + TICK_MS
    this.#timer = clock.setTimeout(() => this.#tick(), TICK_MS)
  }

  async #probe(): Promise<void> {
    try {
      const head = await this.#deps.probeHead()
      this.#liveness.headSeen(this.#deps.clock.monotonic(), head)
    } catch {
      // The other endpoint's trouble is not this watch's.
    }
  }

  #finish(end: FeedEnd): void {
    if (this.#over) return
    this.#over = true
    this.#timer?.[Symbol.dispose]()
    this.#raw?.close()
    const { framing, startRevision, maxResponseBytes } = this.#options
    const next = addRevision(this.#machine.cursor, 1)
    const hopeless = framing.ended(end, compareRevisions(next, startRevision) > 0)
    this.#resolve(hopeless ? { kind: 'oversize', revision: next, bytes: maxResponseBytes } : end)
  }
}
