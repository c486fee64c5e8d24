// The published schemas and the AsyncAPI document, against the types, the decoder and the tables they describe.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Close, ErrorCode } from '#protocol/codes.ts'
import { decodeClientFrame } from '#protocol/decode.ts'
import { asyncApi } from '#protocol/schema/asyncapi.ts'
import { CLIENT_FRAMES } from '#protocol/schema/client-frames.ts'
import { SERVER_FRAMES } from '#protocol/schema/server-frames.ts'
import { clientFrameArb, serverFrameArb } from '../../unit/protocol/frames.ts'
import { frameFault } from './frame-schemas.ts'

const document = asyncApi({ host: '127.0.0.1:7400', secure: false, productVersion: '0.0.0' })
type Json = Readonly<Record<string, unknown>>
const resolve = (ref: string): unknown =>
  ref
    .slice(2)
    .split('/')
    .reduce<unknown>((node, name) => (node as Json | undefined)?.[name], document)
const refsOf = (node: unknown): string[] => {
  if (typeof node !== 'object' || node === null) return []
  return Object.entries(node).flatMap(([name, value]) =>
    name === '$ref' && typeof value === 'string' ? [value] : refsOf(value),
  )
}

describe('published schemas', () => {
  it('S1: every frame the types allow validates', () => {
    fc.assert(
      fc.property(serverFrameArb, (frame) =>
        assert.equal(frameFault('server', JSON.parse(JSON.stringify(frame))), undefined),
      ),
      { numRuns: 3000 },
    )
    fc.assert(
      fc.property(clientFrameArb, (frame) =>
        assert.equal(frameFault('client', JSON.parse(JSON.stringify(frame))), undefined),
      ),
      { numRuns: 1000 },
    )
  })

  it('S1: a server frame without one of its fields, with a foreign one, or of another type, does not', () => {
    fc.assert(
      fc.property(serverFrameArb, fc.nat(), (frame, pick) => {
        const schema = SERVER_FRAMES[frame.type] as { readonly required?: readonly string[] }
        const required = (schema.required ?? []).filter((name) => name !== 'type')
        const name = required[pick % Math.max(1, required.length)]
        if (name !== undefined) {
          const { [name as keyof typeof frame]: _, ...rest } = frame
          assert.notEqual(frameFault('server', rest), undefined, `without ${name}`)
          assert.notEqual(frameFault('server', { ...frame, [name]: { odd: true } }), undefined, `odd ${name}`)
        }
        assert.notEqual(frameFault('server', { ...frame, surprise: 1 }), undefined, 'a foreign field')
        assert.notEqual(frameFault('server', { ...frame, type: 'novelty' }), undefined)
      }),
      { numRuns: 1000 },
    )
  })

  it('V4: an event has one key and at most one value, an item likewise; revisions are never numbers', () => {
    const events = (event: object) => ({
      type: 'events',
      ch: 1,
      cluster: 'sz',
      epoch: '0011223344556677',
      revision: '5',
      events: [event],
    })
    const put = { op: 'put', key: '/a', text: 'x' }
    assert.equal(frameFault('server', events(put)), undefined)
    for (const wrong of [
      { ...put, keyBase64: 'YQ==' },
      { op: 'put', text: 'x' },
      { ...put, base64: 'eA==' },
      { ...put, json: {} },
      { ...put, json: 7, text: undefined },
      { ...put, withheld: 'r' },
      { op: 'delete', key: '/a', text: 'x' },
      { op: 'leave' },
      { ...put, version: 3 },
      { ...put, keyBase64: 'YQ', key: undefined },
    ]) {
      assert.notEqual(frameFault('server', JSON.parse(JSON.stringify(events(wrong)))), undefined, JSON.stringify(wrong))
    }
    assert.notEqual(frameFault('server', { ...events(put), revision: 5 }), undefined)
    assert.notEqual(frameFault('server', { ...events(put), revision: '05' }), undefined)
    assert.notEqual(frameFault('server', { ...events(put), events: [] }), undefined)
  })

  it('S2: what the schema of a client frame refuses for its shape, the decoder refuses too', () => {
    const fields = [
      'id',
      'clusters',
      'regions',
      'key',
      'prefix',
      'from',
      'to',
      'start',
      'default',
      'mode',
      'values',
      'client',
      'versions',
      'token',
    ]
    const damage = fc.tuple(fc.constantFrom(...fields), fc.jsonValue())
    fc.assert(
      fc.property(clientFrameArb, damage, (frame, [name, value]) => {
        const changed = JSON.parse(JSON.stringify({ ...frame, [name]: value })) as Json
        if (decodeClientFrame(JSON.stringify(changed)).ok) assert.equal(frameFault('client', changed), undefined)
      }),
      { numRuns: 3000 },
    )
  })
})

describe('AsyncAPI document', () => {
  it('S1: names every frame once as a message of one direction, and every reference leads somewhere', () => {
    const refs = refsOf(document)
    assert.ok(refs.length > 50)
    for (const ref of refs) assert.notEqual(resolve(ref), undefined, ref)
    const operations = document.operations as Readonly<Record<string, { readonly messages: readonly unknown[] }>>
    assert.equal(operations.fromClient?.messages.length, Object.keys(CLIENT_FRAMES).length)
    assert.equal(operations.toClient?.messages.length, Object.keys(SERVER_FRAMES).length)
    const typed = [...Object.entries(CLIENT_FRAMES), ...Object.entries(SERVER_FRAMES)]
    for (const [type, schema] of typed) assert.ok(JSON.stringify(schema).includes(`{"const":"${type}"}`), type)
  })

  it('X1: carries every close and error code', () => {
    const { watch } = document.channels as { readonly watch: Readonly<Record<string, readonly Json[]>> }
    assert.deepEqual(
      watch['x-close-codes']?.map((c) => c.code),
      Object.values(Close).map((c) => c.code),
    )
    assert.deepEqual(
      watch['x-error-codes']?.map((c) => c.code),
      Object.values(ErrorCode).map((c) => `DW${c.code}`),
    )
  })

  it('S1: is plain JSON', () => {
    assert.deepEqual(JSON.parse(JSON.stringify(document)), document)
  })
})
