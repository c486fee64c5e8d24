// A log on a real nats-server, followed from its newest checkpoint.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Key } from '#protocol/bytes.ts'
import { cluster, region, startHub, until } from './jetstream.ts'

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
