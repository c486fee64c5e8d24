// One subscriber's session as the protocol describes it, written for clarity: frames come out one at a time.
// Owns: welcome, watches, resume outcomes, staged snapshots, bookmarks, policy changes. The order among clusters is the
// caller's choice, so that a test can try them all. Refuses: sockets (fake-gateway.ts), limits, authentication.

import { type Cursor, decodeCursor, encodeCursor, type Position, type ViewTag } from '#protocol/cursor.ts'
import type {
  ClientFrame,
  Outcome,
  ResyncReason,
  ServerFrame,
  SnapshotItem,
  WatchFrame,
  WireEvent,
} from '#protocol/frames.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import { asRevision, hashOf, type Held, type ReferenceCluster, type Write } from './reference-cluster.ts'

/** What the sessions of one gateway share. */
export class ReferenceGateway {
  readonly clusters = new Map<string, ReferenceCluster>()
  /** Keys that policy hides from this class. Changing it changes the view. */
  readonly hidden = new Set<string>()
  /** Keys that were hidden at any time. */
  readonly everHidden = new Set<string>()
  /** A gateway may resume a little before the position it was given; what it repeats is the client's to drop. */
  repeat = 0

  add(cluster: ReferenceCluster): ReferenceCluster {
    this.clusters.set(cluster.id, cluster)
    return cluster
  }

  toggle(key: string): void {
    this.everHidden.add(key)
    if (!this.hidden.delete(key)) this.hidden.add(key)
  }

  viewTag(watch: WatchFrame): ViewTag {
    const text = JSON.stringify([watch.prefix, watch.key, watch.mode, watch.values, [...this.hidden].sort()])
    return `${hashOf(text).toString(16).padStart(8, '0')}00000001`
  }

  visible(watch: WatchFrame, key: string): boolean {
    if (this.hidden.has(key)) return false
    return watch.key === undefined ? key.startsWith(watch.prefix ?? '') : key === watch.key
  }
}

type Reader = {
  readonly cluster: ReferenceCluster
  /** False for those that began at "now": a resync brings no snapshot. */
  readonly stateful: boolean
  place: { epoch: string; revision: number } | undefined
  /** Frames to send before anything else of this cluster. */
  queue: ServerFrame[]
  /** `mismatch`: when the wait is over, the position is worth nothing. */
  waiting: { readonly position: Position | undefined; readonly mismatch?: ResyncReason } | undefined
  marked: string
}
type OpenWatch = { readonly frame: WatchFrame; ch: number; readonly readers: Map<string, Reader> }

const CHUNK = 2

export class ReferenceSession {
  readonly gateway: ReferenceGateway
  readonly received: ClientFrame[] = []
  readonly #watches = new Map<string, OpenWatch>()
  #control: ServerFrame[] = []
  #channels = 0

  constructor(gateway: ReferenceGateway) {
    this.gateway = gateway
  }

  receive(frame: ClientFrame): void {
    this.received.push(frame)
    if (frame.type === 'hello') this.#control.push(this.#welcome())
    else if (frame.type === 'watch') this.#open(frame)
    else if (frame.type === 'unwatch') this.#unwatch(frame.id)
    else if (frame.type === 'ping') this.#control.push({ type: 'pong' })
    else this.#control.push({ type: 'authed' })
  }

  /** The next frame, or undefined when everything was said. `choose(n)` picks one of n clusters that have something. */
  next(choose: (n: number) => number = () => 0): ServerFrame | undefined {
    const control = this.#control.shift()
    if (control !== undefined) return control
    const able: (() => ServerFrame)[] = []
    for (const watch of this.#watches.values()) {
      for (const reader of watch.readers.values()) {
        const step = this.#step(watch, reader)
        if (step !== undefined) able.push(step)
      }
    }
    return able[choose(able.length) % able.length]?.()
  }

  /** A bookmark on every channel, as due by time. */
  bookmark(): void {
    for (const watch of this.#watches.values()) {
      const positions = new Map<ClusterId, Position>()
      const clusters: Record<string, Position & { state: 'live'; ageMs: number }> = {}
      for (const { cluster, place, queue, waiting } of watch.readers.values()) {
        if (place === undefined || queue.length > 0 || waiting !== undefined) continue
        const position = { epoch: cluster.epoch, revision: asRevision(place.revision) }
        positions.set(cluster.id, position)
        clusters[cluster.id] = { ...position, state: 'live', ageMs: 5 }
      }
      const cursor = encodeCursor({ viewTag: this.gateway.viewTag(watch.frame), positions })
      if (positions.size > 0) this.#control.push({ type: 'bookmark', ch: watch.ch, cursor, clusters })
    }
  }

  /** A cluster's continuity broke for everybody: what live readers held is repaired by a snapshot. */
  broken(cluster: ReferenceCluster, reason: ResyncReason): void {
    for (const watch of this.#watches.values()) {
      const reader = watch.readers.get(cluster.id)
      if (reader !== undefined && reader.waiting === undefined) this.#repair(watch, reader, reason)
    }
  }

  /** Readers that wait for a position ahead of the gateway give up. */
  timeout(): void {
    for (const watch of this.#watches.values()) {
      for (const reader of watch.readers.values()) {
        const position = reader.waiting?.position
        if (position === undefined || !reader.cluster.ready) continue
        reader.waiting = undefined
        this.#repair(watch, reader, 'ahead', position)
      }
    }
  }

  offered(cluster: ReferenceCluster): void {
    for (const watch of this.#watches.values()) {
      if (!this.#covers(watch.frame, cluster) || watch.readers.has(cluster.id)) continue
      const reader = this.#reader(cluster, true)
      watch.readers.set(cluster.id, reader)
      this.#snapshot(watch, reader, 'full')
    }
  }

  removed(cluster: ReferenceCluster): void {
    for (const watch of this.#watches.values()) watch.readers.delete(cluster.id)
    this.#control.push({ type: 'cluster', cluster: cluster.id, state: 'removed', since: '2026-01-01T00:00:00Z' })
  }

  /** Policy now hides `key`, or shows it again: it leaves by scope or enters by a diff, and positions get another view. */
  toggle(key: string): void {
    this.gateway.toggle(key)
    for (const watch of this.#watches.values()) {
      watch.ch = ++this.#channels
      const outcomes: Record<string, { outcome: Outcome }> = {}
      for (const [id, { cluster }] of watch.readers) outcomes[id] = { outcome: cluster.ready ? 'resync' : 'waiting' }
      this.#control.push({ type: 'watching', id: watch.frame.id, ch: watch.ch, clusters: outcomes })
      for (const reader of watch.readers.values()) this.#review(watch, reader, key)
    }
  }

  #review(watch: OpenWatch, reader: Reader, key: string): void {
    const { cluster, waiting, stateful } = reader
    if (!cluster.ready) {
      reader.waiting = { position: waiting?.position, mismatch: 'policy' }
      return
    }
    // Only who has everything can be led on by a difference; the others begin anew.
    const caughtUp = cluster.after(reader.place?.revision ?? 0).length === 0
    const live = reader.queue.length === 0 && waiting === undefined && caughtUp
    reader.queue = []
    reader.waiting = undefined
    if (!live || !stateful) return this.#repair(watch, reader, 'policy', waiting?.position)
    const { hidden } = this.gateway
    if (hidden.has(key) && cluster.state().has(key)) {
      reader.queue.push({ type: 'scope', ch: watch.ch, cluster: cluster.id, left: [key] })
    }
    const at = { epoch: cluster.epoch, revision: asRevision(reader.place?.revision ?? cluster.seen) }
    reader.queue.push({ type: 'resync', ch: watch.ch, cluster: cluster.id, reason: 'policy', from: at, to: at })
    this.#snapshot(watch, reader, 'diff', new Set([key]))
  }

  #welcome(): ServerFrame {
    const clusters = Object.fromEntries(
      [...this.gateway.clusters.values()].map((c) => [
        c.id,
        {
          region: c.region,
          state: c.ready ? 'live' : 'unreachable',
          epoch: c.epoch,
          revision: asRevision(c.seen),
        } as const,
      ]),
    )
    const limits = { maxInboundBytes: 65_536, maxFrameBytes: 16_777_216, maxWatches: 100, maxClusters: 64 }
    return { type: 'welcome', version: 1, session: 'reference', heartbeatMs: 15_000, limits, clusters }
  }

  #covers(frame: WatchFrame, cluster: ReferenceCluster): boolean {
    const { clusters, regions } = frame
    if (clusters !== undefined && clusters !== '*' && !clusters.includes(cluster.id)) return false
    return regions === undefined || regions.includes(cluster.region)
  }

  #open(frame: WatchFrame): void {
    const cursor = decodeCursor(frame.start)
    if (!cursor.ok && frame.start !== 'snapshot' && frame.start !== 'now') {
      const message = `watch.start cannot be decoded: ${cursor.reason}`
      this.#control.push({ type: 'error', id: frame.id, code: 'DW4012', message, temporary: false })
      return
    }
    const watch: OpenWatch = { frame, ch: ++this.#channels, readers: new Map() }
    for (const other of this.#watches.values()) {
      if (this.gateway.viewTag(other.frame) !== this.gateway.viewTag(frame)) continue
      const message = 'an equal watch is open on this connection'
      this.#control.push({ type: 'error', id: frame.id, code: 'DW4014', message, temporary: false })
      return
    }
    this.#watches.set(frame.id, watch)
    const answers: Record<string, { outcome: Outcome; epoch?: string; revision?: Position['revision'] }> = {}
    for (const cluster of this.gateway.clusters.values()) {
      if (!this.#covers(frame, cluster)) continue
      const begin = frame.start === 'snapshot' || frame.start === 'now' ? frame.start : (frame.default ?? 'snapshot')
      const position = cursor.ok ? cursor.cursor.positions.get(cluster.id) : undefined
      const reader = this.#reader(cluster, position !== undefined || begin !== 'now')
      watch.readers.set(cluster.id, reader)
      const outcome = this.#begin(watch, reader, begin, position, cursor.ok ? cursor.cursor : undefined)
      const { place } = reader
      answers[cluster.id] =
        place === undefined ? { outcome } : { outcome, epoch: place.epoch, revision: asRevision(place.revision) }
    }
    if (Array.isArray(frame.clusters)) for (const id of frame.clusters) answers[id] ??= { outcome: 'denied' }
    this.#control.push({ type: 'watching', id: frame.id, ch: watch.ch, clusters: answers })
  }

  #begin(
    watch: OpenWatch,
    reader: Reader,
    begin: 'snapshot' | 'now',
    position: Position | undefined,
    cursor: Cursor | undefined,
  ): Outcome {
    const { cluster } = reader
    const mismatch = cursor !== undefined && cursor.viewTag !== this.gateway.viewTag(watch.frame)
    if (!cluster.ready) {
      reader.waiting = mismatch ? { position, mismatch: 'selector' } : { position }
      return 'waiting'
    }
    if (position === undefined) {
      if (begin === 'snapshot') this.#snapshot(watch, reader, 'full')
      else reader.place = { epoch: cluster.epoch, revision: cluster.seen }
      return begin === 'snapshot' ? 'snapshot' : 'live'
    }
    const from = Number(position.revision)
    const reason: ResyncReason | undefined = mismatch
      ? 'selector'
      : position.epoch !== cluster.epoch
        ? 'epoch'
        : from < cluster.floor
          ? 'compacted'
          : undefined
    if (reason !== undefined) {
      this.#repair(watch, reader, reason, position)
      return 'resync'
    }
    if (from > cluster.seen) {
      reader.waiting = { position }
      return 'waiting'
    }
    reader.place = { epoch: cluster.epoch, revision: Math.max(cluster.floor, from - this.gateway.repeat) }
    return 'resumed'
  }

  #unwatch(id: string): void {
    const watch = this.#watches.get(id)
    this.#watches.delete(id)
    if (watch !== undefined) this.#control.push({ type: 'unwatched', id, ch: watch.ch })
    else this.#control.push({ type: 'error', id, code: 'DW4015', message: 'no watch has this id', temporary: false })
  }

  #reader(cluster: ReferenceCluster, stateful: boolean): Reader {
    return { cluster, stateful, place: undefined, queue: [], waiting: undefined, marked: '' }
  }

  #step(watch: OpenWatch, reader: Reader): (() => ServerFrame) | undefined {
    const { cluster, waiting } = reader
    if (waiting !== undefined) {
      const { position, mismatch } = waiting
      const over = cluster.ready && (position === undefined || Number(position.revision) <= cluster.seen)
      if (!over) return undefined
      reader.waiting = undefined
      if (mismatch !== undefined) this.#repair(watch, reader, mismatch, position)
      else if (
        position !== undefined &&
        position.epoch === cluster.epoch &&
        Number(position.revision) >= cluster.floor
      ) {
        reader.place = { epoch: cluster.epoch, revision: Number(position.revision) }
      } else if (position !== undefined) this.#repair(watch, reader, 'epoch', position)
      else if (reader.stateful) this.#snapshot(watch, reader, 'full')
      else this.#repair(watch, reader, 'epoch')
    }
    const queued = reader.queue[0]
    if (queued !== undefined) return () => reader.queue.shift() ?? queued
    const { place } = reader
    if (place === undefined) return undefined
    for (const { revision, writes } of cluster.after(place.revision)) {
      const seen = writes.filter(({ key }) => this.gateway.visible(watch.frame, key))
      if (seen.length === 0) {
        place.revision = revision
        continue
      }
      return () => {
        place.revision = revision
        const position = { epoch: cluster.epoch, revision: asRevision(revision) }
        const events = seen.map((write) => eventOf(cluster, revision, write))
        return { type: 'events', ch: watch.ch, cluster: cluster.id, ...position, events }
      }
    }
    place.revision = cluster.seen
    return undefined
  }

  #repair(watch: OpenWatch, reader: Reader, reason: ResyncReason, from?: Position): void {
    const { cluster } = reader
    const to = { epoch: cluster.epoch, revision: asRevision(cluster.seen) }
    const told = { type: 'resync', ch: watch.ch, cluster: cluster.id, reason, to } as const
    // A scope that is due stays due: those keys are out of view whatever comes next.
    reader.queue = reader.queue.filter((frame) => frame.type === 'scope')
    reader.queue.push(from === undefined ? told : { ...told, from })
    if (reader.stateful) this.#snapshot(watch, reader, 'full')
    else reader.place = { epoch: cluster.epoch, revision: cluster.seen }
  }

  #snapshot(watch: OpenWatch, reader: Reader, base: 'full' | 'diff', only?: ReadonlySet<string>): void {
    const { cluster } = reader
    const state = cluster.state()
    const head = { type: 'snapshot', ch: watch.ch, cluster: cluster.id } as const
    const revision = asRevision(cluster.seen)
    const items: SnapshotItem[] = []
    for (const [key, held] of state) {
      if (this.gateway.visible(watch.frame, key) && only?.has(key) !== false) items.push(itemOf(key, held))
    }
    reader.queue.push({ ...head, phase: 'begin', base, epoch: cluster.epoch, revision })
    for (let at = 0; at < items.length; at += CHUNK) {
      reader.queue.push({ ...head, phase: 'items', items: items.slice(at, at + CHUNK) })
    }
    reader.queue.push({ ...head, phase: 'end', revision })
    reader.place = { epoch: cluster.epoch, revision: cluster.seen }
  }
}

const itemOf = (key: string, held: Held): SnapshotItem => ({
  key,
  text: held.value,
  revision: asRevision(held.revision),
  createRevision: asRevision(held.createRevision),
  version: String(held.version),
})

function eventOf(cluster: ReferenceCluster, revision: number, write: Write): WireEvent {
  if (write.op === 'delete') return { op: 'delete', key: write.key }
  if (write.op === 'leave') return { op: 'leave', key: write.key }
  const held = cluster.state(revision).get(write.key)
  return {
    op: 'put',
    key: write.key,
    text: write.value ?? '',
    createRevision: asRevision(held?.createRevision ?? revision),
    version: String(held?.version ?? 1),
  }
}
