// One cluster's task: follows its log into its view, for ever, whatever happens.
// Owns: the cycle below, what starts over and how fast, bookmarks, and the checks that the log is still the same log.
// Refuses: other clusters (each has its own follower; nothing is shared but the connection) and giving up.
//
//   reachable ─► stream there? ─► same log as before? ─yes─► read on from the next message ─┐
//       ▲            │ no                │ no                                                │ gap, stalled, dropped,
//       │            ▼                   ▼                                                   │ disconnected
//       └── wait ── (create)    newest checkpoint, view.rejoin() ─► read from its BEGIN ─────┤
//       └──────────────────────────── wait with jitter ◄─────────────────────────────────────┘
// No loop spins: every way back waits at least a jittered backoff that grows until a reading was healthy for a minute.

import type { Clock } from '#kit/clock.ts'
import { errorCode } from '#kit/errors.ts'
import type { Logger } from '#kit/logger.ts'
import type { Random } from '#kit/random.ts'
import { fullJitter } from '#kit/resilience.ts'
import type { AgentState, LogEntry, Mark, RevisionRecord } from '#protocol/log/entry.ts'
import type { EventTraces } from '../delivery/event-traces.ts'
import type { ClusterView } from '../view/cluster-view.ts'
import type { Demand } from '../view/contract.ts'
import { findStart } from './bootstrap.ts'
import { type ChainFault, ChainReader } from './chain-reader.ts'
import { checkIdentity, type IdentityLoss, type Seen } from './identity.ts'
import type { LogStream, ReadingEnd, StoredMessage, StreamFacts } from './log-stream.ts'
import { decodeMark, type LastEntry, MarkGate } from './marks.ts'
import type { ClusterMeters } from './metrics.ts'
import type { SeqIndex } from './seq-index.ts'

export type RestartCause = ChainFault | IdentityLoss | Demand['cause']
export type FollowerTimes = {
  readonly identityMs: number
  /** How long the view may be ahead of the log before it gives way. */
  readonly aheadMs: number
  readonly tickMs: number
  readonly backoff: { readonly baseMs: number; readonly capMs: number }
  /** Before an entry kind or a state size that this gateway cannot serve is looked at again. */
  readonly blockedMs: number
}
export const DEFAULT_FOLLOWER_TIMES: FollowerTimes = {
  identityMs: 5_000,
  aheadMs: 30_000,
  tickMs: 1_000,
  backoff: { baseMs: 100, capMs: 10_000 },
  blockedMs: 60_000,
}

export type FollowerDeps = {
  readonly log: LogStream
  readonly view: ClusterView
  readonly index: SeqIndex
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly meters: ClusterMeters
  readonly times: FollowerTimes
  /** Undefined: nothing is traced. */
  readonly traces?: EventTraces | undefined
}

/** Entries older than this when they arrive are a backlog. */
const BACKLOG_MS = 2_000
const KEEP_WHOLE = 16 * 1024
const HEALTHY_MS = 60_000
/** What an agent in these states says of its position is proof. */
const PROVING: ReadonlySet<AgentState> = new Set<AgentState>(['live', 'idle-proved', 'lagging'])

type Outcome = ReadingEnd | 'missing' | 'restart'

export class Follower implements AsyncDisposable {
  readonly #deps: FollowerDeps
  readonly #stop = new AbortController()
  readonly #gate = new MarkGate()
  readonly #running: Promise<void>
  readonly #marks: Disposable
  #tick: Disposable | undefined
  #chain: ChainReader | undefined
  #created: string | undefined
  #facts: StreamFacts | undefined
  #last: LastEntry | undefined
  #restart: RestartCause | undefined
  /** Up to here the log was read and its chain found not to be the tail's. */
  #invalidThrough = 0
  #caughtUp = false
  #backlog = false
  #failures = 0
  #aheadSince: number | undefined
  #reading: AbortController | undefined
  #checkNow: (() => void) | undefined

  constructor(deps: FollowerDeps) {
    this.#deps = deps
    this.#marks = deps.log.marks((data) => this.#onMark(data))
    this.#arm()
    this.#running = this.#run(this.#stop.signal)
  }

  /** The stream as last seen. */
  get facts(): StreamFacts | undefined {
    return this.#facts
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    this.#tick?.[Symbol.dispose]()
    this.#marks[Symbol.dispose]()
    await this.#running
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, random, logger, meters, times, view } = this.#deps
    while (!signal.aborted) {
      const began = clock.monotonic()
      let outcome: Outcome | 'failed'
      try {
        outcome = await this.#attempt(signal)
      } catch (error) {
        // Aborted by our own check while it was opening.
        outcome = this.#restart === undefined ? 'failed' : 'restart'
        if (!signal.aborted && outcome === 'failed')
          logger.warn('log not readable', { code: errorCode(error), err: error })
      }
      if (signal.aborted) return
      meters.count('reading', outcome)
      if (outcome !== 'restart') view.setLog('down', true, outcome)
      if (clock.monotonic() - began > HEALTHY_MS) this.#failures = 0
      const blocked = this.#restart === 'unknown-kind' || this.#restart === 'state-too-large'
      if (blocked) view.setLog('blocked', true, this.#restart)
      const wait = blocked ? times.blockedMs : fullJitter(this.#failures++, times.backoff, random)
      await clock.sleep(wait, signal).catch(() => undefined)
    }
  }

  async #attempt(signal: AbortSignal): Promise<Outcome> {
    const { log, logger } = this.#deps
    await log.reachable(signal)
    let facts = await log.facts(signal)
    if (facts === undefined) {
      if (this.#created !== undefined) this.#startOver('deleted')
      if (!(await log.create(signal))) return 'missing'
      facts = await log.facts(signal)
      if (facts === undefined) return 'missing'
      logger.info('log created')
    }
    this.#facts = facts
    if (this.#chain !== undefined && this.#restart === undefined) {
      const { loss } = await checkIdentity(log, this.#seen(this.#chain), signal)
      if (loss !== undefined) this.#startOver(loss)
    }
    const from = await this.#next(facts, signal)
    return await this.#read(from, signal)
  }

  /** The sequence to read from; begins a new chain when there is none to go on with. */
  async #next(facts: StreamFacts, signal: AbortSignal): Promise<number> {
    const { log, view, logger } = this.#deps
    if (this.#chain !== undefined && this.#restart === undefined) return this.#chain.lastSeq + 1
    const doubts = facts.created === this.#created ? this.#chain?.doubts : undefined
    let start = await findStart(log, facts, this.#invalidThrough, signal)
    // A tail that lies vouches for nothing: those before it may.
    for (let back = 1; start.kind === 'seek' && back <= (doubts?.size ?? 0) && back < facts.lastSeq; back++)
      start = await findStart(log, { ...facts, lastSeq: facts.lastSeq - back }, this.#invalidThrough, signal)
    this.#restart = undefined
    this.#chain = new ChainReader(start.kind === 'checkpoint' ? start.seq : undefined, doubts)
    this.#created = facts.created
    this.#last = undefined
    this.#caughtUp = false
    view.rejoin()
    logger.info('reading log', { from: start.seq, checkpoint: start.kind === 'checkpoint', lastSeq: facts.lastSeq })
    return start.seq
  }

  async #read(from: number, signal: AbortSignal): Promise<Outcome> {
    const { log, view, logger } = this.#deps
    const reading = new AbortController()
    this.#reading = reading
    const both = AbortSignal.any([signal, reading.signal])
    this.#backlog = (this.#facts?.lastSeq ?? 0) >= from
    view.setLog('open', this.#backlog)
    const guard = this.#guard(both)
    try {
      const { end, error } = await log.follow(from, (message) => this.#take(message), both)
      if (this.#restart !== undefined) return 'restart'
      logger.info('reading ended', { end, ...(error === undefined ? {} : { err: error }) })
      return end
    } finally {
      reading.abort()
      this.#reading = undefined
      await guard
    }
  }

  /** Looks every few seconds, or when told to, whether the stream is still the one being read. */
  async #guard(signal: AbortSignal): Promise<void> {
    const { clock, log, times, logger } = this.#deps
    while (!signal.aborted) {
      const { promise: told, resolve } = Promise.withResolvers<void>()
      this.#checkNow = resolve
      await Promise.race([clock.sleep(times.identityMs, signal).catch(() => undefined), told])
      const chain = this.#chain
      if (signal.aborted || chain === undefined) return
      try {
        const { facts, loss } = await checkIdentity(log, this.#seen(chain), signal)
        this.#facts = facts ?? this.#facts
        if (loss === undefined) continue
        this.#startOver(loss)
        return this.#reading?.abort()
      } catch (error) {
        // Not answered: the reading's own heartbeat decides whether the hub is there.
        if (!signal.aborted) logger.debug('stream check failed', { err: error })
      }
    }
  }

  #seen(chain: ChainReader): Seen {
    const { state } = chain
    const entry =
      state === undefined || this.#last === undefined ? undefined : { seq: state.seq, entryId: state.entryId }
    return { created: this.#created ?? '', lastSeq: chain.lastSeq, entry }
  }

  #startOver(cause: RestartCause, detail?: string): void {
    if (this.#restart !== undefined) return
    this.#restart = cause
    const valid = this.#chain?.state?.seq ?? 0
    this.#invalidThrough = cause === 'contradiction' ? valid : 0
    this.#gate.clear()
    this.#deps.index.clear()
    this.#deps.meters.count('resync', cause)
    this.#deps.logger.warn('log is read again from its newest checkpoint', {
      cause,
      ...(detail === undefined ? {} : { detail }),
    })
  }

  #take(message: StoredMessage): boolean {
    const chain = this.#chain
    if (chain === undefined || this.#restart !== undefined) return true
    const { view, meters, index, clock } = this.#deps
    const { seq } = message
    // A large message is copied once, as a whole; the values of a small one are copied one by one into shared slabs.
    const owned = message.data.length >= KEEP_WHOLE
    const data = owned ? new Uint8Array(message.data) : message.data
    meters.entries.inc()
    meters.bytes.inc(data.length)
    meters.behind.set(message.pending)
    let judged = chain.judge(seq, data)
    if (judged.kind === 'unrooted') {
      this.#last = undefined
      view.rejoin()
      judged = chain.judge(seq, data)
    }
    switch (judged.kind) {
      case 'void':
        ;(judged.reason === 'undecodable' ? meters.undecodable : meters.void).inc()
        return false
      case 'unrooted':
        return false
      case 'fault':
        this.#startOver(judged.cause, judged.detail)
        return true
      case 'valid':
        break
      default: {
        const never: never = judged
        return never
      }
    }
    const { entry, state, completed } = judged
    const now = clock.monotonic()
    const age = this.#age(message)
    this.#last = { seq, entryId: entry.entryId, epoch: entry.epoch, configHash: entry.configHash }
    const step = { entry, message: data, owned, position: state.revision, completed, arrivedAt: now }
    if (entry.kind === 'events') for (const record of entry.revisions) meters.events.inc(record.events.length)
    else if (completed !== undefined) meters.events.inc(completed.events.length)
    const demand =
      message.trace === undefined
        ? view.apply(step, now - age)
        : this.#traced(message, entry, completed, { arrivedAt: now, age }, () => view.apply(step, now - age))
    if (demand !== undefined) return this.#obey(demand)
    if (chain.positioned && !view.core.resyncing) index.note(state)
    this.#showBacklog(message.pending > 0 && age > BACKLOG_MS)
    const mark = this.#gate.reached(this.#last)
    return mark !== undefined && this.#prove(mark)
  }

  #traced(
    { trace, seq, data }: StoredMessage,
    entry: LogEntry,
    completed: RevisionRecord | undefined,
    when: { readonly arrivedAt: number; readonly age: number },
    apply: () => Demand | undefined,
  ): Demand | undefined {
    const { traces, view } = this.#deps
    const last = completed === undefined ? [] : [completed]
    const revisions = entry.kind === 'events' ? entry.revisions : last
    const read = { trace, seq, bytes: data.length, epoch: entry.epoch, revisions, ...when }
    return traces === undefined ? apply() : traces.read(view, read, apply)
  }

  /** Ms since the entry was news. At the log's end it is news now, whatever the hub's clock says. */
  #age(message: StoredMessage): number {
    if (message.pending === 0 && this.#caughtUp) return 0
    this.#caughtUp ||= message.pending === 0
    return Math.max(0, this.#deps.clock.now() - message.storedAtMs)
  }

  #showBacklog(backlog: boolean): void {
    if (backlog === this.#backlog) return
    this.#backlog = backlog
    this.#deps.view.setLog('open', backlog)
  }

  #obey(demand: Demand): boolean {
    this.#startOver(demand.cause)
    return true
  }

  #onMark(data: Uint8Array): void {
    const { view, clock, meters } = this.#deps
    const mark = decodeMark(data)
    if (mark === undefined) return meters.count('mark', 'malformed')
    if (mark.state === 'standby') return meters.count('mark', 'standby')
    const verdict = this.#restart === undefined ? this.#gate.offer(mark, this.#last) : 'stale'
    meters.count('mark', verdict)
    if (verdict === 'foreign') return this.#checkNow?.()
    view.heardAgent(mark.state, clock.monotonic())
    if (verdict === 'applied' && this.#prove(mark)) this.#reading?.abort()
  }

  /** True when the view wants the log read again. */
  #prove(mark: Mark): boolean {
    const { view, clock } = this.#deps
    if (!PROVING.has(mark.state)) return false
    const demand = view.prove(mark.provenRevision, clock.monotonic(), mark.ageMs)
    return demand !== undefined && this.#obey(demand)
  }

  #arm(): void {
    const { clock, times } = this.#deps
    this.#tick = clock.setTimeout(() => {
      this.#onTick()
      if (!this.#stop.signal.aborted) this.#arm()
    }, times.tickMs)
  }

  #onTick(): void {
    const { view, clock, times, logger } = this.#deps
    view.refresh()
    const now = clock.monotonic()
    if (!view.core.behindHighWater) this.#aheadSince = undefined
    else this.#aheadSince ??= now
    if (this.#aheadSince === undefined || now - this.#aheadSince < times.aheadMs) return
    this.#aheadSince = undefined
    logger.warn('the log ends before what was served; going back to its end')
    const demand = view.yieldHighWater()
    if (demand !== undefined && this.#obey(demand)) this.#reading?.abort()
  }
}
