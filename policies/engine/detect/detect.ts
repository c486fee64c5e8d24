// Personal data anywhere in a text: finds, and masks character by character, until nothing more is found.
// Owns: which detectors run and the repetition that makes masking idempotent. Does not own: where texts come from (field-transform.ts).
// Detection is a net, not a proof: what is spelt in words, encoded twice or split over fields passes. Field rules are the proof.

import type { Detector } from '../document.ts'
import { chains, findBankCards, findPhones } from './digits.ts'
import type { Found } from './digits.ts'
import { findEmails } from './email.ts'
import { fold, foldSigns } from './fold.ts'
import type { Folded } from './fold.ts'
import { findCnIds, findHkids, findMoIds } from './identity.ts'

export type Wanted = ReadonlySet<Detector>

const MAX_ROUNDS = 16
const ESCAPED = /\\u([0-9a-fA-F]{4})/g
const LOCAL_PHONE = /^\s*[4-9][0-9]{7}\s*$/

/** The text with everything found masked, or undefined when nothing was. */
export function maskText(text: string, wanted: Wanted): string | undefined {
  let masked: string | undefined
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const next = maskOnce(masked ?? text, wanted)
    if (next === undefined) return masked
    masked = next
  }
  // Still finding after so many rounds: somebody built it that way.
  return '*'.repeat(text.length)
}

function maskOnce(text: string, wanted: Wanted): string | undefined {
  const spans: [number, number][] = []
  find(text, wanted, (start, end) => spans.push([start, end]))
  if (spans.length === 0) return hiddenInEscapes(text, wanted) ? '*'.repeat(text.length) : undefined
  spans.sort((a, b) => a[0] - b[0])
  let out = ''
  let at = 0
  for (const [start, end] of spans) {
    if (end <= at) continue
    out += text.slice(at, Math.max(at, start)) + '*'.repeat(end - Math.max(at, start))
    at = end
  }
  return out + text.slice(at)
}

/** JSON inside a string may spell its digits as \u0031; nobody does so by accident, so the whole text goes. */
function hiddenInEscapes(text: string, wanted: Wanted): boolean {
  let plain = text
  for (let depth = 0; depth < 3 && plain.includes('\\u'); depth++) {
    const next = plain.replace(ESCAPED, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    if (next === plain) return false
    plain = next
    let found = false
    find(plain, wanted, () => (found = true))
    if (found) return true
  }
  return false
}

function find(text: string, wanted: Wanted, report: Found): void {
  findIn(fold(text), wanted, report)
  const signs = foldSigns(text)
  if (signs !== undefined) findIn(signs, wanted, report)
}

function findIn(folded: Folded, wanted: Wanted, report: Found): void {
  const { at } = folded
  const found: Found = at === undefined ? report : (start, end) => report(at[start] as number, at[end] as number)
  const withPlus: Found = (start, end) => found(folded.text[start - 1] === '+' ? start - 1 : start, end)
  if (wanted.has('cn-id') || wanted.has('phone') || wanted.has('bank-card')) {
    for (const chain of chains(folded.text)) {
      if (wanted.has('cn-id')) findCnIds(folded.text, chain, found)
      if (wanted.has('phone')) findPhones(chain, withPlus)
      if (wanted.has('bank-card')) findBankCards(chain, found)
    }
  }
  // Eight digits mean a telephone only when nothing else is there to mean something else.
  if (wanted.has('phone') && LOCAL_PHONE.test(folded.text)) found(0, folded.text.length)
  if (wanted.has('hkid')) findHkids(folded.text, found)
  if (wanted.has('mo-id')) findMoIds(folded.text, found)
  if (wanted.has('email')) findEmails(folded.text, found)
}

/**
 * The text that stands for a JSON number holding personal data, or undefined. Looks at the whole part of what the number means,
 * so that 1.38001380e10 is seen and the fraction of a coordinate is not taken for a telephone.
 */
export function maskNumber(source: string, wanted: Wanted): string | undefined {
  const whole = wholePart(source)
  if (whole === undefined || whole.length < 8) return undefined
  let hit = false
  for (const chain of chains(whole)) {
    const found: Found = () => (hit = true)
    if (wanted.has('cn-id')) findCnIds(whole, chain, found)
    if (wanted.has('phone')) findPhones(chain, found)
    if (wanted.has('bank-card')) findBankCards(chain, found)
  }
  return hit ? '*'.repeat(whole.length) : undefined
}

/** Digits before the decimal point once the exponent is applied; undefined when there are none or absurdly many. */
function wholePart(source: string): string | undefined {
  const parts = /^-?([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,3}))?$/.exec(source)
  if (parts === null) return undefined
  const digits = (parts[1] as string) + (parts[2] ?? '')
  const point = (parts[1] as string).length + Number(parts[3] ?? 0)
  if (point <= 0 || point > 64) return undefined
  return digits
    .slice(0, point)
    .padEnd(point, '0')
    .replace(/^0+(?=[0-9])/, '')
}
