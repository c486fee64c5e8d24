// Bookmarks beside a real log: what they may prove, and that they never overtake what they cover.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cluster, caughtUp, record, region, startHub, until } from './jetstream.ts'

const put = (key: string, value: string) => ({ op: 'put', key, value }) as const
const id = cluster('sz-edge-1')
const far = (n: number) => String(n) as never

test('B2: a bookmark that overtakes its entry waits for it; of several the newest counts', async () => {
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
  writer.events([put('/b', '2')])
  await hub.mark(id, writer.mark({ provenRevision: far(10) }))
  await hub.mark(id, writer.mark({ provenRevision: far(20) }))
  await hub.mark(id, writer.mark({ provenRevision: far(15) }))
  // Through the same connection, so that all three were handled before the entry can come.
  await until(source, () => source.status.state !== 'resyncing', 'heard')
  assert.equal(source.status.revision, '1')
  await writer.flush()
  await until(source, () => source.status.revision === '20', 'applied behind its entry')
  assert.deepEqual(
    seen.events.filter(({ kind }) => kind === 'revisions' || kind === 'proven').map(({ kind }) => kind),
    ['revisions', 'proven'],
  )
})

test('a bookmark of another entry, epoch or configuration proves nothing', async () => {
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
  const proven = far(99)
  for (const wrong of [
    { entryId: 'f'.repeat(32) as never },
    { epoch: 'f'.repeat(16) as never },
    { configHash: 'other' },
    { seq: writer.seq - 1 },
    { state: 'standby' as const },
    { state: 'refused' as const },
  ]) {
    await hub.mark(id, writer.mark({ provenRevision: proven, ...wrong }))
  }
  hub.nc.publish(`dw.mark.${id}`, 'no bookmark')
  hub.nc.publish(`dw.mark.${id}`, JSON.stringify({ ...writer.mark(), provenRevision: '0099' }))
  await hub.mark(id, writer.mark({ provenRevision: far(3) }))
  await until(source, () => source.status.revision !== '2', 'a true one')
  assert.equal(source.status.revision, '3')
  assert.deepEqual(seen.resets, [])
  const text = await followed.metrics.expose()
  for (const [verdict, count] of [
    ['foreign', 3],
    ['stale', 1],
    ['standby', 1],
    ['malformed', 2],
    ['applied', 2],
  ] as const) {
    assert.match(
      text,
      new RegExp(`deltawatch_bookmarks_total\\{cluster="sz-edge-1",verdict="${verdict}"\\} ${count}\\b`),
    )
  }
})

test('an entry at or below what a bookmark proved is another history: resync, never dropped as a duplicate', async () => {
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
  await hub.mark(id, writer.mark({ provenRevision: far(5) }))
  await until(source, () => source.status.revision === '5', 'proven')
  writer.events([put('/b', 'never so')])
  writer.progress(6)
  await writer.flush()
  await caughtUp(source, writer)
  assert.deepEqual(seen.resets, ['trimmed'])
  assert.deepEqual(seen.delivered, [])
  assert.match(await followed.metrics.expose(), /deltawatch_resync_total\{cluster="sz-edge-1",cause="lineage"\} 1\b/)
})

test('a view ahead of its log gives way after its time, and says so', async () => {
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
  await hub.mark(id, writer.mark({ provenRevision: far(50) }))
  await until(source, () => source.status.revision === '50', 'proven')
  // A revision below the proof, and nothing that would lead the log up to it.
  writer.events([put('/b', 'x')])
  await writer.flush()
  await caughtUp(source, writer)
  assert.deepEqual(seen.resets, ['trimmed'])
  assert.ok(seen.states.includes('resyncing'))
})
