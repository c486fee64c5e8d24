// Builds wire bytes: JSON assembled byte by byte into one reused scratch, framed, then kept in shared slabs.
// Owns: escaping of keys and texts, base64, WebSocket and event-stream framing, and where finished frames live in memory.
// Refuses: what a frame says (encode-json.ts) and who gets it. A finished frame is immutable: many sockets share it.
// Overflow rule: the scratch grows to the largest frame and shrinks back; slabs are 64 KiB, larger frames stand alone.

import type { Key } from '#protocol/bytes.ts'

const SLAB_BYTES = 64 * 1024
const SCRATCH_BYTES = 64 * 1024
/** A scratch beyond this is given back after use. */
const SCRATCH_KEEP = 1024 * 1024
/** Room before the body for the longest header (a WebSocket one of 10 bytes). */
const HEAD_ROOM = 10
const TEXT_FRAME = 0x81
const HEX = Buffer.from('0123456789abcdef', 'latin1')
const BASE64 = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', 'latin1')

/** Per byte: 0 = copied as it is, 1 = \u00xx, otherwise the letter after the backslash. */
const ESCAPES = (() => {
  const table = new Uint8Array(256)
  table.fill(1, 0, 0x20)
  for (const [code, letter] of [
    [0x08, 'b'],
    [0x09, 't'],
    [0x0a, 'n'],
    [0x0c, 'f'],
    [0x0d, 'r'],
    [0x22, '"'],
    [0x5c, '\\'],
  ] as const)
    table[code] = letter.charCodeAt(0)
  return table
})()

/** How finished bodies are delimited on a connection. */
export type Framing = 'websocket' | 'event-stream'

export class FrameWriter {
  #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES)
  #at = HEAD_ROOM
  #slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
  #used = 0

  /** Starts a new body; whatever was not finished is dropped. */
  begin(): this {
    this.#at = HEAD_ROOM
    return this
  }

  /** Bytes of the body so far. */
  get length(): number {
    return this.#at - HEAD_ROOM
  }

  /** Cuts the body back to an earlier `length`. */
  truncate(length: number): void {
    this.#at = HEAD_ROOM + length
  }

  /** ASCII only: the caller's own literals, ids and decimal numbers. */
  ascii(text: string): this {
    const length = text.length
    this.#room(length)
    if (length < 24) {
      for (let i = 0; i < length; i++) this.#scratch[this.#at + i] = text.charCodeAt(i)
    } else {
      this.#scratch.write(text, this.#at, length, 'latin1')
    }
    this.#at += length
    return this
  }

  raw(bytes: Uint8Array): this {
    this.#room(bytes.length)
    this.#scratch.set(bytes, this.#at)
    this.#at += bytes.length
    return this
  }

  /** A JSON string from bytes that are known to be valid UTF-8. */
  text(bytes: Uint8Array): this {
    this.#room(bytes.length * 6 + 2)
    const out = this.#scratch
    let at = this.#at
    out[at++] = 0x22
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i] as number
      const escape = ESCAPES[byte] as number
      if (escape === 0) out[at++] = byte
      else at = putEscape(out, at, byte, escape)
    }
    out[at++] = 0x22
    this.#at = at
    return this
  }

  /** `"key":"…"`, or `"keyBase64":"…"` when the key is not UTF-8. */
  key(key: Key): this {
    const length = key.length
    this.#room(length * 6 + 16)
    this.ascii('"key":"')
    const out = this.#scratch
    const start = this.#at
    let at = start
    let high = false
    for (let i = 0; i < length; i++) {
      const byte = key.charCodeAt(i)
      if (byte > 0x7f) high = true
      const escape = ESCAPES[byte] as number
      if (escape === 0) out[at++] = byte
      else at = putEscape(out, at, byte, escape)
    }
    if (high && !isUtf8(out, start, at)) {
      this.#at = start - 7
      return this.ascii('"keyBase64":').base64(Buffer.from(key, 'latin1'))
    }
    out[at++] = 0x22
    this.#at = at
    return this
  }

  /** A JSON string holding the standard base64 of `bytes`. */
  base64(bytes: Uint8Array): this {
    const { length } = bytes
    this.#room(Math.ceil(length / 3) * 4 + 2)
    const out = this.#scratch
    let at = this.#at
    out[at++] = 0x22
    for (let i = 0; i < length; i += 3) {
      const a = bytes[i] as number
      const b = i + 1 < length ? (bytes[i + 1] as number) : 0
      const c = i + 2 < length ? (bytes[i + 2] as number) : 0
      out[at++] = BASE64[a >> 2] as number
      out[at++] = BASE64[((a & 3) << 4) | (b >> 4)] as number
      out[at++] = i + 1 < length ? (BASE64[((b & 15) << 2) | (c >> 6)] as number) : 0x3d
      out[at++] = i + 2 < length ? (BASE64[c & 63] as number) : 0x3d
    }
    out[at++] = 0x22
    this.#at = at
    return this
  }

  /** The body as a finished frame. For an event stream, `id` becomes the event's id. */
  finish(framing: Framing, id?: string): Buffer {
    if (framing === 'event-stream') return this.#finishEventStream(id)
    const length = this.#at - HEAD_ROOM
    const head = length < 126 ? 2 : length < 65_536 ? 4 : 10
    const start = HEAD_ROOM - head
    const out = this.#scratch
    out[start] = TEXT_FRAME
    if (head === 2) {
      out[start + 1] = length
    } else if (head === 4) {
      out[start + 1] = 126
      out.writeUInt16BE(length, start + 2)
    } else {
      out[start + 1] = 127
      out.writeUInt32BE(Math.floor(length / 0x1_0000_0000), start + 2)
      out.writeUInt32BE(length >>> 0, start + 6)
    }
    return this.#keep(start)
  }

  /** The body alone, in memory of its own. */
  finishBody(): Buffer {
    return this.#keep(HEAD_ROOM)
  }

  #finishEventStream(id: string | undefined): Buffer {
    const body = Buffer.from(this.#scratch.subarray(HEAD_ROOM, this.#at))
    this.begin()
    if (id !== undefined) this.ascii('id: ').ascii(id).ascii('\n')
    this.ascii('data: ').raw(body).ascii('\n\n')
    return this.#keep(HEAD_ROOM)
  }

  #keep(start: number): Buffer {
    const length = this.#at - start
    const source = this.#scratch
    this.#at = HEAD_ROOM
    if (length > SLAB_BYTES / 4) {
      const alone = Buffer.allocUnsafeSlow(length)
      source.copy(alone, 0, start, start + length)
      if (source.length > SCRATCH_KEEP) this.#scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES)
      return alone
    }
    if (this.#used + length > SLAB_BYTES) {
      this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
      this.#used = 0
    }
    const at = this.#used
    source.copy(this.#slab, at, start, start + length)
    this.#used = at + length
    return this.#slab.subarray(at, at + length)
  }

  #room(bytes: number): void {
    const needed = this.#at + bytes
    if (needed <= this.#scratch.length) return
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#scratch.length * 2))
    this.#scratch.copy(larger, 0, 0, this.#at)
    this.#scratch = larger
  }
}

function putEscape(out: Buffer, at: number, byte: number, escape: number): number {
  out[at++] = 0x5c
  if (escape !== 1) {
    out[at++] = escape
    return at
  }
  out[at++] = 0x75
  out[at++] = 0x30
  out[at++] = 0x30
  out[at++] = HEX[byte >> 4] as number
  out[at++] = HEX[byte & 15] as number
  return at
}

/** Strict UTF-8 of bytes[start, end). */
export function isUtf8(bytes: Uint8Array, start: number, end: number): boolean {
  let i = start
  while (i < end) {
    const lead = bytes[i++] as number
    if (lead < 0x80) continue
    if (lead < 0xc2 || lead > 0xf4) return false
    const extra = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1
    if (i + extra > end) return false
    const second = bytes[i] as number
    if ((second & 0xc0) !== 0x80) return false
    if ((lead === 0xe0 && second < 0xa0) || (lead === 0xed && second > 0x9f)) return false
    if ((lead === 0xf0 && second < 0x90) || (lead === 0xf4 && second > 0x8f)) return false
    for (let n = 1; n < extra; n++) if (((bytes[i + n] as number) & 0xc0) !== 0x80) return false
    i += extra
  }
  return true
}

/** Neighbours in one slab become one buffer without a copy; anything else is joined by one copy. */
export function joinFrames(frames: readonly Buffer[]): Buffer {
  const first = frames[0] as Buffer
  if (frames.length === 1) return first
  let end = first.byteOffset + first.length
  for (let i = 1; i < frames.length; i++) {
    const frame = frames[i] as Buffer
    if (frame.buffer !== first.buffer || frame.byteOffset !== end) return Buffer.concat(frames)
    end += frame.length
  }
  return Buffer.from(first.buffer, first.byteOffset, end - first.byteOffset)
}
