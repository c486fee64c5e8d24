// The read-only twins: event streams, CloudEvents sockets, state pages, tickets.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { test } from 'node:test'
import { CloudEvent, HTTP } from 'cloudevents'
import { WebSocket } from 'ws'
import { SUBPROTOCOL_CLOUDEVENTS } from '#protocol/version.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { EventStream } from './event-stream.ts'
import { startGateway } from './gateway.ts'

test('events: snapshot, frames with ids, and Last-Event-ID resumes exactly behind one', async () => {
  const sz = new FakeSource()
  sz.commit({ put: '/a', value: '{"v":1}' })
  await using gateway = await startGateway({ sources: new FakeSources(sz) })
  using stream = new EventStream()
  assert.equal(await stream.open(gateway.port, '/v1/events?cluster=sz-edge-1&prefix=/'), 200)
  await stream.next('watching')
  const end = await stream.next('snapshot')
  assert.equal(end.frame.phase, 'begin')
  sz.commit({ put: '/a', value: '2' }, { put: '/b', value: '3' })
  const first = await stream.next('events')
  assert.match(first.id ?? '', /^00000000000000aa:3:[0-9a-f]{16}$/)
  assert.equal(first.frame.events.length, 2)
  stream[Symbol.dispose]()
  sz.commit({ put: '/a', value: '4' })
  sz.commit({ delete: '/b' })
  using again = new EventStream()
  assert.equal(
    await again.open(gateway.port, '/v1/events?cluster=sz-edge-1&prefix=/', { 'last-event-id': first.id ?? '' }),
    200,
  )
  assert.equal((await again.next('watching')).frame.clusters['sz-edge-1']?.outcome, 'resumed')
  assert.equal((await again.next('events')).frame.revision, '4')
  assert.equal((await again.next('events')).frame.revision, '5')
  const bookmark = await again.next('bookmark')
  assert.match(bookmark.id ?? '', /^00000000000000aa:5:/)
})

test('events: every kind of Last-Event-ID gets its documented outcome', async () => {
  const sz = new FakeSource({ ring: 5 })
  for (let i = 0; i < 20; i++) sz.commit({ put: `/k${i}`, value: String(i) })
  await using gateway = await startGateway({ sources: new FakeSources(sz) })
  const tag = await (async () => {
    using stream = new EventStream()
    await stream.open(gateway.port, '/v1/events?cluster=sz-edge-1&prefix=/&start=now')
    sz.commit({ put: '/x', value: '1' })
    return (await stream.next('events')).id?.split(':')[2] ?? ''
  })()
  const outcome = async (id: string, path = '/v1/events?cluster=sz-edge-1&prefix=/'): Promise<string> => {
    using stream = new EventStream()
    const status = await stream.open(gateway.port, path, { 'last-event-id': id })
    if (status !== 200) return String(status)
    const { frame } = await stream.next('watching')
    const told = frame.clusters['sz-edge-1']?.outcome ?? 'absent'
    return told === 'resync' ? `resync ${(await stream.next('resync')).frame.reason}` : told
  }
  assert.equal(await outcome(`00000000000000aa:22:${tag}`), 'resumed')
  assert.equal(await outcome(`00000000000000aa:5:${tag}`), 'resumed')
  assert.equal(await outcome(`00000000000000aa:900:${tag}`), 'waiting')
  assert.equal(await outcome(`00000000000000ff:5:${tag}`), 'resync epoch')
  assert.equal(await outcome(`00000000000000aa:5:${tag}`, '/v1/events?cluster=sz-edge-1&prefix=/k'), 'resync selector')
  assert.equal(await outcome('garbage'), '400')
  assert.equal(await outcome(`00000000000000aa:-5:${tag}`), '400')
  sz.trimLog()
  assert.equal(await outcome(`00000000000000aa:5:${tag}`), 'resync trimmed')
})

test('events: bad requests are refused by status and code', async () => {
  await using gateway = await startGateway({ sources: new FakeSources(new FakeSource()) })
  const code = async (path: string, headers = {}): Promise<string> => {
    const { status, body } = await gateway.get(path, headers)
    return `${status} ${(JSON.parse(body) as { code?: string }).code ?? ''}`
  }
  assert.equal(await code('/v1/events?prefix=/'), '400 DW4000')
  assert.equal(await code('/v1/events?cluster=sz-edge-1&prefx=/'), '400 DW4000')
  assert.equal(await code('/v1/events?cluster=sz-edge-1&prefix=a&key=b'), '400 DW4011')
  assert.equal(await code('/v1/events?cluster=sz-edge-1', { origin: 'https://evil.example' }), '403 ')
  assert.equal(await gateway.metric('deltawatch_session_errors_total', { code: 'BadFrame' }), 2)
  assert.equal(await gateway.metric('deltawatch_session_errors_total', { code: 'BadSelector' }), 1)
})

test('events: one subject may hold so many, no more, and who is turned away is counted', async () => {
  const sources = new FakeSources(new FakeSource())
  await using gateway = await startGateway({ sources, limits: { maxPerSubject: 1 } })
  using first = new EventStream()
  using second = new EventStream()
  const path = '/v1/events?cluster=sz-edge-1&prefix=/'
  const headers = { authorization: 'Bearer dev:anna:sz' }
  assert.equal(await first.open(gateway.port, path, headers), 200)
  await first.next('watching')
  await second.open(gateway.port, path, headers)
  await assert.rejects(second.next('watching'), /ended/)
  assert.equal(await gateway.metric('deltawatch_disconnect_total', { code: 'TooManyConnections' }), 1)
})

test('the bare address names the ways in', async () => {
  await using gateway = await startGateway({ sources: new FakeSources(new FakeSource()) })
  const { status, body } = await gateway.get('/', {})
  assert.equal(status, 200)
  for (const path of ['/v1/watch', '/v1/events', '/v1/state', '/readyz']) assert.ok(body.includes(path), path)
})

test('I8: an event stream that is not read is bounded and reset', { timeout: 30_000 }, async () => {
  const sz = new FakeSource({ ring: 500 })
  await using gateway = await startGateway({
    sources: new FakeSources(sz),
    limits: { maxInFlight: 64 * 1024, heartbeatMs: 300, slowReaderMs: 600 },
  })
  const request = httpRequest({
    host: '127.0.0.1',
    port: gateway.port,
    path: '/v1/events?cluster=sz-edge-1&prefix=/',
    agent: false,
  })
  request.on('error', () => undefined)
  request.end()
  const [response] = await once(request, 'response')
  response.on('error', () => undefined)
  response.pause()
  while (gateway.front.sessions.followers.size === 0) await new Promise((resolve) => setImmediate(resolve))
  for (let i = 0; i < 20_000 && gateway.front.sessions.followers.size > 0; i++) {
    sz.commit({ put: `/k/${i % 9}`, value: 'x'.repeat(4_000) })
    if (i % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 2))
  }
  while (gateway.front.sessions.followers.size > 0) await new Promise((resolve) => setTimeout(resolve, 20))
  assert.equal(await gateway.metric('deltawatch_disconnect_total', { code: 'SlowReader' }), 1)
  request.destroy()
})

test('cloudevents.json: every message is one event that the SDK parses and validates', async () => {
  const sz = new FakeSource()
  sz.commit({ put: '/a', value: '{"v":1}' })
  await using gateway = await startGateway({ sources: new FakeSources(sz) })
  const ws = new WebSocket(`${gateway.url}?prefix=/&clusters=sz-edge-1`, [SUBPROTOCOL_CLOUDEVENTS])
  const seen: { type: string; subject?: string; data?: unknown; data_base64?: string; [name: string]: unknown }[] = []
  ws.on('message', (data: Buffer) => {
    const headers = { 'content-type': 'application/cloudevents+json' }
    const event = HTTP.toEvent({ headers, body: data.toString() })
    assert.ok(event instanceof CloudEvent)
    event.validate()
    seen.push(event as never)
  })
  await once(ws, 'open')
  const until = async (type: string): Promise<(typeof seen)[number]> => {
    for (;;) {
      const found = seen.find((event) => event.type === `io.deltawatch.${type}`)
      if (found !== undefined) {
        seen.splice(0, seen.indexOf(found) + 1)
        return found
      }
      await once(ws, 'message')
    }
  }
  const item = await until('item')
  assert.deepEqual([item.subject, item.data, item['revision']], ['/a', { v: 1 }, '2'])
  await until('snapshot.end')
  sz.commit({ put: '/a', value: 'text' }, { put: '/b', value: Uint8Array.of(255) }, { delete: '/a' })
  const put = await until('put')
  assert.deepEqual(
    [put.id, put['txcount'], put['sequence'], put.data],
    ['00000000000000aa:3:0', 3, '00000000000000000003', 'text'],
  )
  assert.equal((await until('put')).data_base64, '/w==')
  assert.equal((await until('delete')).subject, '/a')
  await until('bookmark')
  ws.send('hello?')
  const [code] = await once(ws, 'close')
  assert.equal(code, 4000)
})

test('state: pages pinned to one revision, continued by another gateway, with ETag and cursor', async () => {
  const sz = new FakeSource()
  for (let i = 0; i < 25; i++) sz.commit({ put: `/k/${String(i).padStart(2, '0')}`, value: `{"i":${i}}` })
  const sources = new FakeSources(sz)
  await using gateway = await startGateway({ sources })
  await using second = await startGateway({ sources })
  const path = '/v1/state?cluster=sz-edge-1&prefix=/k/&limit=10'
  const first = await gateway.get(path)
  assert.equal(first.status, 200)
  const etag = String(first.headers['etag'])
  const page = JSON.parse(first.body) as {
    items: { key: string; json: { i: number } }[]
    next?: string
    revision: string
    cursor?: string
  }
  assert.equal(page.items.length, 10)
  assert.equal(page.cursor, undefined)
  assert.equal((await gateway.get(path, { 'if-none-match': etag })).status, 304)
  // The world moves on; the pages do not.
  sz.commit({ delete: '/k/15' }, { put: '/k/16', value: '{"i":999}' }, { put: '/k/99', value: '{"i":99}' })
  assert.equal((await gateway.get(path, { 'if-none-match': etag })).status, 200)
  const rest: { key: string; json: { i: number } }[] = []
  let next = page.next
  let cursor: string | undefined
  for (const server of [second, gateway, second]) {
    if (next === undefined) break
    const answer = await server.get(`${path}&page=${encodeURIComponent(next)}`)
    assert.equal(answer.status, 200, answer.body)
    assert.equal(answer.headers['etag'], etag)
    const more = JSON.parse(answer.body) as typeof page
    assert.equal(more.revision, page.revision)
    rest.push(...more.items)
    next = more.next
    cursor = more.cursor
  }
  const all = [...page.items, ...rest].map((item) => item.json.i)
  assert.deepEqual(
    all,
    Array.from({ length: 25 }, (_, i) => i),
  )
  // The watch that follows the state has no hole and no overlap.
  const client = await gateway.client()
  client.watch({ id: 'w', prefix: '/k/', start: cursor ?? '' })
  assert.equal((await client.next('watching')).clusters['sz-edge-1']?.outcome, 'resumed')
  assert.equal((await client.next('events')).revision, '27')
})

test('state: what can go wrong has a status and a code', async () => {
  const sz = new FakeSource({ ring: 5 })
  for (let i = 0; i < 20; i++) sz.commit({ put: `/k/${i}`, value: 'v' })
  await using gateway = await startGateway({
    sources: new FakeSources(sz),
    rules: { blind: ['gz'] },
    limits: { statePerSecond: 10 },
  })
  const get = async (path: string): Promise<string> => {
    const { status, body } = await gateway.get(path)
    return `${status} ${(JSON.parse(body) as { code?: string }).code ?? ''}`
  }
  const path = '/v1/state?cluster=sz-edge-1&prefix=/k/&limit=5'
  const { next } = JSON.parse((await gateway.get(path)).body) as { next: string }
  assert.equal(await get('/v1/state?cluster=nowhere'), '404 DW4017')
  assert.equal(await get('/v1/state'), '404 DW4017')
  assert.equal(await get(`${path}&limit=0`), '400 DW4000')
  assert.equal(await get('/v1/state?cluster=sz-edge-1&limit=0'), '400 DW4000')
  assert.equal(await get(`${path}&page=dw1.garbage`), '400 DW4012')
  assert.equal(await get(`/v1/state?cluster=sz-edge-1&prefix=/other/&page=${encodeURIComponent(next)}`), '410 DW4108')
  for (let i = 0; i < 20; i++) sz.commit({ put: `/k/${i}`, value: 'w' })
  assert.equal(await get(`${path}&page=${encodeURIComponent(next)}`), '410 DW4108')
  for (let i = 0; i < 12; i++) await gateway.get(path)
  const before = await gateway.metric('deltawatch_session_errors_total', { code: 'SnapshotBusy' })
  assert.equal(await get(path), '503 DW4108')
  assert.equal(await gateway.metric('deltawatch_session_errors_total', { code: 'SnapshotBusy' }), before + 1)
})

test('state: keys renamed by policy come in the order they are delivered in', async () => {
  const sz = new FakeSource()
  for (let i = 0; i < 30; i++) sz.commit({ put: `/k/${String(i).padStart(2, '0')}`, value: String(i) })
  await using gateway = await startGateway({ sources: new FakeSources(sz), rules: { rename: '/r' } })
  const keys: string[] = []
  let next: string | undefined = ''
  while (next !== undefined) {
    const answer = await gateway.get(
      `/v1/state?cluster=sz-edge-1&prefix=/r/k/&limit=7${next === '' ? '' : `&page=${encodeURIComponent(next)}`}`,
    )
    const page = JSON.parse(answer.body) as { items: { key: string }[]; next?: string }
    keys.push(...page.items.map((item) => item.key))
    next = page.next
  }
  assert.deepEqual(
    keys,
    Array.from({ length: 30 }, (_, i) => `/r/k/${String(i).padStart(2, '0')}`),
  )
  const client = await gateway.client()
  assert.equal((await client.snapshot({ id: 'a', prefix: '/k/' })).items.length, 0)
  assert.equal((await client.snapshot({ id: 'b', prefix: '/r/k/1' })).items.length, 10)
  sz.commit({ put: '/k/10', value: 'new' }, { put: '/k/20', value: 'new' })
  assert.deepEqual(
    (await client.next('events')).events.map((event) => ('key' in event ? event.key : '')),
    ['/r/k/10'],
  )
})

test('tickets: single use, bound to the origin that asked', async () => {
  await using gateway = await startGateway({ sources: new FakeSources(new FakeSource()) })
  const origin = `http://127.0.0.1:${gateway.port}`
  const mint = async (): Promise<string> => {
    const answer = await gateway.get('/v1/ticket', { authorization: 'Bearer dev:anna:sz', origin }, 'POST')
    assert.equal(answer.status, 200, answer.body)
    return (JSON.parse(answer.body) as { ticket: string }).ticket
  }
  const ticket = await mint()
  using stream = new EventStream()
  assert.equal(await stream.open(gateway.port, `/v1/events?cluster=sz-edge-1&ticket=${ticket}`, { origin }), 200)
  await stream.next('watching')
  assert.equal((await gateway.get(`/v1/events?cluster=sz-edge-1&ticket=${ticket}`, { origin })).status, 401)
  const other = await mint()
  assert.equal(
    (await gateway.get(`/v1/state?cluster=sz-edge-1&ticket=${other}`, { origin: 'http://localhost:9' })).status,
    401,
  )
  assert.equal((await gateway.get(`/v1/state?cluster=sz-edge-1&ticket=${other}`, { origin })).status, 401)
  const preflight = await gateway.get('/v1/ticket', { origin }, 'OPTIONS')
  assert.equal(preflight.headers['access-control-allow-origin'], origin)
  assert.equal((await gateway.get('/v1/ticket', { origin: 'https://evil.example' }, 'POST')).status, 403)
})

test('hideActivity: a class learns of its own revisions and of no other', async () => {
  const sz = new FakeSource()
  sz.commit({ put: '/open', value: '1' })
  sz.commit({ put: '/hidden', value: '2' })
  await using gateway = await startGateway({
    sources: new FakeSources(sz),
    rules: { hidden: ['/hidden'], hideActivity: true },
  })
  const client = await gateway.client({ hello: false })
  client.send({ type: 'hello', client: 't', versions: [1] })
  assert.equal((await client.next('welcome')).clusters['sz-edge-1']?.revision, undefined)
  const { revision, items } = await client.snapshot({ id: 'w', prefix: '/' })
  assert.equal(revision, '2')
  assert.ok(items.every((item) => !('version' in item)))
  sz.commit({ put: '/hidden', value: '3' })
  sz.prove(100)
  const quiet = await client.next('bookmark')
  assert.equal(quiet.clusters['sz-edge-1']?.revision, '2')
  sz.commit({ put: '/open', value: '4' })
  assert.equal((await client.next('events')).revision, '105')
  sz.commit({ put: '/hidden', value: '5' })
  const { cursor, clusters } = await client.next('bookmark', (f) => f.clusters['sz-edge-1']?.revision !== '2')
  assert.equal(clusters['sz-edge-1']?.revision, '105')
  const { headers } = await gateway.get('/v1/state?cluster=sz-edge-1')
  assert.match(String(headers['etag']), /^"00000000000000aa:105:/)
  const again = await gateway.client()
  again.watch({ id: 'w', prefix: '/', start: cursor })
  assert.deepEqual((await again.next('watching')).clusters['sz-edge-1'], {
    outcome: 'resumed',
    epoch: '00000000000000aa',
    revision: '105',
  })
})
