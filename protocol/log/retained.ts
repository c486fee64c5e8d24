// Which entries a log still holds from before its newest change of policy, told by the log alone.
// Owns: the way from the tail to the newest complete checkpoint, from there back from BEGIN to BEGIN, and which of them
// nothing older is needed behind. Every BEGIN names the complete checkpoint before it, so the way costs one read each.
// Refuses: purging, and reading by itself: the caller reads, from the leader. Whether a change narrowed what may leave or
// widened it the log does not say; each counts as one that narrowed.

import { type CheckpointReason, GENESIS, type LogEntry, type Pending } from './entry.ts'

export type LogBounds = { readonly firstSeq: number; readonly lastSeq: number }
/** Undefined: no message there, or none that is an entry. */
export type ReadEntry = (seq: number) => Promise<LogEntry | undefined>

/** Of a checkpoint that is complete. */
export type Begin = {
  readonly seq: number
  readonly reason: CheckpointReason
  /** Of the configuration its writer, and every entry up to the next change of policy, was under. */
  readonly configHash: string
}

/** Complete checkpoints, newest first. */
export type Begins = {
  readonly begins: readonly Begin[]
  /** Why there are no more of them: the one for a new policy was met, there was none before, the one before was trimmed,
   * there are more than asked for, or what stands at the place named is no BEGIN. */
  readonly stopped: 'policy' | 'origin' | 'trimmed' | 'bound' | 'broken'
}

export type LogTail =
  | { readonly kind: 'empty' }
  | { readonly kind: 'unreadable'; readonly seq: number }
  | { readonly kind: 'known'; readonly pending: Pending; readonly newestCompleteBeginSeq: number }

/** The entries in flight and a chunk group at most; a longer way is no log an agent of ours wrote. */
const MAX_WALK = 4096
const PARALLEL = 16

/** What the newest valid entry says. Anything from its base on that cannot be read leaves it unknown, as it does for agents. */
export async function readLogTail({ firstSeq, lastSeq }: LogBounds, read: ReadEntry): Promise<LogTail> {
  if (lastSeq === 0 || firstSeq > lastSeq) return { kind: 'empty' }
  const newest = await read(lastSeq)
  if (newest === undefined) return { kind: 'unreadable', seq: lastSeq }
  const { base } = newest
  if (base.seq >= lastSeq || lastSeq - base.seq > MAX_WALK) return { kind: 'unreadable', seq: lastSeq }
  let valid = base.entryId === GENESIS ? undefined : await read(base.seq)
  if (base.entryId !== GENESIS && valid?.entryId !== base.entryId) return { kind: 'unreadable', seq: base.seq }
  for (let from = base.seq + 1; from <= lastSeq; from += PARALLEL) {
    const seqs = Array.from({ length: Math.min(PARALLEL, lastSeq - from + 1) }, (_, i) => from + i)
    const run = await Promise.all(seqs.map(async (seq) => (seq === lastSeq ? newest : read(seq))))
    for (const [i, entry] of run.entries()) {
      if (entry === undefined) return { kind: 'unreadable', seq: from + i }
      if (entry.prevEntryId === (valid?.entryId ?? GENESIS)) valid = entry
    }
  }
  if (valid === undefined) return { kind: 'unreadable', seq: lastSeq }
  return { kind: 'known', pending: valid.pending, newestCompleteBeginSeq: valid.newestCompleteBeginSeq }
}

/** From `newest` (0: none) back to the newest checkpoint for a new policy, at most `most` of them. */
export async function readBegins(newest: number, firstSeq: number, read: ReadEntry, most: number): Promise<Begins> {
  const begins: Begin[] = []
  for (let seq = newest; ; ) {
    if (seq === 0) return { begins, stopped: 'origin' }
    if (seq < firstSeq) return { begins, stopped: 'trimmed' }
    if (begins.length >= most) return { begins, stopped: 'bound' }
    const entry = await read(seq)
    if (entry?.kind !== 'snapshot-begin') return { begins, stopped: 'broken' }
    begins.push({ seq, reason: entry.reason, configHash: entry.configHash })
    if (entry.reason === 'policy') return { begins, stopped: 'policy' }
    // The one before lies before; anything else would lead in a circle.
    if (entry.newestCompleteBeginSeq >= seq) return { begins, stopped: 'broken' }
    seq = entry.newestCompleteBeginSeq
  }
}

/** The newest checkpoint behind which nothing older is needed: a new policy or a new epoch, which no replay crosses. */
export const newestBoundary = ({ begins }: Begins): Begin | undefined =>
  begins.find((begin, i) => begin.reason === 'epoch' || changesPolicy(begin, begins[i + 1]))

/** The newest checkpoint before which entries may say more than policy allows since. */
export const newestPolicyChange = ({ begins }: Begins): Begin | undefined =>
  begins.find((begin, i) => changesPolicy(begin, begins[i + 1]))

/**
 * A checkpoint after a gap, and one that begins an epoch, may be written under a new policy as well: the configuration
 * then differs from the one before. An epoch with nothing known before it is taken for that.
 */
const changesPolicy = (begin: Begin, before: Begin | undefined): boolean =>
  begin.reason === 'policy' ||
  (before === undefined ? begin.reason === 'epoch' : before.configHash !== begin.configHash)
