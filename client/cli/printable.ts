// Keys and values of strangers, fit for a terminal.
// Owns: visible escapes for what would move a cursor or reverse text, short previews of values, human sizes and ages.
// Refuses: JSON output; there the values stay as they are.

import type { Named, Value } from '../core/changes.ts'

/** Control, format (bidi overrides among them) and line-separating characters become visible escapes. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, (char) => {
    const code = char.codePointAt(0) ?? 0
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`
  })
}

/** A key that is not text shows its bytes. */
export function keyText(name: Named): string {
  if (name.binary !== true) return printable(name.key)
  return name.key.replace(/[^\x21-\x5b\x5d-\x7e]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

export function preview(value: Value): string {
  if (value.withheld !== undefined) return `(withheld by ${printable(value.withheld)})`
  if (value.oversize !== undefined) return `(${sizeText(value.oversize)}, above the gateway's limit)`
  if (value.json !== undefined) return printable(JSON.stringify(value.json))
  if (value.text !== undefined) return printable(value.text)
  return value.base64 === undefined ? '' : `base64:${value.base64}`
}

/** At most `width` characters, the last one an ellipsis when something was cut. */
export function fit(text: string, width: number): string {
  if (text.length <= width) return text
  return width <= 1 ? '…' : `${text.slice(0, width - 1)}…`
}

export function sizeText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`
  const units = ['KiB', 'MiB', 'GiB', 'TiB']
  let size = bytes / 1024
  let unit = 0
  for (; size >= 1024 && unit < units.length - 1; unit++) size /= 1024
  return `${size.toFixed(size < 10 ? 1 : 0)} ${units[unit]}`
}

export function ageText(ms: number | undefined): string {
  if (ms === undefined) return '-'
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`
  return ms < 172_800_000 ? `${Math.floor(ms / 3_600_000)} h` : `${Math.floor(ms / 86_400_000)} d`
}
