// A watch over a real socket, from hello to goodbye.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { startGateway } from './gateway.ts'

test('I1: snapshot, then each revision as one frame, a transaction whole', async () => {
  const sz = new FakeSource()
  sz.commit({ put: '/a/1', value: '{"n":12345678901234567890}' }, { put: '/b/1', value: 'x' })
  await using gateway = await startGateway({ sources: new FakeSources(sz) })
  const client = await gateway.client()
  const { items, revision, ch } = await client.snapshot({ id: 'w', prefix: '/a/' })
  assert.equal(revision, '2')
  assert.equal(items.length, 1)
  sz.commit({ put: '/a/2', value: '["y"]' }, { delete: '/a/1' }, { put: '/b/2', value: 'hidden by the selector' })
  const frame = await client.next('events')
  assert.equal(frame.ch, ch)
  assert.equal(frame.revision, '3')
  assert.deepEqual(frame.events, [
    { op: 'put', key: '/a/2', json: ['y'], createRevision: '3', version: '1' },
    { op: 'delete', key: '/a/1' },
  ])
})

test('values travel byte for byte: large numbers, empty, text, binary, 1.4 MB', async () => {
  const sz = new FakeSource()
  await using gateway = await startGateway({ sources: new FakeSources(sz) })
  const client = await gateway.client()
  await client.snapshot({ id: 'w', prefix: '/' })
  const texts: string[] = []
  client.ws.on('message', (data: Buffer) => texts.push(data.toString()))
  sz.commit({ put: '/n', value: '{"n":12345678901234567890, "e":1e400}' })
  await client.next('events')
  assert.match(texts.at(-1) ?? '', /"json":\{"n":12345678901234567890, "e":1e400\}/)
  sz.commit(
    { put: '/empty', value: '' },
    { put: '/twice', value: '{"a":1,"\\u0061":2}' },
    { put: '/lines', value: '{\n}' },
  )
  const { events } = await client.next('events')
  assert.deepEqual(
    events.map((event) => ('text' in event ? event.text : undefined)),
    ['', '{"a":1,"\\u0061":2}', '{\n}'],
  )
  sz.commit({ put: '/bytes', value: Uint8Array.of(0xff, 0, 0xfe) })
  const [binary] = (await client.next('events')).events
  assert.equal(binary !== undefined && 'base64' in binary ? binary.base64 : '', '/wD+')
  const large = 'x'.repeat(1_400_000)
  sz.commit({ put: '/large', value: large })
  const [big] = (await client.next('events')).events
  assert.equal(big !== undefined && 'text' in big ? big.text?.length : 0, large.length)
  sz.commit({ put: '/oversize', value: 'y'.repeat(1_700_000) })
  const [over] = (await client.next('events')).events
  assert.deepEqual(over !== undefined && 'oversize' in over ? over.oversize : 0, 1_700_000)
})

test('channels: the same watch on two connections has one number and one encoding', async () => {
  const sz = new FakeSource()
  await using gateway = await startGateway({ sources: new FakeSources(sz) })
  const [a, b] = [await gateway.client(), await gateway.client()]
  const one = await a.snapshot({ id: 'x', prefix: '/k' })
  const two = await b.snapshot({ id: 'y', prefix: '/k' })
  const other = await b.snapshot({ id: 'z', prefix: '/other' })
  assert.equal(one.ch, two.ch)
  assert.notEqual(one.ch, other.ch)
  b.watch({ id: 'again', prefix: '/k' })
  assert.equal((await b.next('error')).code, 'DW4014')
  b.watch({ id: 'y', prefix: '/third' })
  assert.equal((await b.next('error')).code, 'DW4013')
  b.send({ type: 'unwatch', id: 'y' })
  assert.deepEqual(await b.next('unwatched'), { type: 'unwatched', id: 'y', ch: two.ch })
  await b.snapshot({ id: 'y', prefix: '/third' })
  b.send({ type: 'unwatch', id: 'nobody' })
  assert.equal((await b.next('error')).code, 'DW4015')
})

test('selectors: key, prefix, range, base64, clusters and regions', async () => {
  const sz = new FakeSource()
  const gz = new FakeSource({ cluster: 'gz-edge-1', region: 'gz' })
  for (const source of [sz, gz]) {
    source.commit(
      { put: 'a', value: '1' },
      { put: 'b', value: '2' },
      { put: 'c', value: '3' },
      { put: 'ab', value: '4' },
    )
  }
  await using gateway = await startGateway({ sources: new FakeSources(sz, gz) })
  const keys = async (watch: object): Promise<string[]> => {
    const client = await gateway.client()
    const { items } = await client.snapshot({ id: 'w', ...watch }, 'gz-edge-1')
    return items.map((item) => ('key' in item ? String(item.key) : '')).sort()
  }
  assert.deepEqual(await keys({ key: 'a' }), ['a'])
  assert.deepEqual(await keys({ prefix: 'a' }), ['a', 'ab'])
  assert.deepEqual(await keys({ from: 'ab', to: 'c' }), ['ab', 'b'])
  assert.deepEqual(await keys({ from: 'b' }), ['b', 'c'])
  assert.deepEqual(await keys({ prefixBase64: 'YQ==', clusters: ['gz-edge-1'] }), ['a', 'ab'])
  assert.deepEqual(await keys({ prefix: '', regions: ['gz'] }), ['a', 'ab', 'b', 'c'])
  const client = await gateway.client()
  client.watch({ id: 'w', prefix: '', clusters: ['gz-edge-1', 'no-such'], regions: ['gz'] })
  const { clusters } = await client.next('watching')
  assert.equal(clusters['no-such']?.outcome, 'denied')
  assert.equal(clusters['sz-edge-1'], undefined)
})

test('bookmarks: within a second of a change, and right before the goodbye of a drain', async () => {
  const sz = new FakeSource()
  await using gateway = await startGateway({ sources: new FakeSources(sz) })
  const client = await gateway.client()
  await client.snapshot({ id: 'w', prefix: '/' })
  sz.commit({ put: '/a', value: '1' })
  await client.next('events')
  const { clusters } = await client.next('bookmark', (f) => f.clusters['sz-edge-1']?.revision === '2')
  assert.equal(clusters['sz-edge-1']?.state, 'live')
  sz.commit({ put: '/a', value: '2' })
  await gateway.front.drain(AbortSignal.timeout(1_000))
  const last = await client.next('bookmark')
  assert.equal(last.clusters['sz-edge-1']?.revision, '3')
  const goodbye = await client.next('goodbye')
  assert.equal(goodbye.code, 4201)
  assert.ok((goodbye.retryAfterMs ?? 0) >= 200)
  assert.equal((await client.closed).code, 4201)
  assert.equal((await gateway.get('/readyz')).status, 503)
  await assert.rejects(gateway.client(), /503/)
})

test('I2: a cursor resumes on another connection with nothing twice and nothing missing', async () => {
  const sz = new FakeSource()
  const sources = new FakeSources(sz)
  await using gateway = await startGateway({ sources })
  await using second = await startGateway({ sources })
  const client = await gateway.client()
  await client.snapshot({ id: 'w', prefix: '/' })
  sz.commit({ put: '/a', value: '1' })
  const { cursor } = await client.next('bookmark', (f) => f.clusters['sz-edge-1']?.revision === '2')
  client.ws.terminate()
  sz.commit({ put: '/a', value: '2' })
  sz.commit({ put: '/a', value: '3' })
  // Another gateway on the same hub accepts it.
  const resumed = await second.client()
  resumed.watch({ id: 'w', prefix: '/', start: cursor })
  const { clusters } = await resumed.next('watching')
  assert.deepEqual(clusters['sz-edge-1'], { outcome: 'resumed', epoch: '00000000000000aa', revision: '2' })
  const told = [await resumed.next('events'), await resumed.next('events')]
  assert.deepEqual(
    told.map((frame) => frame.revision),
    ['3', '4'],
  )
})

test('a cursor of another selector or damaged is answered, and the connection lives on', async () => {
  const sz = new FakeSource()
  await using gateway = await startGateway({ sources: new FakeSources(sz) })
  const client = await gateway.client()
  await client.snapshot({ id: 'w', prefix: '/' })
  sz.commit({ put: '/a', value: '1' })
  const { cursor } = await client.next('bookmark')
  client.watch({ id: 'v', prefix: '/a', start: cursor })
  assert.equal((await client.next('watching')).clusters['sz-edge-1']?.outcome, 'resync')
  assert.equal((await client.next('resync')).reason, 'selector')
  await client.next('snapshot', (f) => f.phase === 'end')
  const flipped = cursor.slice(0, -2) + (cursor.at(-2) === 'A' ? 'B' : 'A') + cursor.slice(-1)
  client.watch({ id: 'u', prefix: '/b', start: flipped })
  const error = await client.next('error')
  assert.deepEqual([error.id, error.code], ['u', 'DW4012'])
  client.send({ type: 'ping' })
  await client.next('pong')
})

test('policy: a change is repaired by scope and difference, in place', async () => {
  const sz = new FakeSource()
  sz.commit({ put: '/open/1', value: 'a' }, { put: '/closed/1', value: 'b' })
  await using gateway = await startGateway({ sources: new FakeSources(sz), rules: { hidden: ['/closed'] } })
  const client = await gateway.client()
  const before = await client.snapshot({ id: 'w', prefix: '/' })
  gateway.policy.replace({ hidden: ['/open'] })
  const watching = await client.next('watching')
  assert.notEqual(watching.ch, before.ch)
  assert.deepEqual((await client.next('scope')).left, ['/open/1'])
  assert.equal((await client.next('resync')).reason, 'policy')
  const begin = await client.next('snapshot')
  assert.equal(begin.phase === 'begin' ? begin.base : '', 'diff')
  const items = await client.next('snapshot')
  assert.deepEqual(items.phase === 'items' ? items.items.map((item) => ('key' in item ? item.key : '')) : [], [
    '/closed/1',
  ])
  assert.equal((await client.next('snapshot')).phase, 'end')
  sz.commit({ put: '/open/2', value: 'no' }, { put: '/closed/2', value: 'yes' })
  const { events } = await client.next('events')
  assert.equal(events.length, 1)
})

test('a key that becomes hidden leaves, a cluster that is hidden does not exist', async () => {
  const sz = new FakeSource()
  const gz = new FakeSource({ cluster: 'gz-edge-1', region: 'gz' })
  await using gateway = await startGateway({
    sources: new FakeSources(sz, gz),
    rules: { secret: 'secret', blind: ['gz'] },
  })
  const client = await gateway.client({ hello: false })
  client.send({ type: 'hello', client: 't', versions: [1] })
  const welcome = await client.next('welcome')
  assert.deepEqual(Object.keys(welcome.clusters), ['sz-edge-1'])
  assert.equal(welcome.dev, true)
  client.watch({ id: 'w', prefix: '/', clusters: ['sz-edge-1', 'gz-edge-1', 'zz'] })
  const { clusters } = await client.next('watching')
  assert.deepEqual(clusters['gz-edge-1'], clusters['zz'])
  sz.commit({ put: '/a', value: 'fine' })
  await client.next('events')
  sz.commit({ put: '/a', value: 'secret' })
  assert.deepEqual((await client.next('events')).events, [{ op: 'leave', key: '/a' }])
  sz.commit({ delete: '/a' })
  sz.commit({ put: '/a', value: 'fine again' })
  assert.equal((await client.next('events')).revision, '5')
})

test('I7: clusters come, go and fall silent without closing anything', async () => {
  const sz = new FakeSource()
  const sources = new FakeSources(sz)
  await using gateway = await startGateway({ sources })
  const client = await gateway.client()
  await client.snapshot({ id: 'w', prefix: '/' })
  const gz = new FakeSource({ cluster: 'gz-edge-1', region: 'gz', ready: false })
  sources.add(gz)
  const added = await client.next('cluster')
  assert.deepEqual([added.cluster, added.region], ['gz-edge-1', 'gz'])
  sz.commit({ put: '/a', value: '1' })
  await client.next('events')
  gz.becomeReady()
  await client.next('snapshot', (f) => f.cluster === 'gz-edge-1' && f.phase === 'end')
  gz.setState('unreachable')
  assert.equal((await client.next('cluster')).state, 'unreachable')
  sources.remove(gz)
  assert.equal((await client.next('cluster')).state, 'removed')
  sz.commit({ put: '/a', value: '2' })
  await client.next('events')
})

test('start now: no snapshot, and a resync tells the new position alone', async () => {
  const sz = new FakeSource()
  sz.commit({ put: '/a', value: '1' })
  await using gateway = await startGateway({ sources: new FakeSources(sz) })
  const client = await gateway.client()
  client.watch({ id: 'w', prefix: '/', start: 'now' })
  assert.deepEqual((await client.next('watching')).clusters['sz-edge-1'], {
    outcome: 'live',
    epoch: '00000000000000aa',
    revision: '2',
  })
  sz.reset('epoch', [{ put: '/b', value: '2' }], { epoch: '00000000000000bb' })
  const resync = await client.next('resync')
  assert.deepEqual([resync.reason, resync.to?.epoch], ['epoch', '00000000000000bb'])
  sz.commit({ put: '/c', value: '3' })
  const frames = client.frames.filter((frame) => frame.type === 'snapshot')
  assert.equal((await client.next('events')).epoch, '00000000000000bb')
  assert.deepEqual(frames, [])
})
