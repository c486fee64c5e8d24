// Bookmarks: which of them prove something to this reader.
// Owns: decoding them, and the rule that one counts only when our own entry at its `seq` is the entry it names.
// Refuses: queueing. At most one bookmark waits, the newest, for the log to reach it (SPEC: a bookmark never overtakes).

import { type AgentState, isEntryId, isEpoch, type LogEntry, type Mark } from '#protocol/log/entry.ts'
import { compareRevisions, parseRevision } from '#protocol/revision.ts'

const STATES: ReadonlySet<unknown> = new Set<AgentState>([
  'live',
  'idle-proved',
  'lagging',
  'unreachable',
  'resyncing',
  'standby',
  'hub-too-small',
  'refused',
])
const MAX_MARK_BYTES = 4096

export function decodeMark(data: Uint8Array): Mark | undefined {
  if (data.length > MAX_MARK_BYTES) return undefined
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(data))
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { v, agentId, epoch, provenRevision, seq, entryId, configHash, policyRevision, state, lag, atMs, ageMs } =
    value as Record<string, unknown>
  const fits =
    v === 1 &&
    typeof agentId === 'string' &&
    isEpoch(epoch) &&
    parseRevision(provenRevision) !== undefined &&
    Number.isSafeInteger(seq) &&
    (seq as number) >= 0 &&
    isEntryId(entryId) &&
    typeof configHash === 'string' &&
    (policyRevision === undefined || typeof policyRevision === 'string') &&
    STATES.has(state) &&
    typeof lag === 'number' &&
    typeof atMs === 'number' &&
    (ageMs === undefined || (Number.isSafeInteger(ageMs) && (ageMs as number) >= 0))
  return fits ? (value as Mark) : undefined
}

/** The last valid entry read. */
export type LastEntry = { readonly seq: number } & Pick<LogEntry, 'entryId' | 'epoch' | 'configHash'>

export type MarkVerdict =
  /** Everything up to its revision is proven. */
  | 'applied'
  /** Names an entry not read yet. */
  | 'waiting'
  /** Names an entry before the last one read: later entries say more. */
  | 'stale'
  /** Names another entry at a place we read, or another epoch or configuration: not of this log. */
  | 'foreign'

export class MarkGate {
  #waiting: Mark | undefined

  offer(mark: Mark, last: LastEntry | undefined): MarkVerdict {
    const verdict = judge(mark, last)
    if (verdict === 'waiting' && !isNewer(this.#waiting, mark)) this.#waiting = mark
    return verdict
  }

  /** The log moved on to `last`: the waiting bookmark, if it is due and true. */
  reached(last: LastEntry): Mark | undefined {
    const mark = this.#waiting
    if (mark === undefined || mark.seq > last.seq) return undefined
    this.#waiting = undefined
    return judge(mark, last) === 'applied' ? mark : undefined
  }

  clear(): void {
    this.#waiting = undefined
  }
}

const judge = (mark: Mark, last: LastEntry | undefined): MarkVerdict => {
  if (last === undefined || mark.seq > last.seq) return 'waiting'
  if (mark.seq < last.seq) return 'stale'
  const same = mark.entryId === last.entryId && mark.epoch === last.epoch && mark.configHash === last.configHash
  return same ? 'applied' : 'foreign'
}

const isNewer = (held: Mark | undefined, mark: Mark): boolean =>
  held !== undefined &&
  (held.seq > mark.seq ||
    (held.seq === mark.seq &&
      held.entryId === mark.entryId &&
      compareRevisions(held.provenRevision, mark.provenRevision) > 0))
