// What a stranger sends: every client frame, valid and broken, decodes to a frame or a named refusal.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { keyFromText } from '#protocol/bytes.ts'
import { ErrorCode } from '#protocol/codes.ts'
import { decodeClientFrame, decodeServerFrame, MAX_ID_LENGTH, MAX_KEY_BYTES, selectorRange } from '#protocol/decode.ts'
import { clientFrameArb } from './frames.ts'

const KNOWN = new Set(Object.values(ErrorCode).map((code) => code.code))

/** Decoding must give a frame or a refusal with a known code and a short message. */
const judge = (text: string): ReturnType<typeof decodeClientFrame> => {
  const result = decodeClientFrame(text)
  if (result.ok) return result
  assert.ok(KNOWN.has(result.code.code), `code ${result.code.code}`)
  assert.ok(result.message.length > 0 && result.message.length <= 200, result.message)
  if (result.id !== undefined) assert.ok(result.id.length <= MAX_ID_LENGTH)
  return result
}
const refusal = (frame: unknown): { code: string; message: string } => {
  const result = judge(typeof frame === 'string' ? frame : JSON.stringify(frame))
  assert.ok(!result.ok, `accepted ${JSON.stringify(frame)}`)
  return { code: result.code.name, message: result.message }
}
const watch = { type: 'watch', id: 'w1', prefix: '/', start: 'now' }
const runs = { numRuns: 3000 }

describe('client frames', () => {
  it('S2: every well-formed frame is accepted, field for field', () => {
    fc.assert(
      fc.property(clientFrameArb, (frame) => {
        const result = judge(JSON.stringify(frame))
        assert.ok(result.ok, result.ok ? '' : result.message)
        assert.deepEqual(result.frame, JSON.parse(JSON.stringify(frame)))
      }),
      runs,
    )
  })

  it('I10: any text at all is a frame or a named refusal', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => void judge(text)),
      runs,
    )
    fc.assert(
      fc.property(fc.json(), (text) => void judge(text)),
      runs,
    )
    for (const text of [
      '',
      ' ',
      'null',
      '[]',
      '0',
      '"hello"',
      '{',
      '{}',
      '\0',
      '﻿{}',
      '['.repeat(60_000),
      '{"a":'.repeat(9000),
    ]) {
      judge(text)
    }
  })

  it('I10: any JSON value in any field is accepted or refused by name, never thrown at', () => {
    const fields =
      'type id token client versions clusters regions key keyBase64 prefix prefixBase64 from fromBase64 to toBase64 start default mode values __proto__ constructor'
    const damage = fc.tuple(fc.constantFrom(...fields.split(' ')), fc.jsonValue())
    fc.assert(
      fc.property(clientFrameArb, fc.array(damage, { minLength: 1, maxLength: 3 }), (frame, changes) => {
        const pairs = [...Object.entries(frame), ...changes]
        judge(`{${pairs.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`)
      }),
      runs,
    )
  })

  it('I10: flipped and dropped characters of a good frame never throw', () => {
    const edit = fc.tuple(fc.nat(), fc.oneof(fc.constant(''), fc.string({ unit: 'binary', maxLength: 2 })))
    fc.assert(
      fc.property(clientFrameArb, fc.array(edit, { minLength: 1, maxLength: 3 }), (frame, edits) => {
        let text = JSON.stringify(frame)
        for (const [at, put] of edits) {
          const i = at % (text.length + 1)
          text = text.slice(0, i) + put + text.slice(i + 1)
        }
        judge(text)
      }),
      runs,
    )
  })

  it('S2: broken JSON, other JSON and unknown types have their own code', () => {
    assert.equal(refusal('{"type":').code, 'BadFrame')
    assert.equal(refusal([]).code, 'BadFrame')
    assert.equal(refusal({}).code, 'UnknownFrame')
    assert.equal(refusal({ type: 'subscribe' }).code, 'UnknownFrame')
    assert.equal(refusal({ type: ['watch'] }).code, 'UnknownFrame')
    assert.equal(refusal({ type: 'toString' }).code, 'UnknownFrame')
  })

  it('S2: each field of each frame is checked, and the message names it', () => {
    const cases: [unknown, string, RegExp][] = [
      [{ type: 'hello', client: 'c', versions: [] }, 'BadFrame', /versions/],
      [{ type: 'hello', client: 'c', versions: [1.5] }, 'BadFrame', /versions/],
      [{ type: 'hello', client: 'c', versions: Array(17).fill(1) }, 'BadFrame', /versions/],
      [{ type: 'hello', client: 'c'.repeat(129), versions: [1] }, 'BadFrame', /client/],
      [{ type: 'hello', versions: [1] }, 'BadFrame', /client/],
      [{ type: 'hello', client: 'c', versions: [1], token: 7 }, 'BadFrame', /token/],
      [{ type: 'auth' }, 'BadFrame', /token/],
      [{ type: 'auth', token: 't'.repeat(16_385) }, 'BadFrame', /token/],
      [{ type: 'unwatch', id: '' }, 'BadFrame', /id/],
      [{ ...watch, id: 'x'.repeat(65) }, 'BadFrame', /id/],
      [{ ...watch, clusters: [] }, 'BadFrame', /clusters/],
      [{ ...watch, clusters: 'sz' }, 'BadFrame', /clusters/],
      [{ ...watch, clusters: ['x'.repeat(33)] }, 'BadFrame', /clusters/],
      [{ ...watch, regions: [1] }, 'BadFrame', /regions/],
      [{ ...watch, start: 'latest' }, 'BadCursor', /start/],
      [{ ...watch, start: undefined }, 'BadFrame', /start/],
      [{ ...watch, start: `dw1.${'A'.repeat(8192)}` }, 'BadFrame', /start/],
      [{ ...watch, default: 'cursor' }, 'BadFrame', /default/],
      [{ ...watch, mode: 'LOG' }, 'BadFrame', /mode/],
      [{ ...watch, values: 'json' }, 'BadFrame', /values/],
      [{ ...watch, since: '7' }, 'BadFrame', /since/],
      ['{"type":"watch","id":"w","prefix":"","start":"now","__proto__":{"a":1}}', 'BadFrame', /__proto__/],
    ]
    for (const [frame, code, message] of cases) {
      const got = refusal(frame)
      assert.equal(got.code, code, JSON.stringify(frame))
      assert.match(got.message, message)
    }
  })

  it('T2: unknown fields of a frame are skipped, except in watch, where one could be a misspelt selector', () => {
    fc.assert(
      fc.property(clientFrameArb, fc.jsonValue(), (frame, value) => {
        const result = judge(JSON.stringify({ ...frame, fromTheFuture: value }))
        assert.equal(result.ok, frame.type !== 'watch')
        if (result.ok) assert.deepEqual(result.frame, JSON.parse(JSON.stringify(frame)))
      }),
    )
  })

  it('I10: a refusal quotes at most a few characters of what was sent, and never a token', () => {
    const secret = 'SECRET-TOKEN'
    for (const frame of [
      { type: 'hello', client: 7, versions: [1], token: secret },
      { type: 'auth', token: [secret] },
      { type: 'x'.repeat(1000) },
      { ...watch, ['f'.repeat(1000)]: 1 },
    ]) {
      const { message } = refusal(frame)
      assert.ok(!message.includes(secret))
      assert.ok(message.length < 120)
    }
  })
})

describe('selectors', () => {
  const range = (selector: object): unknown => selectorRange(selector)
  const base64 = (text: string): string => Buffer.from(text).toString('base64')

  it('S6: key, prefix and range name bytewise ranges, also in base64', () => {
    assert.deepEqual(range({ key: '/a' }), { from: '/a', to: '/a\0' })
    assert.deepEqual(range({ keyBase64: base64('/a') }), { from: '/a', to: '/a\0' })
    assert.deepEqual(range({ prefix: '/a/' }), { from: '/a/', to: '/a0' })
    assert.deepEqual(range({ prefix: '' }), { from: '', to: undefined })
    assert.deepEqual(range({ prefixBase64: '//8=' }), { from: '\u00ff\u00ff', to: undefined })
    assert.deepEqual(range({ from: '/a' }), { from: '/a', to: undefined })
    assert.deepEqual(range({ from: '/a', to: '/b' }), { from: '/a', to: '/b' })
    assert.deepEqual(range({ from: 'é', to: '中' }), { from: keyFromText('é'), to: keyFromText('中') })
  })

  it('S6: bytes decide, not JavaScript string order', () => {
    // U+FF61 sorts after U+1F600 as UTF-16 code units, before it as UTF-8 bytes.
    assert.deepEqual(range({ from: '｡', to: '😀' }), { from: keyFromText('｡'), to: keyFromText('😀') })
    assert.equal(typeof range({ from: '😀', to: '｡' }), 'string')
  })

  it('S6: contradictory or empty selectors are refused', () => {
    for (const selector of [
      {},
      { to: '/b' },
      { key: '/a', prefix: '/b' },
      { key: '/a', keyBase64: base64('/a') },
      { key: '/a', to: '/b' },
      { prefix: '/a', to: '/b' },
      { from: '/b', to: '/a' },
      { from: '/a', to: '/a' },
      { key: null },
      { prefix: 7 },
      { keyBase64: 'QQ' },
      { keyBase64: 'QR==' },
      { prefixBase64: '-_8=' },
    ]) {
      assert.equal(typeof range(selector), 'string', JSON.stringify(selector))
    }
  })

  it('X3: a key of more than the limit is refused, counted in bytes', () => {
    assert.equal(typeof range({ key: 'a'.repeat(MAX_KEY_BYTES) }), 'object')
    assert.equal(typeof range({ key: 'a'.repeat(MAX_KEY_BYTES + 1) }), 'string')
    assert.equal(typeof range({ key: '中'.repeat(MAX_KEY_BYTES / 2) }), 'string')
    assert.equal(typeof range({ keyBase64: Buffer.alloc(MAX_KEY_BYTES).toString('base64') }), 'object')
    assert.equal(typeof range({ keyBase64: Buffer.alloc(MAX_KEY_BYTES + 1).toString('base64') }), 'string')
  })

  it('V1: a lone surrogate names no bytes and is refused', () => {
    for (const text of ['\ud800', 'a\udc00b', '\udc00\ud800', '/k/\ud83d']) {
      assert.equal(typeof range({ key: text }), 'string', JSON.stringify(text))
    }
    assert.deepEqual(range({ key: '😀' }), { from: keyFromText('😀'), to: `${keyFromText('😀')}\0` })
  })
})

describe('server frames', () => {
  it('I10: any text is a frame or nothing', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        const frame = decodeServerFrame(text)
        if (frame !== undefined) assert.equal(typeof frame.type, 'string')
      }),
    )
  })
})
