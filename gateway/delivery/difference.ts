// A difference that every live reader of a feed gets: prepared once, as ready frames.
// Owns: resync, snapshot begin (base diff), items, end, as one list of buffers of at most a chunk each.
// Refuses: differences above its byte bound; then readers take a full snapshot, each at its own pace.

import { CHUNK_BYTES } from './catch-up.ts'
import type { Item, Position } from './encoder.ts'
import { type Feed, inRange } from './feed.ts'
import { decideEntry } from './policy-port.ts'
import type { Difference } from './ports.ts'
import type { Burst } from './reader.ts'
import type { Resync } from './reader-core.ts'

const MAX_BURST_BYTES = 4 * 1024 * 1024

/** Undefined when the difference is too large to be shared. */
export function differenceBurst(
  feed: Feed,
  resync: Resync,
  to: Position,
  differences: readonly Difference[],
): Burst | undefined {
  const now = feed.deps.now()
  return burstOf(feed, resync, to, differenceItems(feed, differences, now))
}

export function burstOf(feed: Feed, resync: Resync, to: Position, items: Iterable<Item>): Burst | undefined {
  const { encoder } = feed.deps
  const chunks: Buffer[] = [
    encoder.resync(feed.ctx, resync.reason, resync.from, to),
    encoder.snapshotBegin(feed.ctx, 'diff', to),
  ]
  let bytes = 0
  let chunk = encoder.snapshotItems(feed.ctx, to)
  for (const item of items) {
    const size = item.op === 'put' ? (item.value?.length ?? 0) : 0
    if (chunk.count > 0 && chunk.bytes + size + item.key.length + 160 > CHUNK_BYTES) {
      bytes += chunk.bytes
      if (bytes > MAX_BURST_BYTES) return undefined
      chunks.push(chunk.finish())
      chunk = encoder.snapshotItems(feed.ctx, to)
    }
    chunk.add(item)
  }
  if (chunk.count > 0) chunks.push(chunk.finish())
  chunks.push(encoder.snapshotEnd(feed.ctx, to))
  return chunks
}

function* differenceItems(feed: Feed, differences: readonly Difference[], now: number): Generator<Item> {
  for (const difference of differences) {
    if (!feed.movesKeys && !inRange(feed.range, difference.key)) continue
    const item = itemOf(feed, difference, now)
    if (item !== undefined && (!feed.movesKeys || inRange(feed.range, item.key))) yield item
  }
}

function itemOf(feed: Feed, difference: Difference, now: number): Item | undefined {
  const after = 'entry' in difference ? decideEntry(feed.decider, difference.entry, now) : undefined
  if (after !== undefined) return after
  const before = difference.prior === undefined ? undefined : decideEntry(feed.decider, difference.prior, now)
  if (before === undefined) return undefined
  return { op: 'gone', gone: 'gone' in difference ? difference.gone : 'leave', key: before.key }
}
