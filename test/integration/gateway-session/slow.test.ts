// Readers that do not read: they cost a bounded number of bytes, kernel buffers included, and harm nobody.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { FoldingClient } from '../../model/gateway-session/folding-client.ts'
import { type Client, clientFrame, rawUpgrade, startGateway, type TestGateway } from './gateway.ts'

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const HELLO = { type: 'hello', client: 'stalled', versions: [1] }

/** Says hello, watches, and never reads again. */
async function stall(gateway: TestGateway, watch: object): Promise<Socket> {
  const socket = await rawUpgrade(gateway.port)
  socket.pause()
  for (const frame of [HELLO, { type: 'watch', id: 'w', start: 'now', ...watch }])
    socket.write(clientFrame(1, Buffer.from(JSON.stringify(frame))))
  return socket
}

const closeOf = (socket: Socket): Promise<void> => new Promise((resolve) => socket.once('close', () => resolve()))

/** Pages of TCP memory, whole machine. */
async function tcpPages(): Promise<number> {
  const text = await readFile('/proc/net/sockstat', 'utf8')
  return Number(/TCP: .*mem (\d+)/.exec(text)?.[1] ?? 0)
}

async function received(client: Client, fold: FoldingClient, until: bigint): Promise<void> {
  for (;;) {
    for (let frame = client.frames.shift(); frame !== undefined; frame = client.frames.shift()) fold.receive(frame)
    if ((fold.clusters.get('sz-edge-1')?.position?.revision ?? 0n) >= until) return
    await pause(5)
  }
}

test('I8: forty stalled readers hold at most maxInFlight each, a healthy one gets everything, the stalled are reset and counted', {
  timeout: 60_000,
}, async () => {
  const sz = new FakeSource({ ring: 200 })
  const maxInFlight = 64 * 1024
  await using gateway = await startGateway({
    sources: new FakeSources(sz),
    limits: { maxInFlight, markBytes: 16 * 1024, slowReaderMs: 2_500, heartbeatMs: 60_000 },
  })
  const healthy = await gateway.client()
  const fold = new FoldingClient()
  healthy.watch({ id: 'w', prefix: '/' })
  const stalled = await Promise.all(Array.from({ length: 40 }, () => stall(gateway, { prefix: '/' })))
  await received(healthy, fold, 1n)
  const before = await tcpPages()
  const value = 'x'.repeat(2_000)
  for (let i = 0; i < 1_500; i++) {
    sz.commit({ put: `/k/${i % 50}`, value })
    if (i % 10 === 0) await pause(1)
  }
  // 3 MB for each of 40 readers would be 120 MB; at most 64 KiB each may be under way.
  let budget = 0
  for (const until = performance.now() + 2_000; budget < 20 * maxInFlight * 0.5 && performance.now() < until; ) {
    await pause(10)
    budget = await gateway.metric('deltawatch_bytes_in_flight')
    assert.ok(budget <= 41 * maxInFlight, `${budget} bytes in flight`)
  }
  assert.ok(budget >= 20 * maxInFlight * 0.5, `only ${budget} bytes in flight: the readers were not stalled`)
  const grown = ((await tcpPages()) - before) * 4096
  assert.ok(grown < 40 * 4 * maxInFlight, `the kernel holds ${grown} bytes more`)
  await received(healthy, fold, 1_501n)
  assert.ok((await gateway.metric('deltawatch_readers_blocked_total')) >= 40)
  await Promise.all(
    stalled.map((socket) => {
      const closed = closeOf(socket)
      // A reset is only noticed by an end that looks.
      setTimeout(() => socket.resume(), 3_500)
      return closed
    }),
  )
  assert.equal(await gateway.metric('deltawatch_disconnect_total', { code: 'SlowReader' }), 40)
  assert.equal(gateway.front.sessions.size, 1)
  assert.ok((await gateway.metric('deltawatch_bytes_in_flight')) <= maxInFlight)
})

for (const mode of ['log', 'state'] as const) {
  test(`I1 I2: a reader that stalls and reads again catches up (${mode}), beyond the ring by the log`, {
    timeout: 60_000,
  }, async () => {
    const sz = new FakeSource({ ring: 100 })
    await using gateway = await startGateway({
      sources: new FakeSources(sz),
      limits: { maxInFlight: 64 * 1024, markBytes: 16 * 1024, slowReaderMs: 60_000 },
    })
    const client = await gateway.client()
    const fold = new FoldingClient()
    client.watch({ id: 'w', prefix: '/', mode })
    await received(client, fold, 1n)
    client.ws.pause()
    for (let i = 0; i < 1_000; i++) {
      sz.commit({ put: `/k/${i % 20}`, value: `${i}${'y'.repeat(1_000)}` })
      if (i % 20 === 0) await pause(1)
    }
    client.ws.resume()
    await received(client, fold, 1_001n)
    const { state } = fold.fold('sz-edge-1')
    assert.equal(state.size, 20)
    for (let i = 980; i < 1_000; i++) assert.ok(state.get(`/k/${i % 20}`)?.value.startsWith(`${i}y`))
    assert.equal(fold.resyncs, 0)
    assert.ok(sz.replays > 0, 'the ring alone was enough: the test proves less than it says')
    if (mode === 'log') assert.equal(fold.seen.filter((seen) => seen.events.length > 0).length, 1_000)
  })
}

test('I8: the global byte budget caps everybody together, and a reader that reads gets on', {
  timeout: 60_000,
}, async () => {
  const sz = new FakeSource({ ring: 5_000 })
  const maxBytesInFlight = 512 * 1024
  await using gateway = await startGateway({
    sources: new FakeSources(sz),
    limits: { maxInFlight: 256 * 1024, markBytes: 32 * 1024, maxBytesInFlight, slowReaderMs: 60_000 },
  })
  const stalled = await Promise.all(Array.from({ length: 10 }, () => stall(gateway, { prefix: '/' })))
  await pause(100)
  for (let i = 0; i < 1_000; i++) sz.commit({ put: `/k/${i % 20}`, value: 'z'.repeat(1_000) })
  await pause(200)
  const used = await gateway.metric('deltawatch_bytes_in_flight')
  assert.ok(used <= maxBytesInFlight + 4096, `${used} bytes in flight`)
  assert.ok(used >= maxBytesInFlight * 0.7, `only ${used} bytes in flight`)
  for (const socket of stalled) socket.destroy()
  const client = await gateway.client()
  await client.snapshot({ id: 'w', prefix: '/' })
})

for (const [from, ring] of [
  ['the ring', 1_000],
  ['the log', 10],
] as const) {
  test(`X3: a class with a rate is paused, never dropped, and told so once in a while (from ${from})`, {
    timeout: 20_000,
  }, async () => {
    const sz = new FakeSource({ ring })
    await using gateway = await startGateway({ sources: new FakeSources(sz), rules: { eventsPerSecond: 50 } })
    const client = await gateway.client()
    const fold = new FoldingClient()
    client.watch({ id: 'w', prefix: '/' })
    await received(client, fold, 1n)
    const began = performance.now()
    for (let i = 0; i < 150; i++) sz.commit({ put: `/k/${i}`, value: String(i) })
    await received(client, fold, 151n)
    const took = performance.now() - began
    // A full bucket of 50, then 50 per second.
    assert.ok(took > 1_500 && took < 6_000, `150 events took ${Math.round(took)} ms`)
    assert.equal(fold.seen.filter((seen) => seen.events.length > 0).length, 150)
    assert.deepEqual(fold.errors, ['DW4110'])
    assert.equal(sz.replays > 0, ring < 150)
    assert.equal(await gateway.metric('deltawatch_session_errors_total', { code: 'RateLimited' }), 1)
  })
}
