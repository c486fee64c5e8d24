// Checks what a stranger sends: one function per direction.
// Owns: turning text into a ClientFrame or a named refusal, and server text into a ServerFrame for clients.
// Refuses: schema libraries (this runs in k6 and browsers) and state; whether a frame is allowed now is the session's matter.

import { fromBase64, type Key, keyFromBytes, keyFromText, keyToText, prefixEnd } from './bytes.ts'
import { type Code, ErrorCode } from './codes.ts'
import type { ClientFrame, Selector, ServerFrame, WatchFrame } from './frames.ts'

export type FrameRefusal = { readonly ok: false; readonly code: Code; readonly message: string; readonly id?: string }
export type Decoded<T> = { readonly ok: true; readonly frame: T } | FrameRefusal

/** `[from, to)`, bytewise; `to` undefined means to the end of the key space. */
export type KeyRange = { readonly from: Key; readonly to: Key | undefined }

export const MAX_ID_LENGTH = 64
export const MAX_KEY_BYTES = 8192
const MAX_TOKEN = 16_384

type Fields = Readonly<Record<string, unknown>>
const refuse = (code: Code, message: string, id?: string): FrameRefusal =>
  id === undefined ? { ok: false, code, message } : { ok: false, code, message, id }
const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const isText = (value: unknown, max: number): value is string => typeof value === 'string' && value.length <= max
const isNames = (value: unknown): value is readonly string[] =>
  Array.isArray(value) && value.length > 0 && value.length <= 256 && value.every((name) => isText(name, 32))

const WATCH_FIELDS = new Set(
  'type id clusters regions key keyBase64 prefix prefixBase64 from fromBase64 to toBase64 start default mode values'.split(
    ' ',
  ),
)

export function decodeClientFrame(text: string): Decoded<ClientFrame> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return refuse(ErrorCode.BadFrame, 'the frame is not JSON')
  }
  if (!isFields(value)) return refuse(ErrorCode.BadFrame, 'the frame is not an object')
  const { type } = value
  switch (type) {
    case 'hello':
      return decodeHello(value)
    case 'watch':
      return decodeWatch(value)
    case 'unwatch':
      if (!isId(value.id)) return refuse(ErrorCode.BadFrame, 'unwatch.id is not a string of 1-64 characters')
      return { ok: true, frame: { type, id: value.id } }
    case 'auth':
      if (!isText(value.token, MAX_TOKEN)) return refuse(ErrorCode.BadFrame, 'auth.token is not a string')
      return { ok: true, frame: { type, token: value.token } }
    case 'ping':
      return { ok: true, frame: { type } }
    default:
      return refuse(ErrorCode.UnknownFrame, `type ${typeof type === 'string' ? quote(type) : 'is missing'} is unknown`)
  }
}

const quote = (text: string): string => JSON.stringify(text.slice(0, 40))
const isId = (value: unknown): value is string => isText(value, MAX_ID_LENGTH) && value.length > 0

const decodeHello = (f: Fields): Decoded<ClientFrame> => {
  if (f.token !== undefined && !isText(f.token, MAX_TOKEN))
    return refuse(ErrorCode.BadFrame, 'hello.token is not a string')
  if (!isText(f.client, 128))
    return refuse(ErrorCode.BadFrame, 'hello.client is not a string of at most 128 characters')
  const { versions } = f
  if (!Array.isArray(versions) || versions.length === 0 || versions.length > 16 || !versions.every(Number.isInteger)) {
    return refuse(ErrorCode.BadFrame, 'hello.versions is not a list of 1-16 integers')
  }
  const hello = { type: 'hello', client: f.client, versions: versions as number[] } as const
  return { ok: true, frame: f.token === undefined ? hello : { ...hello, token: f.token } }
}

const decodeWatch = (f: Fields): Decoded<ClientFrame> => {
  const id = isId(f.id) ? f.id : undefined
  const bad = (message: string, code: Code = ErrorCode.BadFrame) => refuse(code, message, id)
  if (id === undefined) return bad('watch.id is not a string of 1-64 characters')
  for (const name of Object.keys(f)) if (!WATCH_FIELDS.has(name)) return bad(`watch has no field ${quote(name)}`)
  if (f.clusters !== undefined && f.clusters !== '*' && !isNames(f.clusters)) {
    return bad('watch.clusters is neither "*" nor a list of 1-256 names')
  }
  if (f.regions !== undefined && !isNames(f.regions)) return bad('watch.regions is not a list of 1-256 names')
  if (!isText(f.start, 8192)) return bad('watch.start is not "snapshot", "now" or a cursor')
  if (f.start !== 'snapshot' && f.start !== 'now' && !f.start.startsWith('dw1.')) {
    return bad('watch.start is not "snapshot", "now" or a cursor', ErrorCode.BadCursor)
  }
  if (f.default !== undefined && f.default !== 'snapshot' && f.default !== 'now') {
    return bad('watch.default is not "snapshot" or "now"')
  }
  if (f.mode !== undefined && f.mode !== 'log' && f.mode !== 'state') return bad('watch.mode is not "log" or "state"')
  if (f.values !== undefined && f.values !== 'auto' && f.values !== 'base64' && f.values !== 'none') {
    return bad('watch.values is not "auto", "base64" or "none"')
  }
  const range = selectorRange(f)
  if (typeof range === 'string') return bad(range, ErrorCode.BadSelector)
  return { ok: true, frame: f as unknown as WatchFrame }
}

/** The key range a selector names, or what is wrong with it. Exactly one of key, prefix, from is required. */
export function selectorRange(selector: Selector): KeyRange | string {
  const key = bytesOf(selector.key, selector.keyBase64, 'key')
  const prefix = bytesOf(selector.prefix, selector.prefixBase64, 'prefix')
  const from = bytesOf(selector.from, selector.fromBase64, 'from')
  const to = bytesOf(selector.to, selector.toBase64, 'to')
  for (const part of [key, prefix, from, to]) if (part !== undefined && 'error' in part) return part.error
  const given = [key, prefix, from].filter((part) => part !== undefined)
  if (given.length !== 1) return 'the selector needs exactly one of key, prefix, from'
  const value = (part: typeof key): Key => (part as { readonly bytes: Key }).bytes
  if (key !== undefined) {
    if (to !== undefined) return '"to" goes with "from" only'
    return { from: value(key), to: `${value(key)}\0` as Key }
  }
  if (prefix !== undefined) {
    if (to !== undefined) return '"to" goes with "from" only'
    return { from: value(prefix), to: prefixEnd(value(prefix)) }
  }
  if (to === undefined) return { from: value(from), to: undefined }
  if (value(to) <= value(from)) return '"to" is not after "from"'
  return { from: value(from), to: value(to) }
}

const bytesOf = (
  text: unknown,
  base64: unknown,
  name: string,
): { readonly bytes: Key } | { readonly error: string } | undefined => {
  if (text === undefined && base64 === undefined) return undefined
  if (text !== undefined && base64 !== undefined) return { error: `${name} and ${name}Base64 exclude each other` }
  const limit = `${name} is not at most ${MAX_KEY_BYTES} bytes`
  if (text !== undefined) {
    if (!isText(text, MAX_KEY_BYTES)) return { error: limit }
    const key = keyFromText(text)
    if (key.length > MAX_KEY_BYTES) return { error: limit }
    // Encoding replaces a lone surrogate; the selector would then name another key than the one that was written.
    return keyToText(key) === text ? { bytes: key } : { error: `${name} is not well-formed Unicode` }
  }
  const bytes = isText(base64, MAX_KEY_BYTES * 2) ? fromBase64(base64) : undefined
  if (bytes === undefined) return { error: `${name}Base64 is not base64` }
  return bytes.length > MAX_KEY_BYTES ? { error: limit } : { bytes: keyFromBytes(bytes) }
}

/**
 * For clients: the frame, or undefined when the text is no frame this version knows (a newer gateway may send more).
 * Trusts the gateway for everything below `type`; a client that must not, validates against the published schemas.
 */
export function decodeServerFrame(text: string): ServerFrame | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  return isFields(value) && typeof value.type === 'string' ? (value as unknown as ServerFrame) : undefined
}
