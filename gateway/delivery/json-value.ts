// How a value travels: embedded JSON, text, or base64.
// Owns: the rule (JSON iff a UTF-8 object or array, depth <= 64, no duplicate names, no raw line break) and its cache.
// Refuses: parsing. Embedded values go out byte for byte: parse and stringify would change 12345678901234567890.

import { isUtf8 } from './frame-writer.ts'

export type ValueKind = 'json' | 'text' | 'base64'

const MAX_DEPTH = 64
const kinds = new WeakMap<Uint8Array, ValueKind>()
const names = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** O(bytes) the first time, then remembered for as long as this very array lives. */
export function valueKind(bytes: Uint8Array): ValueKind {
  const known = kinds.get(bytes)
  if (known !== undefined) return known
  const kind = isEmbeddable(bytes) ? 'json' : isUtf8(bytes, 0, bytes.length) ? 'text' : 'base64'
  kinds.set(bytes, kind)
  return kind
}

export function isEmbeddable(bytes: Uint8Array): boolean {
  let i = 0
  while (bytes[i] === 0x20 || bytes[i] === 0x09) i++
  const first = bytes[i]
  if (first !== 0x7b && first !== 0x5b) return false
  if (!isUtf8(bytes, 0, bytes.length)) return false
  return new Check(bytes).whole()
}

/** A recursive-descent check; recursion is bounded by MAX_DEPTH. UTF-8 was checked before. */
class Check {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  whole(): boolean {
    if (!this.#value(0)) return false
    this.#space()
    return this.#at === this.#bytes.length
  }

  /** Spaces and tabs; a raw line break is no space here, because event streams are made of lines. */
  #space(): void {
    while (this.#bytes[this.#at] === 0x20 || this.#bytes[this.#at] === 0x09) this.#at++
  }

  #value(depth: number): boolean {
    this.#space()
    const byte = this.#bytes[this.#at]
    if (byte === 0x7b) return this.#object(depth + 1)
    if (byte === 0x5b) return this.#array(depth + 1)
    if (byte === 0x22) return this.#string()
    if (byte === 0x74) return this.#word('true')
    if (byte === 0x66) return this.#word('false')
    if (byte === 0x6e) return this.#word('null')
    return this.#number()
  }

  #object(depth: number): boolean {
    if (depth > MAX_DEPTH) return false
    this.#at++
    this.#space()
    if (this.#take(0x7d)) return true
    const seen: string[] = []
    let many: Set<string> | undefined
    for (;;) {
      this.#space()
      const start = this.#at
      if (!this.#string()) return false
      const name = this.#name(start)
      if (many === undefined) {
        if (seen.includes(name)) return false
        seen.push(name)
        // A list beats a set while it is short; nearly all objects are.
        if (seen.length > 8) many = new Set(seen)
      } else {
        if (many.has(name)) return false
        many.add(name)
      }
      this.#space()
      if (!this.#take(0x3a) || !this.#value(depth)) return false
      this.#space()
      if (this.#take(0x2c)) continue
      return this.#take(0x7d)
    }
  }

  #array(depth: number): boolean {
    if (depth > MAX_DEPTH) return false
    this.#at++
    this.#space()
    if (this.#take(0x5d)) return true
    for (;;) {
      if (!this.#value(depth)) return false
      this.#space()
      if (this.#take(0x2c)) continue
      return this.#take(0x5d)
    }
  }

  /** Names are compared as they read: "a" and "\u0061" are the same name. */
  #name(start: number): string {
    const bytes = this.#bytes
    let text = ''
    for (let i = start + 1; i < this.#at - 1; i++) {
      const byte = bytes[i] as number
      if (byte === 0x5c || byte > 0x7f || this.#at - start > 64) {
        return JSON.parse(names.decode(bytes.subarray(start, this.#at))) as string
      }
      text += String.fromCharCode(byte)
    }
    return text
  }

  #string(): boolean {
    const bytes = this.#bytes
    if (bytes[this.#at] !== 0x22) return false
    let i = this.#at + 1
    for (;;) {
      const byte = bytes[i]
      if (byte === undefined || byte < 0x20) return false
      if (byte === 0x22) break
      if (byte !== 0x5c) {
        i++
        continue
      }
      const escape = bytes[i + 1]
      if (escape === 0x75) {
        for (let n = 2; n < 6; n++) if (!isHex(bytes[i + n])) return false
        i += 6
      } else if (escape !== undefined && '"\\/bfnrt'.includes(String.fromCharCode(escape))) {
        i += 2
      } else return false
    }
    this.#at = i + 1
    return true
  }

  #number(): boolean {
    this.#take(0x2d)
    if (!this.#take(0x30) && !this.#digits()) return false
    if (this.#take(0x2e) && !this.#digits()) return false
    if (this.#take(0x65) || this.#take(0x45)) {
      if (!this.#take(0x2b)) this.#take(0x2d)
      if (!this.#digits()) return false
    }
    return true
  }

  #digits(): boolean {
    const start = this.#at
    for (;;) {
      const byte = this.#bytes[this.#at]
      if (byte === undefined || byte < 0x30 || byte > 0x39) break
      this.#at++
    }
    return this.#at > start
  }

  #word(word: string): boolean {
    for (let i = 0; i < word.length; i++) if (this.#bytes[this.#at + i] !== word.charCodeAt(i)) return false
    this.#at += word.length
    return true
  }

  #take(byte: number): boolean {
    if (this.#bytes[this.#at] !== byte) return false
    this.#at++
    return true
  }
}

const isHex = (byte: number | undefined): boolean =>
  byte !== undefined &&
  ((byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x46) || (byte >= 0x61 && byte <= 0x66))
