// One page of the current state of a cluster, pinned to one revision, as a class sees it.
// Owns: the page token (cluster, epoch, revision, last key, view) and the walk. Any gateway can continue a page.
// Refuses: HTTP (state-endpoint.ts). A revision the ring no longer reaches back to is `gone`: start again.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { fromBase64Url, type Key, keyFromBytes, keyToBytes, toBase64Url } from '#protocol/bytes.ts'
import { type CursorFailure, decodeCursor, encodeCursor, type ViewTag } from '#protocol/cursor.ts'
import type { KeyRange } from '#protocol/decode.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import type { DeliverDecider } from '#policies/engine/types.ts'
import { type EncodeContext, type Position, writePut } from '../delivery/encoder.ts'
import { inRange } from '../delivery/feed.ts'
import { FrameWriter } from '../delivery/frame-writer.ts'
import { decideEntry, type Visible } from '../delivery/policy-port.ts'
import type { ClusterSource } from '../delivery/ports.ts'

export type PageToken = {
  readonly at: Position
  readonly after: Key
  readonly viewTag: ViewTag
  readonly cluster: ClusterId
}

/** A cursor followed by the last key: its checksum covers the position, a damaged key only moves the page. */
export function encodePageToken(token: PageToken): string {
  const cursor = encodeCursor({ viewTag: token.viewTag, positions: new Map([[token.cluster, token.at]]) })
  return `${cursor}.${toBase64Url(keyToBytes(token.after))}`
}

export function decodePageToken(text: string): PageToken | CursorFailure {
  const split = text.lastIndexOf('.')
  const decoded = decodeCursor(text.slice(0, split))
  if (!decoded.ok) return decoded.reason
  const bytes = fromBase64Url(text.slice(split + 1))
  const [position, ...more] = decoded.cursor.positions
  if (bytes === undefined || position === undefined || more.length > 0) return 'base64'
  const [cluster, at] = position
  return { at, after: keyFromBytes(bytes), viewTag: decoded.cursor.viewTag, cluster }
}

export type Pin = { readonly at: Position; readonly index: number }

/** Where a page continues: its ring index, or why it cannot. */
export function pinOf(source: ClusterSource, at: Position): Pin | 'gone' | 'ahead' | 'unready' {
  const located = source.locate(at)
  if (located.kind === 'ring') return { at, index: located.index }
  return located.kind === 'ahead' || located.kind === 'unready' ? located.kind : 'gone'
}

export type Page = { readonly items: Buffer; readonly count: number; readonly after: Key | undefined }
type Put = Extract<Visible, { op: 'put' }>
export type PageView = {
  readonly decider: DeliverDecider
  readonly range: KeyRange
  readonly ctx: EncodeContext
  readonly now: number
}

const EVERYTHING: KeyRange = { from: '' as Key, to: undefined }
const SCAN = 512
const MAX_SCANNED = 20_000
/** Entries looked at in one turn: a decision may cost ten microseconds. */
const TURN = 4 * SCAN

/** Up to `limit` items and `maxBytes` after `after`; undefined when the ring no longer reaches back to the pin. */
export async function readPage(
  source: ClusterSource,
  view: PageView,
  pin: Pin,
  after: Key | undefined,
  limit: number,
  maxBytes: number,
): Promise<Page | undefined> {
  if (view.decider.movesKeys) return readMovedPage(source, view, pin, after, limit, maxBytes)
  const writer = new ItemWriter(view.ctx)
  let at = after
  for (let scanned = 0; scanned < MAX_SCANNED; scanned += SCAN) {
    const entries = source.scan(view.range, at, SCAN, pin.index)
    if (entries === undefined) return undefined
    for (const entry of entries) {
      const put = decideEntry(view.decider, entry, view.now)
      if (put !== undefined) {
        if (writer.count >= limit || !writer.add(put, maxBytes)) return writer.page(at)
      }
      at = entry.key
    }
    if (entries.length < SCAN) return writer.page(undefined)
    if ((scanned + SCAN) % TURN === 0) await nextTurn()
  }
  // Much is hidden: an empty page with a continuation keeps one request short.
  return writer.page(at)
}

/**
 * Renamed keys have another order: the smallest delivered keys after `after`, found by one walk over everything, in
 * slices between which others have their turn. The pin keeps all slices at one revision.
 */
async function readMovedPage(
  source: ClusterSource,
  view: PageView,
  pin: Pin,
  after: Key | undefined,
  limit: number,
  maxBytes: number,
): Promise<Page | undefined> {
  const found: Put[] = []
  let at: Key | undefined
  for (;;) {
    const entries = source.scan(EVERYTHING, at, SCAN, pin.index)
    if (entries === undefined) return undefined
    for (const entry of entries) {
      const put = decideEntry(view.decider, entry, view.now)
      if (put !== undefined && inRange(view.range, put.key) && (after === undefined || put.key > after)) found.push(put)
    }
    at = entries.at(-1)?.key
    if (found.length > limit * 4) keepSmallest(found, limit + 1)
    if (entries.length < SCAN) break
    await nextTurn()
  }
  keepSmallest(found, limit + 1)
  const writer = new ItemWriter(view.ctx)
  let last = after
  for (const put of found.slice(0, limit)) {
    if (!writer.add(put, maxBytes)) return writer.page(last)
    last = put.key
  }
  return writer.page(found.length > limit ? last : undefined)
}

function keepSmallest(found: Put[], count: number): void {
  found.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
  found.length = Math.min(found.length, count)
}

class ItemWriter {
  count = 0
  readonly #ctx: EncodeContext
  readonly #writer = new FrameWriter().begin()

  constructor(ctx: EncodeContext) {
    this.#ctx = ctx
  }

  /** False when the page is full; a first item always fits. */
  add(put: Put, maxBytes: number): boolean {
    const w = this.#writer
    const { length } = w
    w.ascii(this.count === 0 ? '{' : ',{')
      .key(put.key)
      .ascii(',"revision":"')
      .ascii(put.entry.modRevision)
      .ascii('"')
    writePut(w, this.#ctx, put)
    w.ascii('}')
    if (this.count > 0 && w.length > maxBytes) {
      w.truncate(length)
      return false
    }
    this.count++
    return true
  }

  page(after: Key | undefined): Page {
    return { items: this.#writer.finishBody(), count: this.count, after }
  }
}
