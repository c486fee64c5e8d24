// Connections that are full: what they must be told all the same, and what they may cost.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { startGateway, type TestGateway } from './gateway.ts'

/** Polls a metric until it satisfies; fails with the last value. */
async function metric(gateway: TestGateway, name: string, test: (value: number) => boolean): Promise<number> {
  const deadline = performance.now() + 10_000
  for (;;) {
    const value = await gateway.metric(name)
    if (test(value)) return value
    assert.ok(performance.now() < deadline, `${name} is ${value}`)
    await wait(20)
  }
}

/** An event stream that sends its request and never reads the answer. */
async function stream({ port }: TestGateway): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port })
  socket.on('error', () => undefined)
  socket.pause()
  await once(socket, 'connect')
  socket.write(`GET /v1/events?cluster=sz-edge-1&prefix=/&start=now HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`)
  return socket
}

test('I9 S10: a full connection is told of the newest state of each cluster once it has room', {
  timeout: 30_000,
}, async () => {
  const sz = new FakeSource({ ring: 5_000 })
  const gz = new FakeSource({ cluster: 'gz-edge-1', region: 'gz' })
  const mo = new FakeSource({ cluster: 'mo-edge-1', region: 'mo' })
  const sources = new FakeSources(sz, gz, mo)
  await using gateway = await startGateway({
    sources,
    limits: { maxInFlight: 64 * 1024, markBytes: 16 * 1024, slowReaderMs: 60_000 },
  })
  const client = await gateway.client()
  await client.snapshot({ id: 'w', prefix: '/' })
  client.ws.pause()
  for (let i = 0; i < 200; i++) {
    sz.commit({ put: `/k/${i % 20}`, value: 'x'.repeat(500) })
    await wait(1)
  }
  assert.ok((await gateway.metric('deltawatch_bytes_in_flight')) > 60_000)
  // Notices are small: these fill the rest of the room.
  for (let i = 0; i < 40; i++) mo.setState(i % 2 === 0 ? 'unreachable' : 'live')
  gz.setState('unreachable')
  sources.remove(gz)
  mo.setState('lagging')
  client.ws.resume()
  const told = new Map<string, string[]>()
  while (told.get('gz-edge-1')?.at(-1) !== 'removed' || told.get('mo-edge-1')?.at(-1) !== 'lagging') {
    const frame = await client.next('cluster')
    told.set(frame.cluster, [...(told.get(frame.cluster) ?? []), frame.state])
  }
  assert.deepEqual(told.get('gz-edge-1'), ['removed'], 'what was overtaken is not told')
})

test('I8: event streams nobody reads share the byte budget of all', { timeout: 60_000 }, async () => {
  const sz = new FakeSource({ ring: 5_000 })
  const maxBytesInFlight = 2 * 1024 * 1024
  await using gateway = await startGateway({
    sources: new FakeSources(sz),
    limits: { maxInFlight: 256 * 1024, maxBytesInFlight, slowReaderMs: 60_000 },
  })
  const sockets: Socket[] = []
  for (let i = 0; i < 60; i++) sockets.push(await stream(gateway))
  await metric(gateway, 'deltawatch_sessions_opened_total', (value) => value >= 60)
  for (let i = 0; i < 4_000; i++) {
    sz.commit({ put: `/k/${i % 20}`, value: 'z'.repeat(2_000) })
    if (i % 50 === 0) await wait(1)
  }
  const used = await metric(gateway, 'deltawatch_bytes_in_flight', (value) => value > maxBytesInFlight * 0.7)
  assert.ok(used <= maxBytesInFlight + 256 * 1024, `${used} bytes in flight`)
  for (const socket of sockets) socket.destroy()
  await metric(gateway, 'deltawatch_bytes_in_flight', (value) => value === 0)
})

test('X3: an event stream beyond what its subject may hold is answered, not cut off', { timeout: 20_000 }, async () => {
  await using gateway = await startGateway({
    sources: new FakeSources(new FakeSource()),
    limits: { maxPerSubject: 1 },
  })
  const first = await stream(gateway)
  await metric(gateway, 'deltawatch_sessions_opened_total', (value) => value === 1)
  const refused = await gateway.get('/v1/events?cluster=sz-edge-1&prefix=/&start=now')
  assert.equal(refused.status, 429)
  assert.match(refused.headers['content-type'] as string, /problem\+json/)
  first.destroy()
})
