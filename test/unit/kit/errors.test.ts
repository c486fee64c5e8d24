// What kit/errors.ts promises: stable codes, and messages that can be shown to anyone.

import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { DeltawatchError, errorCode, errorMessage, redactText } from '#kit/errors.ts'

class SampleError extends DeltawatchError {}

test('an error carries its code, cause and class name', () => {
  const cause = new Error('inner')
  const e = new SampleError('DW_SAMPLE', 'outer', { cause })
  assert.equal(e.code, 'DW_SAMPLE')
  assert.equal(e.name, 'SampleError')
  assert.equal(e.cause, cause)
  assert.ok(e instanceof DeltawatchError && e instanceof Error)
})

test('errorCode finds a short stable word for anything that can be thrown', async () => {
  const refused = await new Promise<Error>((resolve) => connect(1, '127.0.0.1').on('error', resolve))
  const grpc = Object.assign(new Error('14 UNAVAILABLE: no connection'), { code: 14 })
  const cases: [unknown, string][] = [
    [new SampleError('DW_SAMPLE', 'x'), 'DW_SAMPLE'],
    [refused, 'ECONNREFUSED'],
    [grpc, 'GRPC_14'],
    [AbortSignal.abort().reason, 'ABORTED'],
    [new DOMException('late', 'TimeoutError'), 'TIMEOUT'],
    [new TypeError('x'), 'TypeError'],
    [Object.assign(new Error('x'), { code: 'has spaces and: secrets' }), 'Error'],
    [Object.assign(new Error('x'), { code: 4711 }), 'Error'],
    ['text', 'UNKNOWN'],
    [undefined, 'UNKNOWN'],
    [null, 'UNKNOWN'],
  ]
  for (const [thrown, code] of cases) assert.equal(errorCode(thrown), code)
})

test('errorMessage appends causes once, bounds the depth and the length, and never returns nothing', () => {
  const deep = new Error('a', {
    cause: new Error('b', { cause: new Error('c', { cause: new Error('d', { cause: new Error('e') }) }) }),
  })
  assert.equal(errorMessage(deep), 'a: b: c: d')
  assert.equal(errorMessage(new Error('dial failed: refused', { cause: new Error('refused') })), 'dial failed: refused')
  assert.equal(errorMessage(new AggregateError([new Error('v4 down'), new Error('v6 down')], '')), 'v4 down, v6 down')
  assert.ok(errorMessage(new Error('x'.repeat(10_000))).length <= 501)
  for (const odd of [undefined, null, 7, {}, new Error('')]) assert.notEqual(errorMessage(odd), '')
  const circular = new Error('loop')
  circular.cause = circular
  assert.equal(errorMessage(circular), 'loop')
})

test('no credential survives in a message', () => {
  const secrets: [string, string][] = [
    ['connect nats://alice:hunter2@hub:4222 failed', 'hunter2'],
    ['Authorization: Bearer abc.def-123', 'abc.def-123'],
    ['basic dXNlcjpwYXNz refused', 'dXNlcjpwYXNz'],
    ['token eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.sig is expired', 'eyJzdWIiOiJ4In0'],
    ['bad option password=hunter2, retry', 'hunter2'],
    ['{"password":"hunter2"}', 'hunter2'],
    ['GET /v1/watch?ticket=T0pSecret&x=1', 'T0pSecret'],
  ]
  for (const [text, secret] of secrets) {
    assert.ok(!redactText(text).includes(secret), redactText(text))
    assert.ok(!errorMessage(new Error('outer', { cause: new Error(text) })).includes(secret))
  }
})

test('redacting keeps what an operator needs', () => {
  assert.equal(redactText('connect nats://a:b@hub.example:4222 failed'), 'connect nats://***@hub.example:4222 failed')
  assert.equal(redactText('key /config/feature at revision 812'), 'key /config/feature at revision 812')
})

test('a message is always one line without control characters', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
      assert.doesNotMatch(errorMessage(new Error(text)), /\p{Cc}/u)
    }),
  )
})
