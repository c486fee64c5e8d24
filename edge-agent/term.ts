// One term of appending: a session behind one reading of the tail, fed by one etcd member after another.
// Owns: the order of attaching, checkpoints and feeding; back-pressure; bookmarks; when a term is over.
// Refuses: reading the tail and leadership (relay.ts). A term ends with its session; etcd's trouble never ends it.

import type { Clock } from '#kit/clock.ts'
import type { Logger } from '#kit/logger.ts'
import type { Random } from '#kit/random.ts'
import {
  attach,
  type AttachDeps,
  type Attached,
  type AttachOptions,
  type Continuation,
  feedAfter,
  lineageOf,
  learn,
  type MemberFacts,
  tryOut,
} from './attach.ts'
import { Bookmarks } from './bookmarks.ts'
import { Checkpoints, type CheckpointsOptions, newEpoch } from './checkpoints.ts'
import { reportEnd } from './detached.ts'
import { Egress, type Filter } from './egress/decide.ts'
import { identityOf, type PolicyInForce } from './egress/policy.ts'
import { isRefusal, leavingOut, type LocalEnd, type Need, needAfter, needOfTail, type TermEnd } from './ends.ts'
import type { Hooks } from './hooks/hooks.ts'
import { Intake, type IntakeOptions } from './intake.ts'
import { DigestRing } from './lineage/digest.ts'
import { Trail } from './lineage/trail.ts'
import { pause } from './pause.ts'
import type { RelayCounters } from './relay-metrics.ts'
import type { RelayStatus } from './relay-status.ts'
import { Upkeep, type UpkeepOptions } from './upkeep.ts'
import type { EntryTracer } from './uplink/entry-trace.ts'
import type { HubLog } from './uplink/ports.ts'
import { entryLimit } from './uplink/retention.ts'
import { LogSession } from './uplink/session.ts'
import { SessionEnded } from './uplink/session-end.ts'
import { chainStart, type Tail } from './uplink/tail.ts'
import type { WindowLimits } from './uplink/window.ts'
import type { Endpoints } from './watch/endpoints.ts'
import { EtcdFailure, type EtcdMember } from './watch/etcd.ts'
import type { Feed, FeedEnd } from './watch/feed.ts'

export type TermOptions = IntakeOptions &
  Pick<CheckpointsOptions, 'maxStateKeys' | 'routine'> &
  Omit<UpkeepOptions, 'range'> & {
    readonly attach: Omit<AttachOptions, 'prevValues' | 'framing'>
    readonly prefixes: Filter['prefixes']
    readonly agentId: string
    readonly configHash: string
    readonly window: WindowLimits
    readonly ackTimeoutMs: number
    readonly progress: { readonly maxRevisions: number; readonly maxMs: number }
    readonly markEveryMs: number
    /** Waiting and in flight together; above it the watch is paused. */
    readonly maxHeldBytes: number
  }

export type TermDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly hub: HubLog
  readonly endpoints: Endpoints
  readonly connect: (endpoint: string) => EtcdMember
  readonly hooks: Hooks
  readonly status: RelayStatus
  readonly counters: RelayCounters
  readonly traces?: EntryTracer | undefined
}

const TICK_MS = 100

export class Term {
  readonly #options: TermOptions
  readonly #deps: TermDeps
  readonly #tail: Tail
  readonly #egress: Egress
  readonly #trail: Trail
  /** Everything offered, for reattaching: ahead of the trail by what is not sent yet. */
  readonly #heard: DigestRing
  readonly #session: LogSession
  readonly #intake: Intake
  readonly #checkpoints: Checkpoints
  readonly #upkeep: Upkeep
  readonly #bookmarks: Bookmarks
  readonly #stop = new AbortController()
  #need: Need | undefined
  #end: TermEnd | undefined
  #feed: Feed | undefined
  #localEnd: LocalEnd | undefined
  /** While a hook holds, a change of policy cannot be answered without showing what is held. */
  #policyWaits = false
  /** Aborted: a reload has replaced what the connection was opened with. */
  #renewed = new AbortController()
  #timer: Disposable | undefined

  constructor(options: TermOptions, deps: TermDeps, tail: Tail, policy: PolicyInForce) {
    const { clock, random, logger, hub, status, counters, hooks } = deps
    const { keys, range } = options.attach
    this.#options = options
    this.#deps = deps
    this.#tail = tail
    this.#egress = new Egress(policy.decider, { prefixes: options.prefixes }, policy.observe)
    this.#trail = new Trail(keys.current.id, keys.current.digest)
    this.#heard = new DigestRing(keys.current.digest)
    this.#need = needOfTail(tail, options.configHash)
    const newestCompleteBeginSeq = tail.kind === 'known' ? tail.last.newestCompleteBeginSeq : 0
    const maxEntryBytes = entryLimit(hub.maxPayload, tail.info)
    this.#session = new LogSession(
      {
        start: chainStart(tail),
        identity: identityOf(options, policy),
        epoch: tail.kind === 'known' ? tail.epoch : newEpoch(random),
        newestCompleteBeginSeq,
        window: options.window,
        maxEntryBytes,
        ackTimeoutMs: options.ackTimeoutMs,
        progress: options.progress,
      },
      {
        hub,
        trail: this.#trail,
        clock,
        random,
        onEased: () => this.#ease(),
        soon: (fn) => void setImmediate(fn),
        onAppended: (entry) => counters.appended(entry),
        traces: deps.traces,
      },
    )
    const shared = { clock, random, logger, hub, status, counters, session: this.#session, egress: this.#egress }
    this.#bookmarks = new Bookmarks(options.markEveryMs, shared)
    this.#intake = new Intake(options, { ...shared, heard: this.#heard, hooks })
    this.#checkpoints = new Checkpoints(
      { ...options, range, maxEntryBytes, info: tail.info, newestCompleteBeginSeq },
      { ...shared, trail: this.#trail, keys },
    )
    this.#upkeep = new Upkeep(
      { ...options, range },
      {
        ...shared,
        connect: deps.connect,
        checkpoints: this.#checkpoints,
        signal: this.#stop.signal,
        onTooSmall: ({ neededBytes, maxBytes }) => this.end({ kind: 'too-small', neededBytes, maxBytes }),
      },
    )
  }

  get session(): LogSession {
    return this.#session
  }
  get egress(): Egress {
    return this.#egress
  }
  get feed(): Feed | undefined {
    return this.#feed
  }
  /** Whether the hub took anything in this term: trouble after that is new trouble. */
  get appended(): boolean {
    return this.#session.acked.seq !== chainStart(this.#tail).head.seq
  }

  /** Ends the term; what is acknowledged stays, everything else is read again from etcd. */
  end(end: TermEnd): void {
    this.#end ??= end
    this.#stop.abort()
    // Whoever waits for it to settle waits for nothing now.
    this.#session.close()
  }

  /** Moves over to what a reload put in force: while live once it has served (else rejects, all as it was), or at once. */
  renew = async (): Promise<void> => {
    const { connect, endpoints, status } = this.#deps
    const { range } = this.#options.attach
    if (status.phase === 'live') await tryOut(connect, endpoints.from(status.endpoint), range, status.clusterId)
    this.#renewed.abort()
    if (status.phase === 'live') this.#feed?.stop()
  }

  async run(signal: AbortSignal): Promise<TermEnd> {
    const onAbort = (): void => this.end({ kind: 'closed' })
    signal.addEventListener('abort', onAbort, { once: true })
    void this.#session.ended.then((end) => this.end(end))
    if (signal.aborted) onAbort()
    this.#tick()
    try {
      await this.#attachLoop()
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#timer?.[Symbol.dispose]()
      this.#feed?.stop()
      this.#upkeep[Symbol.dispose]()
      this.#session.close()
    }
    return this.#end ?? { kind: 'closed' }
  }

  async #attachLoop(): Promise<void> {
    const { clock, endpoints, random, counters } = this.#deps
    while (!this.#stop.signal.aborted) {
      if (!(await this.#free())) return
      const { endpoint, waitMs } = endpoints.next(() => random.next())
      const waited = await pause(clock, waitMs, AbortSignal.any([this.#stop.signal, this.#renewed.signal]))
      this.#renewed = new AbortController()
      if (!waited) continue
      counters.attaching(endpoint)
      const startedAt = clock.monotonic()
      const end = await this.#onEndpoint(endpoint)
      if (end === undefined || this.#stop.signal.aborted) return
      if (end.kind === 'held' || end.kind === 'stopped') continue
      const livedMs = clock.monotonic() - startedAt
      reportEnd(this.#deps, endpoint, end, livedMs)
      // A refusal is answered by a fresh token once, at the same member; a second one in a row is real.
      endpoints.ended(livedMs, isRefusal(end) && endpoints.failures === 0)
    }
  }

  /** While a hook holds nothing is attached or begun that would show what it holds back: only a change of policy is answered. */
  async #free(): Promise<boolean> {
    const { clock, hooks, status } = this.#deps
    hooks.overtaken(this.#session.acked.revision, this.#session.epoch)
    status.holding(hooks.hold)
    const waits = this.#policyWaits || this.#need?.reason !== 'policy' || this.#need.skips === true
    if (hooks.hold !== undefined && !waits) return !this.#stop.signal.aborted
    if (hooks.hold !== undefined) status.enter('held', clock.monotonic(), hooks.reason)
    if (!(await hooks.free(this.#stop.signal))) return false
    status.holding(undefined)
    if (hooks.skipping) this.#need = leavingOut(this.#need)
    return true
  }

  /** Undefined when the session is over. */
  async #onEndpoint(endpoint: string): Promise<LocalEnd | undefined> {
    const { status, logger } = this.#deps
    try {
      using member = this.#deps.connect(endpoint)
      const facts = await learn(member, this.#options.attach.range)
      const bugs = status.meet(endpoint, facts)
      const { version } = facts.status
      if (bugs.length > 0) logger.warn('this etcd version has known watch bugs', { endpoint, version, bugs })
      return await this.#onMember(member, facts)
    } catch (e) {
      if (e instanceof SessionEnded || this.#stop.signal.aborted) return undefined
      if (e instanceof EtcdFailure) return { kind: 'failed', failure: e }
      throw e
    }
  }

  async #onMember(member: EtcdMember, facts: MemberFacts): Promise<LocalEnd> {
    const { clock, hooks, status, counters, logger } = this.#deps
    let feed: Feed | undefined
    if (this.#need?.reason !== 'epoch') {
      status.enter('proving', clock.monotonic())
      const deps = this.#attachDeps(member, facts)
      const verdict = await attach(member, facts, this.#continuation(), this.#attachOptions, deps)
      switch (verdict.kind) {
        case 'attached':
          ;({ feed } = verdict)
          break
        case 'new-epoch':
          this.#need = { reason: 'epoch', why: verdict.reason }
          break
        case 'failed':
          return verdict.end
        default: {
          const never: never = verdict
          return never
        }
      }
    }
    for (;;) {
      if (hooks.hold !== undefined && (this.#need?.reason !== 'policy' || this.#need.skips === true)) {
        feed?.stop()
        this.#localEnd = undefined
        return { kind: 'held' }
      }
      if (this.#need !== undefined) {
        feed?.stop()
        this.#localEnd = undefined
        counters.resync(this.#need.reason)
        this.#trail.identify(facts.head)
        logger.info('a checkpoint is needed', { ...this.#need, position: this.#session.acked.revision })
        if (!(await this.#checkpoint(member, this.#need))) return { kind: 'stopped' }
        this.#need = hooks.skipping ? leavingOut(undefined) : undefined
        if (this.#need !== undefined || hooks.hold !== undefined) continue
        feed = feedAfter(member, facts, this.#session.proven, this.#attachOptions, this.#attachDeps(member, facts))
        this.#feed = feed
        void feed.start()
      }
      // Without a need there is an attached feed, and with one there is a new one.
      if (feed === undefined) return { kind: 'stopped' }
      if (this.#renewed.signal.aborted) feed.stop()
      this.#ease()
      status.enter('live', clock.monotonic())
      const end = await this.#untilEnd(feed)
      this.#need = needAfter(end)
      const announce = (): Promise<void> => this.#checkpoints.announce('gap')
      if (end.kind === 'suspicious' && !(await this.#intake.rested(announce, this.#stop.signal))) return end
      if (this.#need === undefined || this.#stop.signal.aborted) return end
    }
  }

  async #untilEnd(feed: Feed): Promise<LocalEnd> {
    const onStop = (): void => feed.stop()
    this.#stop.signal.addEventListener('abort', onStop, { once: true })
    if (this.#stop.signal.aborted) onStop()
    const ended: FeedEnd = await feed.ended
    this.#stop.signal.removeEventListener('abort', onStop)
    const end = this.#localEnd ?? ended
    this.#localEnd = undefined
    return end
  }

  get #attachOptions(): AttachOptions {
    const { framing } = this.#deps.endpoints
    return { ...this.#options.attach, framing, prevValues: this.#egress.needsPrevValue }
  }

  #attachDeps(member: EtcdMember, facts: MemberFacts): AttachDeps {
    const { clock, endpoints, counters } = this.#deps
    return {
      clock,
      onAttached: (attached) => {
        this.#feed = attached.feed
        this.#seed(attached)
        this.#trail.identify(facts.head)
      },
      onOutputs: (outputs) => {
        if (this.#localEnd !== undefined || this.#stop.signal.aborted || this.#deps.hooks.skipping) return
        // Nothing live may stand before the checkpoint that the log waits for: this is read again behind it.
        if (this.#session.isPending) return
        this.#localEnd = this.#intake.take(outputs)
        this.#session.flush()
        if (this.#localEnd !== undefined) this.#feed?.stop()
        if (this.#session.bytesHeld <= this.#options.maxHeldBytes) return
        this.#feed?.pause('backpressure')
        counters.paused()
      },
      probeHead: () => this.#upkeep.probeHead(endpoints.other(member.endpoint)),
    }
  }

  #ease(): void {
    if (this.#session.bytesHeld <= this.#options.maxHeldBytes / 2) this.#feed?.resume('backpressure')
  }

  /** What a member must show before it may feed this session. */
  #continuation(): Continuation {
    const { proven } = this.#session
    if (this.#heard.size === 0 && !this.appended && this.#tail.kind === 'known') {
      return { lineage: this.#tail.last.lineage, position: proven }
    }
    return { lineage: lineageOf(this.#trail, this.#heard), position: proven }
  }

  #seed({ reproduced, unchangedTo, state }: Attached): void {
    this.#session.proved(unchangedTo)
    if (this.#heard.size > 0) return
    this.#trail.reset(reproduced)
    for (const one of reproduced) this.#heard.push({ ...one, source: undefined })
    if (state !== undefined) this.#trail.stateAt(unchangedTo, state)
  }

  /** False when the hub has no room for it; the term is over then. */
  async #checkpoint(member: EtcdMember, need: Need): Promise<boolean> {
    const { clock, hooks, status } = this.#deps
    status.enter('checkpoint', clock.monotonic(), need.why)
    status.checkpointReason = need.reason
    // What was offered is complete and proven: it goes out before the checkpoint that replaces what follows.
    await this.#session.settled()
    const answer = await this.#checkpoints.answer(member, need, () => hooks.hold === undefined, this.#stop.signal)
    if (answer.kind === 'too-small') this.end(answer)
    if (answer.kind === 'overtaken') this.#policyWaits = true
    if (answer.kind !== 'written') return false
    await this.#session.settled()
    if (answer.skips) {
      this.#heard.clear()
      this.#intake.forget()
      hooks.skipped()
    }
    return true
  }

  #tick(): void {
    if (this.#stop.signal.aborted) return
    const { clock, status } = this.#deps
    const now = clock.monotonic()
    this.#session.tick()
    this.#bookmarks.tick(now)
    if (status.phase === 'live') this.#upkeep.tick(now)
    if (status.phase === 'held') this.#upkeep.tickHeld(now)
    this.#timer = clock.setTimeout(() => this.#tick(), TICK_MS)
  }
}
