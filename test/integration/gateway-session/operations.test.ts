// What an operator does with one connection, and the latency an operator sees, per cluster and stage.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '#kit/clock.ts'
import { createRouter } from '#kit/http/router.ts'
import { startHttpServer } from '#kit/http/server.ts'
import { createLogger, silentLogger } from '#kit/logger.ts'
import { LocalTarget } from '#gateway/admin/local-target.ts'
import { mountAdminApi } from '#gateway/admin/routes.ts'
import type { SessionInfo } from '#gateway/admin/target.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { fetchRaw, startGateway } from './gateway.ts'

test('one connection is ended by its id, audited, and no other; without the token nobody is', async () => {
  await using gateway = await startGateway({ sources: new FakeSources(new FakeSource()) })
  const audit: string[] = []
  const logger = createLogger({ service: 'test', destination: (line) => void audit.push(line), format: 'json' })
  const router = createRouter()
  const { sessions, delivery } = gateway.front
  const target = new LocalTarget({ sessions, delivery, clock: systemClock(), worker: 0, revocations: undefined })
  mountAdminApi(router, { target, token: 'operator', logger })
  await using server = await startHttpServer({ listen: { host: '127.0.0.1', port: 0 }, router, logger: silentLogger() })
  const ask = (path: string, method = 'GET', authorization = 'Bearer operator') =>
    fetchRaw(server.address.port, path, { authorization }, method)
  const [one, two] = [await gateway.client({ token: 'dev:anna:sz' }), await gateway.client({ token: 'dev:anna:sz' })]
  await one.snapshot({ id: 'w', prefix: '/' })
  const listed = (JSON.parse((await ask('/admin/sessions?subject=anna')).body) as { sessions: SessionInfo[] }).sessions
  const watching = listed.find(({ watches }) => watches.length > 0)
  assert.ok(watching !== undefined && listed.length === 2)
  const end = `/admin/sessions/${watching.id}/disconnect`
  assert.equal((await ask(end, 'POST', 'Bearer guess')).status, 401)
  assert.deepEqual(JSON.parse((await ask(end, 'POST')).body), { ended: 1 })
  await one.closed
  two.send({ type: 'ping' })
  await two.next('pong')
  assert.equal((await ask(end, 'POST')).status, 404, 'it is gone')
  const line = audit.find((text) => text.includes('"action":"disconnect"'))
  assert.ok(line?.includes(watching.id) === true && line.includes('127.0.0.1'))
})

test('delivery latency is counted per cluster and stage, once per tick and not per reader', async () => {
  const sz = new FakeSource()
  const gz = new FakeSource({ cluster: 'gz-edge-1', region: 'gz' })
  await using gateway = await startGateway({ sources: new FakeSources(sz, gz) })
  const clients = [await gateway.client(), await gateway.client()]
  for (const client of clients) await client.snapshot({ id: 'w', prefix: '/' })
  const count = (cluster: string, stage: string): Promise<number> =>
    gateway.metric('deltawatch_delivery_seconds_count', { cluster, stage })
  assert.equal(await count('sz-edge-1', 'gateway'), 0)
  const revision = sz.commit({ put: '/a', value: '1' })
  for (const client of clients) await client.next('events', (frame) => frame.revision === revision)
  assert.equal(await count('sz-edge-1', 'gateway'), 1)
  assert.equal(await count('gz-edge-1', 'gateway'), 0)
  const total = await count('sz-edge-1', 'total')
  const spent = await gateway.metric('deltawatch_delivery_seconds_sum', { cluster: 'sz-edge-1', stage: 'gateway' })
  assert.ok(spent > 0 && spent < 1, `${spent} s`)
  assert.equal(total, 1)
})
