// One term of appending: a session behind one reading of the tail, fed by one etcd member after another.
// Owns: which checkpoint is needed and when, the way from a complete revision to the session, back-pressure, bookmarks.
// Refuses: reading the tail and leadership (relay.ts). A term ends with its session; etcd's trouble never ends it.

import { type Key, toHex } from '#protocol/bytes.ts'
import type { CheckpointReason, Epoch } from '#protocol/log/entry.ts'
import { maxRevision, REVISION_ZERO, type Revision } from '#protocol/revision.ts'
import type { Clock } from '#kit/clock.ts'
import { errorCode, errorMessage } from '#kit/errors.ts'
import type { Logger } from '#kit/logger.ts'
import type { Random } from '#kit/random.ts'
import { attach, type AttachDeps, type AttachOptions, feedAfter, learn, type MemberFacts } from './attach.ts'
import { Egress } from './egress/decide.ts'
import type { ChangedRevision } from './egress/change.ts'
import type { PolicyInForce } from './egress/policy.ts'
import { DigestRing } from './lineage/digest.ts'
import { Trail } from './lineage/trail.ts'
import type { RelayCounters } from './relay-metrics.ts'
import type { RelayStatus } from './relay-status.ts'
import { writeCheckpoint } from './uplink/checkpoint.ts'
import type { HubLog, StreamInfo } from './uplink/ports.ts'
import { encodedBound } from './uplink/queue.ts'
import { bytesSince, checkpointDue, entryLimit, estimateCheckpoint, fits } from './uplink/retention.ts'
import { LogSession, type SessionEnd, SessionEnded } from './uplink/session.ts'
import { chainStart, type Tail } from './uplink/tail.ts'
import type { WindowLimits } from './uplink/window.ts'
import { Continuity } from './watch/continuity.ts'
import type { Endpoints } from './watch/endpoints.ts'
import { EtcdFailure, type EtcdMember } from './watch/etcd.ts'
import type { Feed, FeedEnd } from './watch/feed.ts'
import type { WatchOutput } from './watch/state.ts'
import { knownWatchBugs } from './watch/versions.ts'

export type TermOptions = {
  readonly attach: Omit<AttachOptions, 'prevValues'>
  readonly prefixes: ConstructorParameters<typeof Egress>[1]['prefixes']
  readonly agentId: string
  readonly configHash: string
  readonly window: WindowLimits
  readonly ackTimeoutMs: number
  readonly progress: { readonly maxRevisions: number; readonly maxMs: number }
  readonly markEveryMs: number
  /** Waiting and in flight together; above it the watch is paused. */
  readonly maxHeldBytes: number
  readonly continuityKeys: number
  /** A resync caused by suspicious events follows the last one no sooner than this. */
  readonly resyncEveryMs: number
}

export type TermDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly hub: HubLog
  readonly endpoints: Endpoints
  readonly connect: (endpoint: string) => EtcdMember
  readonly status: RelayStatus
  readonly counters: RelayCounters
}

export type TermEnd =
  | SessionEnd
  /** Another configuration or bundle is in force: the next term begins with its checkpoint. */
  | { readonly kind: 'policy' }
  | { readonly kind: 'too-small'; readonly neededBytes: number; readonly maxBytes: number }

/** Ends of a feed that the same member answers with a checkpoint. */
type Need = { readonly reason: Exclude<CheckpointReason, 'routine'>; readonly why: string }
type LocalEnd = FeedEnd | { readonly kind: 'unknown-previous' } | { readonly kind: 'suspicious' }

const TICK_MS = 100

export class Term {
  readonly #options: TermOptions
  readonly #deps: TermDeps
  readonly #tail: Tail
  readonly #egress: Egress
  readonly #trail: Trail
  /** Everything offered, for reattaching: ahead of the trail by what is not sent yet. */
  readonly #heard: DigestRing
  readonly #continuity: Continuity
  readonly #session: LogSession
  readonly #stop = new AbortController()
  readonly #maxEntryBytes: number
  #info: StreamInfo
  #need: Need | undefined
  #end: TermEnd | undefined
  #feed: Feed | undefined
  #localEnd: LocalEnd | undefined
  #checkpointBytes = 0
  #bytesBefore = 0
  #routineRunning = false
  #lastResyncAt = Number.NEGATIVE_INFINITY
  #lastMarkAt = Number.NEGATIVE_INFINITY
  #timer: Disposable | undefined

  constructor(options: TermOptions, deps: TermDeps, tail: Tail, policy: PolicyInForce) {
    this.#options = options
    this.#deps = deps
    this.#tail = tail
    this.#info = tail.info
    const { keys } = options.attach
    this.#egress = new Egress(policy.decider, { prefixes: options.prefixes })
    this.#trail = new Trail(keys.current.id, keys.current.digest)
    this.#heard = new DigestRing(keys.current.digest)
    this.#continuity = new Continuity(options.continuityKeys)
    this.#maxEntryBytes = entryLimit(deps.hub.maxPayload, tail.info)
    this.#need = firstNeed(tail, options.configHash)
    const known = tail.kind === 'known' ? tail : undefined
    const beginSeq = known?.last.newestCompleteBeginSeq ?? 0
    this.#bytesBefore = bytesSince(tail.info, beginSeq)
    this.#session = new LogSession(
      {
        start: chainStart(tail),
        identity: { agentId: options.agentId, configHash: options.configHash, policyRevision: policy.revision },
        epoch: known?.epoch ?? newEpoch(deps.random),
        newestCompleteBeginSeq: beginSeq,
        window: options.window,
        maxEntryBytes: this.#maxEntryBytes,
        ackTimeoutMs: options.ackTimeoutMs,
        progress: options.progress,
      },
      {
        hub: deps.hub,
        trail: this.#trail,
        clock: deps.clock,
        random: deps.random,
        onEased: () => this.#ease(),
        onAppended: (entry) => deps.counters.appended(entry),
      },
    )
  }

  get session(): LogSession {
    return this.#session
  }
  /** Whether the hub took anything in this term: trouble after that is new trouble. */
  get appended(): boolean {
    return this.#session.acked.seq !== chainStart(this.#tail).base.seq
  }
  get egress(): Egress {
    return this.#egress
  }
  get feed(): Feed | undefined {
    return this.#feed
  }

  /** Ends the term at the next safe point; nothing acknowledged is lost by it. */
  end(end: TermEnd): void {
    this.#end ??= end
    this.#stop.abort()
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
      this.#session.close()
    }
    return this.#end ?? { kind: 'closed' }
  }

  async #attachLoop(): Promise<void> {
    const { clock, endpoints, random, status, counters, logger } = this.#deps
    while (!this.#stop.signal.aborted) {
      const { endpoint, waitMs } = endpoints.next(() => random.next())
      if (!(await pause(clock, waitMs, this.#stop.signal))) return
      const startedAt = clock.monotonic()
      let end: LocalEnd
      try {
        using member = this.#deps.connect(endpoint)
        counters.attaching(endpoint)
        const facts = await learn(member, this.#options.attach.range)
        this.#identify(endpoint, facts)
        end = await this.#onMember(member, facts)
      } catch (e) {
        if (e instanceof SessionEnded || this.#stop.signal.aborted) return
        if (!(e instanceof EtcdFailure)) throw e
        end = { kind: 'failed', failure: e }
      }
      if (this.#stop.signal.aborted) return
      const livedMs = clock.monotonic() - startedAt
      const refused = refusal(end)
      const { phase, reason } = describeEnd(end)
      counters.detached(end.kind === 'failed' ? end.failure.kind : end.kind)
      if (status.enter(phase, clock.monotonic(), reason)) {
        logger.warn('etcd detached', { endpoint, phase, reason, livedMs: Math.round(livedMs) })
      }
      // A refusal is answered by a fresh token once, at the same member; a second one in a row is real.
      endpoints.ended(livedMs, refused && endpoints.failures === 0)
    }
  }

  async #onMember(member: EtcdMember, facts: MemberFacts): Promise<LocalEnd> {
    const { clock, status, counters, logger } = this.#deps
    let feed: Feed | undefined
    if (this.#need?.reason !== 'epoch') {
      status.enter('proving', clock.monotonic())
      const verdict = await attach(member, facts, this.#continuation(), this.#attachOptions, this.#attachDeps(member))
      switch (verdict.kind) {
        case 'attached':
          ;({ feed } = verdict.attached)
          this.#feed = feed
          this.#seed(verdict.attached.reproduced)
          break
        case 'new-epoch':
          this.#need = { reason: 'epoch', why: verdict.reason }
          break
        case 'rejected':
          return {
            kind: 'failed',
            failure: new EtcdFailure('other', `${member.endpoint} is a grpc-proxy: give the members themselves`),
          }
        case 'unproved':
          return {
            kind: 'failed',
            failure: new EtcdFailure('timeout', `${member.endpoint} did not reproduce the log's history in time`),
          }
        case 'failed':
          return verdict.end
        default: {
          const never: never = verdict
          return never
        }
      }
    }
    for (;;) {
      if (this.#need !== undefined) {
        feed?.stop()
        await this.#checkpoint(member, this.#need)
        this.#need = undefined
        feed = feedAfter(member, facts, this.#session.proven, this.#attachOptions, this.#attachDeps(member))
        this.#feed = feed
        void feed.start()
      }
      if (feed === undefined) return { kind: 'stopped' }
      this.#ease()
      status.enter('live', clock.monotonic())
      const onStop = (): void => feed?.stop()
      this.#stop.signal.addEventListener('abort', onStop, { once: true })
      if (this.#stop.signal.aborted) onStop()
      const feedEnd = await feed.ended
      this.#stop.signal.removeEventListener('abort', onStop)
      const end = this.#localEnd ?? feedEnd
      this.#localEnd = undefined
      const need = needAfter(end)
      if (need === undefined || this.#stop.signal.aborted) return end
      this.#need = need
      counters.resync(need.reason, need.why)
      logger.warn('a checkpoint is needed', { reason: need.reason, why: need.why, position: this.#session.proven })
    }
  }

  get #attachOptions(): AttachOptions {
    return { ...this.#options.attach, prevValues: this.#egress.needsPrevValue }
  }

  #attachDeps(member: EtcdMember): AttachDeps {
    const { clock, endpoints, status } = this.#deps
    return {
      clock,
      onOutputs: (outputs) => this.#take(outputs),
      probeHead: async () => {
        using other = this.#deps.connect(endpoints.other(member.endpoint))
        const head = await other.head(this.#options.attach.range)
        // Another cluster's head convicts nobody.
        if (head.clusterId !== status.clusterId) return REVISION_ZERO
        status.head = maxRevision(status.head, head.revision)
        return head.revision
      },
    }
  }

  #continuation() {
    const { proven } = this.#session
    if (this.#heard.size > 0)
      return { lineage: { ...this.#trail.evidence(), proofs: this.#heard.proofs() }, position: proven }
    if (
      this.#tail.kind === 'known' &&
      this.#session.epoch === this.#tail.epoch &&
      this.#session.acked.seq === this.#tail.base.seq
    ) {
      return { lineage: this.#tail.last.lineage, position: proven }
    }
    return { lineage: this.#trail.evidence(), position: proven }
  }

  #seed(reproduced: readonly { readonly revision: Revision; readonly digest: Uint8Array }[]): void {
    if (this.#heard.size > 0) return
    this.#trail.reset(reproduced)
    for (const one of reproduced) this.#heard.pushDigest(one.revision, one.digest)
  }

  #identify(endpoint: string, facts: MemberFacts): void {
    const { status, logger } = this.#deps
    const { header, version, raftIndex } = facts.status
    const bugs = knownWatchBugs(facts.version)
    if (version !== status.etcdVersion && bugs.length > 0) {
      logger.warn('this etcd version has known watch bugs', { endpoint, version, bugs })
    }
    status.endpoint = endpoint
    status.memberId = header.memberId
    status.clusterId = facts.head.clusterId
    status.raftTerm = facts.head.raftTerm
    status.raftIndex = raftIndex
    status.etcdVersion = version
    status.knownBugs = bugs
    status.head = facts.head.revision
    this.#trail.identify({ clusterId: facts.head.clusterId, raftTerm: facts.head.raftTerm })
  }

  #take(outputs: readonly WatchOutput[]): void {
    const { counters, status, clock } = this.#deps
    for (const output of outputs) {
      if (this.#localEnd !== undefined || this.#stop.signal.aborted) return
      switch (output.kind) {
        case 'revision':
          this.#relay(output.revision)
          break
        case 'proved':
          this.#session.proved(output.revision)
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
          this.#suspect()
          break
        case 'created':
        case 'ended':
          break
        default: {
          const never: never = output
          return never
        }
      }
    }
    this.#session.flush()
    if (this.#session.bytesHeld > this.#options.maxHeldBytes) {
      this.#feed?.pause('backpressure')
      counters.paused()
    }
  }

  #relay(source: ChangedRevision): void {
    const { clock, counters, status } = this.#deps
    const breaks = this.#continuity.check(source)
    if (breaks.length > 0) {
      counters.broken(breaks)
      if (this.#suspect()) return
    }
    const outcome = this.#egress.revision(source, clock.now())
    if (outcome.kind === 'unknown-previous') return this.#endFeed({ kind: 'unknown-previous' })
    const record = outcome.kind === 'record' ? outcome.record : undefined
    this.#heard.push(source)
    counters.seen(source.changes.length)
    status.lastEventAt = clock.monotonic()
    status.head = maxRevision(status.head, source.revision)
    this.#session.offer({
      revision: source.revision,
      record,
      source,
      encodedBytes: record === undefined ? 0 : encodedBound(record),
    })
  }

  /** What arrived cannot be all there was: a checkpoint repairs it, unless one has just been tried. */
  #suspect(): boolean {
    const now = this.#deps.clock.monotonic()
    if (now - this.#lastResyncAt < this.#options.resyncEveryMs) return false
    this.#lastResyncAt = now
    this.#endFeed({ kind: 'suspicious' })
    return true
  }

  #endFeed(end: LocalEnd): void {
    this.#localEnd ??= end
    this.#feed?.stop()
  }

  #ease(): void {
    if (this.#session.bytesHeld <= this.#options.maxHeldBytes / 2) this.#feed?.resume('backpressure')
  }

  async #checkpoint(member: EtcdMember, need: Need): Promise<void> {
    const { clock, random, status, logger } = this.#deps
    status.enter('checkpoint', clock.monotonic(), need.why)
    status.checkpointReason = need.reason
    // What was offered is complete and proven: it goes out before the checkpoint that replaces what follows.
    await this.#session.settled()
    let atPosition = need.reason === 'policy'
    for (let attempt = 0; ; attempt++) {
      this.#stop.signal.throwIfAborted()
      const head = await member.head(this.#options.attach.range)
      const epoch = need.reason === 'epoch' ? newEpoch(random) : this.#session.epoch
      try {
        await this.#ensureRoom(member)
        await this.#write(member, need.reason, epoch, atPosition ? 'position' : head.revision)
      } catch (e) {
        if (!(e instanceof EtcdFailure) || e.kind !== 'compacted') throw e
        // Compaction overtook the pinned revision: start over at a newer one.
        atPosition = false
        logger.warn('compaction overtook the checkpoint', { attempt })
        if (!(await pause(clock, Math.min(100 * 2 ** attempt, 10_000), this.#stop.signal))) throw e
        continue
      }
      await this.#session.settled()
      // At the position itself no event was skipped, and the evidence stays whole.
      if (need.reason !== 'policy' || !atPosition) {
        this.#trail.reset()
        this.#heard.clear()
        this.#continuity.forget()
      }
      return
    }
  }

  async #write(
    member: EtcdMember,
    reason: CheckpointReason,
    epoch: Epoch,
    pinned: Revision | 'position',
  ): Promise<void> {
    const { clock, random, counters, logger, status } = this.#deps
    const { range } = this.#options.attach
    const startedAt = clock.monotonic()
    const now = clock.now()
    const result = await writeCheckpoint(
      this.#session,
      {
        page: (revision, after, limit) =>
          member.page({ range: after === undefined ? range : { from: next(after), to: range.to }, revision, limit }),
        item: (held) => this.#egress.item(held, now),
      },
      {
        reason,
        epoch,
        pinned,
        checkpointId: toHex(random.bytes(8)),
        maxEntryBytes: this.#maxEntryBytes - 4096,
        signal: this.#stop.signal,
      },
    )
    this.#checkpointBytes = result.bytes
    this.#bytesBefore = 0
    status.epoch = epoch
    const seconds = (clock.monotonic() - startedAt) / 1000
    counters.checkpoint(reason, result, seconds)
    logger.info('checkpoint written', {
      reason,
      revision: result.revision,
      epoch,
      items: result.items,
      bytes: result.bytes,
      oversize: result.oversize,
      seconds,
    })
  }

  async #ensureRoom(member: EtcdMember): Promise<void> {
    this.#info = await this.#deps.hub.info()
    if (this.#checkpointBytes === 0) {
      const sample = await member.page({ range: this.#options.attach.range, limit: 32 })
      const bytes = sample.items.reduce((sum, held) => sum + held.key.length + held.value.length + 72, 0)
      this.#checkpointBytes = estimateCheckpoint(bytes, sample.items.length, sample.count)
    }
    const fit = fits(this.#info, this.#checkpointBytes)
    if (fit.fits) return
    this.#checkpointBytes = 0
    this.end({ kind: 'too-small', neededBytes: fit.neededBytes, maxBytes: fit.maxBytes })
    this.#stop.signal.throwIfAborted()
  }

  #tick(): void {
    if (this.#stop.signal.aborted) return
    const { clock, hub, status } = this.#deps
    const now = clock.monotonic()
    this.#session.tick()
    status.position = this.#session.acked.revision
    status.seq = this.#session.acked.seq
    status.epoch = this.#session.epoch
    status.newestCompleteBeginSeq = this.#session.newestCompleteBeginSeq
    if (now - this.#lastMarkAt >= this.#options.markEveryMs) {
      this.#lastMarkAt = now
      const proven = this.#session.proven
      const mark = this.#session.mark(status.agentState(now, proven), status.lag(proven))
      if (mark !== undefined) hub.publishMark(mark)
    }
    void this.#routine()
    this.#timer = clock.setTimeout(() => this.#tick(), TICK_MS)
  }

  /** A checkpoint by size: it alternates with live entries and changes nothing. */
  async #routine(): Promise<void> {
    if (this.#routineRunning || this.#deps.status.phase !== 'live') return
    if (!checkpointDue(this.#info, this.#checkpointBytes, this.#bytesBefore + this.#session.bytesSinceBegin)) return
    this.#routineRunning = true
    try {
      using member = this.#deps.connect(this.#deps.status.endpoint)
      await this.#ensureRoom(member)
      await this.#write(member, 'routine', this.#session.epoch, 'position')
    } catch (e) {
      if (this.#stop.signal.aborted) return
      this.#deps.logger.warn('routine checkpoint abandoned', { code: errorCode(e), detail: errorMessage(e) })
      this.#deps.counters.checkpointAbandoned()
      await pause(this.#deps.clock, 5_000, this.#stop.signal)
    } finally {
      this.#routineRunning = false
    }
  }
}

export const newEpoch = (random: Random): Epoch => toHex(random.bytes(8)) as Epoch

function firstNeed(tail: Tail, configHash: string): Need | undefined {
  if (tail.kind === 'unknown') return { reason: 'epoch', why: `log ${tail.reason}` }
  const { pending, newestCompleteBeginSeq, configHash: written } = tail.last
  if (pending === 'epoch') return { reason: 'epoch', why: 'the epoch was never completed' }
  if (pending !== 'none') return { reason: pending, why: 'a checkpoint was left unfinished' }
  if (newestCompleteBeginSeq === 0) return { reason: 'epoch', why: 'the log holds no complete checkpoint' }
  if (newestCompleteBeginSeq < tail.info.firstSeq) return { reason: 'gap', why: 'the newest checkpoint was trimmed' }
  return written === configHash ? undefined : { reason: 'policy', why: 'configuration or policy changed' }
}

function needAfter(end: LocalEnd): Need | undefined {
  switch (end.kind) {
    case 'compacted':
      return { reason: 'gap', why: 'compaction overtook the watch' }
    case 'oversize':
      return { reason: 'gap', why: `a revision above the limit (${end.bytes} bytes so far)` }
    case 'split':
      return { reason: 'gap', why: 'a revision arrived in two halves' }
    case 'unknown-previous':
      return { reason: 'gap', why: 'policy needs a previous value etcd no longer has' }
    case 'suspicious':
      return { reason: 'gap', why: 'events do not fit together' }
    case 'diverged':
      return { reason: 'epoch', why: 'history is not what it was' }
    case 'auth':
    case 'denied':
    case 'no-leader':
    case 'unknown':
    case 'protocol':
    case 'disorder':
    case 'failed':
    case 'deaf':
    case 'stale':
    case 'stopped':
      return undefined
    default: {
      const never: never = end
      return never
    }
  }
}

const refusal = (end: LocalEnd): boolean => {
  const kind = end.kind === 'failed' ? end.failure.kind : end.kind
  return kind === 'auth' || kind === 'denied'
}

function describeEnd(end: LocalEnd): { readonly phase: 'range-denied' | 'etcd-unreachable'; readonly reason: string } {
  if (refusal(end)) {
    const words = end.kind === 'failed' ? end.failure.message : 'reason' in end ? end.reason : end.kind
    return { phase: 'range-denied', reason: `${words}; grant this user read on the whole range` }
  }
  if (end.kind === 'failed') return { phase: 'etcd-unreachable', reason: end.failure.message }
  return {
    phase: 'etcd-unreachable',
    reason: 'reason' in end ? `${end.kind}: ${end.reason}` : 'detail' in end ? `${end.kind}: ${end.detail}` : end.kind,
  }
}

/** The first key after `key`: a range read continues there. */
const next = (key: Key): Key => `${key}\u0000` as Key

/** False when the signal ended the wait. */
export async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return false
  if (ms <= 0) return true
  try {
    await clock.sleep(ms, signal)
    return true
  } catch {
    return false
  }
}
