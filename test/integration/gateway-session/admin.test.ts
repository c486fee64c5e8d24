// The operator's API on one process: listing, tracing, ending.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { test } from 'node:test'
import { systemClock } from '#kit/clock.ts'
import { createRouter } from '#kit/http/router.ts'
import { startHttpServer } from '#kit/http/server.ts'
import { createLogger, silentLogger } from '#kit/logger.ts'
import { LocalTarget } from '#gateway/admin/local-target.ts'
import { mountAdminApi } from '#gateway/admin/routes.ts'
import type { SessionInfo, TraceLine } from '#gateway/admin/target.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { fetchRaw, startGateway } from './gateway.ts'

test('listing shows lag and cursor, a trace shows frames and never a value, actions are audited', {
  timeout: 30_000,
}, async () => {
  const sz = new FakeSource()
  await using gateway = await startGateway({ sources: new FakeSources(sz) })
  const audit: string[] = []
  const logger = createLogger({ service: 'test', destination: (line) => void audit.push(line), format: 'json' })
  const router = createRouter()
  const { sessions, delivery } = gateway.front
  const target = new LocalTarget({ sessions, delivery, clock: systemClock(), worker: 0, revocations: undefined })
  mountAdminApi(router, { target, token: 'operator', logger })
  await using server = await startHttpServer({ listen: { host: '127.0.0.1', port: 0 }, router, logger: silentLogger() })
  const ask = (path: string, method = 'GET', auth = 'Bearer operator') =>
    fetchRaw(server.address.port, path, { authorization: auth }, method)
  const client = await gateway.client({ token: 'dev:anna:sz' })
  await gateway.client({ token: 'dev:bert:gz' })
  await client.snapshot({ id: 'w', prefix: '/' })
  assert.equal((await ask('/admin/sessions', 'GET', '')).status, 401)
  assert.equal((await ask('/admin/sessions', 'GET', 'Bearer operato')).status, 401)
  const refusals = audit.length
  for (const path of ['/admin/trace?subject=anna', '/admin/trace'])
    assert.equal((await ask(path, 'GET', 'Bearer operato')).status, 401)
  const refused = audit.slice(refusals).map((line) => JSON.parse(line) as { event: string; path: string })
  assert.deepEqual(
    refused.map(({ event, path }) => `${event} ${path}`),
    ['admin refused /admin/trace', 'admin refused /admin/trace'],
  )
  assert.equal((await ask('/admin/trace')).status, 400)
  const { sessions: listed } = JSON.parse((await ask('/admin/sessions?subject=anna')).body) as {
    sessions: SessionInfo[]
  }
  assert.equal(listed.length, 1)
  const [anna] = listed
  assert.deepEqual(
    [anna?.subject, anna?.region, anna?.client, anna?.watches[0]?.clusters[0]?.lag],
    ['anna', 'sz', 'test', 0],
  )
  assert.match(anna?.watches[0]?.cursor ?? '', /^dw1\./)
  assert.equal((await ask('/admin/sessions/nobody')).status, 404)

  const request = httpRequest({
    host: '127.0.0.1',
    port: server.address.port,
    path: '/admin/trace?subject=anna&seconds=5',
    headers: { authorization: 'Bearer operator' },
  })
  request.end()
  const [response] = await once(request, 'response')
  let text = ''
  response.setEncoding('utf8')
  response.on('data', (chunk: string) => {
    text += chunk
  })
  while (!text.includes('"events"')) {
    sz.commit({ put: '/a', value: 'the secret of the house' })
    client.send({ type: 'ping' })
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  request.destroy()
  const lines = text
    .trim()
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as TraceLine)
  const events = lines.find((line) => line.type === 'events')
  assert.deepEqual([events?.direction, events?.cluster], ['out', 'sz-edge-1'])
  assert.ok(lines.some((line) => line.direction === 'in' && line.type === 'ping'))
  assert.doesNotMatch(text, /secret of the house/)
  assert.doesNotMatch(text, /bert/)

  const { clusters } = JSON.parse((await ask('/admin/clusters')).body) as {
    clusters: { cluster: string; readers: number }[]
  }
  assert.deepEqual(
    clusters.map((one) => [one.cluster, one.readers]),
    [['sz-edge-1', 1]],
  )
  assert.deepEqual(JSON.parse((await ask('/admin/disconnect?subject=nobody', 'POST')).body), { ended: 0 })
  const revoke = await new Promise<string>((resolve) => {
    const post = httpRequest(
      {
        host: '127.0.0.1',
        port: server.address.port,
        path: '/admin/revoke',
        method: 'POST',
        headers: { authorization: 'Bearer operator' },
      },
      (answer) => {
        answer.setEncoding('utf8')
        answer.on('data', resolve)
      },
    )
    post.end('{"subject":"anna"}')
  })
  assert.deepEqual(JSON.parse(revoke), { ended: 1 })
  assert.equal((await client.closed).code, 4006)
  assert.ok(audit.some((line) => line.includes('"action":"revoke"')))
  assert.ok(audit.some((line) => line.includes('"action":"trace"')))
  assert.ok(audit.some((line) => line.includes('admin refused')))
  assert.ok(audit.every((line) => !line.includes('operator')))
})
