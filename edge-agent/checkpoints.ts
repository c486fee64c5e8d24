// Checkpoints of one term: room for them, writing them, the evidence they leave, and when the next is due.
// Owns: the sizes it learned, the proof of the whole state, the refresh of that proof while the range is quiet, and the
// look at the log that tells whether a checkpoint is missing and whether entries from before a change of policy are left.
// Refuses: deciding that a pending one is needed (term.ts).

import { toHex } from '#protocol/bytes.ts'
import { decodeEntry } from '#protocol/log/decode.ts'
import type { CheckpointReason, Epoch } from '#protocol/log/entry.ts'
import { newestPolicyChange, readBegins, type ReadEntry } from '#protocol/log/retained.ts'
import { type Revision, revisionDistance } from '#protocol/revision.ts'
import type { Clock } from '#kit/clock.ts'
import type { Logger } from '#kit/logger.ts'
import type { Random } from '#kit/random.ts'
import type { Egress } from './egress/decide.ts'
import type { Need } from './ends.ts'
import type { LineageKeys } from './lineage/key.ts'
import { StateSum } from './lineage/state-sum.ts'
import type { Trail } from './lineage/trail.ts'
import { pause } from './pause.ts'
import type { RelayCounters } from './relay-metrics.ts'
import type { RelayStatus } from './relay-status.ts'
import { type CheckpointResult, ITEMS_BYTES, type ReadPage, writeCheckpoint } from './uplink/checkpoint.ts'
import { HEAD_BYTES } from './uplink/composer.ts'
import type { HubLog, StreamInfo } from './uplink/ports.ts'
import { unhurried } from './uplink/unhurried.ts'
import { bytesSince, checkpointDue, estimateCheckpoint, type Fit, fits, mayRest } from './uplink/retention.ts'
import type { LogSession } from './uplink/session.ts'
import { EtcdFailure, type EtcdMember, type KeyRange } from './watch/etcd.ts'
import { readPage, readState } from './watch/read-state.ts'

export type CheckpointsDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly hub: HubLog
  readonly session: LogSession
  readonly egress: Egress
  readonly trail: Trail
  readonly keys: LineageKeys
  readonly status: RelayStatus
  readonly counters: RelayCounters
}

export type CheckpointsOptions = {
  readonly range: KeyRange
  readonly maxEntryBytes: number
  readonly info: StreamInfo
  readonly newestCompleteBeginSeq: number
  /** Ranges with more keys are not read again only to keep their evidence fresh. */
  readonly maxStateKeys: number
  readonly routine: RoutineRule
}

/** When a checkpoint is due besides the size of the log, and only if something changed since the last. 0: never. */
export type RoutineRule = { readonly maxAgeMs: number; readonly maxRevisions: number }

export type Answer =
  /** `skips`: events between the position and the checkpoint were never seen. */
  | { readonly kind: 'written'; readonly skips: boolean }
  | { readonly kind: 'too-small'; readonly neededBytes: number; readonly maxBytes: number }
  | { readonly kind: 'stopped' }
  /** The position is compacted, and nothing may be skipped. */
  | { readonly kind: 'overtaken' }

export const newEpoch = (random: Random): Epoch => toHex(random.bytes(8)) as Epoch

/** Sampled keys of an estimate, before a checkpoint has been counted. */
const SAMPLE = 32
const ITEM_OVERHEAD = 72
/** A quiet range's state is read again no sooner than this after the last time. */
const STATE_EVERY_MS = 5 * 60_000
/** Checkpoints a new term looks back over for the newest change of policy, one read each. */
const MOST_BEGINS = 256

export class Checkpoints {
  readonly #options: CheckpointsOptions
  readonly #deps: CheckpointsDeps
  #info: StreamInfo
  /** Item bytes of the newest checkpoint, or an estimate; 0 when nothing is known. */
  #bytes = 0
  /** Log bytes since the newest BEGIN that earlier sessions wrote. */
  #bytesBefore: number
  #stateReadAt = Number.NEGATIVE_INFINITY
  /** Compaction was faster than the last attempt: the next one does not rest. */
  #overtaken = false
  /** Of the newest checkpoint, or of the start: what earlier agents wrote has an age nobody needs to know. */
  #freshAt: number
  #freshRevision: Revision
  /** BEGIN of the newest change of policy, 0 for none; undefined until the log was asked. */
  #policyBeginSeq: number | undefined

  constructor(options: CheckpointsOptions, deps: CheckpointsDeps) {
    this.#options = options
    this.#deps = deps
    this.#info = options.info
    this.#freshAt = deps.clock.monotonic()
    this.#freshRevision = deps.session.acked.revision
    this.#bytesBefore = bytesSince(options.info, options.newestCompleteBeginSeq)
  }

  /** A routine one is due by size, age or revisions, or because the newest was trimmed and a fresh reader finds none. */
  get isDue(): boolean {
    const { session } = this.#deps
    if (session.newestCompleteBeginSeq < this.#info.firstSeq || this.#isOld) return true
    return checkpointDue(this.#info, this.#bytes, this.#bytesBefore + session.bytesSinceBegin)
  }

  get #isOld(): boolean {
    const { clock, session } = this.#deps
    const { maxAgeMs, maxRevisions } = this.#options.routine
    const ahead = revisionDistance(session.acked.revision, this.#freshRevision)
    if (ahead <= 0) return false
    return (
      (maxRevisions > 0 && ahead >= maxRevisions) || (maxAgeMs > 0 && clock.monotonic() - this.#freshAt >= maxAgeMs)
    )
  }

  /** Not when compaction overtook the last attempt, nor while a fresh reader finds no checkpoint or soon may not. */
  get #mayRest(): boolean {
    const { session } = this.#deps
    if (this.#overtaken || session.newestCompleteBeginSeq < this.#info.firstSeq) return false
    return mayRest(this.#info, this.#bytes, this.#bytesBefore + session.bytesSinceBegin)
  }

  /** What the log holds now, for {@link isDue} and for the status. */
  async look(): Promise<void> {
    const { hub, session } = this.#deps
    this.#info = await hub.info()
    if (this.#policyBeginSeq === undefined) {
      const newest = session.newestCompleteBeginSeq
      const begins = await readBegins(newest, this.#info.firstSeq, this.#read, MOST_BEGINS)
      // Another one was completed meanwhile: the next look asks again.
      if (session.newestCompleteBeginSeq !== newest) return
      this.#policyBeginSeq = newestPolicyChange(begins)?.seq ?? 0
    }
    this.#tellRetention()
  }

  readonly #read: ReadEntry = async (seq) => {
    const bytes = await this.#deps.hub.message(seq)
    const decoded = bytes === undefined ? undefined : decodeEntry(bytes)
    return decoded?.ok === true ? decoded.value : undefined
  }

  #tellRetention(): void {
    const { firstSeq } = this.#info
    const policyBeginSeq = this.#policyBeginSeq ?? 0
    const state = firstSeq < policyBeginSeq ? 'retained-wider' : 'nothing-wider'
    this.#deps.status.retention = { state, firstSeq, policyBeginSeq }
  }

  /**
   * Puts into the log that a checkpoint is needed, before anything else is done about it: what made it needed may be
   * known to this process alone, and whoever continues the log must write it. The checkpoint's own BEGIN takes its place.
   */
  async announce(reason: Need['reason']): Promise<void> {
    const { random, session } = this.#deps
    await session.settled()
    session.prepare(reason, session.epoch)
    const checkpointId = toHex(random.bytes(8))
    await session.append((revision) => ({ kind: 'snapshot-begin', checkpointId, revision, reason }))
    await session.settled()
  }

  /** Whether the stream can hold what it must; asks the hub for its limits anew. */
  async room(member: EtcdMember): Promise<Fit> {
    this.#info = await this.#deps.hub.info()
    if (this.#bytes === 0) {
      const sample = await readPage(member, this.#options.range, undefined, undefined, SAMPLE)
      const bytes = sample.items.reduce((sum, held) => sum + held.key.length + held.value.length + ITEM_OVERHEAD, 0)
      this.#bytes = estimateCheckpoint(bytes, sample.items.length, sample.count)
    }
    const fit = fits(this.#info, this.#bytes)
    if (!fit.fits) this.#bytes = 0
    return fit
  }

  /** `skips`: events between the position and the pinned revision were never seen, so older evidence ends here. */
  async write(
    member: EtcdMember,
    plan: {
      readonly reason: CheckpointReason
      readonly epoch: Epoch
      readonly pinned: Revision | 'position'
      readonly skips: boolean
    },
    signal: AbortSignal,
  ): Promise<CheckpointResult> {
    const { clock, random, counters, logger, status, session, egress, trail, keys } = this.#deps
    const { range, maxEntryBytes } = this.#options
    const startedAt = clock.monotonic()
    const now = clock.now()
    const sum = new StateSum(keys.current.secret)
    const rests = (): boolean => plan.reason === 'routine' && this.#mayRest
    const page: ReadPage = async (revision, after, limit) => {
      try {
        return await readPage(member, range, revision, after, limit)
      } catch (e) {
        if (e instanceof EtcdFailure && e.kind === 'compacted') this.#overtaken = true
        throw e
      }
    }
    const result = await writeCheckpoint(
      session,
      {
        page: unhurried(page, rests, clock, signal),
        rests,
        item: (held) => egress.item(held, now),
        onHeld: (held) => sum.add(held),
        onRead: (revision) => {
          if (plan.skips) {
            trail.reset()
            status.skips++
          }
          trail.stateAt(revision, sum.digest())
        },
      },
      { ...plan, checkpointId: toHex(random.bytes(8)), maxEntryBytes: maxEntryBytes - HEAD_BYTES, signal },
    )
    this.#overtaken = false
    this.#bytes = result.bytes
    this.#bytesBefore = 0
    this.#stateReadAt = clock.monotonic()
    this.#freshAt = this.#stateReadAt
    this.#freshRevision = result.revision
    status.epoch = plan.epoch
    if (plan.reason === 'policy') {
      this.#policyBeginSeq = session.newestCompleteBeginSeq
      this.#tellRetention()
    } else if (plan.reason !== 'routine') this.#policyBeginSeq = undefined
    const seconds = (clock.monotonic() - startedAt) / 1000
    counters.checkpoint(plan.reason, result, seconds)
    logger.info('checkpoint written', { reason: plan.reason, epoch: plan.epoch, ...result, seconds })
    if (result.oversize > 0) {
      logger.warn('values too large for a checkpoint entry were left out', {
        count: result.oversize,
        advice: `raise the hub's max_payload and the stream's max_msg_size above ${maxEntryBytes + ITEMS_BYTES}`,
      })
    }
    return result
  }

  /**
   * The checkpoint that `need` calls for, at etcd's head; a policy change is answered at the position itself, where no
   * event is skipped. Starts over when compaction overtakes the pinned revision and `maySkip` allows it.
   */
  async answer(member: EtcdMember, need: Need, maySkip: () => boolean, signal: AbortSignal): Promise<Answer> {
    const { clock, random, logger, session } = this.#deps
    let skips = need.reason !== 'policy' || need.skips === true
    for (let attempt = 0; ; attempt++) {
      const fit = await this.room(member)
      if (!fit.fits) return { kind: 'too-small', neededBytes: fit.neededBytes, maxBytes: fit.maxBytes }
      const head = await member.head(this.#options.range)
      const epoch = need.reason === 'epoch' ? newEpoch(random) : session.epoch
      const pinned = skips ? head.revision : 'position'
      try {
        await this.write(member, { reason: need.reason, epoch, pinned, skips }, signal)
        return { kind: 'written', skips }
      } catch (e) {
        if (!(e instanceof EtcdFailure) || e.kind !== 'compacted') throw e
        if (!maySkip()) return { kind: 'overtaken' }
        skips = true
        logger.warn('compaction overtook the checkpoint', { attempt })
        if (!(await pause(clock, Math.min(100 * 2 ** attempt, 10_000), signal))) return { kind: 'stopped' }
      }
    }
  }

  /** Keeps a quiet range provable: compaction will remove its last events, but not its state. */
  async refreshState(connect: () => EtcdMember): Promise<void> {
    const { clock, session, trail, keys } = this.#deps
    const now = clock.monotonic()
    if (trail.state !== undefined || now - this.#stateReadAt < STATE_EVERY_MS) return
    this.#stateReadAt = now
    using member = connect()
    const { range } = this.#options
    const { count } = await member.page({ range, limit: 1, countOnly: true })
    if (count > this.#options.maxStateKeys) return
    const sum = new StateSum(keys.current.secret)
    const at = await readState(member, range, session.appendedRevision, (held) => sum.add(held))
    trail.stateAt(at, sum.digest())
  }
}
