// The cursor: where one watch stands in every cluster it follows.
// Owns: the canonical encoding `dw1.` + base64url and its strict decoding; equal positions give equal text.
// Refuses: secrecy and authenticity. The checksum finds damage, it is no MAC: a forged cursor may only cost a budgeted replay.
//
// Layout (bytes): view tag (8) | count (1) | per cluster, ids bytewise ascending:
//   id length (1) id | epoch (8) | revision (8, big endian) | then CRC-32 of all before it (4, big endian).

import { fromBase64Url, toBase64Url } from './bytes.ts'
import { type Epoch, isEpoch } from './log/entry.ts'
import type { Revision } from './revision.ts'
import { type ClusterId, parseClusterId } from './subjects.ts'

export const CURSOR_PREFIX = 'dw1.'
export const MAX_CURSOR_CLUSTERS = 64
/** 8 bytes in hex: hash of the selector, mode, values and the rules able to touch them for this class. */
export type ViewTag = string

export type Position = { readonly epoch: Epoch; readonly revision: Revision }
export type Cursor = { readonly viewTag: ViewTag; readonly positions: ReadonlyMap<ClusterId, Position> }
export type CursorFailure = 'prefix' | 'base64' | 'length' | 'checksum' | 'order' | 'cluster' | 'count' | 'revision'

/** Bit by bit: a cursor is some hundred bytes, and every page that loads the client would carry a table. */
const crc32 = (bytes: Uint8Array, end: number): number => {
  let crc = -1
  for (let i = 0; i < end; i++) {
    crc ^= bytes[i] as number
    for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1))
  }
  return ~crc >>> 0
}

/** Throws RangeError for a tag, epoch or count that no gateway makes; those are programming errors, not input. */
export function encodeCursor(cursor: Cursor): string {
  const clusters = [...cursor.positions.keys()].toSorted((a, b) => (a < b ? -1 : 1))
  if (clusters.length > MAX_CURSOR_CLUSTERS)
    throw new RangeError(`cursor names ${clusters.length} clusters, at most 64`)
  const size = clusters.reduce((sum, id) => sum + 17 + id.length, 9 + 4)
  const bytes = new Uint8Array(size)
  const view = new DataView(bytes.buffer)
  putHex(view, 0, cursor.viewTag, 'view tag')
  bytes[8] = clusters.length
  let at = 9
  for (const id of clusters) {
    const position = cursor.positions.get(id) as Position
    bytes[at++] = id.length
    for (let i = 0; i < id.length; i++) bytes[at++] = id.charCodeAt(i)
    putHex(view, at, position.epoch, 'epoch')
    view.setBigUint64(at + 8, BigInt(position.revision))
    at += 16
  }
  view.setUint32(at, crc32(bytes, at))
  return CURSOR_PREFIX + toBase64Url(bytes)
}

/** A view tag is spelled as an epoch is: 8 bytes in hex. */
const putHex = (view: DataView, at: number, hex: string, name: string): void => {
  if (!isEpoch(hex)) throw new RangeError(`${name} is not 16 hex digits: ${hex}`)
  view.setBigUint64(at, BigInt(`0x${hex}`))
}
const hexAt = (view: DataView, at: number): string => view.getBigUint64(at).toString(16).padStart(16, '0')

export function decodeCursor(
  text: string,
): { readonly ok: true; readonly cursor: Cursor } | { readonly ok: false; readonly reason: CursorFailure } {
  const fail = (reason: CursorFailure) => ({ ok: false, reason }) as const
  if (!text.startsWith(CURSOR_PREFIX)) return fail('prefix')
  if (text.length > 8192) return fail('length')
  const bytes = fromBase64Url(text.slice(CURSOR_PREFIX.length))
  if (bytes === undefined) return fail('base64')
  if (bytes.length < 13) return fail('length')
  const end = bytes.length - 4
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.getUint32(end) !== crc32(bytes, end)) return fail('checksum')
  const count = bytes[8] as number
  if (count > MAX_CURSOR_CLUSTERS) return fail('count')
  const positions = new Map<ClusterId, Position>()
  let at = 9
  let previous = ''
  for (let n = 0; n < count; n++) {
    const length = bytes[at++]
    if (length === undefined || at + length + 16 > end) return fail('length')
    let name = ''
    for (let i = 0; i < length; i++) name += String.fromCharCode(bytes[at++] as number)
    const id = parseClusterId(name)
    if (id === undefined) return fail('cluster')
    if (id <= previous) return fail('order')
    previous = id
    const revision = view.getBigUint64(at + 8)
    if (revision >> 63n !== 0n) return fail('revision')
    positions.set(id, {
      epoch: hexAt(view, at) as Epoch,
      revision: revision.toString() as Revision,
    })
    at += 16
  }
  if (at !== end) return fail('length')
  return { ok: true, cursor: { viewTag: hexAt(view, 0), positions } }
}
