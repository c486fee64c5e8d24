// Every frame this gateway makes, against the published schemas; and every frame a stranger may send, against its patience.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { keyFromText, prefixEnd } from '#protocol/bytes.ts'
import type { ServerFrame } from '#protocol/frames.ts'
import { schemaName, schemas } from '#protocol/schema/asyncapi.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { startGateway } from '../../integration/gateway-session/gateway.ts'
import { FakeWire, policyOf, Rig } from '../../unit/gateway-session/rig.ts'

const ajv = new Ajv2020({ strict: false, allErrors: true })
ajv.addSchema({ $id: 'deltawatch', components: { schemas: schemas() } })

function validate(frame: ServerFrame): void {
  const name = schemaName('server', frame.type)
  const check = ajv.getSchema(`deltawatch#/components/schemas/${name}`)
  assert.ok(check !== undefined, `no schema for ${frame.type}`)
  assert.ok(check(frame) === true, `${JSON.stringify(frame).slice(0, 300)}: ${ajv.errorsText(check.errors)}`)
}

test('S1: every frame of delivery validates: snapshots, events, differences, resyncs, scopes, bookmarks, of any keys and values', async () => {
  const seen = new Set<string>()
  const text = fc.oneof(fc.string({ maxLength: 12 }), fc.constantFrom('a', 'b'))
  const value = fc.oneof(fc.json(), fc.string({ unit: 'binary', maxLength: 30 }), fc.uint8Array({ maxLength: 30 }))
  const write = fc.oneof(
    fc.record({ put: text.map((t) => `/k/${t}`), value, withheld: fc.option(fc.string(), { nil: undefined }) }),
    fc.record({ delete: text.map((t) => `/k/${t}`) }),
  )
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(write, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 12 }),
      fc.constantFrom('log' as const, 'state' as const),
      async (all, mode) => {
        const sz = new FakeSource()
        using rig = new Rig(new FakeSources(sz), policyOf({}))
        const wire = new FakeWire()
        const subscriber = rig.connect(wire)
        const range = { from: keyFromText('/k/'), to: prefixEnd(keyFromText('/k/')) }
        const request = {
          id: 'w',
          clusters: '*',
          regions: undefined,
          start: 'snapshot',
          otherwise: 'snapshot',
          narrowed: undefined,
        } as const
        rig.delivery.open(subscriber, { range, mode, values: 'auto' }, request)
        for (const [i, writes] of all.entries()) {
          sz.commit(...(writes as never[]))
          if (i % 3 === 0) await rig.tick(1_100)
          if (i % 5 === 4) rig.pong(subscriber, wire)
        }
        sz.reset('epoch', [{ put: '/k/new', value: '1' }], { epoch: '00000000000000bb' })
        rig.policy = policyOf({ hidden: ['/k/a'] })
        const policyClass = rig.policy.classOf({
          subject: 's',
          region: 'sz',
          audiences: [],
          scopes: [],
          anonymous: false,
        })
        rig.pong(subscriber, wire)
        await rig.tick(1_100)
        rig.delivery.reclass(subscriber, policyClass as never, new Map())
        for (let i = 0; i < 5; i++) {
          await rig.tick(1_100)
          rig.pong(subscriber, wire)
        }
        for (const frame of wire.take()) {
          seen.add(frame.type)
          validate(frame)
        }
      },
    ),
    { numRuns: 60 },
  )
  for (const type of ['watching', 'snapshot', 'events', 'resync', 'scope', 'bookmark'])
    assert.ok(seen.has(type), `${type} was never made`)
})

test('S1: every frame of a session validates, and the document is served', async () => {
  const sz = new FakeSource()
  await using gateway = await startGateway({ sources: new FakeSources(sz), limits: { heartbeatMs: 300 } })
  const client = await gateway.client({ hello: false })
  const seen = new Set<string>()
  client.ws.on('message', (data: Buffer) => {
    const frame = JSON.parse(data.toString()) as ServerFrame
    seen.add(frame.type)
    validate(frame)
  })
  client.send({ type: 'hello', client: 'c', versions: [1] })
  await client.next('welcome')
  await client.snapshot({ id: 'w', prefix: '/' })
  client.send({ type: 'ping' })
  await client.next('pong')
  client.send({ type: 'auth', token: 'dev:anonymous:sz' })
  await client.next('authed')
  client.send({ type: 'auth', token: 'dev:anna:sz' })
  await client.next('error')
  sz.setState('lagging')
  await client.next('cluster')
  client.send({ type: 'unwatch', id: 'w' })
  await client.next('unwatched')
  await client.next('heartbeat')
  await gateway.front.drain(AbortSignal.timeout(500))
  await client.next('goodbye')
  await client.closed
  for (const type of ['welcome', 'pong', 'authed', 'error', 'cluster', 'unwatched', 'heartbeat', 'goodbye'])
    assert.ok(seen.has(type), type)
  const { status, body } = await gateway.get('/v1/asyncapi.json')
  assert.equal(status, 200)
  assert.equal((JSON.parse(body) as { asyncapi: string }).asyncapi, '3.0.0')
})

test('I10: no frame of a stranger crashes anything: each is answered, refused by code, or closes by code', {
  timeout: 60_000,
}, async () => {
  const sz = new FakeSource()
  await using gateway = await startGateway({
    sources: new FakeSources(sz),
    limits: { inboundBurst: 1e6, inboundPerSecond: 1e6 },
  })
  const field = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom('w', '*', 'snapshot', 'now', 'dw1.', '', 'log', 'state', 'none'),
  )
  const watch = fc.dictionary(
    fc.constantFrom(
      'id',
      'clusters',
      'regions',
      'key',
      'prefix',
      'from',
      'to',
      'keyBase64',
      'toBase64',
      'start',
      'default',
      'mode',
      'values',
      '__proto__',
    ),
    field,
  )
  const frame = fc.oneof(
    fc.jsonValue().map((v) => JSON.stringify(v)),
    fc.string(),
    watch.map((f) => JSON.stringify({ ...f, type: 'watch' })),
    fc
      .record({
        type: fc.constantFrom('hello', 'unwatch', 'auth', 'ping', 'welcome', 'events'),
        id: field,
        token: field,
        versions: field,
      })
      .map((f) => JSON.stringify(f)),
  )
  let client = await gateway.client()
  await fc.assert(
    fc.asyncProperty(fc.array(frame, { minLength: 1, maxLength: 6 }), async (frames) => {
      if (client.ws.readyState !== client.ws.OPEN) client = await gateway.client()
      for (const text of frames) client.send(text)
      client.send({ type: 'ping' })
      await Promise.race([client.next('pong').catch(() => undefined), client.closed])
      if (client.ws.readyState === client.ws.CLOSED) {
        const { code } = await client.closed
        assert.ok([4000, 4003].includes(code), `closed with ${code}`)
      }
      if (client.ws.readyState === client.ws.OPEN) client.send({ type: 'unwatch', id: 'w' })
    }),
    { numRuns: 150 },
  )
  const good = await gateway.client()
  await good.snapshot({ id: 'fine', prefix: '/' })
  sz.commit({ put: '/a', value: '1' })
  await good.next('events')
})
