// Wire bytes: what is built by hand must read back as exactly what went in.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { keyFromBytes, keyFromText, keyToBytes } from '#protocol/bytes.ts'
import type { EventsFrame, SnapshotFrame, ValuesMode } from '#protocol/frames.ts'
import type { Epoch } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ClusterId, Region } from '#protocol/subjects.ts'
import { type EncodeContext, JsonEncoder } from '#gateway/delivery/encoder.ts'
import { FrameWriter, isUtf8, joinFrames } from '#gateway/delivery/frame-writer.ts'
import { isEmbeddable, valueKind } from '#gateway/delivery/json-value.ts'
import type { Visible } from '#gateway/delivery/policy-port.ts'
import { parseFrames } from './rig.ts'

const AT = { epoch: '00000000000000aa' as Epoch, revision: '9' as Revision }
const context = (values: ValuesMode = 'auto', hideActivity = false): EncodeContext => ({
  ch: 7,
  cluster: 'sz-edge-1' as ClusterId,
  region: 'sz' as unknown as Region,
  values,
  viewTag: '0011223344556677',
  hideActivity,
  maxValueBytes: 1_000,
})
const put = (key: Uint8Array, value: Uint8Array | undefined, withheld?: string): Visible => ({
  op: 'put',
  key: keyFromBytes(key),
  entry: {
    key: keyFromBytes(key),
    value: value ?? new Uint8Array(),
    modRevision: '9' as Revision,
    createRevision: '3' as Revision,
    version: '4',
    lease: '0',
    withheld,
    transforms: undefined,
  },
  value,
  withheld,
})
const textBytes = (text: string): Uint8Array => new TextEncoder().encode(text)

test('any key and any value read back byte for byte', () => {
  const encoder = new JsonEncoder('websocket')
  const value = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.string({ unit: 'binary', maxLength: 200 }).map(textBytes),
    fc.json().map(textBytes),
    fc.json().map((json) => textBytes(`{"a":${json}}`)),
  )
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 60 }),
      value,
      fc.constantFrom<ValuesMode>('auto', 'base64', 'none'),
      (key, bytes, values) => {
        const [frame] = parseFrames(encoder.events(context(values), AT, [put(key, bytes)])) as [EventsFrame]
        const [event] = frame.events
        assert.ok(event !== undefined && event.op === 'put')
        const readKey = 'key' in event ? textBytes(event.key) : Buffer.from(event.keyBase64, 'base64')
        assert.deepEqual(Buffer.from(readKey), Buffer.from(key))
        if (values === 'none') return assert.ok(!('json' in event || 'text' in event || 'base64' in event))
        if (values === 'base64') return assert.deepEqual(Buffer.from(event.base64 ?? '', 'base64'), Buffer.from(bytes))
        if ('json' in event) assert.deepEqual(event.json, JSON.parse(Buffer.from(bytes).toString()))
        else if ('text' in event) assert.deepEqual(textBytes(event.text ?? ''), bytes)
        else assert.deepEqual(Buffer.from(event.base64 ?? '', 'base64'), Buffer.from(bytes))
      },
    ),
    { numRuns: 600 },
  )
})

test('embedding: exactly objects and arrays without duplicate names, raw line breaks or more than 64 levels', () => {
  const yes = [
    '{}',
    '[]',
    ' \t{"a" : [1, -0.5e+3, "x\\u00e9\\n", null, true]}',
    '{"n":12345678901234567890}',
    '["\u2028"]',
    `${'['.repeat(64)}${']'.repeat(64)}`,
    '{"a":{"a":1}}',
    '[01]'.replace('01', '0'),
    '{"é":1}',
  ]
  const no = [
    '',
    '1',
    '"x"',
    'null',
    '{',
    '{}x',
    '{"a":1,}',
    '[1,]',
    '{"a":1,"a":2}',
    '{"a":1,"\\u0061":2}',
    '{\n}',
    '[1,\r2]',
    '["a\nb"]',
    '[01]',
    '[1.]',
    '[.5]',
    '[+1]',
    '[1e]',
    "{'a':1}",
    '{"a"}',
    '{a:1}',
    '["\\x"]',
    '["\\u12"]',
    `${'['.repeat(65)}${']'.repeat(65)}`,
    '\ufeff{}',
    '[NaN]',
  ]
  for (const text of yes) assert.ok(isEmbeddable(textBytes(text)), text)
  for (const text of no) assert.ok(!isEmbeddable(textBytes(text)), text)
  assert.ok(!isEmbeddable(Uint8Array.of(0x5b, 0x22, 0xff, 0x22, 0x5d)))
  assert.equal(valueKind(textBytes('{\n}')), 'text')
  assert.equal(valueKind(Uint8Array.of(0xc0, 0x80)), 'base64')
})

test('embedding agrees with JSON.parse wherever it says yes', () => {
  const pieces = fc
    .array(
      fc.constantFrom(
        '{',
        '}',
        '[',
        ']',
        ',',
        ':',
        '"a"',
        '"b\\u0041"',
        '1',
        '-2.5e3',
        'true',
        'null',
        ' ',
        '"',
        '\\',
        '\n',
        'é',
        '0',
      ),
      { maxLength: 14 },
    )
    .map((parts) => parts.join(''))
  fc.assert(
    fc.property(fc.oneof(pieces, fc.json()), (text) => {
      const bytes = textBytes(text)
      if (!isEmbeddable(bytes)) return
      const parsed: unknown = JSON.parse(text)
      assert.ok(typeof parsed === 'object' && parsed !== null)
      assert.ok(!/[\r\n]/.test(text))
    }),
    { numRuns: 3_000 },
  )
})

test('WebSocket headers at every boundary of length', () => {
  for (const length of [0, 1, 125, 126, 127, 65_535, 65_536, 200_000]) {
    const frame = new FrameWriter().begin().raw(Buffer.alloc(length, 'x')).finish('websocket')
    const head = length < 126 ? 2 : length < 65_536 ? 4 : 10
    assert.equal(frame.length, head + length)
    assert.equal(frame[0], 0x81)
    const told = head === 2 ? frame[1] : head === 4 ? frame.readUInt16BE(2) : Number(frame.readBigUInt64BE(2))
    assert.equal(told, length)
  }
})

test('event streams: one line of data, an id where a position is complete', () => {
  const encoder = new JsonEncoder('event-stream')
  const text = encoder.events(context(), AT, [put(textBytes('/a'), textBytes('line\nbreak'))]).toString()
  assert.match(text, /^id: 00000000000000aa:9:0011223344556677\ndata: \{.*\}\n\n$/)
  assert.doesNotMatch(encoder.snapshotBegin(context(), 'full', AT).toString(), /^id:/)
  assert.match(encoder.snapshotEnd(context(), AT).toString(), /^id: /)
})

test('withheld, oversize, lease, and no version for a class that must not learn of activity', () => {
  const encoder = new JsonEncoder('websocket')
  const [frame] = parseFrames(
    encoder.events(context('auto', true), AT, [
      put(textBytes('/a'), undefined, 'rule "x"'),
      put(textBytes('/b'), new Uint8Array(1_001)),
    ]),
  ) as [EventsFrame]
  assert.deepEqual(frame.events[0], { op: 'put', key: '/a', withheld: 'rule "x"', createRevision: '3' })
  assert.deepEqual(frame.events[1], { op: 'put', key: '/b', oversize: 1_001, createRevision: '3' })
})

test('frames of one slab join without a copy, others by one', () => {
  const writer = new FrameWriter()
  const frames = Array.from({ length: 5 }, (_, i) => writer.begin().ascii(`{"n":${i}}`).finish('websocket'))
  const joined = joinFrames(frames)
  assert.equal(joined.buffer, frames[0]?.buffer)
  assert.deepEqual(joined, Buffer.concat(frames))
  const strange = [frames[0], Buffer.from('x'), frames[1]] as Buffer[]
  assert.deepEqual(joinFrames(strange), Buffer.concat(strange))
})

test('a slab is never written again where a frame lies', () => {
  const writer = new FrameWriter()
  const kept = Array.from({ length: 3_000 }, (_, i) => ({
    frame: writer
      .begin()
      .ascii(`{"n":"${String(i).repeat(20)}"}`)
      .finish('websocket'),
    i,
  }))
  for (const { frame, i } of kept) assert.deepEqual(parseFrames(frame), [{ n: String(i).repeat(20) }])
})

test('snapshot items and their chunks read back', () => {
  const encoder = new JsonEncoder('websocket')
  const items = encoder.snapshotItems(context())
  const one = put(textBytes('/a'), textBytes('[1]'))
  assert.ok(one.op === 'put')
  items.add(one)
  items.add({ op: 'gone', gone: 'leave', key: keyFromText('/b') })
  const [frame] = parseFrames(items.finish()) as [SnapshotFrame]
  assert.ok(frame.phase === 'items')
  assert.deepEqual(frame.items, [
    { key: '/a', revision: '9', json: [1], createRevision: '3', version: '4' },
    { key: '/b', gone: 'leave' },
  ])
})

test('strict UTF-8 agrees with the platform', () => {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  fc.assert(
    fc.property(
      fc.oneof(fc.uint8Array({ maxLength: 12 }), fc.string({ unit: 'binary', maxLength: 8 }).map(textBytes)),
      (bytes) => {
        let valid = true
        try {
          decoder.decode(bytes)
        } catch {
          valid = false
        }
        assert.equal(isUtf8(bytes, 0, bytes.length), valid)
      },
    ),
    { numRuns: 2_000 },
  )
  assert.deepEqual(keyToBytes(keyFromText('é')), textBytes('é'))
})
