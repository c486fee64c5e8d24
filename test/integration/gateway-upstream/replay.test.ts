// Revisions the ring no longer holds, read from the log on a real server.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ClusterSource } from '#gateway/delivery/ports.ts'
import type { Epoch } from '#protocol/log/entry.ts'
import { DEFAULT_VIEW_BOUNDS } from '#gateway/upstream/sources.ts'
import { streamName } from '#protocol/subjects.ts'
import { caughtUp, cluster, region, revisions, startHub, until } from './jetstream.ts'

const put = (key: string, value: string) => ({ op: 'put', key, value }) as const
const id = cluster('sz-edge-1')
const at = (epoch: Epoch, revision: number) => ({ epoch, revision: String(revision) as never })
const small = { ...DEFAULT_VIEW_BOUNDS, ringRevisions: 10 }

const replay = async (source: ClusterSource, position: ReturnType<typeof at>): Promise<string[]> => {
  const seen: string[] = []
  for await (const { epoch, revision } of source.replay(position, AbortSignal.timeout(10_000)))
    seen.push(`${epoch} ${revision}`)
  return seen
}

test('every position of the log is served by ring or replay, exactly; void entries, chunks and checkpoints are passed', async () => {
  await using hub = await startHub()
  await hub.createStream(id)
  const writer = hub.writer(id)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  for (let i = 0; i < 30; i++) {
    writer.events([put(`/k${i}`, 'v')], [put('/x', `${i}`), put('/y', `${i}`)])
    if (i % 5 === 0) writer.zombies(1 + (i % 3))
    if (i % 7 === 0) writer.chunks([put('/chunked', 'c'.repeat(500))], 3)
    if (i % 11 === 0) writer.checkpoint('routine', 5)
    if (i % 9 === 0) writer.progress(writer.head + 2)
  }
  await writer.flush()
  await using followed = await hub.sources({ bounds: small })
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, writer)
  const written: string[] = []
  for await (const one of source.replay(at(writer.epoch, 1), AbortSignal.timeout(10_000))) written.push(one.revision)
  let replayed = 0
  const all = [...written]
  for (let i = source.nextIndex - 10; i < source.nextIndex; i++) {
    const revision = source.at(i)?.revision as string
    if (!all.includes(revision)) all.push(revision)
  }
  for (let from = 1; from <= writer.position; from++) {
    const located = source.locate(at(writer.epoch, from))
    const expected = all.filter((revision) => Number(revision) > from)
    if (located.kind === 'ring') {
      assert.equal(source.at(located.index)?.revision, expected[0])
      continue
    }
    assert.equal(located.kind, 'log')
    if (from % 9 !== 0) continue
    const seen: string[] = []
    let last = from
    for await (const one of source.replay(at(writer.epoch, from), AbortSignal.timeout(10_000))) {
      seen.push(one.revision)
      last = Number(one.revision)
    }
    replayed++
    const then = source.locate(at(writer.epoch, last))
    assert.equal(then.kind, 'ring')
    assert.deepEqual(seen, expected.slice(0, seen.length))
    assert.equal(then.kind === 'ring' ? source.at(then.index)?.revision : '', expected[seen.length])
  }
  assert.ok(replayed > 5)
  assert.deepEqual(source.locate(at(writer.epoch, writer.position + 1)), { kind: 'ahead' })
  assert.deepEqual(source.locate(at('f'.repeat(16) as Epoch, 1)), { kind: 'resync', reason: 'epoch' })
})

test('positions from before this gateway started are found in the log', async () => {
  await using hub = await startHub()
  await hub.createStream(id)
  const writer = hub.writer(id)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  for (let i = 0; i < 200; i++) writer.events([put(`/k${i % 7}`, `${i}`)])
  const middle = writer.position
  writer.checkpoint('routine')
  for (let i = 0; i < 20; i++) writer.events([put(`/k${i % 7}`, `b${i}`)])
  await writer.flush()
  await using followed = await hub.sources({ bounds: small })
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, writer)
  for (const from of [1, 2, 57, 150, middle - 1, middle, middle + 3]) {
    assert.deepEqual(source.locate(at(writer.epoch, from)), { kind: 'log' })
    const seen = await replay(source, at(writer.epoch, from))
    assert.deepEqual(seen, revisions(writer, from + 1, from + seen.length))
    assert.equal(source.locate(at(writer.epoch, from + seen.length)).kind, 'ring')
  }
})

test('a replay never crosses a policy checkpoint, and what was trimmed is said to be', async () => {
  await using hub = await startHub()
  await hub.createStream(id, 300_000)
  const writer = hub.writer(id)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  for (let i = 0; i < 20; i++) writer.events([put('/secret', `${i}`)])
  const before = writer.position
  writer.state.delete('/secret')
  writer.head++
  writer.checkpoint('policy')
  const policyAt = writer.position
  for (let i = 0; i < 20; i++) writer.events([put('/open', `${i}`)])
  writer.checkpoint('routine')
  await writer.flush()
  {
    await using followed = await hub.sources({ bounds: small })
    const source = followed.sources.add(id, region('sz'))
    await caughtUp(source, writer)
    // Booted behind the policy checkpoint, it cannot know before it looks.
    assert.deepEqual(source.locate(at(writer.epoch, before - 5)), { kind: 'log' })
    await assert.rejects(replay(source, at(writer.epoch, before - 5)), { code: 'trimmed', reason: 'policy' })
    // At its very revision nobody can tell who was there before it and who after.
    await assert.rejects(replay(source, at(writer.epoch, policyAt)), { code: 'trimmed', reason: 'policy' })
    assert.deepEqual((await replay(source, at(writer.epoch, policyAt + 1)))[0], `${writer.epoch} ${policyAt + 2}`)
  }
  await using followed = await hub.sources({ bounds: small })
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, writer)
  for (let i = 0; i < 40; i++) writer.events([put('/filler', 'f'.repeat(20_000))])
  writer.checkpoint('routine')
  await writer.flush()
  await caughtUp(source, writer)
  await assert.rejects(replay(source, at(writer.epoch, policyAt + 1)), { code: 'trimmed', reason: 'trimmed' })
  // Seen live, the checkpoint is a known end of history.
  writer.head++
  writer.checkpoint('policy')
  await writer.flush()
  await caughtUp(source, writer)
  assert.deepEqual(source.locate(at(writer.epoch, writer.position - 1)), { kind: 'resync', reason: 'policy' })
})

test('I8: replays beyond the bound are refused at once; a finished one makes room, and so does one that stalls', async () => {
  await using hub = await startHub()
  await hub.createStream(id)
  const writer = hub.writer(id)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  for (let i = 0; i < 50; i++) writer.events([put('/k', `${i}`)])
  await writer.flush()
  await using followed = await hub.sources({ bounds: small, maxReplays: 2 })
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, writer)
  const position = at(writer.epoch, 1)
  const stop = new AbortController()
  const open = [1, 2].map(() => source.replay(position, stop.signal)[Symbol.asyncIterator]())
  // Both are at work.
  const pulling = open.map((one) => one.next())
  await assert.rejects(replay(source, position), { code: 'replay-busy' })
  for (const one of pulling) assert.equal((await one).value?.revision, '2')
  await open[0]?.return?.()
  const seen = await replay(source, position)
  assert.ok(seen.length > 30)
  // Neither pulls: the one that has rested longest gives way.
  const third = source.replay(position, stop.signal)[Symbol.asyncIterator]()
  assert.equal((await third.next()).value?.revision, '2')
  await sleep(1_200)
  assert.deepEqual(await replay(source, position), seen)
  assert.equal((await open[1]?.next())?.value?.revision, '3')
  assert.equal((await third.next()).value?.revision, '3')
  for (const one of [open[1], third]) await one?.return?.()
})

test('a crowd behind the ring shares few consumers, each gets exactly its own revisions, and a stalled one holds up nobody', async () => {
  await using hub = await startHub()
  await hub.createStream(id)
  const writer = hub.writer(id)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  for (let i = 0; i < 2_000; i++) writer.events([put(`/k${i % 50}`, `${i}${'v'.repeat(1_000)}`)])
  await writer.flush()
  await using followed = await hub.sources({ bounds: small })
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, writer, 30_000)
  let opened = 0
  const advisories = hub.nc.subscribe(`$JS.EVENT.ADVISORY.CONSUMER.CREATED.${streamName(id)}.>`, {
    callback: () => void opened++,
  })
  await hub.nc.flush()
  const stop = new AbortController()
  const stalled = source.replay(at(writer.epoch, 3), stop.signal)[Symbol.asyncIterator]()
  assert.equal((await stalled.next()).value?.revision, '4')
  const places = Array.from({ length: 80 }, (_, i) => 1 + ((i * 617) % 1_900))
  const seen = await Promise.all(places.map((from) => replay(source, at(writer.epoch, from))))
  for (const [i, from] of places.entries()) {
    const got = seen[i] ?? []
    assert.deepEqual(got, revisions(writer, from + 1, from + got.length))
    assert.equal(source.locate(at(writer.epoch, from + got.length)).kind, 'ring')
  }
  await hub.nc.flush()
  assert.ok(opened >= 1 && opened <= 12, `${opened} consumers for 81 readers`)
  // The one that stalled goes on where it was.
  assert.equal((await stalled.next()).value?.revision, '5')
  stop.abort()
  advisories.unsubscribe()
  assert.match(await followed.metrics.expose(), /^deltawatch_replay_consumers\{cluster="sz-edge-1"\} [012]$/m)
})

test('a hub that is away during a replay costs a retry, not the history', async () => {
  await using hub = await startHub()
  await hub.createStream(id)
  const writer = hub.writer(id)
  writer.commit([put('/a', '1')])
  writer.checkpoint('epoch')
  for (let i = 0; i < 50; i++) writer.events([put('/k', `${i}`)])
  await writer.flush()
  await using followed = await hub.sources({ bounds: small })
  const source = followed.sources.add(id, region('sz'))
  await caughtUp(source, writer)
  const position = at(writer.epoch, 1)
  await hub.bounce('SIGKILL', async () => {
    await assert.rejects(replay(source, position), { code: 'replay-busy' })
  })
  await until(source, () => source.status.state !== 'unreachable', 'back')
  assert.ok((await replay(source, position)).length > 30)
})
