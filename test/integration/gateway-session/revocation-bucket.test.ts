// Revocations in a NATS KV bucket, on a real server: sessions end within a second, and a store that is away fails closed.

import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Kvm } from '@nats-io/kv'
import { SignJWT } from 'jose'
import { systemClock } from '#kit/clock.ts'
import { silentLogger } from '#kit/logger.ts'
import { type NatsLink, openNats } from '#kit/nats.ts'
import { type Auth, openAuth } from '#gateway/auth/open.ts'
import { publishRevocation } from '#gateway/auth/revocation-bucket.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { type Nats, startNats } from '#test/support/nats.ts'
import { startProcess } from '#test/support/process.ts'
import { type Client, fetchRaw, startGateway, type TestGateway } from './gateway.ts'

const BUCKET = 'revoked'
const SECRET = 'a shared secret of more than thirty-two bytes'
const MAX_IN_FLIGHT = 64 * 1024
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const token = (sub: string, jti = sub): Promise<string> =>
  new SignJWT({ region: 'sz' })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(sub)
    .setJti(jti)
    .setIssuer('iss')
    .setAudience('aud')
    .setIssuedAt()
    .setExpirationTime('1h')
    .sign(Buffer.from(SECRET))

type World = AsyncDisposable & {
  readonly nats: Nats
  readonly link: NatsLink
  readonly auth: Auth
  readonly gateway: TestGateway
  readonly source: FakeSource
  readonly directory: string
}

async function start({ graceMs = 60_000, bucket = true } = {}): Promise<World> {
  await using owned = new AsyncDisposableStack()
  const nats = owned.use(await startNats())
  const options = { servers: [nats.clientUrl], name: 'gateway', inboxPrefix: '_INBOX_gw', pingIntervalMs: 1_000 }
  const link = owned.use(openNats({ ...options, backoff: { baseMs: 20, capMs: 200 } }, { logger: silentLogger() }))
  if (bucket) await new Kvm(await link.connected(AbortSignal.timeout(5_000))).create(BUCKET)
  const directory = await mkdtemp(join(tmpdir(), 'dw-revocations-'))
  owned.defer(() => rm(directory, { recursive: true }))
  await writeFile(join(directory, 'secret'), SECRET)
  const config = { mode: 'jwt', issuer: 'iss', audience: 'aud', clockTolerance: 0, revocationsBucket: BUCKET } as const
  const auth = owned.use(
    await openAuth(
      { ...config, secretFile: join(directory, 'secret') },
      { clock: systemClock(), link, defaultRegion: 'sz', revocationGraceMs: graceMs },
    ),
  )
  const source = new FakeSource({ ring: 20_000 })
  const gateway = owned.use(
    await startGateway({
      sources: new FakeSources(source),
      authenticator: auth.authenticator,
      origin: { dev: false },
      limits: { maxInFlight: MAX_IN_FLIGHT, markBytes: 16 * 1024 },
    }),
  )
  const { revocations } = auth
  owned.adopt(
    revocations?.onChange(() => gateway.front.sessions.revoke((principal) => revocations.revoked(principal))),
    (listening) => listening?.[Symbol.dispose](),
  )
  const all = owned.move()
  return { nats, link, auth, gateway, source, directory, [Symbol.asyncDispose]: () => all.disposeAsync() }
}

/** Resolves when the list was read. */
async function available({ auth }: World, wanted = true): Promise<void> {
  const until = Date.now() + 20_000
  while (auth.revocations?.available !== wanted) {
    assert.ok(Date.now() < until, `revocations are not ${wanted ? '' : 'un'}available: ${auth.problem}`)
    await pause(20)
  }
}

async function hello(gateway: TestGateway, text: string): Promise<Client> {
  const client = await gateway.client({ hello: false })
  client.send({ type: 'hello', client: 'test', versions: [1], token: text })
  return client
}

test('a revocation ends sessions within a second, by token and by subject, and keeps them out', {
  timeout: 60_000,
}, async () => {
  await using world = await start()
  await available(world)
  const { gateway, link } = world
  const anna = await gateway.client({ token: await token('anna', 't1') })
  const bert = await gateway.client({ token: await token('bert') })
  const carl = await gateway.client({ token: await token('carl') })
  let began = performance.now()
  await publishRevocation(BUCKET, link, { tokenId: 't1' })
  assert.equal((await anna.closed).code, 4006)
  assert.ok(performance.now() - began < 1_000)
  began = performance.now()
  await publishRevocation(BUCKET, link, { subject: 'bert', before: Date.now() + 1_000 })
  assert.equal((await bert.closed).code, 4006)
  assert.ok(performance.now() - began < 1_000)
  assert.equal((await (await hello(gateway, await token('anna', 't1'))).closed).code, 4006)
  await (await hello(gateway, await token('anna', 't2'))).next('welcome')
  carl.send({ type: 'ping' })
  await carl.next('pong')
})

test('I8: behind a revoke a subscriber reads at most what was in flight, also one that was not reading', {
  timeout: 60_000,
}, async () => {
  await using world = await start()
  await available(world)
  const { gateway, link, source } = world
  const readers = [
    await gateway.client({ token: await token('reads') }),
    await gateway.client({ token: await token('stalls') }),
  ]
  const heard = readers.map(() => ({ bytes: 0, last: 0 }))
  for (const [n, client] of readers.entries()) {
    await client.snapshot({ id: 'w', prefix: '/' })
    client.ws.on('message', (data: Buffer) => {
      const seen = heard[n]
      if (seen === undefined) return
      seen.bytes += data.length
      seen.last = performance.now()
    })
  }
  const [, stalled] = readers
  stalled?.ws.pause()
  const value = 'x'.repeat(2_000)
  const writing = setInterval(() => {
    for (let i = 0; i < 5; i++) source.commit({ put: `/k/${i}`, value })
  }, 5)
  await pause(1_000)
  const before = heard.map((one) => one.bytes)
  const revokedAt = performance.now()
  await publishRevocation(BUCKET, link, { subject: 'reads', before: undefined })
  await publishRevocation(BUCKET, link, { subject: 'stalls', before: undefined })
  assert.equal((await readers[0]?.closed)?.code, 4006)
  assert.ok((heard[0]?.last ?? 0) - revokedAt < 1_000, 'the last byte came later than a second after the revoke')
  await pause(1_500)
  assert.equal(heard[1]?.bytes, before[1], 'it was reading after all')
  stalled?.ws.resume()
  await stalled?.closed
  const late = (heard[1]?.bytes ?? 0) - (before[1] ?? 0)
  clearInterval(writing)
  assert.ok(late > 0, 'nothing was in flight: the test proves less than it says')
  assert.ok(late <= MAX_IN_FLIGHT + 4_096, `${late} bytes could still be read`)
})

test('I6: a store that is away for longer than its time lets nobody new in, keeps those it has, and recovers', {
  timeout: 60_000,
}, async () => {
  await using world = await start({ graceMs: 2_000 })
  await available(world)
  const { gateway, nats } = world
  const anna = await gateway.client({ token: await token('anna') })
  await nats.kill()
  // Not known to be away yet, or not for long enough.
  await (await hello(gateway, await token('bert'))).next('welcome')
  await available(world, false)
  assert.notEqual(world.auth.problem, '')
  const refused = await hello(gateway, await token('carl'))
  assert.equal((await refused.closed).code, 4107)
  assert.equal((await gateway.get('/v1/state?cluster=sz-edge-1', await bearer('carl'))).status, 503)
  anna.send({ type: 'ping' })
  await anna.next('pong')
  await nats.restart()
  await available(world)
  await (await hello(gateway, await token('carl'))).next('welcome')
  assert.equal(world.auth.problem, '')
})

test('I6: a bucket that does not exist lets nobody in, and is found once it is made', { timeout: 60_000 }, async () => {
  await using world = await start({ bucket: false })
  assert.equal((await (await hello(world.gateway, await token('anna'))).closed).code, 4107)
  await new Kvm(await world.link.connected(AbortSignal.timeout(5_000))).create(BUCKET)
  await available(world)
  await (await hello(world.gateway, await token('anna'))).next('welcome')
})

test('the gateway shows a store that is away: gauge and readiness', { timeout: 60_000 }, async () => {
  await using world = await start()
  await available(world)
  const config = join(world.directory, 'gateway.yaml')
  await writeFile(
    config,
    [
      'listen: 127.0.0.1:0',
      `nats: { servers: ["${world.nats.clientUrl}"] }`,
      'clusters: { sz-edge-1: sz }',
      'hubRegion: sz',
      'policies: policies/regions',
      `auth: { mode: jwt, secretFile: "${join(world.directory, 'secret')}", issuer: iss, audience: aud, revocationsBucket: ${BUCKET} }`,
    ].join('\n'),
  )
  await using gateway = await startProcess({
    command: process.execPath,
    args: ['gateway/main.ts', '--config', config],
    name: 'gateway',
  })
  const [, port = ''] = await gateway.waitForLine(/"port":(\d+),"event":"listening"/)
  const shown = async (gauge: 0 | 1): Promise<void> => {
    const until = Date.now() + 20_000
    for (;;) {
      const { body } = await fetchRaw(Number(port), '/metrics', {}, 'GET')
      if (new RegExp(`^deltawatch_auth_degraded ${gauge}$`, 'm').test(body)) return
      assert.ok(Date.now() < until, `deltawatch_auth_degraded is not ${gauge}`)
      await pause(100)
    }
  }
  await shown(0)
  await world.nats.kill()
  await shown(1)
  assert.match((await fetchRaw(Number(port), '/readyz?verbose', {}, 'GET')).body, /\[!\]auth degraded: bucket revoked/)
  await world.nats.restart()
  await shown(0)
})

const bearer = async (sub: string): Promise<Record<string, string>> => ({
  authorization: `Bearer ${await token(sub)}`,
})
