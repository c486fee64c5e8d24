// Keys, UTF-8, base64 and hex against Node's own implementations of the same.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  decodeUtf8,
  fromBase64,
  fromBase64Url,
  fromHex,
  type Key,
  keyFromBytes,
  keyFromText,
  keyToBytes,
  keyToText,
  prefixEnd,
  toBase64,
  toBase64Url,
  toHex,
} from '#protocol/bytes.ts'

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const nodeUtf8 = (bytes: Uint8Array): string | undefined => {
  try {
    return strict.decode(bytes)
  } catch {
    return undefined
  }
}
const anyBytes = fc.uint8Array({ maxLength: 80 })
/** Bytes that are nearly UTF-8: valid text with a few bytes changed. */
const nearlyText = fc
  .tuple(fc.string({ unit: 'grapheme', maxLength: 12 }), fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 2 }))
  .map(([text, changes]) => {
    const bytes = Buffer.from(text)
    for (const [at, byte] of changes) if (bytes.length > 0) bytes[at % bytes.length] = byte
    return new Uint8Array(bytes)
  })
const runs = { numRuns: 2000 }

describe('bytes', () => {
  it('V1: a key is its bytes: both directions are exact, and order is bytewise', () => {
    fc.assert(
      fc.property(anyBytes, anyBytes, (a, b) => {
        const [keyA, keyB] = [keyFromBytes(a), keyFromBytes(b)]
        assert.deepEqual(keyToBytes(keyA), a)
        assert.equal(Math.sign(Buffer.compare(a, b)), keyA < keyB ? -1 : keyA > keyB ? 1 : 0)
      }),
      runs,
    )
  })

  it('V1: long keys survive the piecewise path', () => {
    for (const length of [23, 24, 25, 4095, 4096, 4097, 10_000]) {
      const bytes = Uint8Array.from({ length }, (_, i) => (i * 7) & 255)
      assert.deepEqual(keyToBytes(keyFromBytes(bytes)), bytes)
      assert.deepEqual(keyToBytes(keyFromBytes(bytes, 1, length - 1)), bytes.subarray(1, length - 1))
    }
  })

  it('V1: a text key is its UTF-8 bytes, and keyToText gives the text back or nothing', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        assert.deepEqual(Buffer.from(keyToBytes(keyFromText(text))), Buffer.from(text))
        assert.equal(keyToText(keyFromText(text)), text)
      }),
      runs,
    )
    fc.assert(
      fc.property(nearlyText, (bytes) => assert.equal(keyToText(keyFromBytes(bytes)), nodeUtf8(bytes))),
      runs,
    )
  })

  it('V2: strict UTF-8 agrees with the platform on every byte string', () => {
    fc.assert(
      fc.property(fc.oneof(anyBytes, nearlyText), (bytes) => assert.equal(decodeUtf8(bytes), nodeUtf8(bytes))),
      { numRuns: 10_000 },
    )
    const edges = [
      '00',
      '7f',
      'c080',
      'c1bf',
      'c280',
      'dfbf',
      'e08080',
      'e09fbf',
      'e0a080',
      'ed9fbf',
      'eda080',
      'edbfbf',
    ]
    const more = [
      'eebfbf',
      'efbbbf61',
      'f0808080',
      'f08fbfbf',
      'f0908080',
      'f48fbfbf',
      'f4908080',
      'f5808080',
      'ff',
      'e4bd',
    ]
    for (const hex of [...edges, ...more]) {
      const bytes = new Uint8Array(Buffer.from(hex, 'hex'))
      assert.equal(decodeUtf8(bytes), nodeUtf8(bytes), hex)
    }
  })

  it('V2: every two-byte and many three-byte strings agree with the platform', () => {
    for (let a = 0x80; a < 256; a++) {
      for (let b = 0; b < 256; b++) {
        const two = Uint8Array.of(a, b)
        assert.equal(decodeUtf8(two), nodeUtf8(two))
        const three = Uint8Array.of(a, b, 0x80)
        assert.equal(decodeUtf8(three), nodeUtf8(three))
      }
    }
  })

  it('V3: base64 and base64url agree with Buffer, and decoding inverts them', () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        assert.equal(toBase64(bytes), Buffer.from(bytes).toString('base64'))
        assert.equal(toBase64Url(bytes), Buffer.from(bytes).toString('base64url'))
        assert.deepEqual(fromBase64(toBase64(bytes)), bytes)
        assert.deepEqual(fromBase64Url(toBase64Url(bytes)), bytes)
      }),
      runs,
    )
  })

  it('V3: base64 is strict: what decodes is exactly what encoding would have written', () => {
    const alphabet = fc.string({ unit: fc.constantFrom(...'AQgwBZz9+/-_=. \n'.split('')), maxLength: 12 })
    fc.assert(
      fc.property(fc.oneof(alphabet, fc.string({ maxLength: 12 })), (text) => {
        const standard = fromBase64(text)
        if (standard !== undefined) assert.equal(Buffer.from(standard).toString('base64'), text)
        else assert.notEqual(Buffer.from(text, 'base64').toString('base64'), text)
        const url = fromBase64Url(text)
        if (url !== undefined) assert.equal(Buffer.from(url).toString('base64url'), text)
        else assert.notEqual(Buffer.from(text, 'base64url').toString('base64url'), text)
      }),
      { numRuns: 20_000 },
    )
  })

  it('V3: hex is lower case, even and nothing else', () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        assert.equal(toHex(bytes), Buffer.from(bytes).toString('hex'))
        assert.deepEqual(fromHex(toHex(bytes)), bytes)
      }),
    )
    for (const bad of ['a', 'AB', '0x', 'zz', ' 00', '00 ', '0g']) assert.equal(fromHex(bad), undefined)
  })

  it('S6: a prefix covers exactly the keys from itself to its end', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 4 }), anyBytes, fc.boolean(), (head, tail, extend) => {
        const prefix = keyFromBytes(head)
        const key = (extend ? prefix + keyFromBytes(tail) : keyFromBytes(tail)) as Key
        const end = prefixEnd(prefix)
        assert.equal(key >= prefix && (end === undefined || key < end), key.startsWith(prefix))
      }),
      runs,
    )
    assert.equal(prefixEnd(keyFromBytes(Uint8Array.of(1, 255))), keyFromBytes(Uint8Array.of(2)))
    assert.equal(prefixEnd(keyFromBytes(Uint8Array.of(255, 255))), undefined)
  })
})
