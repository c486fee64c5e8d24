// Identity numbers: mainland resident identity (GB 11643), Hong Kong identity card, Macau resident identity card.
// Owns: their shapes and check digits. Macau's check digit is not published, so there only the written shape can be tested.

import { behindSeparators } from './digits.ts'
import type { Chain, Found } from './digits.ts'

const WEIGHTS = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
const CHECKS = '10X98765432'
const PROVINCES = new Set(
  '11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83 91'.split(
    ' ',
  ),
)

/** 17 digits and a check character; in any place of a longer run of digits, because the check leaves few chance hits. */
export function findCnIds(text: string, chain: Chain, found: Found): void {
  const { digits, at } = chain
  for (let start = 0; start + 17 <= digits.length; start++) {
    const check = CHECKS[weighted(digits, start)] as string
    const end = start + 17
    const last = end < digits.length ? digits[end] : undefined
    let stop = 0
    if (last === check) stop = (at[end] as number) + 1
    else if (check === 'X' && end === digits.length) stop = letterBehind(text, (at[end - 1] as number) + 1)
    if (stop > 0 && PROVINCES.has(digits.slice(start, start + 2)) && realDate(digits, start + 6))
      found(at[start] as number, stop)
  }
}

function weighted(digits: string, start: number): number {
  let sum = 0
  for (let i = 0; i < 17; i++) sum += (digits.charCodeAt(start + i) - 0x30) * (WEIGHTS[i] as number)
  return sum % 11
}

/** Behind an X that follows the digits, with separators between as digits have; 0 when there is none. */
function letterBehind(text: string, at: number): number {
  const next = behindSeparators(text, at)
  return /[xX]/.test(text.charAt(next)) ? next + 1 : 0
}

const DAYS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
function realDate(digits: string, at: number): boolean {
  const year = Number(digits.slice(at, at + 4))
  const month = Number(digits.slice(at + 4, at + 6))
  const day = Number(digits.slice(at + 6, at + 8))
  return year >= 1850 && year < 2150 && day >= 1 && day <= (DAYS[month - 1] ?? 0)
}

export function cnIdValid(id: string): boolean {
  return /^\d{17}[\dX]$/.test(id) && CHECKS[weighted(id, 0)] === id[17]
}

const HKID = /(?<![A-Za-z0-9])([A-Za-z]{1,2})[ -]?([0-9]{6})[ -]?(?:\(([0-9Aa])\)|([0-9Aa])(?![A-Za-z0-9]))/g

export function findHkids(text: string, found: Found): void {
  for (const match of text.matchAll(HKID)) {
    const check = (match[3] ?? match[4] ?? '').toUpperCase()
    if (hkidCheck((match[1] ?? '').toUpperCase(), match[2] ?? '') === check)
      found(match.index, match.index + match[0].length)
  }
}

/** Weights 9 to 2 over eight places, letters count from A = 10, a missing first letter as 36; the check brings the sum to a multiple of 11. */
export function hkidCheck(letters: string, digits: string): string {
  const places = (letters.padStart(2, ' ') + digits).split('')
  const sum = places.reduce(
    (total, c, i) => total + (9 - i) * (c === ' ' ? 36 : c >= 'A' ? c.charCodeAt(0) - 55 : Number(c)),
    0,
  )
  const check = (11 - (sum % 11)) % 11
  return check === 10 ? 'A' : String(check)
}

const MO_ID = /(?<![0-9])(?:[157][0-9]{6} ?\([0-9]\)|[157]\/[0-9]{6}\/[0-9](?![0-9]))/g
const MO_ID_ALONE = /^\s*[157][0-9]{7}\s*$/

/** Bare eight digits are taken for one only when they are the whole text. */
export function findMoIds(text: string, found: Found): void {
  for (const match of text.matchAll(MO_ID)) found(match.index, match.index + match[0].length)
  if (MO_ID_ALONE.test(text)) found(0, text.length)
}
