// E-mail addresses: around every @, as far as a local part and a host with a dot reach.
// Owns: the shape, bounded to the lengths mail allows, so that the cost stays linear.

import type { Found } from './digits.ts'

const LOCAL = /[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]|[\u0100-\uffff]/
const HOST = /[A-Za-z0-9-]|[\u0100-\uffff]/
const MAX_LOCAL = 64
const MAX_HOST = 253

export function findEmails(text: string, found: Found): void {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    // Inside URLs the @ is written %40.
    const width = code === 0x40 ? 1 : code === 0x25 && text.startsWith('%40', i) ? 3 : 0
    if (width === 0) continue
    let start = i
    while (
      start > 0 &&
      i - start < MAX_LOCAL &&
      LOCAL.test(text.charAt(start - 1)) &&
      !text.startsWith('%40', start - 3)
    )
      start--
    const end = hostEnd(text, i + width)
    if (start < i && end > 0) found(start, end)
  }
}

/** Behind the last label of a host with at least one dot and a top label of two letters or more; 0 when there is none. */
function hostEnd(text: string, start: number): number {
  let at = start
  let label = start
  let labels = 0
  let good = 0
  while (at < text.length && at - start < MAX_HOST) {
    const c = text.charAt(at)
    if (HOST.test(c)) at++
    else if (c === '.' && at > label) {
      labels++
      at++
      label = at
      continue
    } else break
    if (labels > 0 && at - label >= 2 && !/^[0-9-]+$/.test(text.slice(label, at))) good = at
  }
  return good
}
