// The follower on a hub in memory and a clock moved by hand: what it does again, how soon, and how often at most.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '#kit/logger.ts'
import { createMetrics } from '#kit/metrics.ts'
import { seededRandom } from '#kit/random.ts'
import type { ClusterId, Region } from '#protocol/subjects.ts'
import { declareUpstreamMeters } from '#gateway/upstream/metrics.ts'
import { followCluster } from '#gateway/upstream/sources.ts'
import { ManualClock } from '#test/support/manual-clock.ts'
import { LogWriter } from './log-writer.ts'
import { MemoryLog } from './memory-log.ts'

const cluster = 'sz-edge-1' as ClusterId
const put = (key: string) => ({ op: 'put', key, value: 'v' }) as const

const setUp = async (startMs = 0) => {
  const clock = new ManualClock(startMs)
  const log = new MemoryLog()
  const writer = new LogWriter({ sink: (_, data) => log.append(data) })
  writer.commit([put('/a')])
  writer.checkpoint('epoch')
  const metrics = createMetrics()
  const meters = declareUpstreamMeters(metrics).forCluster(cluster)
  const options = { clock, random: seededRandom(1), logger: silentLogger() }
  const followed = followCluster(cluster, 'sz' as unknown as Region, log, meters, options)
  const { view } = followed
  await clock.advance(0)
  const resyncs = async (): Promise<string[]> =>
    [...(await metrics.expose()).matchAll(/^deltawatch_resync_total\{.*cause="([^"]*)"\} (\d+)/gm)].map(
      (m) => `${m[1]} ${m[2]}`,
    )
  const close = async (): Promise<void> => {
    followed.gauges[Symbol.dispose]()
    await followed.follower[Symbol.asyncDispose]()
  }
  return { clock, log, writer, view, resyncs, close, [Symbol.asyncDispose]: close }
}

test('a reading that ends goes on where it stopped: nothing is read twice, nothing is said', async () => {
  await using it = await setUp()
  let told = 0
  const listening = it.view.listen((event) => {
    if (event.kind === 'revisions') told++
    assert.notEqual(event.kind, 'reset')
  })
  for (const end of ['gap', 'stalled', 'dropped', 'disconnected'] as const) {
    it.log.endReadings(end)
    it.writer.events([put(`/${end}`)])
    await it.clock.advance(1_000)
    assert.equal(it.view.status.revision, String(it.writer.position))
  }
  listening[Symbol.dispose]()
  assert.equal(told, 4)
  assert.deepEqual(await it.resyncs(), [])
})

test('a hub that never answers is asked with growing pauses, and the cluster is unreachable', async () => {
  await using it = await setUp()
  it.log.up = false
  it.log.endReadings('disconnected')
  await it.clock.advance(20_000)
  assert.equal(it.view.status.state, 'unreachable')
  const before = it.log.calls.facts
  await it.clock.advance(600_000)
  const tries = it.log.calls.facts - before
  assert.ok(tries > 20 && tries < 600, `${tries} tries in ten minutes`)
  it.log.up = true
  it.writer.events([put('/b')])
  await it.clock.advance(10_000)
  assert.equal(it.view.status.revision, String(it.writer.position))
})

test('a log that breaks its rules is read again from its checkpoint, never in a hot loop', async () => {
  await using it = await setUp()
  it.writer.events([put('/b')])
  it.writer.append({ kind: 'progress', prevRevision: '77' as never, revision: '99' as never })
  const before = it.log.calls.follow
  await it.clock.advance(600_000)
  const tries = it.log.calls.follow - before
  assert.ok(tries > 20 && tries < 600, `${tries} readings in ten minutes`)
  assert.match(String(await it.resyncs()), /^broken-prev-revision \d+$/)
  assert.equal(it.view.ready, true, 'what was known is still served')
  // The agent found out too and began a new lineage.
  it.writer.lastId = '0'.repeat(32) as never
  it.writer.knownFrom(it.writer.seq)
  it.writer.newEpoch(2, 5, it.writer.state)
  it.writer.checkpoint('epoch')
  await it.clock.advance(20_000)
  assert.equal(it.view.status.epoch, it.writer.epoch)
})

test('an entry whose base lies, at the end of the log or within it, costs one more reading and hides nothing behind it', async () => {
  await using it = await setUp()
  const { lastId, seq } = it.writer
  it.writer.lastId = it.writer.newId()
  it.writer.knownFrom(seq)
  it.writer.void({ kind: 'progress', prevRevision: '1' as never, revision: '99' as never })
  it.writer.lastId = lastId
  it.writer.knownFrom(seq)
  const before = it.log.calls.follow
  await it.clock.advance(60_000)
  it.writer.events([put('/b')])
  await it.clock.advance(600_000)
  assert.equal(it.view.status.revision, String(it.writer.position))
  assert.ok(it.log.calls.follow - before <= 3, `${it.log.calls.follow - before} readings`)
  assert.deepEqual(await it.resyncs(), ['contradiction 1'])
})

test('an unknown entry kind is looked at once a minute', async () => {
  await using it = await setUp()
  const bytes = (tag: number, length: number) => [tag, length, ...Array<number>(length).fill(tag)]
  it.log.append(new Uint8Array([...bytes(0x0a, 16), ...bytes(0x12, 16), 0x18, 42, ...bytes(0x22, 8)]))
  await it.clock.advance(1_000)
  assert.equal(it.view.status.state, 'unreachable')
  const before = it.log.calls.follow
  await it.clock.advance(600_000)
  assert.ok(it.log.calls.follow - before <= 10)
  assert.equal(it.view.ready, true)
})

test('L15: every way a stream can stop being the same stream is found within the check, and named', async () => {
  const ways: Readonly<Record<string, (it: Awaited<ReturnType<typeof setUp>>) => void>> = {
    recreated: ({ log }) => void (log.created = 'second'),
    deleted: ({ log }) => void (log.exists = false),
    'rolled-back': ({ log }) => void log.data.pop(),
    trimmed: ({ log }) => {
      log.data.push(undefined)
      log.firstSeq = log.lastSeq
    },
    purged: ({ log }) => void (log.firstSeq = log.lastSeq + 1),
    replaced: ({ log, writer }) => {
      const other = new LogWriter({ sink: (_, data) => void (log.data[log.lastSeq - 1] = data), seed: 9 })
      other.epoch = writer.epoch
      other.append({ kind: 'progress', prevRevision: '0' as never, revision: '1' as never })
    },
  }
  for (const [cause, break_] of Object.entries(ways)) {
    await using it = await setUp()
    await it.clock.advance(1_000)
    assert.deepEqual(await it.resyncs(), [])
    break_(it)
    await it.clock.advance(5_000)
    assert.match(String(await it.resyncs()), new RegExp(`^${cause} \\d`), cause)
    assert.equal(it.view.ready, true, 'what was known is still served')
  }
})

test('I9: a log whose last entry is an hour old is loaded, and not called live', async () => {
  await using it = await setUp(3_600_000)
  assert.equal(it.view.ready, true)
  assert.equal(it.view.status.state, 'unreachable')
  assert.ok(it.clock.monotonic() - (it.view.status.provenAt ?? 0) >= 3_600_000)
  it.log.mark(it.writer.mark())
  assert.equal(it.view.status.state, 'idle-proved')
  // At the log's end an entry is news the moment it comes, whatever the hub's clock says.
  it.writer.events([put('/b')])
  assert.equal(it.view.status.provenAt, it.clock.monotonic())
})

test('closed, it leaves no timer behind', async () => {
  const it = await setUp()
  await it.clock.advance(12_345)
  await it.close()
  assert.equal(it.clock.pending, 0)
})
