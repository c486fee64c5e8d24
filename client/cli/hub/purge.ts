// `hub purge`: what policy no longer allows is removed from a log, and nothing that a reader needs.
// Owns: the decision for one stream, the leader reads it rests on, the one call that purges, the codes of refusals.
// Refuses: a purge up to anywhere but the BEGIN of a complete checkpoint, and any purge while a checkpoint is missing.

import { DeltawatchError, errorMessage } from '#kit/errors.ts'
import { decodeEntry } from '#protocol/log/decode.ts'
import {
  type Begins,
  type LogBounds,
  type LogTail,
  newestBoundary,
  readBegins,
  readLogTail,
  type ReadEntry,
} from '#protocol/log/retained.ts'
import { type ClusterId, streamName } from '#protocol/subjects.ts'
import { ApiFailure, type HubSession, isRecord, NO_MESSAGE } from './session.ts'
import { CommandError } from './terminal.ts'

/** Checkpoints looked back over, one read each: far more than a log holds that is purged now and then. */
const MOST_BEGINS = 10_000

export type PurgeStep =
  /** Everything below `upTo` goes: the BEGIN that stands there is the first entry kept. */
  | { readonly outcome: 'purge'; readonly upTo: number; readonly checkpoint: string }
  | { readonly outcome: 'purge-whole' }
  /** The log begins with that checkpoint already, or holds nothing at all. */
  | { readonly outcome: 'nothing-retained' }
  | { readonly outcome: 'no-policy-checkpoint' }
  | { readonly outcome: 'refused'; readonly code: RefusalCode; readonly reason: string }

export type RefusalCode =
  | 'DW_HUB_PURGE_TAIL'
  | 'DW_HUB_PURGE_PENDING'
  | 'DW_HUB_PURGE_CHECKPOINT'
  | 'DW_HUB_PURGE_FAR'
  | 'DW_HUB_PURGE_REPLACED'

export type Purged = {
  readonly cluster: ClusterId
  readonly stream: string
  readonly outcome: 'purged' | 'would-purge' | Exclude<PurgeStep['outcome'], 'purge' | 'purge-whole'> | 'failed'
  /** Entries that went, or would go. */
  readonly entries: number
  /** First sequence kept: the BEGIN of the checkpoint. Absent when nothing is purged, or everything. */
  readonly upTo?: number
  readonly code?: string
  /** What it means, why it was refused or failed, and what to do next. */
  readonly note: string
}

const refuse = (code: RefusalCode, reason: string): PurgeStep => ({ outcome: 'refused', code, reason })

/** Pure. `begins` as read from the tail's newest complete checkpoint. */
export function planPurge(bounds: LogBounds, tail: LogTail, begins: Begins, whole: boolean): PurgeStep {
  if (tail.kind === 'empty') return { outcome: 'nothing-retained' }
  if (tail.kind === 'unreadable') {
    const why = `the end of the log cannot be read (sequence ${tail.seq})`
    return refuse('DW_HUB_PURGE_TAIL', `${why}; start its agent, which begins a new epoch behind it, then purge again`)
  }
  if (tail.pending !== 'none') {
    const why = `a checkpoint (${tail.pending}) is not complete yet, so readers still need what stands before it`
    return refuse('DW_HUB_PURGE_PENDING', `${why}; see that the agent is live, then purge again`)
  }
  if (whole) return { outcome: 'purge-whole' }
  const boundary = newestBoundary(begins)
  if (boundary === undefined) {
    if (begins.stopped === 'broken') {
      const why = 'no checkpoint stands where the log says that one does'
      return refuse('DW_HUB_PURGE_CHECKPOINT', `${why}; look at it with "deltawatch doctor", or purge --whole`)
    }
    if (begins.stopped === 'bound') {
      const why = `${begins.begins.length} checkpoints back there is still none for a new policy`
      return refuse('DW_HUB_PURGE_FAR', `${why}; purge --whole, if everything may go`)
    }
    return { outcome: 'no-policy-checkpoint' }
  }
  if (boundary.seq <= bounds.firstSeq) return { outcome: 'nothing-retained' }
  return { outcome: 'purge', upTo: boundary.seq, checkpoint: boundary.reason }
}

export async function purgeLog(
  hub: HubSession,
  cluster: ClusterId,
  { whole, dryRun }: { readonly whole: boolean; readonly dryRun: boolean },
): Promise<Purged> {
  const stream = streamName(cluster)
  const base = { cluster, stream, entries: 0 }
  try {
    const { created, firstSeq, lastSeq, messages } = await readBounds(hub, stream)
    const bounds = { firstSeq, lastSeq }
    const read = entriesOf(hub, stream)
    const tail = await readLogTail(bounds, read)
    const newest = tail.kind === 'known' ? tail.newestCompleteBeginSeq : 0
    const begins = await readBegins(whole ? 0 : newest, firstSeq, read, MOST_BEGINS)
    const step = planPurge(bounds, tail, begins, whole)
    if (step.outcome === 'purge' || step.outcome === 'purge-whole') {
      const upTo = step.outcome === 'purge' ? { upTo: step.upTo } : {}
      if (dryRun) {
        const entries = step.outcome === 'purge' ? step.upTo - firstSeq : messages
        return { ...base, ...upTo, entries, outcome: 'would-purge', note: noteOf(step) }
      }
      // Sequences mean nothing in another stream of the same name.
      if ((await readBounds(hub, stream)).created !== created) {
        const note = 'the stream was made anew meanwhile; run the command again'
        return { ...base, outcome: 'refused', code: 'DW_HUB_PURGE_REPLACED', note }
      }
      const reply = await hub.call(`STREAM.PURGE.${stream}`, step.outcome === 'purge' ? { seq: step.upTo } : undefined)
      return { ...base, ...upTo, entries: count(reply['purged']), outcome: 'purged', note: noteOf(step) }
    }
    if (step.outcome === 'refused') return { ...base, outcome: 'refused', code: step.code, note: step.reason }
    return { ...base, outcome: step.outcome, note: noteOf(step) }
  } catch (error) {
    const code = error instanceof DeltawatchError ? { code: error.code } : {}
    return { ...base, ...code, outcome: 'failed', note: errorMessage(error) }
  }
}

function noteOf(step: Exclude<PurgeStep, { outcome: 'refused' }>): string {
  switch (step.outcome) {
    case 'purge':
      return (
        `everything before the ${step.checkpoint} checkpoint at ${step.upTo}; nobody can read it any more, but its ` +
        'bytes stay in the files of nats-server where they share one with newer entries: --whole takes those too'
      )
    case 'purge-whole':
      return 'every entry, and the files they were in; readers wait until the agent has written a checkpoint'
    case 'nothing-retained':
      return 'the log holds nothing from before its newest change of policy or epoch'
    case 'no-policy-checkpoint':
      return 'nothing in the log is from before a change of policy'
    default: {
      const never: never = step
      return never
    }
  }
}

/** Leader reads, decoded. Exported for the doctor. */
export function entriesOf(hub: HubSession, stream: string): ReadEntry {
  return async (seq) => {
    try {
      const { message } = await hub.call(`STREAM.MSG.GET.${stream}`, { seq })
      if (!isRecord(message) || message['seq'] !== seq || typeof message['data'] !== 'string') return undefined
      const decoded = decodeEntry(Buffer.from(message['data'], 'base64'))
      return decoded.ok ? decoded.value : undefined
    } catch (error) {
      if (error instanceof ApiFailure && error.errCode === NO_MESSAGE) return undefined
      throw error
    }
  }
}

async function readBounds(
  hub: HubSession,
  stream: string,
): Promise<LogBounds & { readonly created: unknown; readonly messages: number }> {
  const { created, state } = await hub.call(`STREAM.INFO.${stream}`)
  const fields = isRecord(state) ? state : {}
  const [firstSeq, lastSeq] = [fields['first_seq'], fields['last_seq']]
  if (typeof firstSeq !== 'number' || typeof lastSeq !== 'number') {
    throw new CommandError('DW_HUB_API', `STREAM.INFO of ${stream} lacks first_seq or last_seq`)
  }
  return { created, firstSeq, lastSeq, messages: count(fields['messages']) }
}

const count = (value: unknown): number => (typeof value === 'number' ? value : 0)
