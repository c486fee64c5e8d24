// Applies the chain rule to a log read from somewhere in its middle.
// Owns: where the chain starts, what counts as void, and when the log contradicts what was read of it.
// Refuses: I/O, and repair: a fault names its cause, the follower begins again at the newest checkpoint.
//
// seeking ──BEGIN──► rooted (may still prove to be a void chain: then seeking again) ──END──► confirmed
// A chain that was found from the log's tail is confirmed from the start.

import { advance, type ChainState } from '#protocol/log/chain.ts'
import { decodeEntry } from '#protocol/log/decode.ts'
import { type EntryId, GENESIS, type LogEntry, type RevisionRecord } from '#protocol/log/entry.ts'
import { REVISION_ZERO } from '#protocol/revision.ts'

export type ChainFault =
  | 'broken-revision-order'
  | 'broken-prev-revision'
  | 'broken-chunk'
  | 'broken-epoch-without-checkpoint'
  /** Messages are missing and the chain does not go on behind them: the log was trimmed past this reader. */
  | 'trimmed'
  /** A writer knew an entry to be valid that is not in this chain. */
  | 'contradiction'
  /** The checkpoint the log's tail names is not where it should be. */
  | 'no-checkpoint'
  | 'unknown-kind'

export type Judged =
  | {
      readonly kind: 'valid'
      readonly entry: LogEntry
      readonly state: ChainState
      readonly completed: RevisionRecord | undefined
    }
  /** `false-base`: builds on what is not in the log's chain, which reading it again from its checkpoint has shown. */
  | { readonly kind: 'void'; readonly reason: 'chain' | 'undecodable' | 'before-root' | 'false-base' }
  /** The chain followed so far is not the log's; judge the same message again, it may be a new root. */
  | { readonly kind: 'unrooted' }
  | { readonly kind: 'fault'; readonly cause: ChainFault; readonly detail: string }

/** Entries that contradicted a chain, each with the last valid entry it contradicted. */
export type Doubts = ReadonlyMap<EntryId, EntryId>

/** Readings of one log that doubts may cost; from then on its chain counts, and whoever contradicts it is void at once. */
const MOST_DOUBTS = 16

export class ChainReader {
  #state: ChainState | undefined
  /** The position before the first entry after a checkpoint's BEGIN is known only from that entry. */
  #seeded = false
  #confirmed: boolean
  readonly #beginSeq: number | undefined
  #lastSeq = 0
  #gap = false
  readonly #doubts: Map<EntryId, EntryId>

  /**
   * `beginSeq`: the BEGIN that the log's tail vouches for; undefined: look for one. `doubts`: of the reader before, of the
   * same log. An entry that contradicts the same chain twice lies, and cannot have the log read over and over.
   */
  constructor(beginSeq?: number, doubts?: Doubts) {
    this.#beginSeq = beginSeq
    this.#confirmed = beginSeq !== undefined
    this.#doubts = new Map(doubts)
  }

  /** For the next reader of this log. */
  get doubts(): Doubts {
    return this.#doubts
  }

  /** After the last valid entry; undefined before the first. */
  get state(): ChainState | undefined {
    return this.#state
  }
  /** The state's revision is the log's position, not just the pinned revision of a checkpoint. */
  get positioned(): boolean {
    return this.#seeded
  }
  /** The last message judged, valid or void. */
  get lastSeq(): number {
    return this.#lastSeq
  }

  judge(seq: number, message: Uint8Array): Judged {
    // A jump matters only if the chain does not go on: void entries may be missing without harm.
    if (this.#lastSeq !== 0 && seq > this.#lastSeq + 1) this.#gap = true
    this.#lastSeq = seq
    const decoded = decodeEntry(message)
    if (!decoded.ok) {
      const { code, detail } = decoded.error
      return code === 'undecodable' ? { kind: 'void', reason: code } : { kind: 'fault', cause: code, detail }
    }
    const entry = decoded.value
    const state = this.#state
    if (state === undefined) return this.#root(seq, entry)
    const verdict = advance(this.#seed(state, entry), seq, entry)
    switch (verdict.kind) {
      case 'valid':
        this.#gap = false
        if ('prevRevision' in entry) this.#seeded = true
        if (entry.kind === 'snapshot-end') this.#confirmed = true
        this.#state = verdict.state
        return { kind: 'valid', entry, state: verdict.state, completed: verdict.completed }
      case 'broken':
        return { kind: 'fault', cause: `broken-${verdict.reason}`, detail: `entry at ${seq}` }
      case 'void':
        return this.#void(state, seq, entry)
      default: {
        const never: never = verdict
        return never
      }
    }
  }

  #root(seq: number, entry: LogEntry): Judged {
    if (this.#beginSeq !== undefined && (seq !== this.#beginSeq || entry.kind !== 'snapshot-begin')) {
      return {
        kind: 'fault',
        cause: 'no-checkpoint',
        detail: `expected BEGIN at ${this.#beginSeq}, found ${entry.kind} at ${seq}`,
      }
    }
    if (entry.kind !== 'snapshot-begin') return { kind: 'void', reason: 'before-root' }
    const before = {
      seq: seq - 1,
      entryId: entry.prevEntryId,
      epoch: entry.epoch,
      revision: REVISION_ZERO,
      group: undefined,
    }
    const verdict = advance(before, seq, entry)
    if (verdict.kind !== 'valid') return { kind: 'void', reason: 'before-root' }
    this.#state = verdict.state
    this.#seeded = false
    return { kind: 'valid', entry, state: verdict.state, completed: undefined }
  }

  #seed(state: ChainState, entry: LogEntry): ChainState {
    if (this.#seeded || entry.prevEntryId !== state.entryId || !('prevRevision' in entry)) return state
    return { ...state, revision: entry.prevRevision }
  }

  #void(state: ChainState, seq: number, entry: LogEntry): Judged {
    if (this.#gap) return { kind: 'fault', cause: 'trimmed', detail: `the chain does not go on at ${seq}` }
    const { base } = entry
    const known = base.seq < seq && (base.seq > state.seq || (base.seq === state.seq && base.entryId !== state.entryId))
    // An agent that found no position starts a chain of its own at the log's end.
    const rootsAnew = entry.kind === 'snapshot-begin' && entry.reason === 'epoch' && entry.prevEntryId === GENESIS
    if (!known && !rootsAnew) return { kind: 'void', reason: 'chain' }
    if (this.#confirmed) {
      const before = this.#doubts.get(entry.entryId)
      const told = before === state.entryId || (before === undefined && this.#doubts.size >= MOST_DOUBTS)
      if (told && !rootsAnew) return { kind: 'void', reason: 'false-base' }
      if (!rootsAnew) this.#doubts.set(entry.entryId, state.entryId)
      const detail = rootsAnew ? `entry at ${seq} starts a new chain` : `entry at ${seq} builds on one at ${base.seq}`
      return { kind: 'fault', cause: 'contradiction', detail }
    }
    this.#state = undefined
    return { kind: 'unrooted' }
  }
}
