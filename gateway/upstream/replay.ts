// Older revisions, read from the log for readers the ring has left behind.
// Owns: finding the place of a revision, the chain rule on the way, and a bound on how many read at once. The entries
// come in stretches that all of them share (segments.ts), so that a crowd costs the hub what one reader does. A reader
// that does not pull keeps one entry of the log and no more: its stretch and its slot may be taken back, and it goes on.
// Refuses: crossing a checkpoint that broke continuity (epoch, gap, policy): behind it lies what policy may have taken
// back, or a hole. Overflow rule: one replay too many is refused, its reader tries later or resyncs.

import { errorMessage } from '#kit/errors.ts'
import type { ResyncReason } from '#protocol/frames.ts'
import { advance, type ChainState } from '#protocol/log/chain.ts'
import { decodeEntry } from '#protocol/log/decode.ts'
import type { LogEntry, RevisionRecord } from '#protocol/log/entry.ts'
import { compareRevisions, type Revision } from '#protocol/revision.ts'
import type { LogHistory, ReplayedRevision } from '../view/cluster-view.ts'
import { HeldEntry } from '../view/held-entry.ts'
import type { Position } from '../view/contract.ts'
import type { LogStream, StreamFacts } from './log-stream.ts'
import { ReplayError } from './replay-error.ts'
import type { ReplaySlots } from './replay-slots.ts'
import type { LogSegments } from './segments.ts'
import type { SeqIndex } from './seq-index.ts'

export type ReplayDeps = {
  readonly log: Pick<LogStream, 'facts' | 'get'>
  readonly segments: LogSegments
  readonly index: SeqIndex
  /** The stream as last seen; undefined before the first look. */
  readonly facts: () => StreamFacts | undefined
  readonly slots: ReplaySlots
  readonly onReplay?: (outcome: 'done' | 'busy' | 'trimmed' | 'aborted' | 'unavailable', revisions: number) => void
}

const BARRIER = { epoch: 'epoch', gap: 'compacted', policy: 'policy' } as const

export class LogReplay implements LogHistory {
  readonly #deps: ReplayDeps
  #created: string | undefined
  #generation = 0

  constructor(deps: ReplayDeps) {
    this.#deps = deps
  }

  unreachable(position: Position): ResyncReason | undefined {
    const { index } = this.#deps
    const firstSeq = this.#deps.facts()?.firstSeq ?? 1
    if (index.find(position.epoch, position.revision, firstSeq) !== undefined) return undefined
    const { oldest } = index
    // Further back than this process has read: only a search can tell.
    const mayReach =
      oldest === undefined || (compareRevisions(position.revision, oldest.revision) < 0 && oldest.seq > firstSeq)
    return mayReach ? undefined : 'trimmed'
  }

  async *replay(
    position: Position,
    covered: (revision: Revision) => boolean,
    signal: AbortSignal,
  ): AsyncGenerator<ReplayedRevision> {
    const { slots, onReplay } = this.#deps
    using slot = slots.take()
    if (slot === undefined) {
      onReplay?.('busy', 0)
      throw busy(slots.working)
    }
    let revisions = 0
    let outcome: 'done' | 'busy' | 'trimmed' | 'aborted' | 'unavailable' = 'aborted'
    try {
      for await (const revision of this.#read(position, covered, signal)) {
        revisions++
        slot.rest()
        yield revision
        if (!slot.resume()) throw busy(slots.working)
      }
      outcome = 'done'
    } catch (error) {
      if (signal.aborted) throw error
      if (error instanceof ReplayError) {
        outcome = error.code === 'trimmed' ? 'trimmed' : 'busy'
        throw error
      }
      // A hub that does not answer has lost nothing.
      outcome = 'unavailable'
      const message = `the log cannot be read at the moment (${errorMessage(error)}); try again later`
      throw new ReplayError('replay-busy', message, 'trimmed', { cause: error })
    } finally {
      onReplay?.(outcome, revisions)
    }
  }

  async *#read(
    position: Position,
    covered: (revision: Revision) => boolean,
    signal: AbortSignal,
  ): AsyncGenerator<ReplayedRevision> {
    let state = await this.#start(position, signal)
    let seeded = false
    let expected = state.seq + 1
    for (;;) {
      using held = await this.#deps.segments.take(expected, signal)
      if (held === undefined) return
      // Looked up anew each time: while a revision is out, nothing here may keep the stretch.
      for (let next = held.entry(expected); next !== undefined; next = held.entry(expected)) {
        const { seq, decoded } = next
        const jumped = seq !== expected
        expected = seq + 1
        if (!decoded.ok) continue
        const entry = decoded.value
        if (entry.prevEntryId !== state.entryId) {
          if (jumped) throw new ReplayError('trimmed', `the log was trimmed past ${position.revision}`)
          continue
        }
        if (entry.kind === 'snapshot-begin' && entry.reason !== 'routine' && cuts(entry, position)) {
          throw new ReplayError('trimmed', 'a checkpoint cuts this history', BARRIER[entry.reason])
        }
        if (!seeded && 'prevRevision' in entry) {
          if (compareRevisions(entry.prevRevision, position.revision) > 0) {
            throw new ReplayError('trimmed', `the log starts after ${position.revision}`)
          }
          state = { ...state, revision: entry.prevRevision }
          seeded = true
        }
        const verdict = advance(state, seq, entry)
        if (verdict.kind !== 'valid') throw new ReplayError('trimmed', `the log cannot be followed at ${seq}`)
        state = verdict.state
        for (const record of recordsOf(entry, verdict.completed)) {
          if (compareRevisions(record.revision, position.revision) > 0) yield replayed(position, record, entry.atMs)
        }
        if (
          state.group === undefined &&
          compareRevisions(state.revision, position.revision) >= 0 &&
          covered(state.revision)
        )
          return
      }
    }
  }

  async #start(position: Position, signal: AbortSignal): Promise<ChainState> {
    const { index, log } = this.#deps
    const facts = this.#deps.facts() ?? (await log.facts(signal))
    this.#sameLog(facts)
    const known = index.find(position.epoch, position.revision, facts?.firstSeq ?? 1)
    if (known !== undefined) return known
    const found = facts === undefined ? undefined : await this.#search(position, facts, signal)
    if (found === undefined) throw new ReplayError('trimmed', `the log no longer reaches ${position.revision}`)
    // Inside a checkpoint that cuts history, its BEGIN would not be met.
    const entry = await this.#entry(found.seq, signal)
    if (entry?.pending === 'gap' || entry?.pending === 'policy') {
      throw new ReplayError('trimmed', 'a checkpoint cuts this history', BARRIER[entry.pending])
    }
    return found
  }

  async #entry(seq: number, signal: AbortSignal): Promise<LogEntry | undefined> {
    const found = await this.#deps.log.get(seq, signal)
    const decoded = found === undefined ? undefined : decodeEntry(found.data)
    return decoded?.ok === true ? decoded.value : undefined
  }

  /** What was read of a log that was made anew, or read again from its start, is not of this one. */
  #sameLog(facts: StreamFacts | undefined): void {
    const { generation } = this.#deps.index
    if (facts?.created === this.#created && generation === this.#generation) return
    if (this.#created !== undefined) this.#deps.segments.forget()
    this.#created = facts?.created
    this.#generation = generation
  }

  /** Halves the part of the log before the oldest known point, by the `base` each entry names for certain. */
  async #search(position: Position, facts: StreamFacts, signal: AbortSignal): Promise<ChainState | undefined> {
    let low = facts.firstSeq
    let high = this.#deps.index.oldest?.seq ?? facts.lastSeq
    let best: ChainState | undefined
    while (low <= high) {
      const mid = Math.floor((low + high) / 2)
      const { base, epoch } = (await this.#entry(mid, signal)) ?? {}
      // Strictly before: a policy checkpoint may stand at the very revision, and must be met on the way.
      const after =
        base !== undefined && epoch === position.epoch && compareRevisions(base.revision, position.revision) >= 0
      if (base === undefined || after) {
        high = mid - 1
        continue
      }
      if (epoch === position.epoch && base.seq + 1 >= facts.firstSeq) {
        best = {
          seq: base.seq,
          entryId: base.entryId,
          epoch: position.epoch,
          revision: base.revision,
          group: undefined,
        }
      }
      low = mid + 1
    }
    return best
  }
}

const busy = (working: number): ReplayError =>
  new ReplayError('replay-busy', `${working} replays of this cluster are running; try again later`)

/** At its own revision a policy checkpoint cannot be told from what was before it: who stands there may hold too much. */
function cuts(begin: Extract<LogEntry, { kind: 'snapshot-begin' }>, position: Position): boolean {
  const side = compareRevisions(begin.revision, position.revision)
  return side > 0 || (side === 0 && begin.reason === 'policy')
}

const recordsOf = (entry: LogEntry, completed: RevisionRecord | undefined): readonly RevisionRecord[] =>
  entry.kind === 'events' ? entry.revisions : completed === undefined ? [] : [completed]

const replayed = (position: Position, record: RevisionRecord, agentAtMs: number): ReplayedRevision => ({
  agentAtMs,
  epoch: position.epoch,
  revision: record.revision,
  events: record.events.map((event) => {
    const { op, key } = event
    if (op !== 'put') return { op, key, entry: undefined, prior: undefined }
    const entry = new HeldEntry(event, record.revision)
    entry.lie(event.value, 0, event.value.length)
    return { op, key, entry, prior: undefined }
  }),
})
