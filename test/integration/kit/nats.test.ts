// The hub connection against a real nats-server: it starts before the server, survives everything, and says where it is.

import assert from 'node:assert/strict'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Msg, nkeys } from '@nats-io/transport-node'
import { createLogger } from '#kit/logger.ts'
import { createMetrics } from '#kit/metrics.ts'
import { type NatsLink, type NatsOptions, openNats, type NatsState } from '#kit/nats.ts'
import { startNats } from '#test/support/nats.ts'
import { reservePort } from '#test/support/ports.ts'
import { scratchDir } from '#test/support/process.ts'

const FAST = {
  name: 'test',
  inboxPrefix: '_INBOX.test',
  backoff: { baseMs: 20, capMs: 100 },
  pingIntervalMs: 200,
  connectTimeoutMs: 500,
}

function open(options: Partial<NatsOptions> & { servers: readonly string[] }) {
  const lines: string[] = []
  const metrics = createMetrics()
  const logger = createLogger({
    service: 'test',
    level: 'debug',
    format: 'json',
    destination: (line) => lines.push(line),
  })
  const link = openNats({ ...FAST, ...options }, { logger, metrics })
  const metric = async (name: string): Promise<string | undefined> =>
    (await metrics.expose()).split('\n').find((line) => line.startsWith(name))
  return { link, log: () => lines.join(''), metric }
}

async function reach<K extends NatsState['kind']>(
  link: NatsLink,
  kind: K,
  also: (state: Extract<NatsState, { kind: K }>) => boolean = () => true,
): Promise<Extract<NatsState, { kind: K }>> {
  const signal = AbortSignal.timeout(20_000)
  for await (const state of link.status(signal)) {
    if (state.kind !== kind) continue
    const wanted = state as Extract<NatsState, { kind: K }>
    if (also(wanted)) return wanted
  }
  throw new Error(`never ${kind}; last ${JSON.stringify(link.state())}`)
}

/** Keeps asking until an answer comes: what is sent while the connection is down may be lost. */
async function roundTrip(link: NatsLink, messages: AsyncIterator<Msg>): Promise<string> {
  const nc = await link.connected(AbortSignal.timeout(20_000))
  nc.publish('t.x', 'hello')
  const { value } = (await messages.next()) as { value: Msg }
  return value.string()
}

test('a service starts while the hub is down and connects by itself when it comes up', async () => {
  const port = await reservePort()
  const at = port.port
  await port[Symbol.asyncDispose]()
  const { link, metric } = open({ servers: [`nats://127.0.0.1:${at}`] })
  await using closing = link
  const waiting = await reach(link, 'connecting', (s) => s.attempt >= 2)
  assert.match(waiting.problem?.message ?? '', /refused/)
  assert.equal(link.connection(), undefined)
  assert.equal(await metric('deltawatch_nats_connected'), 'deltawatch_nats_connected 0')

  await using nats = await startNats({ config: `port: ${at}` })
  const nc = await link.connected(AbortSignal.timeout(20_000))
  const up = await reach(link, 'connected')
  assert.equal(up.generation, 1)
  assert.equal(up.serverVersion, nats.version)
  assert.equal(up.maxPayload, 1024 * 1024)
  assert.equal(nc, link.connection())
  assert.equal(await metric('deltawatch_nats_connected'), 'deltawatch_nats_connected 1')
  assert.ok(closing)
})

test('a killed and restarted hub is found again, and subscriptions go on with the same client', async () => {
  await using nats = await startNats()
  const { link, metric } = open({ servers: [nats.clientUrl] })
  await using closing = link
  const nc = await link.connected(AbortSignal.timeout(20_000))
  const messages = nc.subscribe('t.*')[Symbol.asyncIterator]()
  await nc.flush()
  assert.equal(await roundTrip(link, messages), 'hello')

  await nats.kill('SIGKILL')
  const down = await reach(link, 'reconnecting', (s) => s.attempt >= 3)
  assert.ok(down.attempt >= 3)
  await nats.restart()
  const up = await reach(link, 'connected')
  assert.equal(up.generation, 1, 'the same client object')
  assert.equal(await roundTrip(link, messages), 'hello')
  assert.equal(await metric('deltawatch_nats_disconnects_total'), 'deltawatch_nats_disconnects_total 1')
  assert.ok(closing)
})

test('a hub that falls silent is given up after two unanswered pings and found again', async () => {
  await using nats = await startNats({ proxyFor: 'clients' })
  const { link } = open({ servers: [nats.clientUrl] })
  await using closing = link
  await link.connected(AbortSignal.timeout(20_000))
  const began = performance.now()
  nats.proxy.blackhole()
  const down = await reach(link, 'reconnecting')
  const took = performance.now() - began
  // Two pings may go unanswered, the third interval notices; then only the machine's own delays.
  assert.ok(took < 200 * 3 + 2_000, `${took} ms`)
  assert.equal((await reach(link, 'reconnecting', (s) => s.problem !== undefined)).problem?.code.length !== 0, true)
  assert.ok(down)
  await nats.proxy.heal()
  await reach(link, 'connected')
  assert.ok(closing)
})

test('a server that accepts and drops at once is never met with a hot loop', async () => {
  let accepted = 0
  const server = createServer((socket) => {
    accepted++
    socket.on('error', () => undefined)
    socket.write('INFO {"server_id":"x","version":"2.15.2","max_payload":1048576,"proto":1,"headers":true}\r\n')
    socket.on('data', (chunk) => {
      if (chunk.includes('PING')) socket.end('PONG\r\n')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  assert.ok(typeof address === 'object' && address !== null)
  const { link } = open({ servers: [`nats://127.0.0.1:${address.port}`], backoff: { baseMs: 100, capMs: 10_000 } })
  await reach(link, 'reconnecting', (s) => s.attempt >= 4)
  // Full jitter sums to about base * (2^n - 1) / 2; a hot loop would be at thousands by now.
  assert.ok(accepted < 30, `${accepted} connections`)
  await link[Symbol.asyncDispose]()
  server.close()
})

test('I10: a server that talks nonsense is a problem with a name, not a crash', async () => {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  assert.ok(typeof address === 'object' && address !== null)
  const { link } = open({ servers: [`nats://127.0.0.1:${address.port}`] })
  const state = await reach(link, 'connecting', (s) => s.attempt >= 2)
  assert.ok(state.problem !== undefined && state.problem.message !== '')
  await link[Symbol.asyncDispose]()
  server.close()
})

test('wrong credentials are a state that heals by itself, and no secret reaches the log', async () => {
  const config = (password: string): string => `authorization { user: agent, password: ${password} }`
  await using scratch = await scratchDir('nats-auth')
  await using nats = await startNats({ dir: scratch.path, config: config('first-pw') })
  const { link, log } = open({ servers: [nats.clientUrl], user: 'agent', password: 'second-pw' })
  await using closing = link
  const refused = await reach(link, 'connecting', (s) => s.attempt >= 3)
  assert.match(refused.problem?.code ?? '', /Authorization/)
  const file = join(scratch.path, 'n1.conf')
  await writeFile(file, (await readFile(file, 'utf8')).replace('first-pw', 'second-pw'))
  await nats.restart()
  await reach(link, 'connected')
  assert.ok(!log().includes('second-pw') && !log().includes('first-pw'))
  assert.ok(closing)
})

test('a credentials file is read again at every connect; a broken one never ends the connection for good', async () => {
  await using scratch = await scratchDir('nats-seed')
  const seedFile = join(scratch.path, 'agent.nk')
  // Generated for this test; the public key is what the server is told.
  const [first, second] = [nkeys.createUser(), nkeys.createUser()]
  const text = (pair: ReturnType<typeof nkeys.createUser>): string => new TextDecoder().decode(pair.getSeed())
  await writeFile(seedFile, text(first))
  const config = (pair: ReturnType<typeof nkeys.createUser>): string =>
    `authorization { users: [ { nkey: ${pair.getPublicKey()} } ] }`
  await using nats = await startNats({ dir: scratch.path, config: config(first) })
  const { link, log } = open({ servers: [nats.clientUrl], nkeySeedFile: seedFile })
  await using closing = link
  await link.connected(AbortSignal.timeout(20_000))

  await writeFile(seedFile, 'not a seed')
  const file = join(scratch.path, 'n1.conf')
  await writeFile(file, (await readFile(file, 'utf8')).replace(first.getPublicKey(), second.getPublicKey()))
  await nats.restart()
  const refused = await reach(link, 'reconnecting', (s) => /Authorization/.test(s.problem?.code ?? ''))
  await reach(link, 'reconnecting', (s) => s.attempt >= refused.attempt + 3)
  assert.match(log(), /nats credentials unusable/)

  await writeFile(`${seedFile}.new`, text(second))
  await rename(`${seedFile}.new`, seedFile)
  const up = await reach(link, 'connected')
  assert.equal(up.generation, 1, 'the client object survived the refusals, with its subscriptions')
  for (const pair of [first, second]) assert.ok(!log().includes(text(pair)))
  assert.ok(closing)
})

test('a refused subject is counted and logged, and the connection stays', async () => {
  const config =
    'authorization { users: [ { user: a, password: b, permissions: { publish: "ok.>", subscribe: "_INBOX.test.>" } } ] }'
  await using nats = await startNats({ config })
  const { link, log, metric } = open({ servers: [nats.clientUrl], user: 'a', password: 'b' })
  await using closing = link
  const nc = await link.connected(AbortSignal.timeout(20_000))
  nc.publish('dw.log.other', 'x')
  await nc.flush()
  // The report travels through the client's own status queue, some turns of the event loop after the flush.
  for (let turn = 0; turn < 1_000 && !log().includes('dw.log.other'); turn++) await new Promise((r) => setImmediate(r))
  assert.equal(link.state().kind, 'connected')
  assert.match((await metric('deltawatch_nats_errors_total')) ?? '', /code="PermissionViolationError"\} 1/)
  assert.match(log(), /dw\.log\.other/)
  assert.ok(closing)
})

test('closing ends everything: waiters reject, status ends, nothing keeps the process alive', async () => {
  const { link } = open({ servers: ['nats://127.0.0.1:1'] })
  const waiting = assert.rejects(link.connected(), { code: 'DW_NATS_CLOSED' })
  await link[Symbol.asyncDispose]()
  await waiting
  assert.deepEqual(link.state(), { kind: 'closed' })
  await assert.rejects(link.connected(), { code: 'DW_NATS_CLOSED' })
  await link[Symbol.asyncDispose]()
})

test('closing a healthy connection flushes what was published', async () => {
  await using nats = await startNats()
  const sender = open({ servers: [nats.clientUrl] }).link
  const receiver = open({ servers: [nats.clientUrl] }).link
  await using closing = receiver
  const sub = (await receiver.connected()).subscribe('t.last', { max: 500 })
  await (await receiver.connected()).flush()
  const nc = await sender.connected()
  for (let i = 0; i < 500; i++) nc.publish('t.last', new Uint8Array(20_000))
  await sender[Symbol.asyncDispose]()
  let received = 0
  for await (const message of sub) received += message.data.length
  assert.equal(received, 500 * 20_000)
  assert.ok(closing)
})

test('closing while the hub is silent takes no longer than the drain bound', async () => {
  await using nats = await startNats({ proxyFor: 'clients' })
  const { link } = open({ servers: [nats.clientUrl], pingIntervalMs: 60_000 })
  await link.connected()
  nats.proxy.blackhole()
  const began = performance.now()
  await link[Symbol.asyncDispose]()
  assert.ok(performance.now() - began < 4_000)
})
