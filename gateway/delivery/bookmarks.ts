// Bookmarks: proof of a position, sent at a pace and encoded once for all who stand at the same one.
// Owns: when a channel is due, and the sharing. Refuses: positions (watch.ts knows them) and forcing a full connection.
// Due: at most every second while positions move, at least every five when they do not; the first
// one right behind `watching`. Rounds are cut into slices.

import { encodeCursor } from '#protocol/cursor.ts'
import type { Channel } from './channel.ts'
import type { Watch } from './watch.ts'

export const BUSY_MS = 1_000
export const IDLE_MS = 5_000
const SLICE = 500

export interface BookmarkDeps {
  readonly monotonic: () => number
  readonly soon: (fn: () => void) => void
}

export class Bookmarks {
  sent = 0
  readonly #deps: BookmarkDeps
  #queue: Watch[] = []
  /** Watches whose clients do not know the view they are being sent. */
  readonly #unnamed = new Set<Watch>()
  #running = false

  constructor(deps: BookmarkDeps) {
    this.#deps = deps
  }

  /** Queues the watches of every channel that is due; call it a few times per second. */
  round(channels: Iterable<Channel>): void {
    const now = this.#deps.monotonic()
    for (const channel of channels) {
      const since = now - channel.bookmarkedAt
      if (since < BUSY_MS || channel.watches.size === 0) continue
      const positions = positionsOf(channel)
      if (since < IDLE_MS && positions === channel.bookmarked) continue
      channel.bookmarkedAt = now
      channel.bookmarked = positions
      for (const watch of channel.watches) this.#queue.push(watch)
    }
    if (this.#queue.length > 0) this.#start()
  }

  /**
   * Tells the view of a watch that was just answered, where it has positions: without its tag a client that is cut off
   * now could only begin anew.
   */
  first(watch: Watch): void {
    this.#unnamed.delete(watch)
    this.last(watch)
  }

  /** The same, soon and once, after a snapshot, or a resync that made the client forget the view. */
  rename(watch: Watch): void {
    this.#unnamed.add(watch)
    this.#start()
  }

  /** One bookmark now, also on a connection that is full: the server is about to close it. */
  last(watch: Watch): void {
    const bytes = encode(watch, this.#deps.monotonic())
    if (bytes !== undefined) watch.subscriber.outlet.force(bytes)
  }

  #start(): void {
    if (this.#running) return
    this.#running = true
    this.#deps.soon(this.#run)
  }

  readonly #run = (): void => {
    for (const watch of Array.from(this.#unnamed).slice(0, SLICE)) {
      this.#unnamed.delete(watch)
      if (!watch.subscriber.closed && watch.channel.watches.has(watch)) this.first(watch)
    }
    // Positions move between slices, so sharing ends with each.
    const shared = new Map<string, Buffer | undefined>()
    const now = this.#deps.monotonic()
    for (const watch of this.#queue.splice(0, SLICE)) {
      if (watch.subscriber.closed || !watch.channel.watches.has(watch)) continue
      const bytes = this.#bytes(watch, shared, now)
      if (bytes !== undefined && watch.subscriber.outlet.offer(bytes)) this.sent++
    }
    if (this.#queue.length > 0 || this.#unnamed.size > 0) this.#deps.soon(this.#run)
    else this.#running = false
  }

  #bytes(watch: Watch, shared: Map<string, Buffer | undefined>, now: number): Buffer | undefined {
    const standing = watch.standing()
    if (standing === undefined) return encode(watch, now)
    const name = `${watch.channel.ch} ${standing}`
    if (!shared.has(name)) shared.set(name, encode(watch, now))
    return shared.get(name)
  }
}

function encode(watch: Watch, now: number): Buffer | undefined {
  const clusters = watch.bookmarkClusters(now)
  if (clusters.size === 0) return undefined
  const { viewTag, ch } = watch.channel
  const cursor = encodeCursor({ viewTag, positions: clusters })
  return watch.subscriber.encoder.bookmark(ch, cursor, clusters, viewTag)
}

function positionsOf(channel: Channel): string {
  let text = ''
  for (const feed of channel.feeds.values()) text += `${feed.head?.epoch}:${feed.head?.revision} `
  return text
}
