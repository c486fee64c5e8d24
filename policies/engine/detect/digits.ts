// Runs of digits as people write them: "138 0013 8000", "440305-19900101-1234", "6222.0212…", "(138) 0013 - 8000".
// Owns: chains (digits with at most three separators between neighbours) and the two number detectors that need only digits:
// mobile phones and bank cards, both looked for at the edges of groups, so that a longer number is not mistaken for one.

export type Chain = {
  /** The digits alone. */
  readonly digits: string
  /** Position of each digit in the folded text. */
  readonly at: readonly number[]
  /** Indexes of digits that start a group, then `digits.length`. */
  readonly groups: readonly number[]
  /** Of them, those with nothing but blanks before them. */
  readonly afterBlanks: ReadonlySet<number>
}

export type Found = (start: number, end: number) => void

const isDigit = (code: number): boolean => code >= 0x30 && code <= 0x39
/** Blank, tab, ( ) - . / _ and the forms folded onto them. No comma and no line end: these part the numbers of a list. */
const isSeparator = (code: number): boolean =>
  code === 0x20 || code === 0x09 || code === 0x28 || code === 0x29 || (code >= 0x2d && code <= 0x2f) || code === 0x5f
const MAX_SEPARATORS = 3

/** Where the text goes on behind at most three separators. */
export function behindSeparators(text: string, at: number): number {
  let next = at
  while (next - at < MAX_SEPARATORS && isSeparator(text.charCodeAt(next))) next++
  return next
}

export function chains(text: string): readonly Chain[] {
  const all: Chain[] = []
  let i = 0
  while (i < text.length) {
    if (!isDigit(text.charCodeAt(i))) {
      i++
      continue
    }
    let digits = ''
    const at: number[] = []
    const groups: number[] = [0]
    const afterBlanks = new Set<number>()
    for (;;) {
      const code = text.charCodeAt(i)
      if (isDigit(code)) {
        digits += text[i]
        at.push(i++)
        continue
      }
      const next = behindSeparators(text, i)
      if (next === i || !isDigit(text.charCodeAt(next))) break
      if (text.slice(i, next).trim() === '') afterBlanks.add(digits.length)
      i = next
      groups.push(digits.length)
    }
    groups.push(digits.length)
    all.push({ digits, at, groups, afterBlanks })
  }
  return all
}

/** Calls `test` for every stretch of whole groups that has between `min` and `max` digits. */
function stretches(chain: Chain, min: number, max: number, test: (digits: string) => boolean, found: Found): void {
  const { groups, digits, at } = chain
  for (let g = 0; g < groups.length - 1; g++) {
    const start = groups[g] as number
    for (let h = g + 1; h < groups.length; h++) {
      const end = groups[h] as number
      if (end - start > max) break
      if (end - start >= min && test(digits.slice(start, end))) found(at[start] as number, (at[end - 1] as number) + 1)
    }
  }
}

/** Mainland mobiles with or without 86; Hong Kong and Macau ones behind 852 or 853, or written as two groups of four. */
const PHONE = /^(?:(?:00)?86)?1[3-9]\d{9}$|^(?:00)?852[4-9]\d{7}$|^(?:00)?853[268]\d{7}$/

export function findPhones(chain: Chain, found: Found): void {
  if (chain.digits.length < 8) return
  stretches(chain, 11, 15, (digits) => PHONE.test(digits), found)
  const { groups, digits, at, afterBlanks } = chain
  for (let g = 0; g + 2 < groups.length; g++) {
    const start = groups[g] as number
    const middle = groups[g + 1] as number
    const end = groups[g + 2] as number
    // Only the gap between the two counts: whatever stands around them does not make them less of a number.
    const pair = middle - start === 4 && end - middle === 4 && afterBlanks.has(middle)
    if (pair && /[4-9]/.test(digits[start] as string)) found(at[start] as number, (at[end - 1] as number) + 1)
  }
}

/** Ranges issuers use; leaves out 1 and 20, with which dates and times in milliseconds start. */
const CARD = /^(?:2[2-7]|[3-6]|9)/

export function findBankCards(chain: Chain, found: Found): void {
  if (chain.digits.length < 13) return
  stretches(chain, 13, 19, (digits) => CARD.test(digits) && luhn(digits), found)
}

/** ISO/IEC 7812-1: every second digit from the right doubled, digit sums added. */
export function luhn(digits: string): boolean {
  let sum = 0
  for (let i = digits.length - 1, double = false; i >= 0; i--, double = !double) {
    const digit = digits.charCodeAt(i) - 0x30
    sum += double ? (digit > 4 ? digit * 2 - 9 : digit * 2) : digit
  }
  return sum % 10 === 0
}
