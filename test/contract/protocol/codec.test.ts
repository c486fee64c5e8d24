// The log's codec against an independent protobuf implementation, on arbitrary entries and on damaged bytes.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import protobuf from 'protobufjs'
import { decodeEntry, decodeRevision } from '#protocol/log/decode.ts'
import { itemsBytes } from '#protocol/log/digest.ts'
import { encodeEntry, encodeRevision } from '#protocol/log/encode.ts'
import type { LogEntry } from '#protocol/log/entry.ts'
import { entryArb, revisionRecordArb } from '../../unit/protocol/entries.ts'
import { itemsOnTheWire } from '../../judge/log-reader.ts'
import { referenceAccepts, referenceDecode, referenceEncode } from './reference-codec.ts'

/** Comparable form. An empty `withheld` has no spelling in proto3, and only snapshot items have a `modRevision`. */
const settled = (value: unknown): unknown => {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex')
  if (Array.isArray(value)) return value.map(settled)
  if (typeof value !== 'object' || value === null) return value
  const pairs = Object.entries(value).filter(([name, inner]) => {
    if (name === 'withheld') return inner !== ''
    return name !== 'modRevision' || !('op' in value)
  })
  return Object.fromEntries(pairs.map(([name, inner]) => [name, settled(inner)]))
}

const decoded = (bytes: Uint8Array): LogEntry => {
  const result = decodeEntry(bytes)
  assert.ok(result.ok, result.ok ? '' : result.error.detail)
  return result.value
}

const runs = { numRuns: 400 }

describe('log codec', () => {
  it('L2: what we encode, protobufjs reading log.proto decodes to the same entry', () => {
    fc.assert(
      fc.property(entryArb, (entry) => {
        assert.deepEqual(settled(referenceDecode(encodeEntry(entry))), settled(entry))
      }),
      runs,
    )
  })

  it('L2: what protobufjs encodes, we decode to the same entry', () => {
    fc.assert(
      fc.property(entryArb, (entry) => {
        assert.deepEqual(settled(decoded(referenceEncode(entry))), settled(entry))
      }),
      runs,
    )
  })

  it('L2: encode then decode is the identity, also with a reused writer', () => {
    fc.assert(
      fc.property(entryArb, (entry) => {
        assert.deepEqual(settled(decoded(encodeEntry(entry))), settled(entry))
      }),
      runs,
    )
  })

  it('L2: the encoding is canonical: decode then encode gives the same bytes', () => {
    fc.assert(
      fc.property(entryArb, (entry) => {
        const bytes = encodeEntry(entry)
        assert.deepEqual(encodeEntry(decoded(bytes)), bytes)
      }),
      runs,
    )
  })

  it('L3: unknown fields of every wire type, anywhere at top level, change nothing', () => {
    const unknown = fc.tuple(fc.integer({ min: 24, max: 2 ** 29 - 1 }), fc.constantFrom(0, 1, 2, 5), fc.uint8Array())
    fc.assert(
      fc.property(entryArb, fc.array(unknown, { maxLength: 4 }), fc.boolean(), (entry, extras, first) => {
        const writer = protobuf.Writer.create()
        for (const [field, wireType, payload] of extras) {
          writer.uint32(((field << 3) | wireType) >>> 0)
          if (wireType === 0) writer.uint64(payload.length * 12345)
          else if (wireType === 1) writer.fixed64(payload.length)
          else if (wireType === 2) writer.bytes(payload)
          else writer.fixed32(payload.length)
        }
        const noise = writer.finish()
        const bytes = encodeEntry(entry)
        const joined = Buffer.concat(first ? [noise, bytes] : [bytes, noise])
        assert.deepEqual(settled(decoded(joined)), settled(entry))
      }),
      runs,
    )
  })

  it('L3: a kind this version does not know is named, not guessed', () => {
    fc.assert(
      fc.property(entryArb, fc.integer({ min: 7, max: 2 ** 31 - 1 }), (entry, kind) => {
        const result = decodeEntry(referenceEncode(entry, { kind }))
        assert.ok(!result.ok)
        assert.equal(result.error.code, 'unknown-kind')
      }),
    )
  })

  it('I10: every truncation of an entry is an entry or a named failure, never a throw', () => {
    fc.assert(
      fc.property(entryArb, (entry) => {
        const bytes = encodeEntry(entry)
        for (let end = 0; end < bytes.length; end++) {
          const result = decodeEntry(bytes.subarray(0, end))
          if (result.ok) assert.ok(referenceAccepts(bytes.subarray(0, end)), `accepted a cut at ${end} alone`)
        }
      }),
      { numRuns: 60 },
    )
  })

  it('I10: flipped bits never make us throw, and what we accept protobufjs accepts', () => {
    const flips = fc.array(fc.tuple(fc.nat(), fc.nat(7)), { minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(entryArb, flips, (entry, at) => {
        const bytes = encodeEntry(entry)
        for (const [place, bit] of at) {
          const index = place % bytes.length
          bytes[index] = (bytes[index] ?? 0) ^ (1 << bit)
        }
        if (decodeEntry(bytes).ok) assert.ok(referenceAccepts(bytes))
      }),
      { numRuns: 3000 },
    )
  })

  it('I10: random bytes are refused or decoded in time linear in their length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        if (decodeEntry(bytes).ok) assert.ok(referenceAccepts(bytes))
        decodeRevision(bytes)
      }),
      { numRuns: 3000 },
    )
    const started = performance.now()
    for (const filler of [0x00, 0x08, 0x52, 0x7f, 0x80, 0x82, 0xff]) decodeEntry(new Uint8Array(4 << 20).fill(filler))
    assert.ok(performance.now() - started < 5000, 'seven 4 MiB messages took more than 5 s')
  })

  it('L2: a tag beyond 32 bits, field number 0 and a length beyond the message are refused', () => {
    const good = encodeEntry(fc.sample(entryArb, { numRuns: 1, seed: 7 })[0] as LogEntry)
    const bad = [
      [0x8a, 0x80, 0x80, 0x80, 0x10, 0x00], // 2^32 + 10: field 1 if the tag were cut to 32 bits
      [0x00, 0x01],
      [0x02, 0x00],
      [0xc2, 0x01, 0x7f],
      [0x0b, 0x0c],
      [0xc7, 0x01, 0x00],
    ]
    for (const bytes of bad) {
      const result = decodeEntry(Buffer.concat([good, Uint8Array.from(bytes)]))
      assert.equal(result.ok, false, `accepted ${Buffer.from(bytes).toString('hex')}`)
    }
  })

  it('L6: an id that is not 16 bytes, or an epoch that is not 8, is no entry', () => {
    fc.assert(
      fc.property(entryArb, fc.uint8Array({ maxLength: 40 }), (entry, bytes) => {
        const accepted = (fields: Record<string, unknown>): boolean => decodeEntry(referenceEncode(entry, fields)).ok
        assert.equal(accepted({ entry_id: bytes }), bytes.length === 16)
        assert.equal(accepted({ prev_entry_id: bytes }), bytes.length === 16)
        assert.equal(accepted({ epoch: bytes }), bytes.length === 8)
      }),
    )
  })

  it('K2: what the digest covers is the items as they stand on the wire, read the same by another reader', () => {
    fc.assert(
      fc.property(entryArb, (entry) => {
        const bytes = encodeEntry(entry)
        assert.deepEqual(Buffer.from(itemsBytes(bytes)), itemsOnTheWire(bytes))
      }),
      runs,
    )
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => void itemsBytes(bytes)))
  })

  it('L4: a revision record keeps 64-bit numbers, binary keys and empty values exactly', () => {
    fc.assert(
      fc.property(revisionRecordArb, (record) => {
        const result = decodeRevision(encodeRevision(record))
        assert.ok(result.ok)
        assert.deepEqual(settled(result.value), settled(record))
      }),
      runs,
    )
  })
})
