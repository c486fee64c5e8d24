// Checkpoints as they are written: pages, entries, what does not fit, and the rests between.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { nextLimit, OVERSIZE, type ReadPage, writeCheckpoint } from '#agent/uplink/checkpoint.ts'
import { unhurried } from '#agent/uplink/unhurried.ts'
import { ManualClock } from '#test/support/manual-clock.ts'
import { key, rev } from './fixtures.ts'
import { begin, entriesOf, EPOCH, openSession, outgoing } from './log-fixtures.ts'
import { SimulatedHub, SimulatedStream } from './simulated-hub.ts'

describe('a checkpoint', () => {
  it('K1: pages at one pinned revision, cuts items into entries, and says what it could not carry', async () => {
    const hub = new SimulatedHub(new SimulatedStream())
    const { session } = await openSession(hub)
    const state = Array.from({ length: 300 }, (_, i) => ({
      key: key(`/k${String(i).padStart(3, '0')}`),
      value: new Uint8Array(i === 7 ? 300_000 : 3_000),
      modRevision: rev(5),
      createRevision: rev(5),
      version: '1',
      lease: '0',
    }))
    const asked: string[] = []
    const result = await writeCheckpoint(
      session,
      {
        page: (revision, after, limit) => {
          asked.push(revision)
          const from = after === undefined ? 0 : state.findIndex((held) => held.key > after)
          const items = from < 0 ? [] : state.slice(from, from + limit)
          return Promise.resolve({ items, more: from >= 0 && from + limit < state.length })
        },
        item: (held) => held,
        rests: () => false,
        onHeld: () => undefined,
        onRead: () => undefined,
      },
      {
        reason: 'epoch',
        epoch: EPOCH,
        checkpointId: 'cp',
        pinned: rev(9),
        maxEntryBytes: 250_000,
        signal: new AbortController().signal,
      },
    )
    await session.settled()
    assert.ok(asked.length > 2 && asked.every((revision) => revision === '9'))
    assert.deepEqual([result.items, result.oversize, result.revision], [300, 1, '9'])
    const items = entriesOf(hub.stream).flatMap((e) => (e.kind === 'snapshot-items' ? e.items : []))
    assert.deepEqual(
      items.map((item) => item.key),
      state.map((held) => held.key),
    )
    assert.equal(items[7]?.withheld, OVERSIZE)
    const end = entriesOf(hub.stream).at(-1)
    assert.ok(end?.kind === 'snapshot-end' && end.newestCompleteBeginSeq === 1 && end.pending === 'none')
  })

  it('one that was abandoned does not count as taken', async () => {
    const hub = new SimulatedHub(new SimulatedStream())
    const { session } = await openSession(hub)
    await begin(session)
    for (let n = 2; n <= 60; n++) session.offer(outgoing(n, 1_000))
    session.flush()
    await session.settled()
    const due = session.bytesSinceBegin
    assert.ok(due > 59_000)
    const write = (page: ReadPage) =>
      writeCheckpoint(
        session,
        { page, item: (held) => held, rests: () => false, onHeld: () => undefined, onRead: () => undefined },
        {
          reason: 'routine',
          epoch: EPOCH,
          checkpointId: 'cp',
          pinned: 'position',
          maxEntryBytes: 250_000,
          signal: new AbortController().signal,
        },
      )
    await assert.rejects(
      write(() => Promise.reject(new Error('compacted'))),
      /compacted/,
    )
    assert.ok(session.bytesSinceBegin >= due, 'still due')
    await write(() => Promise.resolve({ items: [], more: false }))
    assert.ok(session.bytesSinceBegin < 1_000, 'taken')
  })

  it('one that may rest goes in small pieces, so that live entries between them do not wait for their bytes', async () => {
    const hub = new SimulatedHub(new SimulatedStream())
    const { session } = await openSession(hub)
    await begin(session)
    const state = Array.from({ length: 2_000 }, (_, i) => ({
      key: key(`/k/${String(i).padStart(5, '0')}`),
      value: new Uint8Array(300),
      modRevision: rev(1),
      createRevision: rev(1),
      version: '1',
      lease: '0',
    }))
    const limits: number[] = []
    await writeCheckpoint(
      session,
      {
        page: (_, after, limit) => {
          limits.push(limit)
          const from = after === undefined ? 0 : state.findIndex((held) => held.key > after)
          return Promise.resolve({ items: state.slice(from, from + limit), more: from + limit < state.length })
        },
        item: (held) => held,
        rests: () => true,
        onHeld: () => undefined,
        onRead: () => undefined,
      },
      {
        reason: 'routine',
        epoch: EPOCH,
        checkpointId: 'cp',
        pinned: 'position',
        maxEntryBytes: 1_000_000,
        signal: new AbortController().signal,
      },
    )
    await session.settled()
    const parts = entriesOf(hub.stream).filter((e) => e.kind === 'snapshot-items')
    const bytesOf = (part: (typeof parts)[number]) => part.items.reduce((sum, item) => sum + item.value.length, 0)
    assert.ok(Math.max(...limits) === 128 && Math.max(...parts.map(bytesOf)) <= 128 * 1024)
    assert.equal(parts.flatMap((part) => part.items).length, state.length)
  })

  it('rests as long after a page as the page took, a quarter of a second at most, and not when time presses', async () => {
    const clock = new ManualClock()
    const page = { items: [], more: true }
    let tookMs = 40
    let rests = true
    const read = unhurried(
      async () => {
        await clock.advance(tookMs)
        return page
      },
      () => rests,
      clock,
      new AbortController().signal,
    )
    await read(rev(9), undefined, 32)
    const second = read(rev(9), undefined, 32)
    assert.equal(clock.pending, 1)
    await clock.advance(39)
    assert.equal(clock.pending, 1)
    tookMs = 5_000
    await clock.advance(1)
    assert.equal(await second, page)
    const third = read(rev(9), undefined, 32)
    await clock.advance(250)
    assert.equal(await third, page)
    rests = false
    assert.equal(await read(rev(9), undefined, 32), page)
    assert.equal(clock.pending, 0)
  })

  it('pages grow towards the size of an entry, twofold at most, and shrink at once', () => {
    assert.equal(nextLimit(32, 32 * 100, 32), 64)
    assert.equal(nextLimit(512, 512 * 100, 512), 512)
    assert.equal(nextLimit(256, 256 * 100_000, 256), 5)
    assert.equal(nextLimit(8, 8 * 10_000_000, 8), 1)
    assert.equal(nextLimit(32, 0, 0), 32)
  })
})
