// One continuous run of appends behind one tail, on one connection.
// Owns: turning waiting revisions and checkpoint parts into entries, the order among them, acknowledgements, the end.
// Refuses: recovery. At the first refusal, rejection, loss or missing answer it ends at once, abandons what is in flight
// without waiting for it, and never says anything about the position again: only the next reading of the tail does.

import { encodeEntry } from '#protocol/log/encode.ts'
import type { AgentState, CheckpointReason, EntryBody, EntryId, Epoch, Mark, Pending } from '#protocol/log/entry.ts'
import { WireWriter } from '#protocol/log/wire.ts'
import { compareRevisions, maxRevision, REVISION_ZERO, type Revision, revisionDistance } from '#protocol/revision.ts'
import { toHex } from '#protocol/bytes.ts'
import type { Clock } from '#kit/clock.ts'
import type { Random } from '#kit/random.ts'
import type { ChangedRevision } from '../egress/change.ts'
import { type AppendResult, HubError, type HubLog, type LineageTrail, type Outgoing } from './ports.ts'
import { LiveQueue, type Taken } from './queue.ts'
import { AppendWindow, type WindowLimits, type WindowStart } from './window.ts'

export type SessionIdentity = {
  readonly agentId: string
  readonly configHash: string
  readonly policyRevision: string
}

export type SessionOptions = {
  readonly start: WindowStart
  readonly identity: SessionIdentity
  readonly epoch: Epoch
  readonly newestCompleteBeginSeq: number
  readonly window: WindowLimits
  /** Largest entry, framing included. */
  readonly maxEntryBytes: number
  /** No answer for this long: the append is lost. */
  readonly ackTimeoutMs: number
  readonly progress: { readonly maxRevisions: number; readonly maxMs: number }
}

export type SessionEnd =
  | { readonly kind: 'lost'; readonly reason: string }
  | { readonly kind: 'refused' }
  | Extract<AppendResult, { kind: 'rejected' }>
  | { readonly kind: 'closed' }

export type SessionDeps = {
  readonly hub: HubLog
  readonly trail: LineageTrail
  readonly clock: Clock
  readonly random: Random
  /** After something was acknowledged or taken: back-pressure may ease. */
  readonly onEased?: () => void
  readonly onAppended?: (entry: {
    readonly kind: EntryBody['kind']
    readonly bytes: number
    readonly events: number
    readonly ackMs: number
    readonly residenceMs: number
  }) => void
}

/** Checkpoint parts; live entries are made here from the queue. */
export type CheckpointPart = Extract<EntryBody, { kind: 'snapshot-begin' | 'snapshot-items' | 'snapshot-end' }>

/** A part that depends on the position is made when it is sent: entries may still go before it. */
export type PartSource = CheckpointPart | ((position: Revision) => CheckpointPart)

type Waiting = {
  readonly part: PartSource
  readonly resolve: (bytes: Uint8Array) => void
  readonly reject: (e: unknown) => void
}

/** Everything of an entry but its body's variable part: ids, hashes, names, lineage. */
export const HEAD_BYTES = 4096
/** Checkpoint parts of a routine checkpoint in flight at once: the rest of the window stays free for live entries. */
const PARTS_IN_FLIGHT = 3

export class LogSession {
  readonly ended: Promise<SessionEnd>
  readonly #options: SessionOptions
  readonly #deps: SessionDeps
  readonly #window: AppendWindow
  readonly #queue = new LiveQueue()
  readonly #writer = new WireWriter(256 * 1024)
  readonly #waiting: Waiting[] = []
  readonly #lost: Disposable
  readonly #generation: number
  #end: SessionEnd | undefined
  #resolveEnd: (end: SessionEnd) => void = () => undefined
  #settle: (() => void)[] = []
  #epoch: Epoch
  #pending: Pending = 'none'
  #newestCompleteBeginSeq: number
  #beginSeq = 0
  #checkpointEpoch: Epoch | undefined
  /** Sequence of the BEGIN that started the current epoch in this session: nothing before it speaks for the epoch. */
  #epochSince = 0
  #proven: Revision
  /** Covered by the position's next move, not yet part of the evidence. */
  #covered: ChangedRevision[] = []
  #partsInFlight = 0
  #partTurn = false
  #lastSentAt: number
  #srtt = 0
  #pacing: Disposable | undefined
  #bytesSinceBegin = 0

  constructor(options: SessionOptions, deps: SessionDeps) {
    this.#options = options
    this.#deps = deps
    this.#window = new AppendWindow(options.start, options.window)
    this.#epoch = options.epoch
    this.#newestCompleteBeginSeq = options.newestCompleteBeginSeq
    this.#proven = options.start.base.revision
    this.#lastSentAt = deps.clock.monotonic()
    this.#generation = deps.hub.generation
    this.ended = new Promise((resolve) => {
      this.#resolveEnd = resolve
    })
    this.#lost = deps.hub.onLost(() => this.#finish({ kind: 'lost', reason: 'disconnected' }))
    if (!deps.hub.connected) this.#finish({ kind: 'lost', reason: 'disconnected' })
  }

  get epoch(): Epoch {
    return this.#epoch
  }
  get isOpen(): boolean {
    return this.#end === undefined
  }
  get acked() {
    return this.#window.acked
  }
  get inFlight(): number {
    return this.#window.inFlight
  }
  /** Bytes held for the hub, waiting and in flight: what back-pressure bounds. */
  get bytesHeld(): number {
    return this.#queue.bytes + this.#window.bytesInFlight
  }
  get revisionsWaiting(): number {
    return this.#queue.revisions
  }
  /** Smoothed time from append to acknowledgement, ms; 0 before the first. */
  get ackMs(): number {
    return this.#srtt
  }
  /** Position once everything sent is stored. */
  get appendedRevision(): Revision {
    return this.#window.headRevision
  }
  get proven(): Revision {
    return this.#proven
  }
  /** Entry bytes appended by this session since the newest BEGIN. */
  get bytesSinceBegin(): number {
    return this.#bytesSinceBegin
  }
  get newestCompleteBeginSeq(): number {
    return this.#newestCompleteBeginSeq
  }

  /** A complete revision, in order, above everything offered before. */
  offer(outgoing: Outgoing): void {
    if (this.#end !== undefined) return
    this.#queue.push(outgoing)
    this.#proven = maxRevision(this.#proven, outgoing.revision)
  }

  /** Everything up to here has been offered. */
  proved(revision: Revision): void {
    this.#proven = maxRevision(this.#proven, revision)
  }

  /** Sends what may be sent now. Call after offering a batch: what was gathered together travels together. */
  flush(): void {
    this.#pump()
  }

  /** Resolves with the entry's bytes once it is on its way; rejects when the session ends before. */
  append(part: PartSource): Promise<Uint8Array> {
    if (this.#end !== undefined) return Promise.reject(endError(this.#end))
    return new Promise((resolve, reject) => {
      this.#waiting.push({ part, resolve, reject })
      this.#pump()
    })
  }

  /** Marks everything that follows as part of a pending checkpoint; a new epoch takes effect with its BEGIN. */
  prepare(reason: CheckpointReason, epoch: Epoch): void {
    this.#checkpointEpoch = epoch
    this.#pending = reason === 'routine' ? 'none' : reason
  }

  /** Resolves when nothing waits or is in flight; rejects when the session ends before. */
  settled(): Promise<void> {
    if (this.#end !== undefined) return Promise.reject(endError(this.#end))
    if (this.#isSettled()) return Promise.resolve()
    return new Promise((resolve, reject) => {
      this.#settle.push(resolve)
      void this.ended.then((end) => reject(endError(end)))
    })
  }

  /** Time passes: missing acknowledgements, overdue PROGRESS entries. */
  tick(): void {
    if (this.#end !== undefined) return
    const now = this.#deps.clock.monotonic()
    const oldest = this.#window.oldestSentAt()
    if (oldest !== undefined && now - oldest >= this.#options.ackTimeoutMs) {
      return this.#finish({ kind: 'lost', reason: 'no acknowledgement' })
    }
    const ahead = compareRevisions(this.#proven, this.#window.headRevision) > 0
    if (!ahead || !this.#queue.isEmpty || this.#pending !== 'none' || this.#waiting.length > 0) return
    const { maxRevisions, maxMs } = this.#options.progress
    const far = revisionDistance(this.#proven, this.#window.headRevision) > maxRevisions
    if ((far || now - this.#lastSentAt >= maxMs) && this.#window.hasRoom(HEAD_BYTES)) {
      this.#send({ kind: 'progress', prevRevision: this.#window.headRevision, revision: this.#proven }, 0, now)
    }
  }

  /** The bookmark of this moment; undefined before anything is acknowledged. */
  mark(state: AgentState, lag: number): Mark | undefined {
    const { acked } = this.#window
    if (acked.seq === 0 || acked.seq < this.#epochSince) return undefined
    // What is proven beyond the last acknowledged entry counts only when nothing of it is still on its way.
    const all = this.#queue.isEmpty && this.#window.headRevision === acked.revision
    return {
      v: 1,
      agentId: this.#options.identity.agentId,
      epoch: this.#epoch,
      provenRevision: all ? maxRevision(this.#proven, acked.revision) : acked.revision,
      seq: acked.seq,
      entryId: acked.entryId,
      configHash: this.#options.identity.configHash,
      state,
      lag,
      atMs: this.#deps.clock.now(),
    }
  }

  close(): void {
    this.#finish({ kind: 'closed' })
  }

  #pump(): void {
    while (this.#end === undefined) {
      const part = this.#waiting[0]
      const partReady =
        part !== undefined &&
        !this.#queue.slicing &&
        (this.#queue.isEmpty || this.#partTurn) &&
        (this.#pending !== 'none' || this.#partsInFlight < PARTS_IN_FLIGHT) &&
        this.#window.hasRoom(HEAD_BYTES + partBytes(part.part))
      if (partReady) {
        this.#waiting.shift()
        this.#partTurn = false
        this.#sendPart(part)
        continue
      }
      // Until a pending checkpoint is complete nothing live may stand in the log.
      if (this.#queue.isEmpty || this.#pending !== 'none') return
      if (!this.#window.hasRoom(HEAD_BYTES + Math.min(this.#queue.bytes, this.#bodyBytes))) return
      if (this.#mustPace()) return
      const taken = this.#queue.take(this.#bodyBytes, this.#newGroupId, (one) => this.#cover(one))
      if (taken === undefined) return
      this.#partTurn = true
      this.#sendTaken(taken)
    }
  }

  get #bodyBytes(): number {
    return this.#options.maxEntryBytes - HEAD_BYTES
  }

  readonly #newGroupId = (): string => toHex(this.#deps.random.bytes(8))

  /** On a long link the window is spread over the round trip, so that small appends do not use it up at once. */
  #mustPace(): boolean {
    const { maxInFlight } = this.#options.window
    if (this.#window.inFlight * 2 < maxInFlight || this.#queue.bytes >= this.#bodyBytes) return false
    const wait = this.#srtt / maxInFlight - (this.#deps.clock.monotonic() - this.#lastSentAt)
    if (wait < 1) return false
    this.#pacing ??= this.#deps.clock.setTimeout(() => {
      this.#pacing = undefined
      this.#pump()
    }, wait)
    return true
  }

  #cover(outgoing: Outgoing): void {
    this.#covered.push(outgoing.source)
    if (this.#covered.length >= 256) this.#covered = this.#covered.slice(-128)
  }

  #sendTaken(taken: Taken): void {
    const prevRevision = this.#window.headRevision
    switch (taken.kind) {
      case 'hidden':
        return
      case 'events': {
        // Proven revisions without events behind the last one ride along when nothing else waits.
        const throughRevision = this.#queue.isEmpty ? maxRevision(taken.through, this.#proven) : taken.through
        const body: EntryBody = { kind: 'events', prevRevision, revisions: taken.records, throughRevision }
        return void this.#send(body, taken.events, taken.oldestArrival)
      }
      case 'chunk': {
        const { revision, groupId, index, count, data } = taken
        const body: EntryBody = { kind: 'chunk', prevRevision, revision, groupId, index, count, data }
        return void this.#send(body, taken.events, taken.oldestArrival)
      }
      default: {
        const never: never = taken
        return never
      }
    }
  }

  #sendPart(waiting: Waiting): void {
    const part = typeof waiting.part === 'function' ? waiting.part(this.#window.headRevision) : waiting.part
    if (part.kind === 'snapshot-begin') {
      this.#beginSeq = this.#window.headSeq + 1
      this.#bytesSinceBegin = 0
    }
    if (part.kind === 'snapshot-end') {
      this.#pending = 'none'
      this.#newestCompleteBeginSeq = this.#beginSeq
    }
    waiting.resolve(this.#send(part, 0, this.#deps.clock.monotonic()))
  }

  #send(body: EntryBody, events: number, oldestArrival: number): Uint8Array {
    const { hub, clock, random, trail } = this.#deps
    const claim = this.#window.claim()
    const entryId = toHex(random.bytes(16)) as EntryId
    const now = clock.monotonic()
    const revision = this.#positionAfter(body, claim.prevRevision)
    if (body.kind === 'snapshot-begin') this.#beginEpoch()
    if (body.kind === 'snapshot-end') this.#proven = maxRevision(this.#proven, body.revision)
    if (
      body.kind === 'events' ||
      body.kind === 'progress' ||
      (body.kind === 'chunk' && body.index === body.count - 1)
    ) {
      for (const source of this.#covered) trail.include(source)
      this.#covered = []
    }
    const bytes = encodeEntry(
      {
        entryId,
        prevEntryId: claim.prevEntryId,
        epoch: this.#epoch,
        ...this.#options.identity,
        newestCompleteBeginSeq: this.#newestCompleteBeginSeq,
        pending: this.#pending,
        base: claim.base,
        residenceUs: Math.max(0, Math.round((now - oldestArrival) * 1000)),
        atMs: clock.now(),
        lineage: trail.evidence(),
        ...body,
      },
      this.#writer,
    )
    const restable = body.kind !== 'chunk' || body.index === body.count - 1
    this.#window.sent({ entryId, revision, bytes: bytes.length, sentAt: now, restable })
    this.#lastSentAt = now
    this.#bytesSinceBegin += bytes.length
    const isPart = body.kind.startsWith('snapshot')
    if (isPart) this.#partsInFlight++
    void hub.append(bytes, claim.expectedSeq).then((result) => {
      if (this.#end !== undefined) return
      if (isPart) this.#partsInFlight--
      this.#onResult(entryId, result, now)
      this.#deps.onAppended?.({
        kind: body.kind,
        bytes: bytes.length,
        events,
        ackMs: clock.monotonic() - now,
        residenceMs: now - oldestArrival,
      })
    })
    return bytes
  }

  #beginEpoch(): void {
    const next = this.#checkpointEpoch
    if (next === undefined || next === this.#epoch) return
    this.#epoch = next
    this.#epochSince = this.#beginSeq
    this.#proven = REVISION_ZERO
  }

  #positionAfter(body: EntryBody, before: Revision): Revision {
    switch (body.kind) {
      case 'events':
        return body.throughRevision
      case 'progress':
        return body.revision
      case 'chunk':
        return body.index === body.count - 1 ? body.revision : before
      case 'snapshot-begin':
        return this.#checkpointEpoch === undefined || this.#checkpointEpoch === this.#epoch ? before : REVISION_ZERO
      case 'snapshot-items':
        return before
      case 'snapshot-end':
        return maxRevision(before, body.revision)
      default: {
        const never: never = body
        return never
      }
    }
  }

  #onResult(entryId: EntryId, result: AppendResult, sentAt: number): void {
    if (this.#deps.hub.generation !== this.#generation) return this.#finish({ kind: 'lost', reason: 'reconnected' })
    if (result.kind !== 'stored') return this.#finish(result)
    const verdict = this.#window.stored(entryId, result.seq)
    if (verdict.kind === 'impossible') return this.#finish({ kind: 'lost', reason: verdict.detail })
    const took = this.#deps.clock.monotonic() - sentAt
    this.#srtt = this.#srtt === 0 ? took : this.#srtt * 0.9 + took * 0.1
    this.#pump()
    this.#deps.onEased?.()
    if (this.#isSettled()) for (const resolve of this.#settle.splice(0)) resolve()
  }

  #isSettled(): boolean {
    return this.#queue.isEmpty && this.#window.inFlight === 0 && this.#waiting.length === 0
  }

  #finish(end: SessionEnd): void {
    if (this.#end !== undefined) return
    this.#end = end
    this.#lost?.[Symbol.dispose]()
    this.#pacing?.[Symbol.dispose]()
    for (const { reject } of this.#waiting.splice(0)) reject(endError(end))
    this.#settle = []
    this.#covered = []
    this.#resolveEnd(end)
  }
}

/** Close to the part's encoding: items are cut by a byte target far below the entry limit. */
function partBytes(part: PartSource): number {
  if (typeof part === 'function' || part.kind !== 'snapshot-items') return 0
  return part.items.reduce((sum, item) => sum + item.key.length + item.value.length + 64, 0)
}

export class SessionEnded extends HubError {
  readonly end: SessionEnd
  constructor(end: SessionEnd) {
    super('disconnected', `the run of appends ended: ${end.kind}`)
    this.end = end
  }
}
const endError = (end: SessionEnd): SessionEnded => new SessionEnded(end)
