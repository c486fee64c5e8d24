// `cloudevents.json`: one CloudEvent (1.0, JSON format) per WebSocket message, for consumers that read and nothing else.
// Owns: the mapping of changes, snapshot items and control frames to CloudEvents attributes.
// Refuses: batches (the WebSocket binding forbids them): a transaction is several events that share `revision` and say
// their `txindex` and `txcount`.

import { type Key, keyToText, toBase64 } from '#protocol/bytes.ts'
import type { ViewTag } from '#protocol/cursor.ts'
import type { ResyncReason, ServerFrame } from '#protocol/frames.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import type { BookmarkCluster, EncodeContext, Encoder, FormatName, Item, ItemsWriter, Position } from './encoder.ts'
import { FrameWriter, joinFrames } from './frame-writer.ts'
import { valueKind } from './json-value.ts'
import type { Visible } from './policy-port.ts'

const TYPE = 'io.deltawatch.'
type Put = Extract<Visible, { op: 'put' }>
type Attributes = {
  readonly id: string
  readonly type: string
  readonly position: Position
  readonly key?: Key
  readonly atMs?: number
  readonly extra?: Readonly<Record<string, string | number | boolean>>
}

export class CloudEventsEncoder implements Encoder {
  readonly format: FormatName = 'cloudevents'
  readonly #writer = new FrameWriter()
  /** Tells this encoder's control events from those of every other process and life. */
  readonly #series: string
  #control = 0

  constructor(series: string) {
    this.#series = series
  }

  events(ctx: EncodeContext, position: Position, changes: readonly Visible[], atMs: number): Buffer {
    const frames = changes.map((change, index) => {
      const id = `${position.epoch}:${position.revision}:${index}`
      const extra = { txindex: index, txcount: changes.length }
      const head = { id, type: change.op, position, key: change.key, atMs, extra }
      return this.#event(ctx, head, change.op === 'put' ? change : undefined)
    })
    return joinFrames(frames)
  }

  snapshotBegin(ctx: EncodeContext, base: 'full' | 'diff', position: Position): Buffer {
    return this.#mark(ctx, 'snapshot.begin', position, { base })
  }

  snapshotItems(ctx: EncodeContext, position: Position): ItemsWriter {
    return this.#items(ctx, position, 'item', {})
  }

  snapshotEnd(ctx: EncodeContext, position: Position): Buffer {
    return this.#mark(ctx, 'snapshot.end', position, {})
  }

  state(ctx: EncodeContext, from: Revision, to: Position): ItemsWriter {
    return this.#items(ctx, to, 'state', { fromrevision: from })
  }

  resync(ctx: EncodeContext, reason: ResyncReason, _from: Position | undefined, to: Position | undefined): Buffer {
    return this.#signal('resync', ctx.cluster, { reason, ...(to === undefined ? {} : to) })
  }

  scope(ctx: EncodeContext, left: readonly Key[]): Buffer {
    const frames = left.map((key) => this.#signal('leave', ctx.cluster, subjectOf(key)))
    return joinFrames(frames)
  }

  bookmark(_ch: number, cursor: string, clusters: ReadonlyMap<ClusterId, BookmarkCluster>, _viewTag: ViewTag): Buffer {
    const data = JSON.stringify(Object.fromEntries(clusters))
    return this.#signal('bookmark', undefined, { cursor }, data)
  }

  /** Control frames become events of their own type; the frame is their data. Handshake frames have no place here. */
  frame(frame: ServerFrame): Buffer | undefined {
    switch (frame.type) {
      case 'cluster':
      case 'error':
      case 'goodbye':
      case 'watching':
      case 'heartbeat':
        return this.#signal(frame.type, undefined, {}, JSON.stringify(frame))
      default:
        return undefined
    }
  }

  #items(ctx: EncodeContext, at: Position, type: string, extra: Readonly<Record<string, string>>): ItemsWriter {
    const frames: Buffer[] = []
    let bytes = 0
    const add = (item: Item): void => {
      const gone = item.op === 'gone'
      const position = gone ? at : { epoch: at.epoch, revision: item.entry.modRevision }
      const name = keyToText(item.key) ?? toBase64(Buffer.from(item.key, 'latin1'))
      const head = {
        id: `${at.epoch}:${at.revision}:${gone ? 'gone' : 'item'}:${name}`,
        type: gone ? item.gone : type,
        position,
        key: item.key,
        extra,
      }
      const frame = this.#event(ctx, head, gone ? undefined : item)
      frames.push(frame)
      bytes += frame.length
    }
    return {
      add,
      get bytes() {
        return bytes
      },
      get count() {
        return frames.length
      },
      finish: (last = false) => {
        if (last) frames.push(this.#mark(ctx, 'state.end', at, extra))
        return joinFrames(frames)
      },
    }
  }

  #mark(ctx: EncodeContext, type: string, position: Position, extra: Attributes['extra'] & object): Buffer {
    return this.#event(ctx, { id: `${position.epoch}:${position.revision}:${type}`, type, position, extra }, undefined)
  }

  #event(ctx: EncodeContext, head: Attributes, put: Put | undefined): Buffer {
    const w = this.#writer.begin()
    const { position } = head
    const attributes = {
      specversion: '1.0',
      id: head.id,
      source: `/deltawatch/${ctx.region}/${ctx.cluster}`,
      type: TYPE + head.type,
      ...(head.atMs === undefined || head.atMs <= 0 ? {} : { time: new Date(head.atMs).toISOString() }),
      ...(head.key === undefined ? {} : subjectOf(head.key)),
      cluster: ctx.cluster,
      epoch: position.epoch,
      revision: position.revision,
      // Lexicographic order is numeric order.
      sequence: position.revision.padStart(20, '0'),
      ...head.extra,
    }
    w.raw(Buffer.from(JSON.stringify(attributes).slice(0, -1)))
    if (put !== undefined) this.#data(w, ctx, put)
    return w.ascii('}').finish('websocket')
  }

  #data(w: FrameWriter, ctx: EncodeContext, put: Put): void {
    w.ascii(`,"createrevision":"${put.entry.createRevision}"`)
    if (!ctx.hideActivity) w.ascii(`,"keyversion":"${put.entry.version}"`)
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
    if (kind === 'json') w.ascii(',"datacontenttype":"application/json","data":').raw(value)
    else if (kind === 'text') w.ascii(',"datacontenttype":"text/plain","data":').text(value)
    else w.ascii(',"datacontenttype":"application/octet-stream","data_base64":').base64(value)
  }

  #signal(
    type: string,
    cluster: ClusterId | undefined,
    extra: Readonly<Record<string, string>>,
    data?: string,
  ): Buffer {
    const head = {
      specversion: '1.0',
      // Unique over processes and their lives, for a consumer that drops what it believes to have seen.
      id: `control:${this.#series}:${++this.#control}`,
      source: cluster === undefined ? '/deltawatch' : `/deltawatch/cluster/${cluster}`,
      type: TYPE + type,
      ...extra,
      ...(data === undefined ? {} : { datacontenttype: 'application/json' }),
    }
    const w = this.#writer.begin().raw(Buffer.from(JSON.stringify(head).slice(0, -1)))
    if (data !== undefined) w.ascii(',"data":').raw(Buffer.from(data))
    return w.ascii('}').finish('websocket')
  }
}

function subjectOf(key: Key): { readonly subject: string } | { readonly keybase64: string } {
  const text = keyToText(key)
  return text === undefined || text === '' ? { keybase64: toBase64(Buffer.from(key, 'latin1')) } : { subject: text }
}
