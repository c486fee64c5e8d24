// Personal ids that pass every checksum and belong to nobody.
// Owns: well-formed numbers for the sample orders, so that detectors have something real to find.
// Does not own: anyone's data. Residents are born after 2120, the Hong Kong prefix ZZ is not issued, cards use a test range.

export type Next = () => number

const digits = (next: Next, count: number): string =>
  Array.from({ length: count }, () => Math.floor(next() * 10)).join('')

const between = (next: Next, low: number, high: number): number => low + Math.floor(next() * (high - low + 1))

const pad = (value: number): string => String(value).padStart(2, '0')

/** GB 11643: area, date of birth, order number, then a check character by ISO 7064 MOD 11-2. */
export function residentId(next: Next): string {
  const born = `${between(next, 2120, 2149)}${pad(between(next, 1, 12))}${pad(between(next, 1, 28))}`
  const body = `440300${born}${digits(next, 3)}`
  // Horner's form of the weighted sum: each weight is twice the next one, modulo 11.
  let remainder = 0
  for (const digit of body) remainder = ((remainder + Number(digit)) * 2) % 11
  const check = (12 - remainder) % 11
  return body + (check === 10 ? 'X' : String(check))
}

/** Two letters, six digits, and a check character in brackets that makes the weighted sum divisible by 11. */
export function hongKongId(next: Next): string {
  const number = digits(next, 6)
  const values = [35, 35, ...Array.from(number, Number)]
  const sum = values.reduce((total, value, index) => total + value * (9 - index), 0)
  const check = (11 - (sum % 11)) % 11
  return `ZZ${number}(${check === 10 ? 'A' : check})`
}

/** Sixteen digits whose last one satisfies the Luhn formula. */
export function bankCard(next: Next): string {
  const body = `400000${digits(next, 9)}`
  let sum = 0
  for (const [index, digit] of Array.from(body, Number).entries()) {
    const doubled = index % 2 === 0 ? digit * 2 : digit
    sum += doubled > 9 ? doubled - 9 : doubled
  }
  return body + String((10 - (sum % 10)) % 10)
}

/** Mobile numbers of a block that is not assigned. */
export const phone = (next: Next): string => `+86 100 ${digits(next, 4)} ${digits(next, 4)}`
