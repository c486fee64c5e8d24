// Bytes as the product handles them: keys, base64, UTF-8.
// Owns: the Key type (one UTF-16 unit per byte, so that `<`, Map and startsWith are bytewise) and strict codecs.
// Refuses: Buffer, atob, btoa, TextDecoder: Node, browsers and k6 load this file.

declare const keyBrand: unique symbol
/** An etcd key as a byte string: each char code is one byte (0-255). Never print it; see {@link keyToText}. */
export type Key = string & { readonly [keyBrand]: true }

/** Joining by pieces of this size keeps String.fromCharCode below every engine's argument limit. */
const PIECE = 4096

/** Reads bytes[start, end) as a key. O(length), no copy of the input is kept. */
export function keyFromBytes(bytes: Uint8Array, start = 0, end = bytes.length): Key {
  const length = end - start
  if (length <= 24) {
    let text = ''
    for (let i = start; i < end; i++) text += String.fromCharCode(bytes[i] as number)
    return text as Key
  }
  if (length <= PIECE) return String.fromCharCode.apply(null, bytes.subarray(start, end) as unknown as number[]) as Key
  let text = ''
  for (let i = start; i < end; i += PIECE) {
    text += String.fromCharCode.apply(null, bytes.subarray(i, Math.min(end, i + PIECE)) as unknown as number[])
  }
  return text as Key
}

export function keyToBytes(key: Key): Uint8Array {
  const bytes = new Uint8Array(key.length)
  for (let i = 0; i < key.length; i++) bytes[i] = key.charCodeAt(i)
  return bytes
}

/** The key of a text: its UTF-8 bytes. */
export function keyFromText(text: string): Key {
  for (let i = 0; i < text.length; i++)
    if (text.charCodeAt(i) > 127) return keyFromBytes(new TextEncoder().encode(text))
  return text as Key
}

/** The key as text, or undefined when its bytes are not valid UTF-8. */
export function keyToText(key: Key): string | undefined {
  for (let i = 0; i < key.length; i++) if (key.charCodeAt(i) > 127) return decodeUtf8(keyToBytes(key))
  return key
}

/** First key after every key that starts with `prefix`; undefined means "to the end of the key space". */
export function prefixEnd(prefix: Key): Key | undefined {
  for (let i = prefix.length - 1; i >= 0; i--) {
    const code = prefix.charCodeAt(i)
    if (code < 255) return (prefix.slice(0, i) + String.fromCharCode(code + 1)) as Key
  }
  return undefined
}

/** Strict UTF-8 (no overlong forms, no surrogates, <= U+10FFFF); undefined for anything else. */
export function decodeUtf8(bytes: Uint8Array, start = 0, end = bytes.length): string | undefined {
  let text = ''
  let i = start
  while (i < end) {
    const lead = bytes[i++] as number
    if (lead < 0x80) {
      text += String.fromCharCode(lead)
      continue
    }
    const extra = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1
    if (lead < 0xc2 || lead > 0xf4 || i + extra > end) return undefined
    let point = lead & (0x3f >> extra)
    for (let n = 0; n < extra; n++) {
      const next = bytes[i++] as number
      if ((next & 0xc0) !== 0x80) return undefined
      point = (point << 6) | (next & 0x3f)
    }
    const smallest = extra === 3 ? 0x10000 : extra === 2 ? 0x800 : 0x80
    if (point < smallest || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return undefined
    text += String.fromCodePoint(point)
  }
  return text
}

const COMMON = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'
const STANDARD = `${COMMON}+/`
const URL_SAFE = `${COMMON}-_`

/** Unpadded. */
const encode = (bytes: Uint8Array, alphabet: string): string => {
  let text = ''
  let pending = 0
  let bits = 0
  for (const byte of bytes) {
    pending = (pending << 8) | byte
    for (bits += 8; bits >= 6; ) {
      bits -= 6
      text += alphabet[(pending >> bits) & 63] as string
    }
    pending &= 63
  }
  return bits === 0 ? text : text + (alphabet[(pending << (6 - bits)) & 63] as string)
}

/** Strict: rejects foreign characters, impossible lengths and spare bits, so that every byte string has one spelling. */
const decode = (text: string, alphabet: string): Uint8Array | undefined => {
  if (text.length % 4 === 1) return undefined
  const bytes = new Uint8Array(Math.floor((text.length * 3) / 4))
  let pending = 0
  let bits = 0
  let at = 0
  for (let i = 0; i < text.length; i++) {
    const six = alphabet.indexOf(text[i] as string)
    if (six < 0) return undefined
    pending = (pending << 6) | six
    bits += 6
    if (bits >= 8) {
      bits -= 8
      bytes[at++] = (pending >> bits) & 0xff
      pending &= (1 << bits) - 1
    }
  }
  return pending === 0 ? bytes : undefined
}

export const toBase64 = (bytes: Uint8Array): string => {
  const text = encode(bytes, STANDARD)
  return text.padEnd(Math.ceil(text.length / 4) * 4, '=')
}
export const toBase64Url = (bytes: Uint8Array): string => encode(bytes, URL_SAFE)
export const fromBase64Url = (text: string): Uint8Array | undefined => decode(text, URL_SAFE)
/** Standard alphabet, padding required where RFC 4648 requires it. */
export function fromBase64(text: string): Uint8Array | undefined {
  if (text.length % 4 !== 0) return undefined
  const body = text.replace(/={1,2}$/, '')
  return decode(body, STANDARD)
}

const HEX = '0123456789abcdef'
export function toHex(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += (HEX[byte >> 4] as string) + (HEX[byte & 15] as string)
  return text
}
export function fromHex(text: string): Uint8Array | undefined {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) return undefined
  const bytes = new Uint8Array(text.length / 2)
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16)
  return bytes
}
