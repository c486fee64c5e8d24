// Peers that are broken, slow or mean. Each gets its code, each is counted, and nobody else notices.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { devAuthenticator } from '#gateway/auth/dev.ts'
import type { Authenticator } from '#gateway/auth/principal.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { Client, clientFrame, rawUpgrade, startGateway, type TestGateway } from './gateway.ts'

const disconnects = (gateway: TestGateway, code: string): Promise<number> =>
  gateway.metric('deltawatch_disconnect_total', { code })
/** A reset is a close as well. */
const closeOf = (socket: Socket): Promise<void> => new Promise((resolve) => socket.once('close', () => resolve()))
const HELLO = Buffer.from(JSON.stringify({ type: 'hello', client: 'h', versions: [1] }))

/** Someone well-behaved is served while the others do what they do. */
async function proveService(gateway: TestGateway, sz: FakeSource): Promise<void> {
  const good = await gateway.client()
  await good.snapshot({ id: 'w', prefix: '/' })
  sz.commit({ put: '/good', value: 'news' })
  await good.next('events')
}

test('an unknown or missing subprotocol is refused at the upgrade', async () => {
  await using gateway = await startGateway({ sources: new FakeSources(new FakeSource()) })
  await assert.rejects(new Client(new WebSocket(gateway.url, ['chat'])).opened, /400/)
  await assert.rejects(new Client(new WebSocket(gateway.url)).opened, /400/)
  assert.equal(await gateway.metric('deltawatch_connections_refused_total', { code: '400' }), 2)
})

test('a foreign Origin and a foreign Host are refused, in dev mode too', async () => {
  await using gateway = await startGateway({ sources: new FakeSources(new FakeSource()) })
  for (const headers of [
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { host: 'evil.example' },
    { host: `evil.example:${gateway.port}`, origin: `http://evil.example:${gateway.port}` },
  ]) {
    await assert.rejects(gateway.client({ headers }), /403/, JSON.stringify(headers))
  }
  await gateway.client({ headers: { origin: `http://127.0.0.1:${gateway.port}` } })
  await gateway.client({ headers: { origin: 'http://localhost:5173' } })
  assert.equal(await gateway.metric('deltawatch_connections_refused_total', { code: 'Forbidden' }), 4)
})

test('before hello: another frame closes with 4002, garbage with 4000, silence with 4102, no common version with 4001', async () => {
  await using gateway = await startGateway({
    sources: new FakeSources(new FakeSource()),
    limits: { helloTimeoutMs: 300 },
  })
  const early = await gateway.client({ hello: false })
  early.send({ type: 'ping' })
  assert.equal((await early.closed).code, 4002)
  const garbage = await gateway.client({ hello: false })
  garbage.send('{"type"')
  assert.equal((await garbage.closed).code, 4000)
  const old = await gateway.client({ hello: false })
  old.send({ type: 'hello', client: 'x', versions: [99] })
  assert.equal((await old.closed).code, 4001)
  const silent = await gateway.client({ hello: false })
  assert.equal((await silent.closed).code, 4102)
  assert.equal(await disconnects(gateway, 'HelloTimeout'), 1)
})

test('after hello: an unknown type is an error, broken JSON and binary close with 4000', async () => {
  await using gateway = await startGateway({ sources: new FakeSources(new FakeSource()) })
  const client = await gateway.client()
  client.send({ type: 'dance' })
  assert.equal((await client.next('error')).code, 'DW4010')
  client.watch({ id: 'w', prefix: 'a', key: 'b' })
  assert.equal((await client.next('error')).code, 'DW4011')
  client.send({ type: 'watch', id: 'w', prefix: 'a', start: 'snapshot', prefx: 'b' })
  assert.equal((await client.next('error')).code, 'DW4000')
  client.send({ type: 'ping' })
  await client.next('pong')
  client.send('[1,2')
  assert.equal((await client.closed).code, 4000)
  const binary = await gateway.client()
  binary.ws.send(Buffer.from([1, 2, 3]))
  assert.equal((await binary.closed).code, 4000)
})

test('a frame announced as 100 MiB is refused by its header, a message above 64 KiB by its length', async () => {
  const sz = new FakeSource()
  await using gateway = await startGateway({ sources: new FakeSources(sz) })
  const socket = await rawUpgrade(gateway.port)
  const gone = closeOf(socket)
  socket.write(clientFrame(1, Buffer.from('{'), { announce: 100 * 1024 * 1024 }))
  await gone
  const client = await gateway.client()
  client.send(`{"type":"ping","x":"${'y'.repeat(70_000)}"}`)
  assert.equal((await client.closed).code, 1009)
  assert.equal(await disconnects(gateway, 'FrameTooLarge'), 2)
  await proveService(gateway, sz)
})

test('fragments: one byte each is fine up to the bound, and ends the connection beyond it', async () => {
  const sz = new FakeSource()
  await using gateway = await startGateway({ sources: new FakeSources(sz), limits: { maxFragments: 64 } })
  const slow = await rawUpgrade(gateway.port)
  const parts = Array.from({ length: 10 }, (_, i) =>
    HELLO.subarray((i * HELLO.length) / 10, ((i + 1) * HELLO.length) / 10),
  )
  for (const [i, part] of parts.entries())
    slow.write(clientFrame(i === 0 ? 1 : 0, part, { fin: i === parts.length - 1 }))
  const [welcome] = (await once(slow, 'data')) as [Buffer]
  assert.match(welcome.toString(), /"type":"welcome"/)
  slow.destroy()
  const many = await rawUpgrade(gateway.port)
  const gone = closeOf(many)
  for (let i = 0; i < 100; i++) many.write(clientFrame(i === 0 ? 1 : 0, Buffer.from('x'), { fin: false }))
  await gone
  assert.equal(await disconnects(gateway, 'FrameTooLarge'), 1)
  await proveService(gateway, sz)
})

test('a flood of pings or frames closes with 4100', async () => {
  const sz = new FakeSource()
  await using gateway = await startGateway({
    sources: new FakeSources(sz),
    limits: { inboundPerSecond: 10, inboundBurst: 50 },
  })
  const pinging = await gateway.client()
  for (let i = 0; i < 200; i++) pinging.ws.ping()
  assert.equal((await pinging.closed).code, 4100)
  const talking = await gateway.client()
  for (let i = 0; i < 200; i++) talking.send({ type: 'ping' })
  assert.equal((await talking.closed).code, 4100)
  const ponging = await gateway.client()
  for (let i = 0; i < 200; i++) ponging.ws.pong('stray')
  assert.equal((await ponging.closed).code, 4100)
  assert.equal(await disconnects(gateway, 'InboundRate'), 3)
  await proveService(gateway, sz)
})

test('a thousand watches: the limit is told by code and the connection lives on', async () => {
  await using gateway = await startGateway({
    sources: new FakeSources(new FakeSource()),
    limits: { maxWatches: 32, inboundPerSecond: 5_000, inboundBurst: 5_000 },
  })
  const client = await gateway.client()
  for (let i = 0; i < 1_000; i++) client.watch({ id: `w${i}`, prefix: `/${i}/`, start: 'now' })
  let refused = 0
  for (let i = 0; i < 968; i++) {
    const { code } = await client.next('error')
    if (code === 'DW4007') refused++
  }
  assert.equal(refused, 968)
  assert.equal(await gateway.metric('deltawatch_session_errors_total', { code: 'TooManyWatches' }), 968)
  assert.equal(gateway.front.delivery.channels.size, 32)
  client.ws.terminate()
  await client.closed
  while (gateway.front.delivery.channels.size > 0) await new Promise((resolve) => setImmediate(resolve))
})

test('connections per address, per subject, unauthenticated and in total are bounded, and given back', async () => {
  const sources = new FakeSources(new FakeSource())
  {
    await using gateway = await startGateway({ sources, limits: { maxPerAddress: 2 } })
    const first = await gateway.client()
    await gateway.client()
    await assert.rejects(gateway.client(), /429/)
    assert.equal(await gateway.metric('deltawatch_connections_refused_total', { code: 'TooManyConnections' }), 1)
    first.ws.terminate()
    await first.closed
    while (gateway.front.admissions.total > 1) await new Promise((resolve) => setImmediate(resolve))
    await gateway.client()
  }
  {
    await using gateway = await startGateway({ sources, limits: { maxConnections: 2 } })
    await gateway.client()
    await gateway.client()
    await assert.rejects(gateway.client(), /503/)
    assert.equal(await gateway.metric('deltawatch_connections_refused_total', { code: 'TooManyConnections' }), 1)
    // Who only asks for its health is still answered.
    assert.equal((await gateway.get('/readyz')).status, 200)
  }
  {
    await using gateway = await startGateway({ sources, limits: { maxPerSubject: 1 } })
    await gateway.client({ token: 'dev:anna:sz' })
    await gateway.client({ token: 'dev:bert:sz' })
    const second = await gateway.client({ hello: false })
    second.send({ type: 'hello', client: 'x', versions: [1], token: 'dev:anna:sz' })
    assert.equal((await second.closed).code, 4101)
    assert.equal(await disconnects(gateway, 'TooManyConnections'), 1)
  }
  {
    await using gateway = await startGateway({ sources, limits: { maxUnauthenticated: 1 } })
    const stranger = await gateway.client({ hello: false })
    await assert.rejects(gateway.client({ hello: false }), /503/)
    assert.equal(await gateway.metric('deltawatch_connections_refused_total', { code: 'Overloaded' }), 1)
    stranger.send({ type: 'hello', client: 'x', versions: [1] })
    await stranger.next('welcome')
    await gateway.client()
  }
  {
    await using gateway = await startGateway({ sources, limits: { maxUnauthenticatedPerAddress: 1 } })
    await gateway.client({ hello: false })
    await assert.rejects(gateway.client({ hello: false }), /429/)
    assert.equal(await gateway.metric('deltawatch_connections_refused_total', { code: 'TooManyConnections' }), 1)
  }
  {
    await using gateway = await startGateway({ sources, limits: { connectsPerSecond: 2 } })
    await gateway.client()
    await gateway.client()
    await assert.rejects(gateway.client(), /503/)
    assert.equal(await gateway.metric('deltawatch_connections_refused_total', { code: 'Overloaded' }), 1)
  }
})

test('headers that never end do not hold a connection', { timeout: 30_000 }, async () => {
  const sources = new FakeSources(new FakeSource())
  await using gateway = await startGateway({ sources, limits: { headersTimeoutMs: 500 } })
  const socket = connect({ host: '127.0.0.1', port: gateway.port })
  socket.on('error', () => undefined)
  socket.write('GET /v1/watch HTTP/1.1\r\nHost: 127.0.0.1\r\n')
  const drip = setInterval(() => socket.write('X-A: b\r\n'), 200)
  socket.resume()
  await closeOf(socket)
  clearInterval(drip)
  assert.equal(await gateway.metric('deltawatch_connections_refused_total', { code: '408' }), 1)
  const large = await gateway.get('/readyz', { 'x-large': 'y'.repeat(20_000) })
  assert.equal(large.status, 431)
  assert.equal(await gateway.metric('deltawatch_connections_refused_total', { code: '431' }), 1)
})

test('frames that pile up while a token is checked end the connection', async () => {
  const { promise, resolve } = Promise.withResolvers<void>()
  const dev = devAuthenticator('sz')
  const authenticator: Authenticator = {
    ...dev,
    authenticate: async (token) => {
      await promise
      return dev.authenticate(token)
    },
  }
  const sources = new FakeSources(new FakeSource())
  await using gateway = await startGateway({ sources, authenticator, limits: { maxBacklog: 8 } })
  const client = await gateway.client({ hello: false })
  client.send(HELLO.toString())
  for (let i = 0; i < 9; i++) client.send({ type: 'ping' })
  assert.equal((await client.closed).code, 4100)
  assert.equal(await disconnects(gateway, 'InboundRate'), 1)
  resolve()
})

test('a peer that does not answer a close is cut off after its time', { timeout: 20_000 }, async () => {
  const sources = new FakeSources(new FakeSource())
  await using gateway = await startGateway({ sources, limits: { closeTimeoutMs: 400, helloTimeoutMs: 200 } })
  const socket = await rawUpgrade(gateway.port)
  socket.resume()
  const began = performance.now()
  await closeOf(socket)
  assert.ok(performance.now() - began < 3_000)
  assert.equal(await disconnects(gateway, 'HelloTimeout'), 1)
})

test('half-open peers are found by pings nobody answers', { timeout: 20_000 }, async () => {
  await using gateway = await startGateway({
    sources: new FakeSources(new FakeSource()),
    limits: { heartbeatMs: 300, slowReaderMs: 600 },
  })
  const alive = await gateway.client()
  const socket = await rawUpgrade(gateway.port)
  socket.write(clientFrame(1, HELLO))
  socket.resume()
  await closeOf(socket)
  assert.equal(await disconnects(gateway, 'HeartbeatTimeout'), 1)
  assert.equal(alive.ws.readyState, WebSocket.OPEN)
  await alive.next('heartbeat')
})

test('a connection ends at its lifetime with the cursor in hand', async () => {
  await using gateway = await startGateway({
    sources: new FakeSources(new FakeSource()),
    limits: { maxLifetimeMs: 800 },
  })
  const client = await gateway.client()
  await client.snapshot({ id: 'w', prefix: '/' })
  await client.next('bookmark')
  assert.equal((await client.next('goodbye')).code, 4202)
  assert.equal((await client.closed).code, 4202)
})

test('more classes than policy may distinguish: told by code, and counted', async () => {
  await using gateway = await startGateway({ sources: new FakeSources(new FakeSource()) })
  gateway.policy.current = { ...gateway.policy.current, classOf: () => undefined }
  const client = await gateway.client({ hello: false })
  client.send(HELLO.toString())
  assert.equal((await client.next('error')).code, 'DW4018')
  assert.equal((await client.closed).code, 4103)
  assert.equal(await gateway.metric('deltawatch_session_errors_total', { code: 'TooManyClasses' }), 1)
})
