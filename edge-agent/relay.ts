// The relay of one log: read the tail, stand by or lead, append until something breaks, start over.
// Owns: that loop, leadership, waiting between terms, what an operator is told. Every turn begins with the tail of the
// log and nothing else: no state survives a turn, so killing the process at any instant costs nothing.
// Refuses: the term itself (term.ts). Loops cannot spin: each way back passes a jittered wait, the hub's silence or a lost connection.

import type { Clock } from '#kit/clock.ts'
import { errorCode, errorMessage } from '#kit/errors.ts'
import type { Logger } from '#kit/logger.ts'
import type { Random } from '#kit/random.ts'
import { fullJitter, type ResiliencePolicy } from '#kit/resilience.ts'
import type { Mark } from '#protocol/log/entry.ts'
import type { Destination } from './egress/destination.ts'
import { configHash, type PolicySource, type Scope } from './egress/policy.ts'
import { pause } from './pause.ts'
import type { RelayCounters } from './relay-metrics.ts'
import type { Phase, RelayStatus } from './relay-status.ts'
import { refusal } from './resilience.ts'
import type { TermEnd } from './ends.ts'
import { Term, type TermDeps, type TermOptions } from './term.ts'
import { HubError, type HubLog } from './uplink/ports.ts'
import { Leadership } from './uplink/standby.ts'
import { readTail, type Tail } from './uplink/tail.ts'

export type RelayOptions = Omit<TermOptions, 'configHash' | 'prefixes'> & {
  readonly scope: Scope
  /** Stable across restarts; the agent id is this and a random suffix. */
  readonly agentName: string
  readonly silenceMs: number
  readonly stepDownMs: number
  readonly backoff: { readonly baseMs: number; readonly capMs: number }
}

export type RelayDeps = Omit<TermDeps, 'status' | 'counters'> & {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly hub: HubLog
  readonly policy: PolicySource
  readonly destination: Destination
  readonly status: RelayStatus
  readonly counters: RelayCounters
  /** While its breaker refuses appends there is no point in leading: another agent may have a better way to the hub. */
  readonly appendPolicy?: ResiliencePolicy
}

const STANDBY_LOOK_MS = 500
const CONFIRM_MS = 500
const LEVEL_MARKS = 3
/** Between two looks at the wall clock, which may jump. */
const POLICY_LOOK_MS = 1_000
const DESTINATION_LOOK_MS = 5_000

export class Relay {
  readonly #options: RelayOptions
  readonly #deps: RelayDeps
  readonly #leadership: Leadership
  #configHash: string
  #term: Term | undefined
  #failures = 0
  #seenSeq = -1
  #firstTail = true
  /** Bookmarks in a row by another agent that leads at our very place. */
  #level = 0

  constructor(options: RelayOptions, deps: RelayDeps) {
    this.#options = options
    this.#deps = deps
    this.#configHash = this.#hash()
    this.#leadership = new Leadership({
      agentId: options.agentId,
      configHash: this.#configHash,
      silenceMs: options.silenceMs,
      stepDownMs: options.stepDownMs,
    })
  }

  get term(): Term | undefined {
    return this.#term
  }

  /** Moves over to the etcd credentials and endpoints now in force; rejects when they do not serve. */
  renew = async (): Promise<void> => this.#term?.renew()

  /** Resolves after the signal aborts and everything is closed. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, hub, policy, status } = this.#deps
    using _marks = hub.onMark((mark) => this.#onMark(mark))
    using _policy = policy.onChange(() => this.#onPolicy())
    const policyTimer = this.#watchPolicy(signal)
    while (!signal.aborted) {
      try {
        await this.#turn(signal)
      } catch (e) {
        if (signal.aborted) break
        await this.#afterFailure(e, signal)
      }
    }
    await policyTimer
    status.enter('stopped', clock.monotonic())
  }

  async #turn(signal: AbortSignal): Promise<void> {
    const { clock, hub, status } = this.#deps
    if (!hub.connected) this.#enter('hub-unreachable')
    await hub.ready(signal)
    if (await this.#refused(signal)) return
    if (!(await this.#findDestination(signal))) return
    if (!(await this.#awaitTurn(signal))) return
    this.#enter('reading-tail')
    const tail = await this.#readTail(signal)
    if (tail === undefined) return
    this.#note(tail)
    const stand = this.#leadership.stand(clock.monotonic())
    if (stand.kind !== 'lead') return
    const term = this.#newTerm(tail)
    this.#term = term
    try {
      const end = await term.run(signal)
      await this.#afterTerm(end, term, signal)
    } finally {
      this.#term = undefined
      status.leader = ''
    }
  }

  /** True after waiting for an open breaker. */
  async #refused(signal: AbortSignal): Promise<boolean> {
    const { appendPolicy, clock } = this.#deps
    const waitMs = appendPolicy?.retryAfterMs ?? 0
    if (appendPolicy === undefined || waitMs === 0) return false
    this.#enter('hub-unreachable', refusal(appendPolicy))
    await pause(clock, waitMs, signal)
    return true
  }

  /** Nothing is read or written before it is known where it would go. */
  async #findDestination(signal: AbortSignal): Promise<boolean> {
    const { destination, hub } = this.#deps
    destination.learn((await hub.info()).hubRegion)
    const { standing } = destination
    switch (standing.kind) {
      case 'known':
        this.#onPolicy()
        return true
      case 'unknown':
        await this.#hold(
          'hub-region-unknown',
          'nothing leaves before the region of the hub is known: give --hub-region, or have the stream state it (deltawatch hub apply --hub-region)',
          signal,
        )
        return false
      case 'mismatch':
        await this.#hold(
          'hub-region-mismatch',
          `the stream says that the hub stands in ${standing.stated}, this agent is configured for ${standing.configured}: correct one of them`,
          signal,
        )
        return false
      default: {
        const never: never = standing
        return never
      }
    }
  }

  /** Waits while another agent leads, reading no more than the stream's last sequence. */
  async #awaitTurn(signal: AbortSignal): Promise<boolean> {
    const { clock, hub, status } = this.#deps
    for (;;) {
      const stand = this.#leadership.stand(clock.monotonic())
      if (stand.kind === 'lead') return true
      const words =
        stand.kind === 'mismatch'
          ? 'a live leader writes under another configuration; this agent, the younger, stays out'
          : ''
      this.#enter(stand.kind === 'mismatch' ? 'config-mismatch' : 'standby', words)
      status.leader = stand.leader
      if (!(await pause(clock, Math.min(stand.waitMs, STANDBY_LOOK_MS), signal))) return false
      if (!hub.connected) return false
      const { lastSeq } = await hub.info()
      if (this.#seenSeq >= 0 && lastSeq > this.#seenSeq) this.#leadership.heardGrowth(clock.monotonic())
      this.#seenSeq = lastSeq
    }
  }

  async #readTail(signal: AbortSignal): Promise<Tail | undefined> {
    const { clock, hub } = this.#deps
    const tail = await readTail(hub)
    if (tail.kind === 'known' || tail.reason === 'empty') return tail
    // A replica that has just become leader may lack for a moment what it will have; a second look decides.
    if (!(await pause(clock, CONFIRM_MS, signal))) return undefined
    return readTail(hub)
  }

  #note(tail: Tail): void {
    const { clock, counters, logger, status } = this.#deps
    this.#seenSeq = tail.info.lastSeq
    const first = this.#firstTail
    this.#firstTail = false
    if (tail.kind === 'unknown') {
      logger.info('position unknown', { reason: tail.reason, lastSeq: tail.info.lastSeq })
      return
    }
    counters.voids(tail.voids)
    status.position = tail.revision
    status.epoch = tail.epoch
    status.seq = tail.head.seq
    const { agentId, configHash: hash } = tail.last
    logger.info('tail read', {
      seq: tail.head.seq,
      revision: tail.revision,
      epoch: tail.epoch,
      voids: tail.voids,
      by: agentId,
    })
    // Our own predecessor is certainly gone; anyone else may be alive and is given the time to say so.
    if (first && nameOf(agentId) !== this.#options.agentName)
      this.#leadership.heardEntry(agentId, hash, clock.monotonic())
  }

  #newTerm(tail: Tail): Term {
    const { logger, policy, status } = this.#deps
    const inForce = policy.current()
    status.configHash = this.#configHash
    status.policyRevision = inForce.revision
    status.leader = this.#options.agentId
    logger.info('leading', { lastSeq: tail.info.lastSeq, configHash: this.#configHash, policy: inForce.revision })
    const { scope, ...options } = this.#options
    return new Term({ ...options, prefixes: scope.prefixes, configHash: this.#configHash }, this.#deps, tail, inForce)
  }

  async #afterTerm(end: TermEnd, term: Term, signal: AbortSignal): Promise<void> {
    const { clock, counters, logger, random } = this.#deps
    counters.sessionEnded(end.kind === 'rejected' ? `rejected-${end.reason}` : end.kind)
    const { acked } = term.session
    if (term.appended) this.#failures = 0
    if (end.kind !== 'closed') logger.info('run of appends ended', { ...end, position: acked.revision, seq: acked.seq })
    switch (end.kind) {
      case 'closed':
        return
      case 'policy':
        return
      case 'refused':
        counters.conflict()
        return this.#afterConflict(signal)
      case 'lost':
        await pause(clock, fullJitter(this.#failures++, this.#options.backoff, random), signal)
        return
      case 'too-small': {
        const reason = `a checkpoint needs max_bytes >= ${end.neededBytes}, the stream has ${end.maxBytes}: enlarge the stream`
        return this.#hold('hub-too-small', reason, signal)
      }
      case 'rejected':
        return this.#afterRejection(end, signal)
      default: {
        const never: never = end
        return never
      }
    }
  }

  async #afterConflict(signal: AbortSignal): Promise<void> {
    const { clock, hub, random } = this.#deps
    const tail = await readTail(hub)
    if (tail.kind === 'known' && tail.last.agentId !== this.#options.agentId) {
      this.#leadership.lostTo(tail.last.agentId, tail.last.configHash, clock.monotonic(), random.next())
      return
    }
    // The place was taken by an entry of our own earlier run, or by a void one: jitter keeps two agents from chasing each other.
    await pause(clock, 20 + fullJitter(this.#failures++, this.#options.backoff, random), signal)
  }

  async #afterRejection(end: Extract<TermEnd, { kind: 'rejected' }>, signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#deps
    switch (end.reason) {
      case 'missing':
        return this.#hold('stream-missing', end.detail, signal)
      case 'denied':
        return this.#hold('hub-denied', end.detail, signal)
      case 'full':
      case 'too-large':
        return this.#hold('hub-full', end.detail, signal)
      case 'overloaded':
      case 'duplicate':
      case 'other':
        await pause(clock, 100 + fullJitter(this.#failures++, this.#options.backoff, random), signal)
        return
      default: {
        const never: never = end.reason
        return never
      }
    }
  }

  async #afterFailure(e: unknown, signal: AbortSignal): Promise<void> {
    const { clock, logger, random } = this.#deps
    if (e instanceof HubError) {
      const phases: Partial<Record<HubError['kind'], Phase>> = {
        'stream-missing': 'stream-missing',
        denied: 'hub-denied',
        'jetstream-off': 'refused',
      }
      const phase = phases[e.kind] ?? 'hub-unreachable'
      if (phase === 'hub-unreachable') {
        this.#enter(phase, e.message)
        await pause(clock, 50 + fullJitter(this.#failures++, this.#options.backoff, random), signal)
        return
      }
      return this.#hold(phase, e.message, signal)
    }
    logger.error('relay turn failed', { code: errorCode(e), err: e })
    this.#enter('refused', errorMessage(e))
    await pause(clock, 1_000 + fullJitter(this.#failures++, this.#options.backoff, random), signal)
  }

  /** The position is held; somebody has to change something, and may any time. */
  async #hold(phase: Phase, reason: string, signal: AbortSignal): Promise<void> {
    this.#enter(phase, reason)
    const { clock, random } = this.#deps
    const cap = phase === 'stream-missing' ? Math.min(2_000, this.#options.backoff.capMs) : this.#options.backoff.capMs
    await pause(
      clock,
      250 + fullJitter(this.#failures++, { baseMs: this.#options.backoff.baseMs, capMs: cap }, random),
      signal,
    )
  }

  #enter(phase: Phase, reason = ''): void {
    const { clock, logger, status } = this.#deps
    if (!status.enter(phase, clock.monotonic(), reason)) return
    if (reason === '') logger.debug('phase', { phase })
    else logger.warn('phase', { phase, reason })
  }

  #onMark(mark: Mark): void {
    const { clock, status } = this.#deps
    const { agentId, silenceMs } = this.#options
    this.#leadership.heardMark(mark, clock.monotonic())
    const term = this.#term
    if (term === undefined || mark.agentId === agentId || silenceMs === 0) return
    if (mark.state !== 'live' && mark.state !== 'idle-proved' && mark.state !== 'lagging') return
    // Two who lead an idle range never meet at an append: the one behind yields. Of two level ones the later name does, but
    // only when it lasts: a leader that wakes up may still say what was true before it slept.
    const { seq } = term.session.acked
    this.#level = mark.seq === seq && mark.agentId < agentId ? this.#level + 1 : 0
    const behind = mark.seq > seq || this.#level >= LEVEL_MARKS
    if (behind || status.phase === 'etcd-unreachable') term.end({ kind: 'lost', reason: 'another agent leads' })
  }

  #onPolicy(): void {
    this.#deps.status.policyRevision = this.#deps.policy.current().revision
    const hash = this.#hash()
    if (hash === this.#configHash) return
    this.#configHash = hash
    this.#leadership.configure(hash)
    this.#term?.end({ kind: 'policy' })
  }

  #hash(): string {
    return configHash(this.#options.scope, this.#deps.policy.current(), this.#deps.clock.now())
  }

  /** A lapsed legal basis changes what may leave without anyone changing a file. */
  async #watchPolicy(signal: AbortSignal): Promise<void> {
    const { clock, policy } = this.#deps
    let askedAt = clock.monotonic()
    for (;;) {
      const now = clock.now()
      const expiry = (policy.current().decider.nextExpiry(now) ?? Number.POSITIVE_INFINITY) - now
      if (!(await pause(clock, Math.min(POLICY_LOOK_MS, Math.max(1, expiry)), signal))) return
      if (clock.monotonic() - askedAt >= DESTINATION_LOOK_MS) {
        askedAt = clock.monotonic()
        await this.#askDestination()
      }
      this.#onPolicy()
    }
  }

  /** A stream that states another region than before changes what may leave, as a new bundle does. */
  async #askDestination(): Promise<void> {
    const { destination, hub } = this.#deps
    if (!hub.connected) return
    try {
      destination.learn((await hub.info()).hubRegion)
    } catch {
      // The stream is missing or the hub is slow: those who append notice, and ask anew before they go on.
      return
    }
    if (destination.standing.kind === 'mismatch') this.#term?.end({ kind: 'policy' })
  }
}

/** Agent ids are `<name>/<random>`; the name is stable across restarts. */
export const nameOf = (agentId: string): string => agentId.replace(/\/[0-9a-f]+$/, '')
