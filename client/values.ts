// Reading the value of an entry or a put, whatever form it travelled in.
// Owns: three readers, each imported only by those who use it. Refuses: guessing; undefined means the value is not there
// (withheld, oversize, `values: "none"`, a delete) or is not of the asked form.

import type { Value } from './core/changes.ts'

/**
 * The value as JSON. Numbers beyond 2^53 lose digits, as they do in every JavaScript JSON parser: watch with
 * `values: "base64"` and use {@link valueBytes} where they matter.
 */
export function valueJson(of: Value): unknown {
  if (of.json !== undefined) return of.json
  const text = valueText(of)
  if (text === undefined) return undefined
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}

/** The value as text; undefined when it is not UTF-8. A JSON value is written out again, with its spacing lost. */
export function valueText(of: Value): string | undefined {
  if (of.text !== undefined) return of.text
  if (of.json !== undefined) return JSON.stringify(of.json)
  if (of.base64 === undefined) return undefined
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(valueBytes(of))
  } catch {
    return undefined
  }
}

/** The value's bytes: exact for text and base64; of a JSON value those of {@link valueText}. */
export function valueBytes(of: Value): Uint8Array | undefined {
  if (of.base64 !== undefined) return Uint8Array.from(atob(of.base64), (byte) => byte.charCodeAt(0))
  const text = valueText(of)
  return text === undefined ? undefined : new TextEncoder().encode(text)
}
