// W3C trace context: what is accepted, what is refused, and the way through a header map.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { seededRandom } from '#kit/random.ts'
import { childTrace, extractTrace, formatTraceparent, injectTrace, newTrace, parseTraceparent } from '#kit/tracing.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const SPAN = '00f067aa0ba902b7'

test('a valid header is read; its flags decide sampling', () => {
  assert.deepEqual(parseTraceparent(`00-${TRACE}-${SPAN}-01`), { traceId: TRACE, spanId: SPAN, sampled: true })
  assert.equal(parseTraceparent(`00-${TRACE}-${SPAN}-02`)?.sampled, false)
  assert.equal(parseTraceparent(`cc-${TRACE}-${SPAN}-01-later`)?.traceId, TRACE, 'later versions may append fields')
})

test('anything malformed means no trace', () => {
  const bad = [
    undefined,
    null,
    '',
    'x',
    `00-${TRACE}-${SPAN}`,
    `00-${TRACE}-${SPAN}-01-extra`,
    `ff-${TRACE}-${SPAN}-01`,
    `00-${'0'.repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
  ]
  for (const header of bad) assert.equal(parseTraceparent(header), undefined, String(header))
})

test('parsing never throws and formatting is its inverse', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void parseTraceparent(text)))
  fc.assert(
    fc.property(fc.integer(), fc.boolean(), (seed, sampled) => {
      const trace = newTrace(seededRandom(seed), sampled)
      assert.deepEqual(parseTraceparent(formatTraceparent(trace)), trace)
    }),
  )
})

test('a context crosses a header map; without one nothing is written', () => {
  const headers = new Headers()
  injectTrace(undefined, headers)
  assert.equal([...headers].length, 0)
  const parent = newTrace(seededRandom(1))
  const child = childTrace(parent, seededRandom(2))
  injectTrace(child, headers)
  assert.deepEqual(extractTrace(headers), child)
  assert.equal(child.traceId, parent.traceId)
  assert.notEqual(child.spanId, parent.spanId)
})

test('ids are never all zero', () => {
  let calls = 0
  const random = { next: () => 0, bytes: (n: number) => new Uint8Array(n).fill(calls++ === 0 ? 0 : 1) }
  assert.equal(newTrace(random).traceId, '01'.repeat(16))
})
