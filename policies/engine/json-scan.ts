// Strict JSON (RFC 8259) over bytes, token by token, so that transforms can splice the source instead of printing it again.
// Owns: tokens, strict UTF-8, escapes. Refuses what it does not understand: every method says so by false or -1, never by guessing.
// Does not own: structure (json-decode.ts and field-transform.ts walk it).

export const QUOTE = 0x22
export const COMMA = 0x2c
export const COLON = 0x3a
export const OPEN_OBJECT = 0x7b
export const CLOSE_OBJECT = 0x7d
export const OPEN_ARRAY = 0x5b
export const CLOSE_ARRAY = 0x5d
const BACKSLASH = 0x5c
const MINUS = 0x2d
const PLUS = 0x2b
const DOT = 0x2e
const ZERO = 0x30
const NINE = 0x39
const AT = 0x40
const PERCENT = 0x25

/** Up to here, building a text byte by byte beats the decoder's fixed cost. */
const SHORT = 32

const PLAIN = 0
const DIGIT = 1
const SPECIAL = 2
/** What a byte inside a string asks of the scanner; nearly all ask nothing. */
const KIND = Uint8Array.from({ length: 256 }, (_, byte) => {
  if (byte >= ZERO && byte <= NINE) return DIGIT
  return byte < 0x20 || byte >= 0x80 || [QUOTE, BACKSLASH, AT, PERCENT].includes(byte) ? SPECIAL : PLAIN
})

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export class JsonScan {
  bytes: Uint8Array
  at = 0
  /** Of the string scanned last: it has escapes; it may hold personal data (six digits, an @ or %, an escape or a byte above 127). */
  escaped = false
  suspicious = false

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }

  space(): void {
    const bytes = this.bytes
    // Values written by machines have no blanks: one comparison, and out.
    if ((bytes[this.at] as number) > 0x20) return
    for (;;) {
      const byte = bytes[this.at]
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return
      this.at++
    }
  }

  peek(): number {
    return this.at < this.bytes.length ? (this.bytes[this.at] as number) : -1
  }

  /** From the opening quote to behind the closing one. False: not a string. */
  string(): boolean {
    const bytes = this.bytes
    const length = bytes.length
    let at = this.at
    if (at >= length || bytes[at] !== QUOTE) return false
    at++
    let digits = 0
    let escaped = false
    let suspicious = false
    while (at < length) {
      const byte = bytes[at] as number
      const kind = KIND[byte] as number
      if (kind === PLAIN) at++
      else if (kind === DIGIT) {
        digits++
        at++
      } else if (byte === QUOTE) {
        this.at = at + 1
        this.escaped = escaped
        this.suspicious = suspicious || digits >= 6
        return true
      } else if (byte === AT || byte === PERCENT) {
        suspicious = true
        at++
      } else {
        suspicious = true
        if (byte === BACKSLASH) escaped = true
        else if (byte < 0x20) return false
        at = byte === BACKSLASH ? escapeSequence(bytes, at, length) : utf8Sequence(bytes, at, length)
        if (at < 0) return false
      }
    }
    return false
  }

  number(): boolean {
    const bytes = this.bytes
    let at = this.at
    if (bytes[at] === MINUS) at++
    const whole = bytes[at]
    if (whole === ZERO) at++
    else {
      const next = digitsFrom(bytes, at)
      if (next === at) return false
      at = next
    }
    if (bytes[at] === DOT) {
      const next = digitsFrom(bytes, at + 1)
      if (next === at + 1) return false
      at = next
    }
    const e = bytes[at]
    if (e === 0x65 || e === 0x45) {
      at++
      if (bytes[at] === PLUS || bytes[at] === MINUS) at++
      const next = digitsFrom(bytes, at)
      if (next === at) return false
      at = next
    }
    this.at = at
    return true
  }

  /** true, false or null. */
  word(): boolean {
    const byte = this.bytes[this.at]
    const word = byte === 0x74 ? 'true' : byte === 0x66 ? 'false' : 'null'
    for (let i = 0; i < word.length; i++) if (this.bytes[this.at + i] !== word.charCodeAt(i)) return false
    this.at += word.length
    return true
  }

  scalar(): boolean {
    const byte = this.peek()
    if (byte === QUOTE) return this.string()
    if (byte === MINUS || (byte >= ZERO && byte <= NINE)) return this.number()
    return this.word()
  }

  /** Source text of bytes[start, end), which scanned well before. */
  text(start: number, end: number): string {
    const bytes = this.bytes
    if (end - start <= SHORT) {
      let text = ''
      for (let i = start; i < end; i++) {
        const byte = bytes[i] as number
        if (byte >= 0x80) return decoder.decode(bytes.subarray(start, end))
        text += String.fromCharCode(byte)
      }
      return text
    }
    return decoder.decode(bytes.subarray(start, end))
  }

  /** What the string token in bytes[start, end), quotes included, says. */
  decoded(start: number, end: number): string {
    const text = this.text(start, end)
    const plain = text.indexOf('\\') < 0
    // The token was checked byte by byte, so JSON.parse can neither fail nor give anything but a string.
    return plain ? text.slice(1, -1) : (JSON.parse(text) as string)
  }
}

function digitsFrom(bytes: Uint8Array, start: number): number {
  let at = start
  for (;;) {
    const byte = bytes[at]
    if (byte === undefined || byte < ZERO || byte > NINE) return at
    at++
  }
}

/** Behind the escape that starts at `at`, or -1. */
function escapeSequence(bytes: Uint8Array, at: number, length: number): number {
  const kind = at + 1 < length ? (bytes[at + 1] as number) : -1
  if (kind === 0x75) {
    if (at + 6 > length) return -1
    for (let i = at + 2; i < at + 6; i++) {
      const hex = bytes[i] as number
      const ok = (hex >= ZERO && hex <= NINE) || (hex >= 0x41 && hex <= 0x46) || (hex >= 0x61 && hex <= 0x66)
      if (!ok) return -1
    }
    return at + 6
  }
  // " \ / b f n r t
  const simple =
    kind === QUOTE ||
    kind === BACKSLASH ||
    kind === 0x2f ||
    kind === 0x62 ||
    kind === 0x66 ||
    kind === 0x6e ||
    kind === 0x72 ||
    kind === 0x74
  return simple ? at + 2 : -1
}

/** Behind the UTF-8 sequence that starts at `at`, or -1 (overlong, surrogate, too large, cut). */
export function utf8Sequence(bytes: Uint8Array, at: number, length: number): number {
  const lead = bytes[at] as number
  if (lead < 0xc2 || lead > 0xf4) return -1
  const extra = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1
  if (at + extra >= length) return -1
  const second = bytes[at + 1] as number
  if ((second & 0xc0) !== 0x80) return -1
  if ((lead === 0xe0 && second < 0xa0) || (lead === 0xed && second > 0x9f)) return -1
  if ((lead === 0xf0 && second < 0x90) || (lead === 0xf4 && second > 0x8f)) return -1
  for (let i = 2; i <= extra; i++) if (((bytes[at + i] as number) & 0xc0) !== 0x80) return -1
  return at + extra + 1
}
