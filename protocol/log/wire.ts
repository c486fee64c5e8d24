// Protobuf's wire format, the few parts the log needs.
// Owns: varints, length-delimited fields, bounds checks. Hand-written because decoding the log is the gateway's boot and
// catch-up path; the contract test holds it against an independent protobuf implementation reading log.proto.
// Refuses: groups, fixed32/64 other than to skip them, and any schema knowledge.

import type { Revision } from '../revision.ts'

/** Thrown by the reader for bytes that are no valid encoding; codec.ts turns it into a result. */
export class WireError extends Error {
  override readonly name = 'WireError'
}

const TWO_32 = 4294967296

export class WireReader {
  readonly bytes: Uint8Array
  at: number
  end: number

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.bytes = bytes
    this.at = start
    this.end = end
  }

  byte(): number {
    if (this.at >= this.end) throw new WireError('truncated')
    return this.bytes[this.at++] as number
  }

  /** A varint that must fit 53 bits: tags, lengths, enum values, counts, sequences. */
  varint(): number {
    let value = 0
    let scale = 1
    for (let i = 0; i < 8; i++) {
      const byte = this.byte()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) throw new WireError('varint too large')
        return value
      }
      scale *= 128
    }
    throw new WireError('varint too large')
  }

  /** A field's tag: number 1 to 2^29-1 and wire type. Cutting it to 32 bits would read an impossible tag as a known one. */
  tag(): number {
    const start = this.at
    const tag = this.varint()
    if (tag < 8 || tag >= TWO_32 || this.at - start > 5) throw new WireError('tag out of range')
    return tag
  }

  /** An unsigned 64-bit varint as a canonical decimal string. */
  decimal(): string {
    const start = this.at
    let low = 0
    let scale = 1
    // Seven groups hold 49 bits: everything that occurs in practice stays a small integer.
    for (let i = 0; i < 7; i++) {
      const byte = this.byte()
      low += (byte & 0x7f) * scale
      if (byte < 0x80) return String(low)
      scale *= 128
    }
    this.at = start
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.byte()
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) {
        if (value >> 64n !== 0n) throw new WireError('varint too large')
        return value.toString()
      }
    }
    throw new WireError('varint too large')
  }

  revision(): Revision {
    return this.decimal() as Revision
  }

  /** The end offset of a length-delimited field that starts here. */
  fieldEnd(): number {
    const length = this.varint()
    const end = this.at + length
    if (end > this.end) throw new WireError('field exceeds its message')
    return end
  }

  /** A view, not a copy. */
  view(): Uint8Array {
    const end = this.fieldEnd()
    const view = this.bytes.subarray(this.at, end)
    this.at = end
    return view
  }

  skip(wireType: number): void {
    if (wireType === 0) {
      for (let i = 0; i < 10; i++) if (this.byte() < 0x80) return
      throw new WireError('varint too large')
    }
    const end = wireType === 2 ? this.fieldEnd() : wireType === 1 ? this.at + 8 : wireType === 5 ? this.at + 4 : -1
    if (end < 0 || end > this.end) throw new WireError('unknown wire type or truncated field')
    this.at = end
  }
}

/** Grows by doubling; reusable through {@link WireWriter.reset}. */
export class WireWriter {
  #bytes: Uint8Array
  #at = 0

  constructor(capacity = 4096) {
    this.#bytes = new Uint8Array(capacity)
  }

  get length(): number {
    return this.#at
  }

  reset(): void {
    this.#at = 0
  }

  /** A copy of what was written. */
  take(): Uint8Array {
    const out = this.#bytes.slice(0, this.#at)
    this.#at = 0
    return out
  }

  #room(extra: number): void {
    const needed = this.#at + extra
    if (needed <= this.#bytes.length) return
    let size = this.#bytes.length * 2
    while (size < needed) size *= 2
    const grown = new Uint8Array(size)
    grown.set(this.#bytes.subarray(0, this.#at))
    this.#bytes = grown
  }

  varint(value: number): void {
    this.#room(10)
    let rest = value
    while (rest >= TWO_32) {
      this.#bytes[this.#at++] = (rest % 128) | 0x80
      rest = Math.floor(rest / 128)
    }
    let low = rest >>> 0
    while (low > 127) {
      this.#bytes[this.#at++] = (low & 0x7f) | 0x80
      low >>>= 7
    }
    this.#bytes[this.#at++] = low
  }

  decimal(text: string): void {
    if (text.length < 16) {
      this.varint(Number(text))
      return
    }
    this.#room(10)
    let rest = BigInt.asUintN(64, BigInt(text))
    while (rest > 127n) {
      this.#bytes[this.#at++] = Number(rest & 0x7fn) | 0x80
      rest >>= 7n
    }
    this.#bytes[this.#at++] = Number(rest)
  }

  tag(field: number, wireType: 0 | 2): void {
    this.varint(field * 8 + wireType)
  }

  uint(field: number, value: number): void {
    if (value === 0) return
    this.tag(field, 0)
    this.varint(value)
  }

  uint64(field: number, decimal: string): void {
    if (decimal === '0') return
    this.tag(field, 0)
    this.decimal(decimal)
  }

  blob(field: number, value: Uint8Array): void {
    if (value.length === 0) return
    this.tag(field, 2)
    this.varint(value.length)
    this.#room(value.length)
    this.#bytes.set(value, this.#at)
    this.#at += value.length
  }

  /** A byte string (one char code per byte), as keys are held in memory. */
  byteString(field: number, value: string): void {
    if (value.length === 0) return
    this.tag(field, 2)
    this.varint(value.length)
    this.#room(value.length)
    for (let i = 0; i < value.length; i++) this.#bytes[this.#at++] = value.charCodeAt(i)
  }

  text(field: number, value: string): void {
    this.blob(field, new TextEncoder().encode(value))
  }

  /** An element of a repeated text field: an empty one is still an element. */
  element(field: number, value: string): void {
    if (value !== '') {
      this.text(field, value)
      return
    }
    this.tag(field, 2)
    this.varint(0)
  }

  /** A nested message; its length is back-patched, so nothing is built twice. Writes the field even when empty. */
  message(field: number, body: () => void): void {
    this.tag(field, 2)
    this.#room(5)
    // Five bytes are reserved for the length (non-minimal varints are valid protobuf but not canonical), then closed up.
    const lengthAt = this.#at
    this.#at += 5
    const start = this.#at
    body()
    const length = this.#at - start
    const size = length < 128 ? 1 : length < 16384 ? 2 : length < 2097152 ? 3 : length < 268435456 ? 4 : 5
    this.#bytes.copyWithin(lengthAt + size, start, this.#at)
    this.#at = lengthAt
    this.varint(length)
    this.#at = lengthAt + size + length
  }
}
