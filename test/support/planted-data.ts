// Made-up personal data with true check digits, so that what looks for it finds it: identity numbers of three regions, phones, findings.
// Owns: the arithmetic of the check digits, written apart from the product's. Every text is distinct and belongs to nobody.

/** `n` texts of group `group` (0 to 9); two groups share none. */
export function planted(group: number, n: number): readonly string[] {
  const makers = [cnId, cnId, cnId, hkid, moId, phone, finding]
  return Array.from({ length: n }, (_, i) => (makers[i % makers.length] as Maker)(group * 10_000 + i))
}

type Maker = (n: number) => string

/** GB 11643: six digits of a place, a day, a serial, a check character over powers of two modulo 11. */
export function cnId(n: number): string {
  const day = new Date(Date.UTC(1950 + (n % 60), n % 12, 1 + (n % 28)))
  const body = `${['440305', '110105', '310104', '510107'][n % 4]}${day.toISOString().slice(0, 10).replaceAll('-', '')}${String(n % 1000).padStart(3, '0')}`
  const [head, tail] = [body.slice(0, 14), body.slice(14)]
  // The place's last two digits carry the thousands, so that numbers beyond 1,000 differ too.
  const digits = `${head.slice(0, 4)}${String(10 + (Math.floor(n / 1000) % 80))}${head.slice(6)}${tail}`
  let sum = 0
  for (const [i, digit] of Array.from(digits).entries()) sum += Number(digit) * (2 ** (17 - i) % 11)
  return digits + '10X98765432'[sum % 11]
}

/** One letter or two, six digits, a check character that brings the weighted sum to a multiple of 11. */
export function hkid(n: number): string {
  const letters = n % 2 === 0 ? 'ABCDEFGHKMPRSVYZ'[n % 16] : `W${'XAB'[n % 3]}`
  const digits = String(200_000 + (n % 700_000)).padStart(6, '0')
  const values = Array.from(letters ?? 'A').map((letter) => letter.charCodeAt(0) - 55)
  if (values.length === 1) values.unshift(36)
  const places = [...values, ...Array.from(digits, Number)]
  const sum = places.reduce((total, place, i) => total + place * (9 - i), 0)
  const check = (11 - (sum % 11)) % 11
  return `${letters}${digits}(${check === 10 ? 'A' : check})`
}

export const moId = (n: number): string =>
  `${[1, 5, 7][n % 3]}${String(100_000 + (n % 800_000)).padStart(6, '0')}(${n % 10})`
export const phone = (n: number): string => `13${String(100_000_000 + n * 7 + 3)}`
/** What only a rule for its key can keep back: no detector knows it. */
export const finding = (n: number): string => `icd-Q${n}-finding-${n * 31}`
