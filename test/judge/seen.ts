// What a subscriber saw, in the judge's own terms.
// Owns: the types that validators read, and turning raw frames of one watch into them, staging snapshots on the way.
// Refuses: the product's decoder, folding and cursor code; and judging: what does not parse is passed on as `garbled`.

import { crc32 } from 'node:zlib'
import { type Fingerprint, fingerprint } from './truth.ts'

export type SeenValue =
  | { readonly kind: 'exact'; readonly value: Fingerprint }
  /** Withheld, oversized or not asked for: nothing to compare. */
  | { readonly kind: 'absent'; readonly why: string }
export type SeenEntry = {
  readonly key: string
  readonly value: SeenValue
  readonly revision?: number
  readonly create?: number
  readonly version?: number
  readonly lease?: string
}
export type SeenEvent = ({ readonly op: 'put' } & SeenEntry) | { readonly op: 'delete' | 'leave'; readonly key: string }
export type Place = { readonly epoch: string; readonly revision: number }

export type Seen =
  | { readonly kind: 'connected'; readonly start: string }
  | { readonly kind: 'outcome'; readonly cluster: string; readonly outcome: string; readonly at: Place | undefined }
  | {
      readonly kind: 'snapshot'
      readonly cluster: string
      readonly at: Place
      readonly base: string
      readonly entries: readonly SeenEntry[]
      readonly gone: readonly string[]
    }
  | { readonly kind: 'events'; readonly cluster: string; readonly at: Place; readonly events: readonly SeenEvent[] }
  | { readonly kind: 'bookmark'; readonly cluster: string; readonly at: Place; readonly state: string }
  | { readonly kind: 'cursor'; readonly cursor: string }
  | { readonly kind: 'resync'; readonly cluster: string; readonly reason: string; readonly to: Place | undefined }
  | { readonly kind: 'cluster'; readonly cluster: string; readonly state: string }
  | { readonly kind: 'garbled'; readonly what: string }

/** One connection's share of a watch: its id there, what it started with, and every text message in order. */
export type Connection = { readonly id: string; readonly start: string; readonly frames: readonly string[] }

type Json = Readonly<Record<string, unknown>>
const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value)
const revisionOf = (text: unknown): number => {
  if (typeof text !== 'string' || !/^(0|[1-9][0-9]*)$/.test(text)) throw new Error(`no revision: ${String(text)}`)
  const n = Number(text)
  if (!Number.isSafeInteger(n)) throw new Error(`revision ${text} is beyond the judge`)
  return n
}
const placeOf = (value: unknown): Place | undefined =>
  isObject(value) && typeof value.epoch === 'string' && value.revision !== undefined
    ? { epoch: value.epoch, revision: revisionOf(value.revision) }
    : undefined

function keyOf(item: Json): string {
  if (typeof item.key === 'string') return Buffer.from(item.key, 'utf8').toString('latin1')
  if (typeof item.keyBase64 === 'string') return Buffer.from(item.keyBase64, 'base64').toString('latin1')
  throw new Error('an item has no key')
}

/** The source text of `"json":` cannot be had from JSON.parse; `raw` is the item's own text. */
function valueOf(item: Json, raw: string): SeenValue {
  if (typeof item.withheld === 'string') return { kind: 'absent', why: `withheld by ${item.withheld}` }
  if (typeof item.oversize === 'number') return { kind: 'absent', why: 'oversize' }
  if (typeof item.text === 'string') return { kind: 'exact', value: fingerprint(Buffer.from(item.text, 'utf8')) }
  if (typeof item.base64 === 'string') return { kind: 'exact', value: fingerprint(Buffer.from(item.base64, 'base64')) }
  if ('json' in item) return { kind: 'exact', value: fingerprint(Buffer.from(jsonSource(raw), 'utf8')) }
  return { kind: 'absent', why: 'no value' }
}

function entryOf(item: Json, raw: string): SeenEntry {
  const number = (name: string): number | undefined => (item[name] === undefined ? undefined : revisionOf(item[name]))
  const [revision, create, version] = [number('revision'), number('createRevision'), number('version')]
  return {
    key: keyOf(item),
    value: valueOf(item, raw),
    ...(revision === undefined ? {} : { revision }),
    ...(create === undefined ? {} : { create }),
    ...(version === undefined ? {} : { version }),
    ...(typeof item.lease === 'string' ? { lease: item.lease } : {}),
  }
}

/** Position just behind the JSON value that starts at `at`. Strings are skipped whole, brackets are counted. */
function valueEnd(text: string, at: number): number {
  let depth = 0
  for (let i = at; i < text.length; i++) {
    const c = text[i]
    if (c === '"') {
      for (i += 1; text[i] !== '"'; i++) if (text[i] === '\\') i += 1
      if (depth === 0) return i + 1
    } else if (c === '{' || c === '[') depth += 1
    else if (c === '}' || c === ']') {
      depth -= 1
      if (depth === 0) return i + 1
      if (depth < 0) return i
    } else if (c === ',' && depth === 0) return i
  }
  return text.length
}

/** The members of one JSON object, each with the source text of its value, surrounding white space included. */
export function membersOf(object: string): Map<string, string> {
  const members = new Map<string, string>()
  let i = object.indexOf('{') + 1
  while (i > 0 && i < object.length) {
    while (/[\s,]/.test(object[i] ?? '')) i += 1
    if (object[i] !== '"') break
    const nameEnd = valueEnd(object, i)
    const name = JSON.parse(object.slice(i, nameEnd)) as string
    i = object.indexOf(':', nameEnd) + 1
    let start = i
    while (/\s/.test(object[start] ?? '')) start += 1
    let end = valueEnd(object, start)
    while (/\s/.test(object[end] ?? '')) end += 1
    members.set(name, object.slice(i, end))
    i = end
  }
  return members
}
function elementsOf(array: string): string[] {
  const elements: string[] = []
  let i = array.indexOf('[') + 1
  while (i > 0 && i < array.length) {
    while (/[\s,]/.test(array[i] ?? '')) i += 1
    if (array[i] === ']' || array[i] === undefined) break
    const end = valueEnd(array, i)
    elements.push(array.slice(i, end))
    i = end
  }
  return elements
}
const jsonSource = (item: string): string => membersOf(item).get('json') ?? ''

type Staging = { at: Place; base: string; entries: SeenEntry[]; gone: string[] }

/** Reads the frames of one watch (by its id, then its channel) on each of its connections. */
export function readTranscript(connections: readonly Connection[]): Seen[] {
  const seen: Seen[] = []
  for (const { id, start, frames } of connections) {
    seen.push({ kind: 'connected', start })
    const reader = new ConnectionReader(id, seen)
    for (const text of frames) {
      try {
        reader.read(text)
      } catch (error) {
        seen.push({
          kind: 'garbled',
          what: `${error instanceof Error ? error.message : String(error)}: ${text.slice(0, 120)}`,
        })
      }
    }
  }
  return seen
}

class ConnectionReader {
  readonly #id: string
  readonly #seen: Seen[]
  readonly #staging = new Map<string, Staging>()
  #channel: number | undefined

  constructor(id: string, seen: Seen[]) {
    this.#id = id
    this.#seen = seen
  }

  read(text: string): void {
    const frame: unknown = JSON.parse(text)
    if (!isObject(frame)) throw new Error('no object')
    if (frame.type === 'watching' && frame.id === this.#id) return this.#watching(frame)
    const cluster = String(frame.cluster)
    if (frame.type === 'cluster') {
      this.#seen.push({ kind: 'cluster', cluster, state: String(frame.state) })
      return
    }
    if (frame.ch === undefined || frame.ch !== this.#channel) return
    switch (frame.type) {
      case 'events':
        this.#seen.push({ kind: 'events', cluster, at: this.#place(frame), events: this.#events(text) })
        return
      case 'snapshot':
        return this.#snapshot(cluster, frame, text)
      case 'bookmark':
        for (const [name, at] of Object.entries(isObject(frame.clusters) ? frame.clusters : {})) {
          const state = isObject(at) ? String(at.state) : ''
          this.#seen.push({ kind: 'bookmark', cluster: name, at: this.#place(at), state })
        }
        this.#seen.push({ kind: 'cursor', cursor: String(frame.cursor) })
        return
      case 'resync':
        this.#staging.delete(cluster)
        this.#seen.push({ kind: 'resync', cluster, reason: String(frame.reason), to: placeOf(frame.to) })
        return
      case 'scope':
      case 'unwatched':
        return
      default:
        throw new Error(`type ${String(frame.type)} on a channel`)
    }
  }

  #watching(frame: Json): void {
    this.#channel = Number(frame.ch)
    for (const [cluster, outcome] of Object.entries(isObject(frame.clusters) ? frame.clusters : {})) {
      if (!isObject(outcome)) throw new Error('an outcome is no object')
      this.#seen.push({ kind: 'outcome', cluster, outcome: String(outcome.outcome), at: placeOf(outcome) })
    }
  }

  #snapshot(cluster: string, frame: Json, text: string): void {
    if (frame.phase === 'begin') {
      this.#staging.set(cluster, { at: this.#place(frame), base: String(frame.base), entries: [], gone: [] })
      return
    }
    const staged = this.#staging.get(cluster)
    if (staged === undefined) throw new Error('a snapshot without begin')
    if (frame.phase === 'items') {
      for (const raw of elementsOf(membersOf(text).get('items') ?? '')) {
        const item = JSON.parse(raw) as Json
        if (item.gone === undefined) staged.entries.push(entryOf(item, raw))
        else staged.gone.push(keyOf(item))
      }
      return
    }
    this.#staging.delete(cluster)
    if (revisionOf(frame.revision) !== staged.at.revision) throw new Error('a snapshot ends at another revision')
    this.#seen.push({ kind: 'snapshot', cluster, ...staged })
  }

  #events(text: string): SeenEvent[] {
    return elementsOf(membersOf(text).get('events') ?? '').map((raw): SeenEvent => {
      const event = JSON.parse(raw) as Json
      if (event.op === 'put') return { op: 'put', ...entryOf(event, raw) }
      if (event.op !== 'delete' && event.op !== 'leave') throw new Error(`op ${String(event.op)}`)
      return { op: event.op, key: keyOf(event) }
    })
  }

  #place(value: unknown): Place {
    const place = placeOf(value)
    if (place === undefined) throw new Error('no position')
    return place
  }
}

export type ReadCursor = { readonly viewTag: string; readonly positions: ReadonlyMap<string, Place> }

/** The judge's own reading of a cursor, or what is wrong with it. */
export function readCursor(text: string): ReadCursor | string {
  if (!text.startsWith('dw1.')) return 'prefix'
  const bytes = Buffer.from(text.slice(4), 'base64url')
  if (bytes.toString('base64url') !== text.slice(4)) return 'not canonical base64url'
  if (bytes.length < 13 || crc32(bytes.subarray(0, -4)) !== bytes.readUInt32BE(bytes.length - 4)) return 'checksum'
  const positions = new Map<string, Place>()
  let at = 9
  for (let n = 0; n < (bytes[8] ?? 0); n++) {
    const size = bytes[at] ?? 0
    const id = bytes.toString('latin1', at + 1, at + 1 + size)
    at += 1 + size
    positions.set(id, { epoch: bytes.toString('hex', at, at + 8), revision: Number(bytes.readBigUInt64BE(at + 8)) })
    at += 16
  }
  return at === bytes.length - 4 ? { viewTag: bytes.toString('hex', 0, 8), positions } : 'length'
}
