// The steps by which a reader that is not live gets there: pages of a snapshot, revisions of the ring, net differences.
// Owns: one bounded step of each, in bytes and in work. Memory is constant: a step encodes at most one chunk.
// Refuses: loops over readers (subscriber.ts) and decisions about what follows (reader-core.ts).

import type { Key } from '#protocol/bytes.ts'
import type { Item, Position } from './encoder.ts'
import { type Feed, inRange } from './feed.ts'
import { joinFrames } from './frame-writer.ts'
import { decideChange, decideEntry } from './policy-port.ts'
import type { RingEvent } from './ports.ts'
import type { PumpResult, Reader } from './reader.ts'
import type { ReaderState } from './reader-core.ts'
import type { SnapshotChunk } from './snapshot-chunks.ts'

export const CHUNK_BYTES = 64 * 1024
/** Entries looked at in one scan, and scans in one step: bounds the work where policy hides nearly everything. */
const SCAN_ENTRIES = 256
const SCANS = 4
/** Ring revisions looked at in one step. */
const RING_STEP = 1024

type In<K extends ReaderState['kind']> = Extract<ReaderState, { kind: K }>

/** One chunk of a snapshot pinned at `state.pin`, shared by all who take it at the same position. */
export function snapshotStep(reader: Reader, state: In<'snapshotting'>): PumpResult {
  const { feed, subscriber } = reader
  if (!reader.hasRoom()) return 'full'
  const { chunks, now } = feed.deps
  const known = chunks.get(feed, state, now())
  const chunk = known ?? snapshotChunk(feed, state)
  if (chunk === undefined) {
    reader.apply({ type: 'pin-lost', view: feed.view(), now: subscriber.monotonic() })
    return 'again'
  }
  if (known === undefined) chunks.put(feed, state, chunk, now())
  const { bytes, after, done } = chunk
  if (bytes !== undefined) {
    if (!subscriber.outlet.offer(bytes)) {
      reader.need = bytes.length
      return 'full'
    }
    reader.need = 0
  }
  if (after !== undefined && after !== state.after) reader.apply({ type: 'page', after })
  if (done) reader.apply({ type: 'snapshot-end' })
  return 'again'
}

/** Undefined when the ring no longer reaches back to the pin. */
function snapshotChunk(feed: Feed, state: In<'snapshotting'>): SnapshotChunk | undefined {
  const { source, ctx, decider } = feed
  const range = feed.scanRange
  const now = feed.deps.now()
  const chunk = feed.deps.encoder.snapshotItems(ctx, state.at)
  let { after } = state
  let done = false
  let full = false
  for (let scans = 0; scans < SCANS && !done && !full; scans++) {
    const entries = source.scan(range, after, SCAN_ENTRIES, state.pin)
    if (entries === undefined) return undefined
    for (const entry of entries) {
      const item = decideEntry(decider, entry, now)
      if (item !== undefined && (!feed.movesKeys || inRange(feed.range, item.key))) {
        // A large value starts a chunk of its own rather than growing this one.
        if (chunk.count > 0 && chunk.bytes + itemBytes(item) > CHUNK_BYTES) {
          full = true
          break
        }
        chunk.add(item)
      }
      after = entry.key
    }
    done = !full && entries.length < SCAN_ENTRIES
  }
  return { bytes: chunk.count > 0 ? chunk.finish() : undefined, after, done }
}

/** Up to one chunk of ring revisions, each its own frame. */
export function ringStep(reader: Reader, state: In<'behind'>): PumpResult {
  const { feed, subscriber } = reader
  const { source } = feed
  if (!reader.hasRoom()) return 'full'
  const room = Math.min(CHUNK_BYTES, subscriber.outlet.room)
  const end = Math.min(source.nextIndex, state.index + RING_STEP)
  const frames: Buffer[] = []
  let bytes = 0
  let events = 0
  let at: Position = state.at
  let index = state.index
  for (; index < end; index++) {
    const revision = source.at(index)
    if (revision === undefined) break
    const encoded = feed.frameAt(revision)
    if (encoded === 'unknown') {
      feed.deps.undecidable(feed)
      return 'idle'
    }
    if (encoded !== undefined) {
      if (frames.length > 0 && bytes + encoded.frame.length > room) break
      if (!subscriber.paces(encoded.events, encoded.frame.length)) {
        if (frames.length === 0) return 'full'
        break
      }
      frames.push(encoded.frame)
      bytes += encoded.frame.length
      events += encoded.events
    }
    if (encoded !== undefined || !feed.ctx.hideActivity) at = { epoch: revision.epoch, revision: revision.revision }
  }
  if (frames.length > 0) {
    if (!subscriber.offerPaced(joinFrames(frames), events)) {
      reader.need = bytes
      return 'full'
    }
    reader.need = 0
  }
  return passed(reader, state, index, at)
}

/** In state mode: one atomic difference over as many ring revisions as fit what may be in flight. */
export function conflateStep(reader: Reader, state: In<'behind'>): PumpResult {
  const { feed, subscriber } = reader
  const { source, deps } = feed
  if (source.nextIndex - state.index <= 1) return ringStep(reader, state)
  if (!reader.hasRoom()) return 'full'
  // Deep in debt nothing goes, so nothing is compared: what comes meanwhile is conflated once it is paid.
  if (!subscriber.paces(0, 0)) return 'full'
  const room = Math.max(CHUNK_BYTES, subscriber.outlet.room - CHUNK_BYTES)
  const net = netChanges(reader, state, room)
  if (net === undefined) return passed(reader, state, state.index, state.at)
  const { items, index, at } = net
  if (items.length > 0) {
    const frames: Buffer[] = []
    let chunk = deps.encoder.state(feed.ctx, state.at.revision, at)
    for (const [n, item] of items.entries()) {
      chunk.add(item)
      const last = n === items.length - 1
      const next = items[n + 1]
      if (!last && chunk.bytes + itemBytes(next as Item) <= CHUNK_BYTES) continue
      frames.push(chunk.finish(last))
      if (!last) chunk = deps.encoder.state(feed.ctx, state.at.revision, at)
    }
    const bytes = joinFrames(frames)
    if (!subscriber.paces(items.length, bytes.length)) return 'full'
    if (!subscriber.offerPaced(bytes, items.length)) {
      reader.need = bytes.length
      return 'full'
    }
    reader.need = 0
  }
  return passed(reader, state, index, at)
}

function netChanges(
  reader: Reader,
  state: In<'behind'>,
  maxBytes: number,
): { readonly items: readonly Item[]; readonly index: number; readonly at: Position } | undefined {
  const { feed } = reader
  const touched = new Map<Key, { readonly first: RingEvent; last: RingEvent }>()
  let estimate = 0
  let index = state.index
  let at = state.at
  for (; index < feed.source.nextIndex; index++) {
    const revision = feed.source.at(index)
    if (revision === undefined) break
    let added = 0
    for (const event of revision.events) {
      if (!feed.wants(event)) continue
      const known = touched.get(event.key)
      added += (event.entry?.value.length ?? 0) + event.key.length + 100 - (known?.last.entry?.value.length ?? 0)
    }
    if (index > state.index && estimate + added > maxBytes) break
    estimate += added
    for (const event of revision.events) {
      if (!feed.wants(event)) continue
      const known = touched.get(event.key)
      if (known === undefined) touched.set(event.key, { first: event, last: event })
      else known.last = event
    }
    // A difference must not name a revision that the class may not know of.
    if (!feed.ctx.hideActivity || feed.frameAt(revision) !== undefined)
      at = { epoch: revision.epoch, revision: revision.revision }
  }
  if (index === state.index) return undefined
  const now = feed.deps.now()
  const items: Item[] = []
  for (const { first, last } of touched.values()) {
    const item = netItem(feed, first, last, now)
    if (item !== undefined && (!feed.movesKeys || inRange(feed.range, item.key))) items.push(item)
  }
  if (feed.ctx.hideActivity && items.length === 0) at = state.at
  return { items, index, at }
}

function netItem(feed: Feed, first: RingEvent, last: RingEvent, now: number): Item | undefined {
  const after = last.entry === undefined ? undefined : decideEntry(feed.decider, last.entry, now)
  if (after !== undefined) return after
  const before = first.prior === undefined ? undefined : decideEntry(feed.decider, first.prior, now)
  if (before === undefined) return undefined
  const change = decideChange(feed.decider, last, now, true)
  const deleted = change !== undefined && change !== 'unknown' && change.op === 'delete'
  return { op: 'gone', gone: deleted ? 'delete' : 'leave', key: before.key }
}

function passed(reader: Reader, state: In<'behind'>, index: number, at: Position): PumpResult {
  const { feed, subscriber } = reader
  const { source } = feed
  if (index !== state.index) reader.apply({ type: 'passed', index, at })
  if (index >= source.nextIndex) {
    reader.apply({ type: 'caught-up' })
  } else if (source.at(index) === undefined) {
    reader.apply({ type: 'ring-lost', view: feed.view(), now: subscriber.monotonic() })
  }
  return 'again'
}

const itemBytes = (item: Item): number => (item.op === 'put' ? (item.value?.length ?? 0) : 0) + item.key.length + 160
