// Tokens over real sockets: who gets in, for how long, and how they are shut out.

import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type CryptoKey, exportJWK, generateKeyPair, SignJWT } from 'jose'
import { systemClock } from '#kit/clock.ts'
import { fetchText, Jwks } from '#gateway/auth/jwks.ts'
import { type KeySource, readJwks, sharedSecret } from '#gateway/auth/keys.ts'
import type { Authenticator } from '#gateway/auth/principal.ts'
import { followRevocationFile } from '#gateway/auth/revocation-file.ts'
import { Revocations } from '#gateway/auth/revocations.ts'
import { jwtAuthenticator } from '#gateway/auth/verifier.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { ManualClock } from '#test/support/manual-clock.ts'
import { type Client, startGateway } from './gateway.ts'

const SECRET = Buffer.from('a shared secret of more than thirty-two bytes')
const ISSUER = 'https://id.example'
const AUDIENCE = 'deltawatch'

type Claims = {
  readonly sub?: string
  readonly exp?: number | string
  readonly iss?: string
  readonly aud?: string
  readonly region?: string
  readonly jti?: string
  readonly clusters?: readonly string[]
}

async function token(
  claims: Claims = {},
  key: Uint8Array | CryptoKey = SECRET,
  alg = 'HS256',
  kid?: string,
): Promise<string> {
  const { sub = 'anna', exp = '1h', iss = ISSUER, aud = AUDIENCE, region = 'sz', ...rest } = claims
  const jwt = new SignJWT({ region, scope: 'orders:read', ...rest })
    .setProtectedHeader(kid === undefined ? { alg } : { alg, kid })
    .setSubject(sub)
    .setIssuer(iss)
    .setAudience(aud)
    .setIssuedAt()
    .setExpirationTime(exp)
  return jwt.sign(key)
}

const verifier = (keys: KeySource, revocations?: Revocations, clock = systemClock()): Authenticator =>
  jwtAuthenticator({
    keys,
    issuer: ISSUER,
    audience: AUDIENCE,
    clockToleranceMs: 0,
    revocations,
    clock,
    refusalDelayMs: 0,
  })

const hello = (client: Client, token?: string): void =>
  client.send({ type: 'hello', client: 't', versions: [1], ...(token === undefined ? {} : { token }) })

test('a token is needed, by header or hello, and both must name one subject', async () => {
  const sources = new FakeSources(new FakeSource())
  await using gateway = await startGateway({
    sources,
    authenticator: verifier(sharedSecret(SECRET)),
    origin: { dev: false },
  })
  const nobody = await gateway.client({ hello: false })
  hello(nobody)
  assert.equal((await nobody.closed).code, 4003)
  const welcomed = await gateway.client({ token: await token() })
  assert.equal(welcomed.frames.length, 0)
  const byHeader = await gateway.client({ headers: { authorization: `Bearer ${await token()}` } })
  assert.equal(byHeader.ws.readyState, 1)
  await gateway.client({ headers: { authorization: `Bearer ${await token()}` }, token: await token({ exp: '2h' }) })
  const two = await gateway.client({ hello: false, headers: { authorization: `Bearer ${await token()}` } })
  hello(two, await token({ sub: 'bert' }))
  assert.equal((await two.closed).code, 4003)
  // A cookie is no credential.
  const cookie = await gateway.client({ hello: false, headers: { cookie: `token=${await token()}` } })
  hello(cookie)
  assert.equal((await cookie.closed).code, 4003)
})

test('frames sent before the token was checked are kept, and read afterwards', async () => {
  const sz = new FakeSource()
  await using gateway = await startGateway({
    sources: new FakeSources(sz),
    authenticator: verifier(sharedSecret(SECRET)),
    origin: { dev: false },
  })
  const client = await gateway.client({ hello: false })
  hello(client, await token())
  client.watch({ id: 'w', prefix: '/' })
  await client.next('welcome')
  await client.next('watching')
})

test('every forged, foreign or unusable token is refused, and the refusal names no value', async () => {
  const { publicKey, privateKey } = await generateKeyPair('ES256')
  const jwk = { ...(await exportJWK(publicKey)), kid: 'k1', use: 'sig' }
  const keys = new Jwks(async () => JSON.stringify({ keys: [jwk] }), systemClock())
  await keys.refresh()
  const hs = verifier(sharedSecret(SECRET))
  const es = verifier(keys)
  const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from(JSON.stringify({ sub: 'x', exp: 9e9, iss: ISSUER, aud: AUDIENCE, region: 'sz' })).toString('base64url')}.`
  // The public key taken for a shared secret: the classic confusion.
  const confused = await token({}, Buffer.from(JSON.stringify(jwk)), 'HS256', 'k1')
  const cases: [string, Authenticator, string, number][] = [
    ['other secret', hs, await token({}, Buffer.from('another secret of more than thirty-two bytes')), 4003],
    ['issuer', hs, await token({ iss: 'https://evil.example' }), 4003],
    ['audience', hs, await token({ aud: 'other' }), 4003],
    ['expired', hs, await token({ exp: Math.floor(Date.now() / 1000) - 10 }), 4105],
    ['region', hs, await token({ region: 'Not A Region' }), 4003],
    ['none', hs, unsigned, 4003],
    ['garbage', hs, 'not.a.token', 4003],
    ['too long', hs, 'x'.repeat(20_000), 4003],
    ['confusion', es, confused, 4003],
    ['unknown key', es, await token({}, privateKey, 'ES256', 'k2'), 4003],
    ['none for ES', es, unsigned, 4003],
  ]
  for (const [name, authenticator, text, code] of cases) {
    const outcome = await authenticator.authenticate(text)
    assert.ok(!outcome.ok, name)
    assert.equal(outcome.close.code, code, name)
    assert.doesNotMatch(outcome.reason, /anna|evil|Not A Region|thirty/, name)
  }
  const good = await es.authenticate(await token({}, privateKey, 'ES256', 'k1'))
  assert.ok(good.ok)
  assert.deepEqual(good.principal.subscriber.scopes, ['orders:read'])
})

test('keys: short secrets, symmetric and private keys are refused; RSA, EC and Ed25519 are pinned', async () => {
  assert.throws(() => sharedSecret(Buffer.from('short')), /at least 32/)
  await assert.rejects(readJwks('{"keys":[{"kty":"oct","k":"AAAA"}]}'), /no public signing key/)
  await assert.rejects(readJwks('nonsense'), /not JSON/)
  for (const alg of ['RS256', 'ES384', 'EdDSA', 'PS256']) {
    const pair = await generateKeyPair(alg, { extractable: true })
    const jwk = { ...(await exportJWK(pair.publicKey)), kid: 'k', ...(alg === 'PS256' ? { alg } : {}) }
    const [key] = await readJwks(JSON.stringify({ keys: [jwk] }))
    assert.equal(key?.alg, alg)
    await assert.rejects(readJwks(JSON.stringify({ keys: [await exportJWK(pair.privateKey)] })), /no public/)
  }
})

test('JWKS by URL: a new key is fetched once it is missed, and strangers cannot make us fetch', async () => {
  const pairs = [await generateKeyPair('ES256'), await generateKeyPair('ES256')] as const
  let served = [{ ...(await exportJWK(pairs[0].publicKey)), kid: 'a' }]
  let fetches = 0
  const server = createServer((_request, response) => {
    fetches++
    response.end(JSON.stringify({ keys: served }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`
  const clock = new ManualClock(Date.now())
  const keys = new Jwks(() => fetchText(url), clock, { maxAgeMs: 600_000, cooldownMs: 30_000 })
  const check = verifier(keys, undefined, clock)
  const ok = async (kid: string, key: CryptoKey): Promise<boolean> =>
    (await check.authenticate(await token({}, key, 'ES256', kid))).ok
  try {
    assert.ok(await ok('a', pairs[0].privateKey))
    assert.equal(fetches, 1)
    served = [...served, { ...(await exportJWK(pairs[1].publicKey)), kid: 'b' }]
    assert.equal(await ok('b', pairs[1].privateKey), false, 'within the cooldown')
    await clock.advance(31_000)
    assert.ok(await ok('b', pairs[1].privateKey))
    assert.equal(fetches, 2)
    for (let i = 0; i < 20; i++) await ok(`stranger-${i}`, pairs[1].privateKey)
    assert.equal(fetches, 2)
  } finally {
    server.close()
  }
  // The identity provider is gone: what is known still counts.
  await clock.advance(700_000)
  assert.ok(await ok('b', pairs[1].privateKey))
  assert.notEqual(keys.problem, '')
})

test('a session ends at the expiry of its token, unless it is refreshed in band', async () => {
  const authenticator = verifier(sharedSecret(SECRET))
  await using gateway = await startGateway({
    sources: new FakeSources(new FakeSource()),
    authenticator,
    origin: { dev: false },
  })
  const soon = Math.floor(Date.now() / 1000) + 2
  const [refreshed, expiring] = [
    await gateway.client({ token: await token({ exp: soon }) }),
    await gateway.client({ token: await token({ exp: soon }) }),
  ]
  await expiring.snapshot({ id: 'w', prefix: '/' })
  refreshed.send({ type: 'auth', token: await token({ sub: 'bert' }) })
  assert.equal((await refreshed.next('error')).code, 'DW4019')
  refreshed.send({ type: 'auth', token: 'rubbish' })
  assert.equal((await refreshed.next('error')).code, 'DW4003')
  refreshed.send({ type: 'auth', token: await token() })
  assert.ok((await refreshed.next('authed')).expiresAt !== undefined)
  assert.equal((await expiring.next('goodbye')).code, 4105)
  assert.equal((await expiring.closed).code, 4105)
  refreshed.send({ type: 'ping' })
  await refreshed.next('pong')
})

test('revocation: by token and by subject, within a second, also for those who come later', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'dw-revoked-'))
  const file = join(directory, 'revoked.jsonl')
  await writeFile(file, '')
  const clock = systemClock()
  const revocations = new Revocations(clock)
  await using _following = await followRevocationFile(file, revocations, clock)
  await using gateway = await startGateway({
    sources: new FakeSources(new FakeSource()),
    authenticator: verifier(sharedSecret(SECRET), revocations),
    origin: { dev: false },
  })
  using _told = revocations.onChange(() => gateway.front.sessions.revoke((principal) => revocations.revoked(principal)))
  const anna = await gateway.client({ token: await token({ jti: 't1' }) })
  const bert = await gateway.client({ token: await token({ sub: 'bert' }) })
  const carl = await gateway.client({ token: await token({ sub: 'carl' }) })
  const began = performance.now()
  await writeFile(
    file,
    `# shut out\n{"tokenId":"t1"}\n{"subject":"bert","before":"${new Date(Date.now() + 1_000).toISOString()}"}\n`,
  )
  assert.equal((await anna.closed).code, 4006)
  assert.equal((await bert.closed).code, 4006)
  assert.ok(performance.now() - began < 1_500)
  const again = await gateway.client({ hello: false })
  hello(again, await token({ jti: 't1' }))
  assert.equal((await again.closed).code, 4006)
  carl.send({ type: 'ping' })
  await carl.next('pong')
  // A damaged list changes nothing, and says so.
  await writeFile(file, '{"tokenId":"t1"}\nnonsense\n')
  while (revocations.problem === '') await new Promise((resolve) => setTimeout(resolve, 50))
  assert.match(revocations.problem, /line 2/)
  assert.equal(revocations.available, true)
  await rm(directory, { recursive: true })
})

test('revocations that cannot be read: nobody at first, and nobody new after a minute', async () => {
  const clock = new ManualClock(Date.now())
  const revocations = new Revocations(clock)
  const check = verifier(sharedSecret(SECRET), revocations, clock)
  const code = async (): Promise<number | 'ok'> => {
    const outcome = await check.authenticate(await token())
    return outcome.ok ? 'ok' : outcome.close.code
  }
  assert.equal(await code(), 4107)
  revocations.replace([])
  assert.equal(await code(), 'ok')
  revocations.fail('unreachable')
  await clock.advance(59_000)
  assert.equal(await code(), 'ok')
  await clock.advance(2_000)
  assert.equal(await code(), 4107)
  revocations.confirm()
  assert.equal(await code(), 'ok')
})

test('a token narrowed to clusters sees no other, whatever it asks for', async () => {
  const sources = new FakeSources(new FakeSource(), new FakeSource({ cluster: 'gz-edge-1', region: 'gz' }))
  await using gateway = await startGateway({
    sources,
    authenticator: verifier(sharedSecret(SECRET)),
    origin: { dev: false },
  })
  const narrow = await token({ clusters: ['gz-edge-1'] })
  const client = await gateway.client({ hello: false })
  hello(client, narrow)
  assert.deepEqual(Object.keys((await client.next('welcome')).clusters), ['gz-edge-1'])
  client.watch({ id: 'w', prefix: '/', clusters: ['sz-edge-1', 'gz-edge-1'] })
  const { clusters } = await client.next('watching')
  assert.deepEqual([clusters['sz-edge-1']?.outcome, clusters['gz-edge-1']?.outcome], ['denied', 'snapshot'])
  assert.equal((await gateway.get('/v1/state?cluster=sz-edge-1', { authorization: `Bearer ${narrow}` })).status, 404)
})
