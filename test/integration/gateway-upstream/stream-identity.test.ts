// The stream under a live gateway is trimmed, purged, deleted, rolled back, cut at the tail. A consumer says nothing of it.

import assert from 'node:assert/strict'
import { cp, rm } from 'node:fs/promises'
import { test } from 'node:test'
import { streamConfig } from '#protocol/log/stream.ts'
import { streamName } from '#protocol/subjects.ts'
import { caughtUp, cluster, dropStream, record, region, revisions, startHub } from './jetstream.ts'

const put = (key: string, value: string) => ({ op: 'put', key, value }) as const
const id = cluster('sz-edge-1')

test('a stream that was deleted and made again: resync to the new lineage, deletes included', async () => {
  await using hub = await startHub()
  await hub.createStream(id)
  const old = hub.writer(id)
  old.commit([put('/gone', '1'), put('/kept', '1')])
  old.checkpoint('epoch')
  old.events([put('/b', '2')])
  await old.flush()
  await using followed = await hub.sources()
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, old)
  using seen = record(source)
  await dropStream(hub, id)
  await hub.createStream(id)
  const fresh = hub.writer(id, { epoch: 2, seed: 2 })
  fresh.commit([put('/kept', '1')])
  fresh.checkpoint('epoch')
  await fresh.flush()
  await caughtUp(source, fresh)
  assert.deepEqual(seen.resets, ['epoch'])
  assert.deepEqual(seen.delivered, [])
})

test('a purged stream: what is served stays, the new lineage replaces it', async () => {
  await using hub = await startHub()
  await hub.createStream(id)
  const writer = hub.writer(id)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  writer.events([put('/b', '2')])
  await writer.flush()
  await using followed = await hub.sources()
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, writer)
  using seen = record(source)
  await hub.jsm.streams.purge(streamName(id))
  assert.equal(source.ready, true)
  writer.restartChain(writer.seq)
  writer.newEpoch(2, writer.head, writer.state)
  writer.checkpoint('epoch')
  writer.events([put('/c', '3')])
  await writer.flush()
  await caughtUp(source, writer)
  assert.deepEqual(seen.resets, ['epoch'])
})

test('L15: a hub that lost its tail gets it again; nobody sees a revision twice or misses one', async () => {
  await using hub = await startHub()
  await hub.createStream(id)
  const writer = hub.writer(id)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  writer.events([put('/b', '2')])
  await writer.flush()
  await using followed = await hub.sources()
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, writer)
  using seen = record(source)
  // The hub's disk as of now, to which it will fall back.
  const { dataDir } = hub.nats
  await hub.bounce('SIGTERM', () => cp(dataDir, `${dataDir}.before`, { recursive: true }))
  const at = { seq: writer.seq, lastId: writer.lastId, position: writer.position }
  const lost = [
    writer.commit([put('/c', '3')]),
    writer.commit([{ op: 'delete', key: '/a' }]),
    writer.commit([put('/b', '5')]),
  ]
  for (const revision of lost) writer.append(writer.eventsBody([revision]))
  await writer.flush()
  await caughtUp(source, writer)
  await hub.bounce('SIGKILL', async () => {
    await rm(dataDir, { recursive: true })
    await cp(`${dataDir}.before`, dataDir, { recursive: true })
  })
  Object.assign(writer, at)
  writer.knownFrom(at.seq)
  writer.append(writer.eventsBody(lost.slice(0, 2)))
  await writer.flush()
  writer.append(writer.eventsBody(lost.slice(2)))
  writer.events([put('/d', '6')])
  await writer.flush()
  await caughtUp(source, writer)
  assert.deepEqual(seen.delivered, revisions(writer, 3, 6))
  assert.deepEqual(seen.resets, [])
})

test('R4: trimmed past a reader that was cut off: it says so and has the right state', async () => {
  await using hub = await startHub({ proxyFor: 'clients' })
  await hub.createStream(id, 300_000)
  const writer = hub.writer(id)
  writer.commit([put('/a', '1'), put('/old', '1')])
  writer.checkpoint('epoch')
  await writer.flush()
  await using followed = await hub.sources()
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, writer)
  using seen = record(source)
  await hub.nats.proxy.refuse()
  hub.nats.proxy.cut()
  writer.events([{ op: 'delete', key: '/old' }])
  for (let i = 0; i < 10; i++) writer.events([put(`/k${i % 3}`, 'x'.repeat(20_000))])
  writer.checkpoint('routine')
  for (let i = 0; i < 10; i++) writer.events([put(`/k${i % 3}`, 'y'.repeat(20_000))])
  await writer.flush()
  const { state } = await hub.jsm.streams.info(streamName(id))
  assert.ok(state.first_seq > 4, 'the stream was trimmed')
  await hub.nats.proxy.accept()
  await caughtUp(source, writer, 20_000)
  assert.deepEqual(seen.resets, ['trimmed'])
})

test('a deleted tail entry: the agent starts a new lineage behind it and the gateway follows', async () => {
  await using hub = await startHub()
  const config = {
    ...streamConfig({ cluster: id, maxBytes: 1e7, maxMessageBytes: 1e6, replicas: 1 }),
    deny_delete: false,
  }
  await hub.jsm.streams.add(config as unknown as Parameters<typeof hub.jsm.streams.add>[0])
  const writer = hub.writer(id)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  writer.events([put('/b', '2')])
  await writer.flush()
  await using followed = await hub.sources()
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, writer)
  using seen = record(source)
  await hub.jsm.streams.deleteMessage(streamName(id), writer.seq)
  writer.restartChain(writer.seq)
  writer.newEpoch(2, writer.head, writer.state)
  writer.checkpoint('epoch')
  await writer.flush()
  await caughtUp(source, writer)
  assert.deepEqual(seen.resets, ['epoch'])
})

test('an undecodable entry at the tail: void here, position unknown there, a new lineage for both', async () => {
  await using hub = await startHub()
  await hub.createStream(id)
  const writer = hub.writer(id)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  await writer.flush()
  await using followed = await hub.sources()
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, writer)
  using seen = record(source)
  writer.raw(new TextEncoder().encode('no entry'))
  await writer.flush()
  writer.restartChain(writer.seq)
  writer.newEpoch(2, writer.head, writer.state)
  writer.checkpoint('epoch')
  await writer.flush()
  await caughtUp(source, writer)
  assert.deepEqual(seen.resets, ['epoch'])
  const text = await followed.metrics.expose()
  assert.match(text, /deltawatch_log_undecodable_entries_total\{cluster="sz-edge-1"\} [12]\b/)
})

test('I1, I2: the server is killed and comes back under writes: every revision once, in order', async () => {
  await using hub = await startHub()
  await hub.createStream(id)
  const writer = hub.writer(id)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  await writer.flush()
  await using followed = await hub.sources()
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, writer)
  using seen = record(source)
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 20; i++) writer.events([put(`/k${i}`, `${round}`)])
    await writer.flush()
    await hub.bounce(round === 0 ? 'SIGTERM' : 'SIGKILL')
  }
  await caughtUp(source, writer)
  assert.deepEqual(seen.delivered, revisions(writer, 2, writer.position))
  assert.deepEqual(seen.resets, [])
})
