// Looks for texts in bytes, in every spelling a careless step could give them.
// Owns: the spellings (plain, base64 at each offset, hex, percent-encoded, JSON escapes, UTF-16) and one pass for all of them.
// Refuses: knowing where bytes come from. Whoever scans also scans something that must be found.

type Needle = { readonly text: string; readonly form: string; readonly bytes: Buffer }

export type Leak = { readonly text: string; readonly form: string; readonly at: number; readonly where: string }

/** Positions of a base64 text that three unknown bytes around cannot change, for each offset within a group. */
function base64Forms(text: string): string[] {
  const bytes = Buffer.from(text)
  return [0, 1, 2].map((offset) => {
    const encoded = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64')
    return encoded.slice(Math.ceil((offset * 8) / 6), Math.floor(((offset + bytes.length) * 8) / 6))
  })
}

const percent = (text: string, all: boolean): string =>
  [...Buffer.from(text)]
    .map((byte) =>
      all || !/[A-Za-z0-9_.~-]/.test(String.fromCharCode(byte))
        ? `%${hex(byte).toUpperCase()}`
        : String.fromCharCode(byte),
    )
    .join('')
const hex = (byte: number): string => byte.toString(16).padStart(2, '0')

export function spellings(text: string): ReadonlyMap<string, Buffer> {
  const utf16 = Buffer.from(text, 'utf16le')
  const forms = new Map<string, Buffer>([
    ['plain', Buffer.from(text)],
    ['lower case', Buffer.from(text.toLowerCase())],
    ['hex', Buffer.from(Buffer.from(text).toString('hex'))],
    ['HEX', Buffer.from(Buffer.from(text).toString('hex').toUpperCase())],
    ['percent', Buffer.from(percent(text, false))],
    ['percent all', Buffer.from(percent(text, true))],
    ['JSON escapes', Buffer.from(Array.from(text, (c) => `\\u00${hex(c.charCodeAt(0))}`).join(''))],
    ['UTF-16', utf16],
    ['UTF-16 big endian', Buffer.from(utf16).swap16()],
  ])
  for (const [i, form] of base64Forms(text).entries()) {
    forms.set(`base64 +${i}`, Buffer.from(form))
    forms.set(`base64url +${i}`, Buffer.from(form.replaceAll('+', '-').replaceAll('/', '_')))
  }
  return forms
}

const TABLE_BITS = 20
const slot = (word: number): number => Math.imul(word, 0x9e37_79b1) >>> (32 - TABLE_BITS)

export class LeakScanner {
  readonly #first = new Uint8Array(1 << TABLE_BITS)
  readonly #byWord = new Map<number, Needle[]>()
  readonly texts: readonly string[]
  scanned = 0

  constructor(texts: readonly string[]) {
    this.texts = texts
    for (const text of texts) {
      for (const [form, bytes] of spellings(text)) {
        const word = bytes.readUInt32BE(0)
        this.#first[slot(word)] = 1
        const same = this.#byWord.get(word)
        if (same === undefined) this.#byWord.set(word, [{ text, form, bytes }])
        else same.push({ text, form, bytes })
      }
    }
  }

  /** Every text found, once per place of it. */
  scan(where: string, data: Uint8Array | string): readonly Leak[] {
    const bytes =
      typeof data === 'string' ? Buffer.from(data) : Buffer.from(data.buffer, data.byteOffset, data.byteLength)
    this.scanned += bytes.length
    const leaks: Leak[] = []
    let word = 0
    for (let i = 0; i < bytes.length; i++) {
      word = ((word << 8) | (bytes[i] as number)) >>> 0
      if (i < 3 || this.#first[slot(word)] === 0) continue
      for (const { text, form, bytes: needle } of this.#byWord.get(word) ?? []) {
        const at = i - 3
        if (bytes.compare(needle, 0, needle.length, at, Math.min(bytes.length, at + needle.length)) === 0)
          leaks.push({ text, form, at, where })
      }
    }
    return leaks
  }

  /** How many of the texts are somewhere in the data. */
  count(data: Uint8Array | string): number {
    return new Set(this.scan('', data).map((leak) => leak.text)).size
  }
}
