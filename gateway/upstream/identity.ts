// Whether the stream is still the one that was read.
// Owns: the comparison of what the hub says now with what the reader saw. A consumer alone says nothing at all after a
// rollback, a delete and recreate, a trim, or when it starts beyond the end.
// Refuses: acting on it (follower.ts).

import { decodeEntry } from '#protocol/log/decode.ts'
import type { EntryId } from '#protocol/log/entry.ts'
import type { LogStream, StreamFacts } from './log-stream.ts'

export type IdentityLoss = 'deleted' | 'recreated' | 'rolled-back' | 'trimmed' | 'purged' | 'replaced'

/** What the reader saw of the stream. */
export type Seen = {
  readonly created: string
  /** The last message read. */
  readonly lastSeq: number
  /** The last valid entry, if there was one. */
  readonly entry: { readonly seq: number; readonly entryId: EntryId } | undefined
}
export type Identity = { readonly facts: StreamFacts | undefined; readonly loss: IdentityLoss | undefined }

export async function checkIdentity(log: LogStream, seen: Seen, signal: AbortSignal): Promise<Identity> {
  const facts = await log.facts(signal)
  if (facts === undefined) return { facts, loss: 'deleted' }
  if (facts.created !== seen.created) return { facts, loss: 'recreated' }
  if (facts.lastSeq < seen.lastSeq) return { facts, loss: 'rolled-back' }
  const { entry } = seen
  if (entry === undefined) return { facts, loss: undefined }
  const found = await log.get(entry.seq, signal)
  if (found === undefined) {
    const emptied = facts.firstSeq > facts.lastSeq
    return { facts, loss: emptied || facts.firstSeq <= entry.seq ? 'purged' : 'trimmed' }
  }
  const decoded = decodeEntry(found.data)
  const same = decoded.ok && decoded.value.entryId === entry.entryId
  return { facts, loss: same ? undefined : 'replaced' }
}
