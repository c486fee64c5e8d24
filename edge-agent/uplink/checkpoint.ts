// Writing one checkpoint: BEGIN, everything that may leave at one pinned revision, END.
// Owns: paging at the pinned revision with a byte target, cutting items into entries, count and digest.
// Refuses: deciding when (retention.ts, relay.ts) and what may leave (egress). When compaction overtakes the pinned
// revision the caller starts over at a newer one: a new BEGIN voids the old.

import { createHash } from 'node:crypto'
import type { Key } from '#protocol/bytes.ts'
import { itemsBytes } from '#protocol/log/digest.ts'
import type { CheckpointReason, Epoch, SnapshotRecord } from '#protocol/log/entry.ts'
import { REVISION_ZERO, type Revision } from '#protocol/revision.ts'
import type { HeldKey } from '../egress/change.ts'
import type { LogSession } from './session.ts'

/** Reads (after, end of range) at a pinned revision; `after` undefined starts at the range's first key. */
export type ReadPage = (
  revision: Revision,
  after: Key | undefined,
  limit: number,
) => Promise<{ readonly items: readonly HeldKey[]; readonly more: boolean }>

export type CheckpointPlan = {
  readonly reason: CheckpointReason
  readonly epoch: Epoch
  readonly checkpointId: string
  /** The pinned revision, or the log's own position at BEGIN: then no event lies between. */
  readonly pinned: Revision | 'position'
  readonly maxEntryBytes: number
  readonly signal: AbortSignal
}

export type CheckpointResult = {
  readonly revision: Revision
  readonly items: number
  /** Item bytes as encoded. */
  readonly bytes: number
  /** Items whose value no entry can carry: sent without it, marked withheld. */
  readonly oversize: number
}

export type CheckpointSource = {
  readonly page: ReadPage
  readonly item: (held: HeldKey) => SnapshotRecord | undefined
  /** Live events come first as long as this holds: small pages, small entries. */
  readonly rests: () => boolean
  /** Told of every key read, hidden ones included. */
  readonly onHeld: (held: HeldKey) => void
  /** Everything at `revision` has been read; END follows. */
  readonly onRead: (revision: Revision) => void
}

/** Item bytes of one entry while nothing live may come between. */
export const ITEMS_BYTES = 512 * 1024
/** While it rests: small enough that live entries, which take turns with these, do not wait for their bytes. */
const RESTING_ITEMS_BYTES = 128 * 1024
/** Keys per page: the page's bytes are only known once it is read, so the count starts low and follows what it sees. */
export const PAGE_FIRST = 32
const PAGE_MOST = 512
/** Reading a page occupies etcd and this process in one piece: live events wait for that piece. */
const RESTING_PAGE_MOST = 128
const ITEM_OVERHEAD = 72
/** The rule id an item carries when its value exceeds what one entry may hold. */
export const OVERSIZE = 'dw:oversize'

export async function writeCheckpoint(
  session: LogSession,
  source: CheckpointSource,
  plan: CheckpointPlan,
): Promise<CheckpointResult> {
  const { checkpointId, pinned, reason, signal } = plan
  const hash = createHash('sha256')
  let batch: SnapshotRecord[] = []
  let batchBytes = 0
  let index = 0
  let items = 0
  let bytes = 0
  let oversize = 0

  const send = async (): Promise<void> => {
    if (batch.length === 0) return
    const part = { kind: 'snapshot-items', checkpointId, index: index++, items: batch } as const
    batch = []
    batchBytes = 0
    const encoded = itemsBytes(await session.append(part))
    hash.update(encoded)
    bytes += encoded.length
  }

  session.prepare(reason, plan.epoch)
  let revision = REVISION_ZERO
  await session.append((position) => {
    revision = pinned === 'position' ? position : pinned
    return { kind: 'snapshot-begin', checkpointId, revision, reason }
  })
  let after: Key | undefined
  let limit = PAGE_FIRST
  for (;;) {
    signal.throwIfAborted()
    const page = await source.page(revision, after, limit)
    const rests = source.rests()
    const target = Math.min(rests ? RESTING_ITEMS_BYTES : ITEMS_BYTES, plan.maxEntryBytes)
    let pageBytes = 0
    for (const held of page.items) {
      pageBytes += held.key.length + held.value.length
      source.onHeld(held)
      let item = source.item(held)
      if (item === undefined) continue
      if (sizeOf(item) > plan.maxEntryBytes) {
        item = { ...item, value: new Uint8Array(0), withheld: OVERSIZE }
        oversize++
      }
      const size = sizeOf(item)
      if (batchBytes + size > target) await send()
      batch.push(item)
      batchBytes += size
      items++
    }
    const last = page.items.at(-1)
    if (!page.more || last === undefined) break
    after = last.key
    limit = Math.min(rests ? RESTING_PAGE_MOST : PAGE_MOST, nextLimit(limit, pageBytes, page.items.length))
  }
  await send()
  source.onRead(revision)
  // What follows then names an entry of this checkpoint as its base, and everything before BEGIN may be purged at once.
  if (reason !== 'routine') await session.settled()
  await session.append({ kind: 'snapshot-end', checkpointId, revision, itemCount: items, digest: hash.digest() })
  return { revision, items, bytes, oversize }
}

/** Aims each page at the size of one entry; grows at most twofold, so that a turn to large values costs one large page. */
export function nextLimit(limit: number, pageBytes: number, count: number): number {
  if (count === 0) return limit
  const fitting = Math.floor(ITEMS_BYTES / Math.max(1, pageBytes / count))
  return Math.max(1, Math.min(PAGE_MOST, 2 * limit, fitting))
}

function sizeOf(item: SnapshotRecord): number {
  const names = (item.transforms ?? []).reduce(
    (sum, name) => sum + 4 * name.length + 8,
    4 * (item.withheld?.length ?? 0),
  )
  return item.key.length + item.value.length + ITEM_OVERHEAD + names
}
