// Frames as bytes, in the shape of protocol/frames.ts.
// Owns: the wire form of every data frame of one format, encoded once and shared by all connections of a channel.
// Refuses: policy (it is given what may be seen) and delivery. Control frames, which are per connection, go through `frame`.
// One encoder serves one format; it holds one scratch and is not re-entrant.

import type { Key } from '#protocol/bytes.ts'
import { keyToText, toBase64 } from '#protocol/bytes.ts'
import type { ViewTag } from '#protocol/cursor.ts'
import type { ClusterState, ResyncReason, ServerFrame, ValuesMode } from '#protocol/frames.ts'
import type { Epoch } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ClusterId, Region } from '#protocol/subjects.ts'
import { type Framing, FrameWriter } from './frame-writer.ts'
import { valueKind } from './json-value.ts'
import type { Visible } from './policy-port.ts'

export type FormatName = 'json' | 'event-stream' | 'cloudevents'
export type Position = { readonly epoch: Epoch; readonly revision: Revision }

/** What all frames of one (channel, cluster) have in common. */
export type EncodeContext = {
  readonly ch: number
  readonly cluster: ClusterId
  readonly region: Region
  readonly values: ValuesMode
  readonly viewTag: ViewTag
  /** Classes that must not learn of hidden activity get no versions. */
  readonly hideActivity: boolean
  /** Larger values are replaced by their size. */
  readonly maxValueBytes: number
}

export type Item =
  | Extract<Visible, { op: 'put' }>
  | { readonly op: 'gone'; readonly gone: 'delete' | 'leave'; readonly key: Key }

export type BookmarkCluster = Position & { readonly state: ClusterState; readonly ageMs: number }

/** Collects items of one chunk; `bytes` tells when to stop. */
export interface ItemsWriter {
  add(item: Item): void
  readonly bytes: number
  readonly count: number
  /** `last` ends a difference of several chunks; snapshots end by a frame of their own. */
  finish(last?: boolean): Buffer
}

export interface Encoder {
  readonly format: FormatName
  events(ctx: EncodeContext, position: Position, changes: readonly Visible[], atMs: number): Buffer
  snapshotBegin(ctx: EncodeContext, base: 'full' | 'diff', position: Position): Buffer
  snapshotItems(ctx: EncodeContext, position: Position): ItemsWriter
  snapshotEnd(ctx: EncodeContext, position: Position): Buffer
  /** One chunk of an atomic difference in state mode. */
  state(ctx: EncodeContext, from: Revision, to: Position): ItemsWriter
  resync(ctx: EncodeContext, reason: ResyncReason, from: Position | undefined, to: Position | undefined): Buffer
  scope(ctx: EncodeContext, left: readonly Key[]): Buffer
  bookmark(ch: number, cursor: string, clusters: ReadonlyMap<ClusterId, BookmarkCluster>, viewTag: ViewTag): Buffer
  /** Per-connection frames; undefined where a format has no place for them. */
  frame(frame: ServerFrame): Buffer | undefined
}

/** `deltawatch.v1.json`, over WebSocket or as an event stream. */
export class JsonEncoder implements Encoder {
  readonly format: FormatName
  readonly #framing: Framing
  readonly #writer = new FrameWriter()

  constructor(framing: Framing) {
    this.#framing = framing
    this.format = framing === 'websocket' ? 'json' : 'event-stream'
  }

  events(ctx: EncodeContext, position: Position, changes: readonly Visible[]): Buffer {
    const w = this.#head(ctx, 'events')
    w.ascii(',"epoch":"').ascii(position.epoch).ascii('","revision":"').ascii(position.revision).ascii('","events":[')
    for (let i = 0; i < changes.length; i++) {
      const change = changes[i] as Visible
      w.ascii(i === 0 ? '{"op":"' : ',{"op":"')
        .ascii(change.op)
        .ascii('",')
        .key(change.key)
      if (change.op === 'put') writePut(w, ctx, change)
      w.ascii('}')
    }
    return w.ascii(']}').finish(this.#framing, this.#id(ctx, position))
  }

  snapshotBegin(ctx: EncodeContext, base: 'full' | 'diff', position: Position): Buffer {
    return this.#head(ctx, 'snapshot')
      .ascii(`,"phase":"begin","base":"${base}","epoch":"${position.epoch}","revision":"${position.revision}"}`)
      .finish(this.#framing)
  }

  snapshotItems(ctx: EncodeContext): ItemsWriter {
    const w = this.#head(ctx, 'snapshot').ascii(',"phase":"items","items":[')
    return this.#items(
      w,
      ctx,
      () => ']}',
      () => undefined,
    )
  }

  snapshotEnd(ctx: EncodeContext, position: Position): Buffer {
    return this.#head(ctx, 'snapshot')
      .ascii(`,"phase":"end","revision":"${position.revision}"}`)
      .finish(this.#framing, this.#id(ctx, position))
  }

  state(ctx: EncodeContext, from: Revision, to: Position): ItemsWriter {
    const w = this.#head(ctx, 'state').ascii(
      `,"epoch":"${to.epoch}","fromRevision":"${from}","revision":"${to.revision}","items":[`,
    )
    return this.#items(
      w,
      ctx,
      (last) => `],"last":${last}}`,
      (last) => (last ? this.#id(ctx, to) : undefined),
    )
  }

  resync(ctx: EncodeContext, reason: ResyncReason, from: Position | undefined, to: Position | undefined): Buffer {
    const w = this.#head(ctx, 'resync').ascii(`,"reason":"${reason}"`)
    if (from !== undefined) w.ascii(`,"from":${positionJson(from)}`)
    if (to !== undefined) w.ascii(`,"to":${positionJson(to)}`)
    return w.ascii('}').finish(this.#framing)
  }

  scope(ctx: EncodeContext, left: readonly Key[]): Buffer {
    const texts: string[] = []
    const binary: string[] = []
    for (const key of left) {
      const text = keyToText(key)
      if (text === undefined) binary.push(toBase64(Buffer.from(key, 'latin1')))
      else texts.push(text)
    }
    const frame = { type: 'scope', ch: ctx.ch, cluster: ctx.cluster, left: texts } as const
    return this.frame(binary.length === 0 ? frame : { ...frame, leftBase64: binary })
  }

  bookmark(ch: number, cursor: string, clusters: ReadonlyMap<ClusterId, BookmarkCluster>, viewTag: ViewTag): Buffer {
    const w = this.#writer
      .begin()
      .ascii(`{"type":"bookmark","ch":${ch},"cursor":"`)
      .ascii(cursor)
      .ascii('","clusters":{')
    let only: BookmarkCluster | undefined
    let first = true
    for (const [cluster, at] of clusters) {
      w.ascii(
        `${first ? '' : ','}"${cluster}":{"epoch":"${at.epoch}","revision":"${at.revision}","state":"${at.state}"`,
      )
      w.ascii(`,"ageMs":${Math.round(at.ageMs)}}`)
      only = first ? at : undefined
      first = false
    }
    return w
      .ascii('}}')
      .finish(this.#framing, only === undefined ? undefined : `${only.epoch}:${only.revision}:${viewTag}`)
  }

  frame(frame: ServerFrame): Buffer {
    return this.#writer
      .begin()
      .raw(Buffer.from(JSON.stringify(frame)))
      .finish(this.#framing)
  }

  #id(ctx: EncodeContext, at: Position): string | undefined {
    return this.#framing === 'event-stream' ? eventId(ctx, at) : undefined
  }

  #head(ctx: EncodeContext, type: string): FrameWriter {
    return this.#writer
      .begin()
      .ascii('{"type":"')
      .ascii(type)
      .ascii('","ch":')
      .ascii(String(ctx.ch))
      .ascii(',"cluster":"')
      .ascii(ctx.cluster)
      .ascii('"')
  }

  #items(
    w: FrameWriter,
    ctx: EncodeContext,
    tail: (last: boolean) => string,
    id: (last: boolean) => string | undefined,
  ): ItemsWriter {
    let count = 0
    const framing = this.#framing
    return {
      add(item) {
        w.ascii(count++ === 0 ? '{' : ',{').key(item.key)
        if (item.op === 'gone') w.ascii(`,"gone":"${item.gone}"`)
        else {
          w.ascii(',"revision":"').ascii(item.entry.modRevision).ascii('"')
          writePut(w, ctx, item)
        }
        w.ascii('}')
      },
      get bytes() {
        return w.length
      },
      get count() {
        return count
      },
      finish: (last = false) => w.ascii(tail(last)).finish(framing, id(last)),
    }
  }
}

const positionJson = (at: Position): string => `{"epoch":"${at.epoch}","revision":"${at.revision}"}`

/** Id of an event-stream event that completes a position. */
export const eventId = (ctx: EncodeContext, at: Position): string => `${at.epoch}:${at.revision}:${ctx.viewTag}`

/** Value and metadata of a put, each with a leading comma. */
export function writePut(w: FrameWriter, ctx: EncodeContext, put: Extract<Visible, { op: 'put' }>): void {
  writeValue(w, ctx, put)
  const { entry } = put
  w.ascii(',"createRevision":"').ascii(entry.createRevision).ascii('"')
  if (!ctx.hideActivity) w.ascii(',"version":"').ascii(entry.version).ascii('"')
  if (entry.lease !== '0' && entry.lease !== '') w.ascii(',"lease":"').ascii(entry.lease).ascii('"')
}

function writeValue(w: FrameWriter, ctx: EncodeContext, put: Extract<Visible, { op: 'put' }>): void {
  if (ctx.values === 'none') return
  const { value } = put
  if (put.withheld !== undefined || value === undefined) {
    w.ascii(',"withheld":').raw(Buffer.from(JSON.stringify(put.withheld ?? 'policy')))
    return
  }
  if (value.length > ctx.maxValueBytes) {
    w.ascii(`,"oversize":${value.length}`)
    return
  }
  const kind = ctx.values === 'base64' ? 'base64' : valueKind(value)
  if (kind === 'json') w.ascii(',"json":').raw(value)
  else if (kind === 'text') w.ascii(',"text":').text(value)
  else w.ascii(',"base64":').base64(value)
}
