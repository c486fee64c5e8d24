// The cursor: canonical, strict, and every damage refused by name.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { type Cursor, CURSOR_PREFIX, decodeCursor, encodeCursor, MAX_CURSOR_CLUSTERS } from '#protocol/cursor.ts'
import type { Epoch } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import { epochArb, revisionArb } from './entries.ts'

const clusterArb = fc
  .string({ unit: fc.constantFrom(...'abcdefghijklmnopqrstuvwxyz0123456789-'.split('')), minLength: 1, maxLength: 32 })
  .map((name) => name as ClusterId)
const cursorArb: fc.Arbitrary<Cursor> = fc
  .tuple(
    epochArb,
    fc.uniqueArray(fc.tuple(clusterArb, epochArb, revisionArb), { selector: ([id]) => id, maxLength: 6 }),
  )
  .map(([viewTag, list]) => ({
    viewTag,
    positions: new Map(list.map(([id, epoch, revision]) => [id, { epoch, revision }])),
  }))
const same = (a: Cursor, b: Cursor): void => {
  assert.equal(a.viewTag, b.viewTag)
  assert.deepEqual(Object.fromEntries(a.positions), Object.fromEntries(b.positions))
}
const bodyOf = (text: string): Buffer => Buffer.from(text.slice(CURSOR_PREFIX.length), 'base64url')
const textOf = (body: Uint8Array): string => CURSOR_PREFIX + Buffer.from(body).toString('base64url')

/** CRC-32 (IEEE), bit by bit: written apart from the table in the code under test. */
const crc = (bytes: Uint8Array): number => {
  let c = ~0
  for (const byte of bytes) {
    c ^= byte
    for (let k = 0; k < 8; k++) c = (c >>> 1) ^ (0xedb88320 & -(c & 1))
  }
  return ~c >>> 0
}
const sealed = (body: Uint8Array): string => {
  const whole = Buffer.alloc(body.length + 4)
  whole.set(body)
  whole.writeUInt32BE(crc(body), body.length)
  return textOf(whole)
}

type Vectors = {
  readonly valid: readonly {
    readonly name: string
    readonly viewTag: string
    readonly positions: Readonly<Record<string, { readonly epoch: Epoch; readonly revision: Revision }>>
    readonly cursor: string
  }[]
  readonly refused: readonly { readonly name: string; readonly cursor: string; readonly reason: string }[]
}
const vectors = JSON.parse(
  readFileSync(new URL('../../../protocol/vectors/cursor.json', import.meta.url), 'utf8'),
) as Vectors

describe('cursor', () => {
  it('Q1: decoding inverts encoding', () => {
    fc.assert(
      fc.property(cursorArb, (cursor) => {
        const result = decodeCursor(encodeCursor(cursor))
        assert.ok(result.ok)
        same(result.cursor, cursor)
      }),
    )
  })

  it('Q1: equal positions encode to equal bytes, whatever the order they were put in', () => {
    fc.assert(
      fc.property(cursorArb, (cursor) => {
        const reversed = new Map([...cursor.positions].toReversed())
        assert.equal(encodeCursor({ ...cursor, positions: reversed }), encodeCursor(cursor))
      }),
    )
  })

  it('Q1: what decodes is canonical: it encodes to the very same text', () => {
    const noise = fc.tuple(cursorArb, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }))
    fc.assert(
      fc.property(noise, ([cursor, changes]) => {
        const body = bodyOf(encodeCursor(cursor)).subarray(0, -4)
        for (const [at, byte] of changes) body[at % body.length] = byte
        const text = sealed(body)
        const result = decodeCursor(text)
        if (result.ok) assert.equal(encodeCursor(result.cursor), text)
      }),
      { numRuns: 2000 },
    )
  })

  it('Q2: every single flipped bit is refused', () => {
    fc.assert(
      fc.property(cursorArb, (cursor) => {
        const body = bodyOf(encodeCursor(cursor))
        for (let bit = 0; bit < body.length * 8; bit++) {
          const damaged = Buffer.from(body)
          damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7))
          assert.equal(decodeCursor(textOf(damaged)).ok, false)
        }
      }),
      { numRuns: 30 },
    )
  })

  it('Q2: every changed, dropped or added character is refused', () => {
    const change = fc.tuple(fc.nat(), fc.constantFrom(...'AZaz09-_+/=. \u00e9'.split('')))
    fc.assert(
      fc.property(cursorArb, change, fc.constantFrom('set', 'drop', 'add'), (cursor, [at, char], how) => {
        const text = encodeCursor(cursor)
        const i = at % text.length
        const damaged = text.slice(0, i) + (how === 'drop' ? '' : char) + text.slice(how === 'add' ? i : i + 1)
        if (damaged !== text) assert.equal(decodeCursor(damaged).ok, false, damaged)
      }),
      { numRuns: 2000 },
    )
  })

  it('Q2: spare bits of the last character are refused, so that one position has one spelling', () => {
    const text = encodeCursor({ viewTag: '00'.repeat(8), positions: new Map() })
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    const last = alphabet.indexOf(text.at(-1) ?? '')
    const spelled = text.slice(0, -1) + (alphabet[last + 1] ?? '')
    assert.deepEqual(bodyOf(spelled), bodyOf(text), 'the two spellings hold the same bytes')
    assert.deepEqual(decodeCursor(spelled), { ok: false, reason: 'base64' })
  })

  it('I10: arbitrary text is refused, never thrown at', () => {
    fc.assert(fc.property(fc.string(), (text) => assert.equal(decodeCursor(text).ok, false)))
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (body) => {
        const result = decodeCursor(sealed(body))
        if (result.ok) assert.equal(encodeCursor(result.cursor), sealed(body))
      }),
      { numRuns: 5000 },
    )
  })

  it('Q3: at most 64 clusters, in both directions', () => {
    const positions = new Map(
      Array.from({ length: MAX_CURSOR_CLUSTERS + 1 }, (_, n) => [
        `c-${String(n).padStart(2, '0')}` as ClusterId,
        { epoch: '0011223344556677' as Epoch, revision: '1' as Revision },
      ]),
    )
    assert.throws(() => encodeCursor({ viewTag: '00'.repeat(8), positions }), RangeError)
    const last = [...positions.keys()].at(-1) as ClusterId
    positions.delete(last)
    const text = encodeCursor({ viewTag: '00'.repeat(8), positions })
    assert.equal(decodeCursor(text).ok, true)
    const body = bodyOf(text).subarray(0, -4)
    body[8] = 65
    assert.deepEqual(decodeCursor(sealed(body)), { ok: false, reason: 'count' })
  })

  it('Q5: the published vectors hold, valid and refused', () => {
    assert.ok(vectors.valid.length >= 5 && vectors.refused.length >= 10)
    for (const { name, viewTag, positions, cursor } of vectors.valid) {
      const expected: Cursor = { viewTag, positions: new Map(Object.entries(positions) as never) }
      assert.equal(encodeCursor(expected), cursor, name)
      const result = decodeCursor(cursor)
      assert.ok(result.ok, name)
      same(result.cursor, expected)
    }
    for (const { name, cursor, reason } of vectors.refused) {
      assert.deepEqual(decodeCursor(cursor), { ok: false, reason }, name)
    }
  })
})
