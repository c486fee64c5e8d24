// Clusters that are not there yet, come back, trouble nobody else, and go.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { streamDifferences, streamConfig } from '#protocol/log/stream.ts'
import { streamName } from '#protocol/subjects.ts'
import { caughtUp, cluster, record, region, revisions, served, startHub, until } from './jetstream.ts'

const put = (key: string, value: string) => ({ op: 'put', key, value }) as const
const sz = cluster('sz-edge-1')
const gz = cluster('gz-edge-1')

test('I7, I9: NATS is down at the start: unreachable, then live by itself', async () => {
  await using hub = await startHub()
  await hub.createStream(sz)
  const writer = hub.writer(sz)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  await writer.flush()
  await hub.nats.stop()
  await using followed = await hub.sources()
  const source = followed.sources.add(sz, region('sz'))
  assert.equal(source.status.state, 'unreachable')
  assert.equal(source.ready, false)
  assert.deepEqual(source.locate({ epoch: writer.epoch, revision: '1' as never }), { kind: 'unready' })
  await hub.nats.restart()
  await caughtUp(source, writer)
  await until(source, () => source.status.state === 'live' || source.status.state === 'idle-proved', 'proven')
})

test('I7: a missing stream keeps nobody waiting, and is followed as soon as it is made', async () => {
  await using hub = await startHub()
  await hub.createStream(sz)
  const writer = hub.writer(sz)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  await writer.flush()
  await using followed = await hub.sources()
  const missing = followed.sources.add(gz, region('gz'))
  const source = followed.sources.add(sz, region('sz'))
  await caughtUp(source, writer, 2_000)
  assert.equal(missing.status.state, 'unreachable')
  assert.equal(missing.status.reason, 'missing')
  using seen = record(source)
  await hub.createStream(gz)
  const late = hub.writer(gz, { epoch: 7, seed: 7 })
  late.commit([put('/g', '1')])
  late.checkpoint('epoch')
  await late.flush()
  await caughtUp(missing, late)
  assert.deepEqual(seen.resets, [])
  assert.deepEqual(
    followed.sources.list().map((one) => one.cluster),
    [gz, sz],
  )
})

test('in dev mode the stream is created as the protocol needs it', async () => {
  await using hub = await startHub()
  await using followed = await hub.sources({ createStreams: { maxBytes: 5_000_000 } })
  const source = followed.sources.add(sz, region('sz'))
  await until(source, () => source.status.state === 'resyncing', 'stream made')
  const { config } = await hub.jsm.streams.info(streamName(sz))
  const wanted = streamConfig({ cluster: sz, maxBytes: 5_000_000, maxMessageBytes: 1024 * 1024, replicas: 1 })
  assert.deepEqual(streamDifferences(wanted, { ...config }), [])
  assert.deepEqual(
    [config.max_bytes, config.max_msg_size, config.deny_delete, config.storage, config.discard],
    [5_000_000, 1024 * 1024, true, 'file', 'old'],
  )
  const writer = hub.writer(sz)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  await writer.flush()
  await caughtUp(source, writer)
})

test('a removed cluster says so; added again it starts anew; the others notice nothing', async () => {
  await using hub = await startHub()
  const writers = []
  for (const [id, seed] of [
    [sz, 1],
    [gz, 2],
  ] as const) {
    await hub.createStream(id)
    const writer = hub.writer(id, { epoch: seed, seed })
    writer.commit([put('/a', '1')])
    writer.checkpoint('epoch')
    await writer.flush()
    writers.push(writer)
  }
  const [a, b] = writers as [(typeof writers)[0], (typeof writers)[0]]
  await using followed = await hub.sources()
  const added: string[] = []
  const watching = followed.sources.onAdded((source) => added.push(source.cluster))
  const gone = followed.sources.add(sz, region('sz'))
  const stays = followed.sources.add(gz, region('gz'))
  await Promise.all([caughtUp(gone, a), caughtUp(stays, b)])
  using goneSeen = record(gone)
  using staysSeen = record(stays)
  await followed.sources.remove(sz)
  assert.equal(gone.status.state, 'removed')
  assert.equal(goneSeen.events.at(-1)?.kind, 'removed')
  assert.equal(followed.sources.get(sz), undefined)
  const again = followed.sources.add(sz, region('sz'))
  await caughtUp(again, a)
  watching[Symbol.dispose]()
  assert.deepEqual(added, [sz, gz, sz])
  assert.deepEqual(staysSeen.resets, [])
  const text = await followed.metrics.expose()
  assert.match(text, /deltawatch_state_keys\{cluster="sz-edge-1"\} 1\b/)
})

test('an entry kind this gateway does not know stops that cluster alone, and says so', async () => {
  await using hub = await startHub()
  for (const id of [sz, gz]) await hub.createStream(id)
  const writer = hub.writer(sz)
  const other = hub.writer(gz, { epoch: 2, seed: 2 })
  for (const one of [writer, other]) {
    one.commit([put('/a', '1')])
    one.checkpoint('epoch')
    await one.flush()
  }
  await using followed = await hub.sources()
  const source = followed.sources.add(sz, region('sz'))
  const healthy = followed.sources.add(gz, region('gz'))
  await Promise.all([caughtUp(source, writer), caughtUp(healthy, other)])
  // kind 42, with ids and epoch.
  const id = (byte: number, length: number) => [length, ...Array.from({ length }, () => byte)]
  writer.raw(new Uint8Array([0x0a, ...id(1, 16), 0x12, ...id(2, 16), 0x18, 42, 0x22, ...id(3, 8)]))
  await writer.flush()
  await until(source, () => source.status.state === 'unreachable', 'stopped')
  assert.equal(source.status.reason, 'unknown-kind')
  assert.deepEqual(served(source), ['/a=1@1'], 'what was known stays')
  other.events([put('/b', '2')])
  await other.flush()
  await caughtUp(healthy, other)
  assert.match(
    await followed.metrics.expose(),
    /deltawatch_resync_total\{cluster="sz-edge-1",cause="unknown-kind"\} [1-9]/,
  )
  // A newer complete checkpoint lies behind what it could not read.
  writer.checkpoint('routine')
  writer.events([put('/c', '3')])
  await writer.flush()
  await caughtUp(source, writer)
})

test('I9: without proof a cluster is lagging, then unreachable; a bookmark makes it proven again', async () => {
  await using hub = await startHub()
  await hub.createStream(sz)
  const writer = hub.writer(sz)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  await writer.flush()
  const limits = { lagAfterMs: 300, unreachableAfterMs: 900, idleAfterMs: 200 }
  await using followed = await hub.sources({ limits })
  const source = followed.sources.add(sz, region('sz'))
  await caughtUp(source, writer)
  using seen = record(source)
  await until(source, () => source.status.state === 'unreachable', 'silence')
  await hub.mark(sz, writer.mark())
  await until(source, () => source.status.state === 'idle-proved', 'proof')
  await hub.mark(sz, writer.mark({ state: 'unreachable' }))
  await until(source, () => source.status.state === 'unreachable', 'the agent lost its etcd')
  writer.events([put('/b', '2')])
  await writer.flush()
  await hub.mark(sz, writer.mark())
  await until(source, () => source.status.state === 'live', 'events')
  const order = seen.states.join(' ')
  assert.match(order, /lagging unreachable idle-proved (lagging )?unreachable .*live/)
})

test('entries larger than a request, and thousands of small ones, arrive whole and in order', async () => {
  await using hub = await startHub()
  await hub.createStream(sz, 256 * 1024 * 1024)
  const writer = hub.writer(sz)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  for (let i = 0; i < 40; i++) {
    writer.events([put('/big', String(i).repeat(150_000))])
    for (let n = 0; n < 25; n++) writer.events([put(`/small${n}`, `${i}`)])
  }
  writer.chunks([put('/huge', 'h'.repeat(600_000))], 3)
  await writer.flush()
  await using followed = await hub.sources({
    pull: { requestBytes: 64 * 1024, requestMessages: 7, heartbeatMs: 1_000 },
  })
  const source = followed.sources.add(sz, region('sz'))
  using seen = record(source)
  await caughtUp(source, writer, 20_000)
  assert.deepEqual(seen.delivered, revisions(writer, 2, writer.position))
})
