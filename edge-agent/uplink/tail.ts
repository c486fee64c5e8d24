// The position: read from the tail of the log and from nothing else.
// Owns: the walk from the tail's base to the tail under the chain rule, and the verdict known or unknown.
// Refuses: guessing. An entry that is absent or undecodable on that way makes the position unknown; a failed read is no
// verdict at all and is left to the caller to repeat.

import { advance, type ChainState } from '#protocol/log/chain.ts'
import { decodeEntry } from '#protocol/log/decode.ts'
import { type EntryHead, GENESIS, type LogEntry } from '#protocol/log/entry.ts'
import type { Base, Epoch } from '#protocol/log/entry.ts'
import { REVISION_ZERO, type Revision } from '#protocol/revision.ts'
import type { HubLog, StreamInfo } from './ports.ts'
import type { WindowStart } from './window.ts'

export type UnknownReason = 'empty' | 'absent' | 'undecodable' | 'unknown-kind' | 'base-mismatch' | 'broken' | 'too-far'

export type Tail =
  | {
      readonly kind: 'known'
      readonly info: StreamInfo
      /** The last valid entry; an append continues it, expecting `info.lastSeq`. */
      readonly head: Base
      /** The last valid entry outside a chunk group: where a later reader may start. */
      readonly base: Base
      readonly epoch: Epoch
      /** Position: last complete or proven revision. */
      readonly revision: Revision
      /** Head fields of the last valid entry. */
      readonly last: EntryHead
      readonly voids: number
    }
  | { readonly kind: 'unknown'; readonly info: StreamInfo; readonly reason: UnknownReason }

type ReadLog = Pick<HubLog, 'info' | 'message'>

/** A base lies at most a window and one chunk group back; far more than both is not a log of ours. */
const MAX_WALK = 4096
const PARALLEL = 8

export async function readTail(log: ReadLog): Promise<Tail> {
  const info = await log.info()
  const unknown = (reason: UnknownReason): Tail => ({ kind: 'unknown', info, reason })
  if (info.lastSeq === 0) return unknown('empty')
  const newest = await readEntry(log, info.lastSeq)
  if (newest.kind !== 'entry') return unknown(newest.kind)
  const { base } = newest.entry
  if (base.seq >= info.lastSeq || info.lastSeq - base.seq > MAX_WALK) return unknown('too-far')

  let last: LogEntry | undefined
  let state: ChainState = {
    seq: base.seq,
    entryId: base.entryId,
    epoch: undefined,
    revision: base.revision,
    group: undefined,
  }
  if (base.entryId !== GENESIS) {
    const first = await readEntry(log, base.seq)
    if (first.kind !== 'entry') return unknown(first.kind)
    if (first.entry.entryId !== base.entryId) return unknown('base-mismatch')
    last = first.entry
    state = { ...state, epoch: first.entry.epoch }
  }

  let voids = 0
  let rest: Base = base
  for (let from = base.seq + 1; from <= info.lastSeq; from += PARALLEL) {
    const seqs = Array.from({ length: Math.min(PARALLEL, info.lastSeq - from + 1) }, (_, i) => from + i)
    const read = await Promise.all(seqs.map(async (seq) => (seq === info.lastSeq ? newest : readEntry(log, seq))))
    for (const [i, one] of read.entries()) {
      if (one.kind !== 'entry') return unknown(one.kind)
      const verdict = advance(state, from + i, one.entry)
      if (verdict.kind === 'broken') return unknown('broken')
      if (verdict.kind === 'void') {
        voids++
        continue
      }
      state = verdict.state
      last = one.entry
      // Inside an open group a reader that starts there would miss its beginning.
      if (state.group === undefined) rest = restAt(state)
    }
  }
  if (last === undefined || state.epoch === undefined) return unknown('broken')
  return {
    kind: 'known',
    info,
    head: restAt(state),
    base: rest,
    epoch: state.epoch,
    revision: state.revision,
    last,
    voids,
  }
}

const restAt = ({ seq, entryId, revision }: ChainState): Base => ({ seq, entryId, revision })

/** Where appends start: behind the tail when it is known, else a fresh chain at the stream's end. */
export function chainStart(tail: Tail): WindowStart {
  const { lastSeq } = tail.info
  if (tail.kind === 'known') return { lastSeq, head: tail.head, base: tail.base }
  // Genesis stands at the stream's end, so that the walk of the next reader starts there.
  const genesis: Base = { seq: lastSeq, entryId: GENESIS, revision: REVISION_ZERO }
  return { lastSeq, head: genesis, base: genesis }
}

type ReadEntry =
  | { readonly kind: 'entry'; readonly entry: LogEntry }
  | { readonly kind: 'absent' | 'undecodable' | 'unknown-kind' }

async function readEntry(log: ReadLog, seq: number): Promise<ReadEntry> {
  const bytes = await log.message(seq)
  if (bytes === undefined) return { kind: 'absent' }
  const decoded = decodeEntry(bytes)
  return decoded.ok ? { kind: 'entry', entry: decoded.value } : { kind: decoded.error.code }
}
