// A hub of three: readings survive the death of the server that held them, whoever leads the stream.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { streamName } from '#protocol/subjects.ts'
import { caughtUp, cluster, record, region, revisions, startHub } from './jetstream.ts'

const id = cluster('sz-edge-1')

test('I1, I2: the leader of a replicated stream is killed under writes: every revision once, in order', async () => {
  await using hub = await startHub({ cluster: 3 })
  await hub.createStream(id, 64 * 1024 * 1024, 3)
  const writer = hub.writer(id)
  writer.commit([{ op: 'put', key: '/a', value: '1' }])
  writer.checkpoint('epoch')
  await writer.flush()
  await using followed = await hub.sources()
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, writer)
  using seen = record(source)
  const info = await hub.jsm.streams.info(streamName(id))
  assert.equal(info.config.num_replicas, 3)
  const leader = hub.nats.servers.find((server) => server.name.endsWith(info.cluster?.leader ?? 'none'))
  assert.ok(leader !== undefined)
  for (let i = 0; i < 10; i++) writer.events([{ op: 'put', key: `/k${i}`, value: 'before' }])
  await writer.flush()
  await leader.kill()
  for (let i = 0; i < 10; i++) writer.events([{ op: 'put', key: `/k${i}`, value: 'meanwhile' }])
  await writer.persist()
  await leader.restart()
  writer.events([{ op: 'put', key: '/last', value: '' }])
  await writer.persist()
  await caughtUp(source, writer, 30_000)
  assert.deepEqual(seen.delivered, revisions(writer, 2, writer.position))
  assert.deepEqual(seen.resets, [])
})
