// Why feeding stopped, and what that calls for.
// Owns: the exhaustive tables from an end to the checkpoint it needs, the phase it shows, and whether a fresh token helps.
// Refuses: acting on any of it (term.ts).

import type { CheckpointReason } from '#protocol/log/entry.ts'
import type { SessionEnd } from './uplink/session-end.ts'
import type { Tail } from './uplink/tail.ts'
import type { FeedEnd } from './watch/feed.ts'

/** Ends that arise on our side of a feed, and the feed's own. */
export type TermEnd =
  | SessionEnd
  /** Another configuration or bundle is in force: the next term begins with its checkpoint. */
  | { readonly kind: 'policy' }
  | { readonly kind: 'too-small'; readonly neededBytes: number; readonly maxBytes: number }

export type LocalEnd =
  | FeedEnd
  /** Policy needs a previous value that etcd no longer has. */
  | { readonly kind: 'unknown-previous' }
  /** Events arrived that do not fit together. */
  | { readonly kind: 'suspicious' }
  /** A hook stopped the road before a revision; it is read again once the hold is over. */
  | { readonly kind: 'held' }

export type Need = {
  readonly reason: Exclude<CheckpointReason, 'routine'>
  readonly why: string
  /** A new policy is answered at the position, so that events follow it without a gap; true: there is a gap as well. */
  readonly skips?: true
}

/**
 * A hold released as a resync: nobody is shown what was held. What policy takes away must not look like a delete, so a
 * pending change of policy is answered first, at the position, and the gap behind it by a checkpoint of its own.
 */
export const leavingOut = (pending: Need | undefined): Need =>
  pending === undefined || pending.reason === 'gap' ? { reason: 'gap', why: 'what a hook held is left out' } : pending

/** What the log itself calls for before anything new may be appended. */
export function needOfTail(tail: Tail, configHash: string): Need | undefined {
  if (tail.kind === 'unknown') return { reason: 'epoch', why: `log ${tail.reason}` }
  const { pending, newestCompleteBeginSeq, configHash: written } = tail.last
  if (pending === 'epoch') return { reason: 'epoch', why: 'the epoch was never completed' }
  // Left as a gap, keys that the new policy takes away would look deleted.
  if (pending === 'gap' && newestCompleteBeginSeq > 0 && written !== configHash)
    return { reason: 'policy', why: 'a gap was left open, and configuration or policy changed', skips: true }
  if (pending !== 'none') return { reason: pending, why: 'a checkpoint was left unfinished' }
  if (newestCompleteBeginSeq === 0) return { reason: 'epoch', why: 'the log holds no complete checkpoint' }
  return written === configHash ? undefined : { reason: 'policy', why: 'configuration or policy changed' }
}

/** The checkpoint that answers an end on the same member; undefined when the next member is tried instead. */
export function needAfter(end: LocalEnd): Need | undefined {
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
    case 'held':
      return undefined
    default: {
      const never: never = end
      return never
    }
  }
}

/** One word for metrics and decisions. */
export const causeOf = (end: LocalEnd): string => (end.kind === 'failed' ? end.failure.kind : end.kind)

/** Worth one fresh token at the same member. */
export const isRefusal = (end: LocalEnd): boolean => causeOf(end) === 'auth' || causeOf(end) === 'denied'

export type Shown = { readonly phase: 'range-denied' | 'etcd-unreachable'; readonly reason: string }

export function describeEnd(end: LocalEnd): Shown {
  const words = end.kind === 'failed' ? end.failure.message : detailOf(end)
  if (isRefusal(end)) return { phase: 'range-denied', reason: `${words}; grant this user read on the whole range` }
  return { phase: 'etcd-unreachable', reason: words }
}

function detailOf(end: Exclude<LocalEnd, { kind: 'failed' }>): string {
  if ('reason' in end) return `${end.kind}: ${end.reason}`
  return 'detail' in end ? `${end.kind}: ${end.detail}` : end.kind
}
