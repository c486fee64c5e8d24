// Text as detectors read it: digits of any script and full-width letters as ASCII, characters that show nothing left out.
// Owns: the folding and the way back to positions of the original. Does not own: what is looked for.

export type Folded = {
  readonly text: string
  /** Start of each folded character in the original; one more entry for the end. Undefined: positions are the same. */
  readonly at: readonly number[] | undefined
}

/** Zeros of the decimal digits of the scripts in the basic plane. */
const ZEROS = [
  0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66, 0x0de6, 0x0e50,
  0x0ed0, 0x0f20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50,
  0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0,
]

/** Digits that are also signs of their own: a 2 above may be a square or a footnote, 三 a word. Read as digits only beside the plain reading. */
const SIGNS =
  '⁰0 ¹1 ²2 ³3 ⁴4 ⁵5 ⁶6 ⁷7 ⁸8 ⁹9 ₀0 ₁1 ₂2 ₃3 ₄4 ₅5 ₆6 ₇7 ₈8 ₉9 ⓪0 ①1 ②2 ③3 ④4 ⑤5 ⑥6 ⑦7 ⑧8 ⑨9 ⓿0 ❶1 ❷2 ❸3 ❹4 ❺5 ❻6 ❼7 ❽8 ❾9 〇0 零0 一1 二2 三3 四4 五5 六6 七7 八8 九9 壹1 贰2 叁3 肆4 伍5 陆6 柒7 捌8 玖9 貳2 參3 陸6'
const SIGN_DIGITS = new Map(SIGNS.split(' ').map((pair) => [pair.charCodeAt(0), pair.charCodeAt(1)]))
const SIGN = new RegExp(`[${[...SIGN_DIGITS.keys()].map((code) => String.fromCharCode(code)).join('')}]`)

/** The text with signs for digits as digits; undefined where it has none. */
export function foldSigns(text: string): Folded | undefined {
  if (!SIGN.test(text)) return undefined
  return fold(Array.from({ length: text.length }, (_, i) => signAsDigit(text, i)).join(''))
}

function signAsDigit(text: string, i: number): string {
  const digit = SIGN_DIGITS.get(text.charCodeAt(i))
  return digit === undefined ? text.charAt(i) : String.fromCharCode(digit)
}

export function fold(text: string): Folded {
  let plain = true
  for (let i = 0; i < text.length && plain; i++) plain = text.charCodeAt(i) < 0x80
  if (plain) return { text, at: undefined }
  let folded = ''
  const at: number[] = []
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (invisible(code)) continue
    at.push(i)
    if (code === 0xd835 && mathDigit(text.charCodeAt(i + 1))) {
      folded += String.fromCharCode(0x30 + ((text.charCodeAt(++i) - 0xdfce) % 10))
      continue
    }
    folded += code < 0x80 ? (text[i] as string) : String.fromCharCode(foldCode(code))
  }
  at.push(text.length)
  return { text: folded, at }
}

function invisible(code: number): boolean {
  return (
    code === 0xad ||
    code === 0x034f ||
    code === 0x061c ||
    code === 0x180e ||
    code === 0xfeff ||
    (code >= 0x200b && code <= 0x200f) ||
    (code >= 0x202a && code <= 0x202e) ||
    (code >= 0x2060 && code <= 0x206f) ||
    (code >= 0xfe00 && code <= 0xfe0f)
  )
}

/** Low half of a mathematical digit (U+1D7CE to U+1D7FF); their high half is always D835. */
const mathDigit = (low: number): boolean => low >= 0xdfce && low <= 0xdfff

function foldCode(code: number): number {
  // Full-width forms of ! to ~ lie in one block.
  if (code >= 0xff01 && code <= 0xff5e) return code - 0xfee0
  if (
    code === 0xa0 ||
    code === 0x1680 ||
    code === 0x205f ||
    (code >= 0x2000 && code <= 0x200a) ||
    code === 0x202f ||
    code === 0x3000
  )
    return 0x20
  if ((code >= 0x2010 && code <= 0x2015) || code === 0x2212) return 0x2d
  if (code === 0xb7 || code === 0x30fb) return 0x2e
  for (const zero of ZEROS) if (code >= zero && code < zero + 10) return 0x30 + code - zero
  return code
}
