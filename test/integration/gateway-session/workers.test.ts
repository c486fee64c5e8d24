// A gateway of several processes: one port, one set of limits and tickets, one operator's view, no worker left behind.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { SignJWT } from 'jose'
import { WebSocket } from 'ws'
import { SUBPROTOCOL } from '#protocol/version.ts'
import { reservePort } from '#test/support/ports.ts'
import { startProcess } from '#test/support/process.ts'
import { Client, fetchRaw, type HttpAnswer } from './gateway.ts'

const SECRET = 'a shared secret of more than thirty-two bytes'
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const token = (sub: string): Promise<string> =>
  new SignJWT({ region: 'sz' })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(sub)
    .setIssuer('iss')
    .setAudience('aud')
    .setIssuedAt()
    .setExpirationTime('1h')
    .sign(Buffer.from(SECRET))

test('two workers: shared port, limits, tickets, operator view, restart of a killed one, a clean end', {
  timeout: 60_000,
}, async () => {
  await using nats = await reservePort()
  await using admin = await reservePort()
  const directory = await mkdtemp(join(tmpdir(), 'dw-workers-'))
  await writeFile(join(directory, 'secret'), SECRET)
  await writeFile(join(directory, 'admin'), 'operator')
  await writeFile(
    join(directory, 'gateway.yaml'),
    [
      'listen: 127.0.0.1:0',
      // Nobody listens there: a gateway starts and serves without its hub.
      `nats: { servers: ["nats://127.0.0.1:${nats.port}"] }`,
      'clusters: { sz-edge-1: sz }',
      'hubRegion: sz',
      'policies: policies/regions',
      `auth: { mode: jwt, secretFile: "${join(directory, 'secret')}", issuer: iss, audience: aud }`,
      `admin: 127.0.0.1:${admin.port}`,
      `adminTokenFile: "${join(directory, 'admin')}"`,
      'workers: 2',
      'drain: 100ms',
      'limits: { maxPerSubject: 3 }',
    ].join('\n'),
  )
  await using gateway = await startProcess({
    command: process.execPath,
    args: ['gateway/main.ts', '--config', join(directory, 'gateway.yaml')],
    name: 'gateway',
  })
  const [, port = ''] = await gateway.waitForLine(/"worker":1,"pid":\d+,"port":(\d+),"event":"worker listening"/)
  await gateway.waitForLine(/"worker":2.*"worker listening"/)
  await gateway.waitForLine(/admin listening/)
  const ask = (path: string, method = 'GET', auth = 'Bearer operator'): Promise<HttpAnswer> =>
    fetchRaw(admin.port, path, { authorization: auth }, method)
  const join2 = async (sub: string): Promise<Client> => {
    const client = new Client(new WebSocket(`ws://127.0.0.1:${port}/v1/watch`, [SUBPROTOCOL]))
    await client.opened
    client.send({ type: 'hello', client: 'w', versions: [1], token: await token(sub) })
    return client
  }

  // Connections spread over both; one operator sees them all.
  const crowd = await Promise.all(Array.from({ length: 6 }, (_, i) => join2(`user-${i}`)))
  for (const client of crowd) await client.next('welcome')
  assert.equal((await ask('/admin/sessions', 'GET', 'Bearer wrong')).status, 401)
  const { sessions } = JSON.parse((await ask('/admin/sessions')).body) as {
    sessions: { id: string; worker: number; subject: string }[]
  }
  assert.equal(sessions.length, 6)
  assert.deepEqual(new Set(sessions.map((one) => one.worker)), new Set([1, 2]))
  assert.equal((await ask('/readyz?verbose')).status, 200)

  // The limit of a subject holds over both workers.
  const same = await Promise.all(Array.from({ length: 3 }, () => join2('anna')))
  for (const client of same) await client.next('welcome')
  const one = await join2('anna')
  assert.equal((await one.closed).code, 4101)
  same[0]?.ws.close()
  await same[0]?.closed
  await pause(200)
  await (await join2('anna')).next('welcome')

  // A ticket of one worker is good at the other, once.
  const bearer = { authorization: `Bearer ${await token('bert')}` }
  const outcomes: number[] = []
  for (let i = 0; i < 4; i++) {
    const { ticket } = JSON.parse((await fetchRaw(Number(port), '/v1/ticket', bearer, 'POST')).body) as {
      ticket: string
    }
    outcomes.push((await fetchRaw(Number(port), `/v1/state?cluster=nowhere&ticket=${ticket}`, {}, 'GET')).status)
    outcomes.push((await fetchRaw(Number(port), `/v1/state?cluster=nowhere&ticket=${ticket}`, {}, 'GET')).status)
  }
  assert.deepEqual(outcomes, [404, 401, 404, 401, 404, 401, 404, 401])

  // Metrics are those of all; gauges say whose they are.
  const { body } = await ask('/metrics')
  assert.match(body, /^deltawatch_sessions_opened_total (?:1\d)$/m)
  assert.match(body, /^deltawatch_sessions\{worker="1"\} \d+$/m)
  assert.match(body, /^deltawatch_sessions\{worker="2"\} \d+$/m)

  // Disconnect and revoke reach whichever worker holds the session.
  const victim = sessions.find((s) => s.subject === 'user-0')
  assert.equal((await ask(`/admin/sessions/${victim?.id}/disconnect`, 'POST')).status, 200)
  assert.equal((await crowd[0]?.closed)?.code, 4201)
  assert.equal((await ask('/admin/disconnect?subject=user-1', 'POST')).status, 200)
  assert.equal((await crowd[1]?.closed)?.code, 4201)

  // A worker that dies is replaced, and its sessions no longer count.
  const dead = sessions.find((s) => s.subject === 'user-2')?.worker
  const pidLine = await gateway.waitForLine(new RegExp(`"worker":${dead},"pid":(\\d+).*"worker listening"`))
  const since = gateway.lineCount()
  process.kill(Number(pidLine[1]), 'SIGKILL')
  await gateway.waitForLine(/worker ended/, { since })
  await gateway.waitForLine(/"worker":3.*"worker listening"/, { since })
  assert.match((await ask('/metrics')).body, /^deltawatch_worker_restarts_total 1$/m)

  const survivor = crowd.findIndex((client, i) => i > 1 && client.ws.readyState === WebSocket.OPEN)
  const exit = gateway.stop()
  assert.equal((await crowd[survivor]?.closed)?.code, 4201)
  assert.equal((await exit).code, 0)
  await rm(directory, { recursive: true })
})

test('dev mode on an address that is not loopback is refused at start', { timeout: 30_000 }, async () => {
  const args = [
    'gateway/main.ts',
    '--nats',
    'nats://127.0.0.1:4',
    '--listen',
    '0.0.0.0:0',
    '--clusters',
    'sz-edge-1=sz',
    '--hub-region',
    'sz',
    '--policies',
    'policies/regions',
    '--auth',
    'dev',
  ]
  await using refused = await startProcess({ command: process.execPath, args })
  assert.notEqual((await refused.exited).code, 0)
  assert.match(refused.log(), /not loopback/)
  await using forced = await startProcess({ command: process.execPath, args: [...args, '--auth-dev-anywhere'] })
  await forced.waitForLine(/dev mode: everybody is let in/)
  await forced.waitForLine(/"event":"listening"/)
  await forced.stop()
})

test('the hub may be down at start: the gateway says so, serves, and is ready', { timeout: 30_000 }, async () => {
  await using nats = await reservePort()
  const args = [
    'gateway/main.ts',
    '--nats',
    `nats://127.0.0.1:${nats.port}`,
    '--listen',
    '127.0.0.1:0',
    '--clusters',
    'sz-edge-1=sz',
    '--hub-region',
    'sz',
    '--policies',
    'policies/regions',
    '--auth',
    'dev',
  ]
  await using gateway = await startProcess({ command: process.execPath, args })
  const line = await gateway.waitForLine(/"port":(\d+),"event":"listening"/)
  const port = Number(line[1])
  const ready = await fetchRaw(port, '/readyz?verbose', {}, 'GET')
  assert.equal(ready.status, 200)
  assert.match(ready.body, /\[!\]hub degraded/)
  assert.match(ready.body, /\[!\]auth degraded: dev mode/)
  const client = new Client(new WebSocket(`ws://127.0.0.1:${port}/v1/watch`, [SUBPROTOCOL]))
  await client.opened
  client.send({ type: 'hello', client: 'x', versions: [1] })
  assert.equal((await client.next('welcome')).clusters['sz-edge-1']?.state, 'unreachable')
  client.watch({ id: 'w', prefix: '/' })
  assert.equal((await client.next('watching')).clusters['sz-edge-1']?.outcome, 'waiting')
  client.ws.close()
  await once(client.ws, 'close')
})
