// One continuous run of appends behind one tail, on one connection.
// Owns: turning waiting revisions and checkpoint parts into entries, the order among them, acknowledgements, the end.
// Refuses: recovery. At the first refusal, rejection, loss or missing answer it ends at once, abandons what is in flight
// without waiting for it, and never says anything about the position again: only the next reading of the tail does.

import { toHex } from '#protocol/bytes.ts'
import type { AgentState, CheckpointReason, EntryBody, EntryId, Epoch, Mark } from '#protocol/log/entry.ts'
import { compareRevisions, maxRevision, REVISION_ZERO, type Revision, revisionDistance } from '#protocol/revision.ts'
import type { Clock } from '#kit/clock.ts'
import type { Random } from '#kit/random.ts'
import { Composer, HEAD_BYTES, type Identity } from './composer.ts'
import type { EntryTracer } from './entry-trace.ts'
import { type SessionEnd, SessionEnded } from './session-end.ts'
import { batchBytes, spreadMs } from './pace.ts'
import { type PartSource, partBytes } from './parts.ts'
import type { AppendResult, HubLog, LineageTrail, Outgoing } from './ports.ts'
import { LiveQueue, type Taken } from './queue.ts'
import { AppendWindow, type WindowLimits, type WindowStart } from './window.ts'

export type SessionOptions = {
  readonly start: WindowStart
  readonly identity: Identity
  readonly epoch: Epoch
  readonly newestCompleteBeginSeq: number
  readonly window: WindowLimits
  /** Largest entry, framing included. */
  readonly maxEntryBytes: number
  /** No answer for this long: the append is lost. */
  readonly ackTimeoutMs: number
  readonly progress: { readonly maxRevisions: number; readonly maxMs: number }
}

export type AppendedEntry = {
  readonly kind: EntryBody['kind']
  readonly bytes: number
  readonly events: number
  readonly ackMs: number
  readonly residenceMs: number
}

export type SessionDeps = {
  readonly hub: HubLog
  readonly trail: LineageTrail
  readonly clock: Clock
  readonly random: Random
  /** After something was acknowledged: back-pressure may ease. */
  readonly onEased: () => void
  readonly onAppended: (entry: AppendedEntry) => void
  /** Calls `fn` at the end of this turn of the event loop. */
  readonly soon: (fn: () => void) => void
  /** Undefined: nothing is traced. */
  readonly traces?: EntryTracer | undefined
}

type Waiting = {
  readonly part: PartSource
  readonly resolve: (bytes: Uint8Array) => void
  readonly reject: (e: unknown) => void
}
type Origin = { readonly isPart: boolean; readonly events: number; readonly oldestArrival: number }

/** Parts of a routine checkpoint in flight at once: the rest of the window stays free for live entries. */
const PARTS_IN_FLIGHT = 3

export class LogSession {
  readonly ended: Promise<SessionEnd>
  readonly #options: SessionOptions
  readonly #deps: SessionDeps
  readonly #composer: Composer
  readonly #window: AppendWindow
  readonly #queue = new LiveQueue()
  readonly #waiting: Waiting[] = []
  readonly #generation: number
  readonly #lost: Disposable
  readonly #resolveEnd: (end: SessionEnd) => void
  #end: SessionEnd | undefined
  #settle: (() => void)[] = []
  #proven: Revision
  #partsInFlight = 0
  #partTurn = false
  #lastSentAt: number
  #srtt = 0
  #pacing: Disposable | undefined
  #flushing = false
  #bytesSinceBegin = 0
  /** Of them, those before the BEGIN of a checkpoint that is not complete. */
  #bytesAtBegin = 0

  constructor(options: SessionOptions, deps: SessionDeps) {
    this.#options = options
    this.#deps = deps
    this.#composer = new Composer(options.identity, options.epoch, options.newestCompleteBeginSeq, deps)
    this.#window = new AppendWindow(options.start, options.window)
    this.#proven = options.start.head.revision
    this.#lastSentAt = deps.clock.monotonic()
    this.#generation = deps.hub.generation
    const { promise, resolve } = Promise.withResolvers<SessionEnd>()
    this.ended = promise
    this.#resolveEnd = resolve
    this.#lost = deps.hub.onLost(() => this.#finish({ kind: 'lost', reason: 'disconnected' }))
    if (!deps.hub.connected) this.#finish({ kind: 'lost', reason: 'disconnected' })
  }

  get epoch(): Epoch {
    return this.#composer.epoch
  }
  get newestCompleteBeginSeq(): number {
    return this.#composer.newestCompleteBeginSeq
  }
  /** The newest entry known to be stored. */
  get acked() {
    return this.#window.acked
  }
  /** A pending checkpoint has begun and is not complete. */
  get isPending(): boolean {
    return this.#composer.isPending
  }
  get inFlight(): number {
    return this.#window.inFlight
  }
  /** Bytes held for the hub, waiting and in flight: what back-pressure bounds. */
  get bytesHeld(): number {
    return this.#queue.bytes + this.#window.bytesInFlight
  }
  /** Smoothed time from append to acknowledgement, ms; 0 before the first. */
  get ackMs(): number {
    return this.#srtt
  }
  /** Position once everything sent is stored. */
  get appendedRevision(): Revision {
    return this.#window.headRevision
  }
  /** Everything up to here has been offered. */
  get proven(): Revision {
    return this.#proven
  }
  /** Entry bytes appended by this session since the BEGIN of the newest complete checkpoint. */
  get bytesSinceBegin(): number {
    return this.#bytesSinceBegin
  }

  /** A complete revision, in order, above everything offered before. Follow a batch with {@link flush}. */
  offer(outgoing: Outgoing): void {
    if (this.#end !== undefined) return
    this.#queue.push(outgoing)
    this.#proven = maxRevision(this.#proven, outgoing.revision)
  }

  proved(revision: Revision): void {
    this.#proven = maxRevision(this.#proven, revision)
  }

  /** Sends what may be sent, soon: what arrives in one turn of the event loop travels together. */
  flush(): void {
    if (this.#flushing) return
    this.#flushing = true
    this.#deps.soon(() => {
      this.#flushing = false
      this.#moveOn()
    })
  }

  /** Marks what follows as part of a checkpoint; a new epoch takes effect with its BEGIN. */
  prepare(reason: CheckpointReason, epoch: Epoch): void {
    this.#composer.prepare(reason, epoch)
  }

  /** Resolves with the entry's bytes once it is on its way; rejects when the session ends before. */
  append(part: PartSource): Promise<Uint8Array> {
    if (this.#end !== undefined) return Promise.reject(new SessionEnded(this.#end))
    return new Promise((resolve, reject) => {
      this.#waiting.push({ part, resolve, reject })
      this.#pump()
    })
  }

  /** Resolves when nothing waits or is in flight; rejects when the session ends before. */
  async settled(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    if (this.#isSettled()) resolve(undefined)
    else this.#settle.push(() => resolve(undefined))
    const end = await Promise.race([promise, this.ended])
    if (end !== undefined) throw new SessionEnded(end)
  }

  /** Time passes: missing acknowledgements, overdue PROGRESS entries. */
  tick(): void {
    if (this.#end !== undefined) return
    const now = this.#deps.clock.monotonic()
    const oldest = this.#window.oldestSentAt()
    if (oldest !== undefined && now - oldest >= this.#options.ackTimeoutMs) {
      return this.#finish({ kind: 'lost', reason: 'no acknowledgement' })
    }
    const position = this.#window.headRevision
    if (compareRevisions(this.#proven, position) <= 0 || !this.#queue.isEmpty) return
    if (this.#composer.isPending || this.#waiting.length > 0 || !this.#window.hasRoom(HEAD_BYTES)) return
    const { maxRevisions, maxMs } = this.#options.progress
    if (revisionDistance(this.#proven, position) <= maxRevisions && now - this.#lastSentAt < maxMs) return
    this.#send(
      { kind: 'progress', prevRevision: position, revision: this.#proven },
      { isPart: false, events: 0, oldestArrival: now },
    )
  }

  /** The bookmark of this moment; undefined before anything of the epoch is acknowledged. */
  mark(state: AgentState, lag: number): Mark | undefined {
    const { acked } = this.#window
    if (acked.seq === 0 || acked.seq < this.#composer.epochSince || this.#end !== undefined) return undefined
    const { agentId, configHash, policyRevision } = this.#options.identity
    // What is proven beyond the last acknowledged entry counts only when nothing of it is still on its way.
    const all = this.#queue.isEmpty && this.#window.headRevision === acked.revision
    return {
      v: 1,
      agentId,
      epoch: this.epoch,
      provenRevision: all ? maxRevision(this.#proven, acked.revision) : acked.revision,
      seq: acked.seq,
      entryId: acked.entryId,
      configHash,
      policyRevision,
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
      const waiting = this.#waiting[0]
      if (waiting !== undefined && this.#maySendPart(waiting.part)) {
        this.#waiting.shift()
        this.#partTurn = false
        this.#sendPart(waiting)
        continue
      }
      if (this.#queue.isEmpty || this.#composer.isPending) return
      if (!this.#window.hasRoom(HEAD_BYTES + Math.min(this.#queue.bytes, this.#batchBytes)) || this.#mustPace()) return
      const taken = this.#queue.take(this.#bodyBytes, this.#batchBytes, this.#newGroupId, (one) =>
        this.#composer.cover(one),
      )
      if (taken === undefined) return
      this.#partTurn = true
      this.#sendTaken(taken)
    }
  }

  /** Parts and live entries take turns; nothing comes between the slices of a revision. */
  #maySendPart(part: PartSource): boolean {
    if (this.#queue.slicing || !(this.#queue.isEmpty || this.#partTurn || this.#composer.isPending)) return false
    if (!this.#composer.isPending && this.#partsInFlight >= PARTS_IN_FLIGHT) return false
    return this.#window.hasRoom(HEAD_BYTES + partBytes(part))
  }

  get #bodyBytes(): number {
    return this.#options.maxEntryBytes - HEAD_BYTES
  }
  get #batchBytes(): number {
    return Math.min(batchBytes(this.#srtt), this.#bodyBytes)
  }

  readonly #newGroupId = (): string => toHex(this.#deps.random.bytes(8))

  #mustPace(): boolean {
    const { maxInFlight } = this.#options.window
    if (this.#queue.bytes >= this.#batchBytes) return false
    const wait = spreadMs(
      this.#srtt,
      this.#window.inFlight,
      maxInFlight,
      this.#deps.clock.monotonic() - this.#lastSentAt,
    )
    if (wait === 0) return false
    this.#pacing ??= this.#deps.clock.setTimeout(() => {
      this.#pacing = undefined
      this.#moveOn()
    }, wait)
    return true
  }

  #sendTaken(taken: Taken): void {
    const prevRevision = this.#window.headRevision
    switch (taken.kind) {
      case 'hidden':
        return
      case 'events': {
        // Proven revisions without events behind the last one ride along when nothing else waits.
        const throughRevision = this.#queue.isEmpty ? maxRevision(taken.through, this.#proven) : taken.through
        const { events, oldestArrival, records: revisions } = taken
        this.#send(
          { kind: 'events', prevRevision, revisions, throughRevision },
          { isPart: false, events, oldestArrival },
        )
        return
      }
      case 'chunk': {
        const { revision, groupId, index, count, data, events, oldestArrival } = taken
        const body: EntryBody = { kind: 'chunk', prevRevision, revision, groupId, index, count, data }
        this.#send(body, { isPart: false, events, oldestArrival })
        return
      }
      default: {
        const never: never = taken
        return never
      }
    }
  }

  #sendPart({ part: source, resolve }: Waiting): void {
    const part = typeof source === 'function' ? source(this.#window.headRevision) : source
    if (part.kind === 'snapshot-begin') this.#bytesAtBegin = this.#bytesSinceBegin
    const before = this.epoch
    const bytes = this.#send(part, { isPart: true, events: 0, oldestArrival: this.#deps.clock.monotonic() })
    if (this.epoch !== before) this.#proven = REVISION_ZERO
    if (part.kind === 'snapshot-end') {
      this.#proven = maxRevision(this.#proven, part.revision)
      // One that was abandoned counts as log like any other, so that the next is due no later for it.
      this.#bytesSinceBegin -= this.#bytesAtBegin
    }
    resolve(bytes)
  }

  #send(body: EntryBody, origin: Origin): Uint8Array {
    const { hub, clock } = this.#deps
    const claim = this.#window.claim()
    const { bytes, entryId, revision, restable } = this.#composer.compose(body, claim, origin.oldestArrival)
    const sentAt = clock.monotonic()
    this.#window.sent({ entryId, revision, bytes: bytes.length, sentAt, restable })
    this.#lastSentAt = sentAt
    this.#bytesSinceBegin += bytes.length
    if (origin.isPart) this.#partsInFlight++
    const entry = {
      kind: body.kind,
      bytes: bytes.length,
      events: origin.events,
      residenceMs: sentAt - origin.oldestArrival,
    }
    const trace = this.#deps.traces?.begin(body, { ...origin, bytes: bytes.length, sentAt })
    void hub.append(bytes, claim.expectedSeq, trace?.context).then((result) => {
      trace?.end(result, clock.monotonic())
      if (this.#end !== undefined) return
      if (origin.isPart) this.#partsInFlight--
      const ackMs = clock.monotonic() - sentAt
      if (this.#accept(entryId, result, ackMs)) this.#deps.onAppended({ ...entry, ackMs })
    })
    return bytes
  }

  #accept(entryId: EntryId, result: AppendResult, ackMs: number): boolean {
    if (this.#deps.hub.generation !== this.#generation) {
      this.#finish({ kind: 'lost', reason: 'reconnected' })
      return false
    }
    if (result.kind !== 'stored') {
      this.#finish(result)
      return false
    }
    const verdict = this.#window.stored(entryId, result.seq)
    if (verdict.kind === 'impossible') {
      this.#finish({ kind: 'lost', reason: verdict.detail })
      return false
    }
    this.#srtt = this.#srtt === 0 ? ackMs : this.#srtt * 0.9 + ackMs * 0.1
    this.#moveOn()
    return true
  }

  /** Hidden revisions leave the queue without an entry that anybody would acknowledge: that eases and settles too. */
  #moveOn(): void {
    // What is being gathered goes out with the rest of this turn.
    if (!this.#flushing) this.#pump()
    if (this.#end !== undefined) return
    this.#deps.onEased()
    if (this.#isSettled()) for (const resolve of this.#settle.splice(0)) resolve()
  }

  #isSettled(): boolean {
    return this.#end === undefined && this.#queue.isEmpty && this.#window.inFlight === 0 && this.#waiting.length === 0
  }

  #finish(end: SessionEnd): void {
    if (this.#end !== undefined) return
    this.#end = end
    // Undefined only when the constructor itself found the hub gone.
    this.#lost?.[Symbol.dispose]()
    this.#pacing?.[Symbol.dispose]()
    for (const { reject } of this.#waiting.splice(0)) reject(new SessionEnded(end))
    this.#settle = []
    this.#resolveEnd(end)
  }
}
