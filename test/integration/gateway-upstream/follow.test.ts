// A log on a real nats-server, followed from its newest checkpoint.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Key } from '#protocol/bytes.ts'
import { caughtUp, cluster, record, region, revisions, startHub, until } from './jetstream.ts'

const all = { from: '' as Key, to: undefined }
const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

test('a fresh gateway loads the newest checkpoint and everything after it', async () => {
  await using hub = await startHub()
  const id = cluster('sz-edge-1')
  await hub.createStream(id)
  const writer = hub.writer(id)
  writer.commit([{ op: 'put', key: '/a', value: '1' }])
  writer.checkpoint('epoch')
  writer.events(
    [{ op: 'put', key: '/b', value: '2' }],
    [
      { op: 'put', key: '/a', value: '3' },
      { op: 'put', key: '/c', value: '4' },
    ],
  )
  await writer.flush()
  await using followed = await hub.sources()
  const source = followed.sources.add(id, region('sz'))
  await until(source, () => source.ready && source.status.revision === '3', 'loaded')
  assert.deepEqual(
    source.scan(all, undefined, 10)?.map((entry) => [entry.key, decode(entry.value), entry.modRevision]),
    [
      ['/a', '3', '3'],
      ['/b', '2', '2'],
      ['/c', '4', '3'],
    ],
  )
  writer.events([{ op: 'delete', key: '/a' }])
  await writer.flush()
  await until(source, () => source.status.revision === '4', 'live')
  assert.equal(source.get('/a' as Key), undefined)
  await hub.mark(id, writer.mark({ provenRevision: '9' as never }))
  await until(source, () => source.status.revision === '9', 'bookmark applied')
})

test('C1: runs of void entries are skipped and counted, live and at the start; nothing of them is ever applied', async () => {
  await using hub = await startHub()
  const id = cluster('sz-edge-1')
  await hub.createStream(id)
  const writer = hub.writer(id)
  writer.commit([{ op: 'put', key: '/a', value: '1' }])
  writer.checkpoint('epoch')
  writer.zombies(56)
  writer.events([{ op: 'put', key: '/b', value: '2' }])
  writer.zombies(3)
  await writer.flush()
  await using followed = await hub.sources()
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, writer)
  using seen = record(source)
  for (let i = 0; i < 20; i++) {
    writer.events([{ op: 'put', key: '/b', value: `${i}` }])
    writer.zombies(i % 4)
  }
  writer.events([{ op: 'put', key: '/last', value: '' }])
  await writer.flush()
  await caughtUp(source, writer)
  assert.deepEqual(seen.delivered, revisions(writer, 3, 23))
  assert.deepEqual(seen.resets, [])
  assert.match(await followed.metrics.expose(), /deltawatch_log_void_entries_total\{cluster="sz-edge-1"\} 89\b/)
})
