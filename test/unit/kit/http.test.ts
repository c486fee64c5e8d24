// The admin endpoints and the small HTTP server below them, over real sockets on loopback.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { mountAdmin } from '#kit/http/admin.ts'
import { createHealth, type HealthState, OK } from '#kit/http/health.ts'
import { createRouter, type Router } from '#kit/http/router.ts'
import { HttpError, type HttpServer, type HttpServerOptions, startHttpServer } from '#kit/http/server.ts'
import { silentLogger } from '#kit/logger.ts'
import { createMetrics } from '#kit/metrics.ts'

async function serve(router: Router, more: Partial<HttpServerOptions> = {}): Promise<HttpServer & { url: string }> {
  const server = await startHttpServer({
    listen: { host: '127.0.0.1', port: 0 },
    router,
    logger: silentLogger(),
    ...more,
  })
  return { ...server, url: `http://127.0.0.1:${server.address.port}` }
}

/** Sends raw bytes and returns everything until the server closes. */
async function raw(server: HttpServer, bytes: string): Promise<string> {
  const socket = connect(server.address.port, '127.0.0.1')
  socket.on('error', () => undefined)
  let text = ''
  socket.on('data', (chunk) => (text += chunk.toString('latin1')))
  socket.write(bytes)
  await once(socket, 'close')
  return text
}

test('livez and readyz follow their checks; degraded never flips readiness', async () => {
  const health = createHealth()
  let etcd: HealthState = OK
  let log: HealthState = { state: 'ok', detail: '3 clusters' }
  health.register('live', 'event-loop', () => OK)
  health.register('ready', 'etcd', () => etcd)
  health.register('ready', 'log', () => log)
  await using server = await serve(mountAdmin(createRouter(), { health, metrics: createMetrics() }))
  const get = async (path: string): Promise<[number, string]> => {
    const response = await fetch(server.url + path)
    return [response.status, await response.text()]
  }

  assert.deepEqual(await get('/livez'), [200, 'ok\n'])
  assert.deepEqual(await get('/readyz'), [200, 'ok\n'])
  assert.deepEqual(await get('/readyz?verbose'), [200, '[+]etcd ok\n[+]log ok: 3 clusters\nreadyz check passed\n'])
  etcd = { state: 'degraded', detail: 'unreachable for 4 s' }
  assert.deepEqual(await get('/readyz'), [200, 'ok\n'])
  assert.match((await get('/readyz?verbose'))[1], /\[!\]etcd degraded: unreachable for 4 s/)
  log = { state: 'failed', detail: 'no policy loaded' }
  const failed = '[!]etcd degraded: unreachable for 4 s\n[-]log failed: no policy loaded\nreadyz check failed\n'
  assert.deepEqual(await get('/readyz'), [503, failed], 'a failure says why without being asked')
  assert.deepEqual(await get('/readyz?exclude=log'), [200, 'ok\n'])
  assert.deepEqual(await get('/readyz?exclude=etcd,log'), [200, 'ok\n'])
  assert.equal((await get('/livez'))[0], 200)
})

test('a check that throws is a failed check, and a name is registered once', async () => {
  const health = createHealth()
  const registered = health.register('ready', 'policy', () => {
    throw new Error('password=hunter2')
  })
  assert.deepEqual(health.report('ready'), {
    ok: false,
    checks: [{ name: 'policy', result: { state: 'failed', detail: 'the check itself failed: password=***' } }],
  })
  assert.throws(() => health.register('ready', 'policy', () => OK), RangeError)
  registered[Symbol.dispose]()
  assert.equal(health.report('ready').ok, true)
})

test('metrics are served with their content type', async () => {
  const metrics = createMetrics()
  metrics.counter({ name: 'deltawatch_events_total', help: 'Events.' }).inc(3)
  await using server = await serve(mountAdmin(createRouter(), { health: createHealth(), metrics }))
  const response = await fetch(`${server.url}/metrics`)
  assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/)
  assert.match(await response.text(), /^deltawatch_events_total 3$/m)
})

test('routes match by method and pattern', () => {
  const named = (name: string) => () => ({ status: 200, body: name })
  const router = createRouter()
    .on('GET', '/v1/clusters/:id', named('one'))
    .on('POST', '/v1/clusters/:id', named('post'))
    .on('GET', '/console/*', named('console'))
    .on('GET', '/', named('root'))
  const match = (method: string, path: string): unknown => {
    const found = router.match(method, path)
    return 'params' in found ? found.params : found
  }
  assert.deepEqual(match('GET', '/v1/clusters/sz-edge%2D1'), { id: 'sz-edge-1' })
  assert.deepEqual(match('HEAD', '/v1/clusters/a'), { id: 'a' })
  assert.deepEqual(match('GET', '/console/a/b.js'), { rest: 'a/b.js' })
  assert.deepEqual(match('GET', '/console/'), { rest: '' })
  assert.deepEqual(match('GET', '/'), {})
  assert.deepEqual(match('DELETE', '/v1/clusters/a'), { kind: 'wrong-method', allow: 'GET, POST' })
  for (const path of [
    '/v1/clusters',
    '/v1/clusters/',
    '/v1/clusters/a/b',
    '/v1/clusters/%ff',
    '/nope',
    '/console/%ff',
  ]) {
    assert.deepEqual(match('GET', path), { kind: 'not-found' }, path)
  }
  fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 64 }), (path) => void router.match('GET', path)))
})

test('I10: requests that are wrong get a status and the server lives on', async () => {
  const router = createRouter()
    .on('GET', '/ok', () => ({ status: 200, body: 'fine' }))
    .on('POST', '/echo', async (request) => ({ status: 200, body: await request.body() }))
    .on('GET', '/teapot', () => {
      throw new HttpError(418, 'DW_TEAPOT', 'short and stout')
    })
    .on('GET', '/bug', () => {
      throw new Error('password=hunter2')
    })
    .raw('GET', '/half', (_request, response) => {
      response.write('begun')
      throw new Error('bug after the head was sent')
    })
  await using server = await serve(router, { maxBodyBytes: 8, headersTimeoutMs: 300, requestTimeoutMs: 600 })
  const status = async (path: string, init?: RequestInit): Promise<[number, string]> => {
    const response = await fetch(server.url + path, init)
    return [response.status, await response.text()]
  }
  assert.deepEqual(await status('/echo', { method: 'POST', body: '12345678' }), [200, '12345678'])
  assert.equal((await status('/echo', { method: 'POST', body: '123456789' }))[0], 413)
  const stream = new ReadableStream({
    pull(controller) {
      controller.enqueue(new Uint8Array(1024))
    },
  })
  const chunked = fetch(`${server.url}/echo`, { method: 'POST', body: stream, duplex: 'half' })
  assert.equal((await chunked.catch(() => ({ status: 413 }))).status, 413, 'without a length too')
  assert.deepEqual(await status('/teapot'), [418, 'DW_TEAPOT: short and stout\n'])
  const [code, text] = await status('/bug')
  assert.deepEqual([code, text.includes('hunter2')], [500, false])
  assert.equal((await status('/nope'))[0], 404)
  assert.equal((await status('/ok', { method: 'PUT' }))[0], 405)
  await assert.rejects(status('/half'), 'a cut body is an error, not a short success')
  assert.match(await raw(server, 'nonsense\r\n\r\n'), /^HTTP\/1\.1 400/)
  assert.match(
    await raw(server, `GET /ok HTTP/1.1\r\nhost: x\r\nx-big: ${'y'.repeat(20_000)}\r\n\r\n`),
    /^HTTP\/1\.1 431/,
  )
  assert.match(await raw(server, 'GET /ok HTTP/1.1\r\nhost: x\r\nx-slow: '), /^HTTP\/1\.1 408/)
  assert.match(await raw(server, 'GET //evil/ok HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'), /^HTTP\/1\.1 404/)
  assert.match(
    await raw(server, 'GET /ok HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n'),
    /^$/,
  )
  assert.deepEqual(await status('/ok'), [200, 'fine'])
})

test('HEAD has the headers of GET and no body', async () => {
  await using server = await serve(createRouter().on('GET', '/ok', () => ({ status: 200, body: 'fine' })))
  const response = await fetch(`${server.url}/ok`, { method: 'HEAD' })
  assert.deepEqual([response.headers.get('content-length'), await response.text()], ['4', ''])
})

test('a busy port is a clear error', async () => {
  await using first = await serve(createRouter())
  const again = startHttpServer({ listen: { ...first.address }, router: createRouter(), logger: silentLogger() })
  await assert.rejects(again, {
    code: 'DW_LISTEN',
    message: `cannot listen on 127.0.0.1:${first.address.port}: another process uses this port; stop it or choose another port`,
  })
})

test('a close lets a running reply end, ends kept-alive sockets, and tells handlers', async () => {
  const gate = Promise.withResolvers<void>()
  const begun = Promise.withResolvers<AbortSignal>()
  const router = createRouter().on('GET', '/slow', async (request) => {
    begun.resolve(request.signal)
    await gate.promise
    return { status: 200, body: 'done' }
  })
  const server = await serve(router)
  await fetch(`${server.url}/idle`).then((r) => r.text())
  const running = fetch(`${server.url}/slow`)
  const signal = await begun.promise
  const closed = server.close()
  assert.equal(signal.aborted, true)
  gate.resolve()
  const response = await running
  assert.deepEqual([response.status, response.headers.get('connection'), await response.text()], [200, 'close', 'done'])
  await closed
  await assert.rejects(fetch(`${server.url}/slow`))
})

test('a handler learns that its client went away', async () => {
  const gone = Promise.withResolvers<void>()
  const begun = Promise.withResolvers<void>()
  const router = createRouter().raw('GET', '/stream', (request, response) => {
    request.signal.addEventListener('abort', () => gone.resolve())
    response.write('x')
    begun.resolve()
  })
  await using server = await serve(router)
  const controller = new AbortController()
  const response = await fetch(`${server.url}/stream`, { signal: controller.signal })
  await begun.promise
  controller.abort()
  await gone.promise
  await assert.rejects(response.text())
})

test('an upgrade is handed over when somebody wants it', async () => {
  await using server = await serve(createRouter(), {
    onUpgrade: (_message, socket) => socket.end('HTTP/1.1 101 Switching Protocols\r\n\r\nhello'),
  })
  assert.match(
    await raw(server, 'GET /v1/watch HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n'),
    /hello$/,
  )
})
