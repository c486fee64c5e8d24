// JSON bytes to a JavaScript value, for conditions and schemas.
// Owns: refusing what two readers could read differently (duplicate names), what is too deep, and what is not strict JSON or UTF-8.
// Does not own: transforms, which never decode the whole value.

import { MAX_JSON_DEPTH } from './bounds.ts'
import { CLOSE_ARRAY, CLOSE_OBJECT, COLON, COMMA, JsonScan, OPEN_ARRAY, OPEN_OBJECT } from './json-scan.ts'

/** The decoded value; throws when the bytes are not one JSON text with unambiguous names, at most `maxBytes` long. */
export function decodeJson(bytes: Uint8Array, maxBytes: number): unknown {
  if (bytes.length > maxBytes) throw new Error('the value is too large to look at')
  const scan = new JsonScan(bytes)
  scan.space()
  if (!wellFormed(scan, 0)) throw new Error('the value is not JSON')
  scan.space()
  if (scan.at !== bytes.length) throw new Error('the value is not JSON')
  return JSON.parse(scan.text(0, bytes.length)) as unknown
}

function wellFormed(scan: JsonScan, depth: number): boolean {
  const byte = scan.peek()
  if (byte === OPEN_OBJECT) return depth < MAX_JSON_DEPTH && object(scan, depth)
  if (byte === OPEN_ARRAY) return depth < MAX_JSON_DEPTH && array(scan, depth)
  return scan.scalar()
}

/** Objects with more names are checked through a set; below, comparing bytes is several times faster than decoding. */
const FEW = 16

function object(scan: JsonScan, depth: number): boolean {
  scan.at++
  scan.space()
  if (scan.peek() === CLOSE_OBJECT) {
    scan.at++
    return true
  }
  const spans: number[] = []
  let escaped = false
  for (;;) {
    const start = scan.at
    if (!scan.string()) return false
    if (scan.escaped) escaped = true
    spans.push(start, scan.at)
    scan.space()
    if (scan.peek() !== COLON) return false
    scan.at++
    scan.space()
    if (!wellFormed(scan, depth + 1)) return false
    scan.space()
    const next = scan.peek()
    scan.at++
    if (next === CLOSE_OBJECT)
      return escaped || spans.length > 2 * FEW ? distinctTexts(scan, spans) : distinctBytes(scan.bytes, spans)
    if (next !== COMMA) return false
    scan.space()
  }
}

function distinctTexts(scan: JsonScan, spans: readonly number[]): boolean {
  const names = new Set<string>()
  for (let i = 0; i < spans.length; i += 2) names.add(scan.decoded(spans[i] as number, spans[i + 1] as number))
  return names.size === spans.length / 2
}

function distinctBytes(bytes: Uint8Array, spans: readonly number[]): boolean {
  for (let i = 2; i < spans.length; i += 2) {
    const start = spans[i] as number
    const length = (spans[i + 1] as number) - start
    for (let j = 0; j < i; j += 2) {
      const other = spans[j] as number
      if ((spans[j + 1] as number) - other !== length) continue
      let at = 0
      while (at < length && bytes[start + at] === bytes[other + at]) at++
      if (at === length) return false
    }
  }
  return true
}

function array(scan: JsonScan, depth: number): boolean {
  scan.at++
  scan.space()
  if (scan.peek() === CLOSE_ARRAY) {
    scan.at++
    return true
  }
  for (;;) {
    if (!wellFormed(scan, depth + 1)) return false
    scan.space()
    const next = scan.peek()
    scan.at++
    if (next === CLOSE_ARRAY) return true
    if (next !== COMMA) return false
    scan.space()
  }
}
