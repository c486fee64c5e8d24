// Where to begin in a log nothing is known of: the newest complete checkpoint its tail vouches for.
// Owns: the walk from the tail's base to the last valid entry.
// Refuses: reading the checkpoint itself. When the tail vouches for none, reading starts further up and looks for a BEGIN.

import { decodeEntry } from '#protocol/log/decode.ts'
import type { EntryId, LogEntry } from '#protocol/log/entry.ts'
import type { LogStream, StreamFacts } from './log-stream.ts'

export type Start =
  | { readonly kind: 'checkpoint'; readonly seq: number }
  /** No complete checkpoint is known: read from here and take the first chain that has one. */
  | { readonly kind: 'seek'; readonly seq: number }

/** Appends in flight plus runs of void entries; a longer way back means a log no agent of ours wrote. */
const MAX_WALK = 1024
const PARALLEL = 16

/** `knownInvalid`: up to here the log was read before and its chain is not the tail's. */
export async function findStart(
  log: LogStream,
  facts: StreamFacts,
  knownInvalid: number,
  signal: AbortSignal,
): Promise<Start> {
  const first = Math.max(1, facts.firstSeq)
  const seek: Start = { kind: 'seek', seq: Math.max(first, Math.min(knownInvalid, facts.lastSeq) + 1) }
  const tail = facts.lastSeq === 0 ? undefined : await entryAt(log, facts.lastSeq, signal)
  if (tail === undefined) return { kind: 'seek', seq: first }
  const newest = await newestCheckpoint(log, facts, tail, signal)
  return newest >= first ? { kind: 'checkpoint', seq: newest } : seek
}

const entryAt = async (log: LogStream, seq: number, signal: AbortSignal): Promise<LogEntry | undefined> => {
  const found = await log.get(seq, signal)
  const decoded = found === undefined ? undefined : decodeEntry(found.data)
  return decoded?.ok === true ? decoded.value : undefined
}

/** Sequence of the BEGIN, or 0. The base is valid for certain; from there on the chain decides. */
const newestCheckpoint = async (
  log: LogStream,
  facts: StreamFacts,
  tail: LogEntry,
  signal: AbortSignal,
): Promise<number> => {
  const { base } = tail
  if (base.seq === 0 || base.seq >= facts.lastSeq || facts.lastSeq - base.seq > MAX_WALK) {
    return tail.newestCompleteBeginSeq
  }
  let newest = 0
  let last: EntryId = base.entryId
  for (let from = base.seq; from <= facts.lastSeq; from += PARALLEL) {
    const count = Math.min(PARALLEL, facts.lastSeq - from + 1)
    const run = await Promise.all(Array.from({ length: count }, (_, i) => entryAt(log, from + i, signal)))
    for (const [i, entry] of run.entries()) {
      const seq = from + i
      const isBase = seq === base.seq && entry?.entryId === base.entryId
      if (entry === undefined || !(isBase || (seq > base.seq && entry.prevEntryId === last))) continue
      last = entry.entryId
      newest = Math.max(newest, entry.newestCompleteBeginSeq)
    }
  }
  return newest
}
