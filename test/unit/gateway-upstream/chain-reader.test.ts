// Judging a log read from its middle: what is void, what is a fault, and what a fault is called.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type EntryBody, GENESIS } from '#protocol/log/entry.ts'
import { ChainReader, type Judged } from '#gateway/upstream/chain-reader.ts'
import { epochOf, LogWriter, rev } from './log-writer.ts'

const put = (key: string) => ({ op: 'put', key, value: 'v' }) as const

const log = (): { writer: LogWriter; stored: Uint8Array[] } => {
  const stored: Uint8Array[] = []
  const writer = new LogWriter({ sink: (_, data) => stored.push(data) })
  writer.commit([put('/a')])
  writer.checkpoint('epoch')
  return { writer, stored }
}
const readAll = (reader: ChainReader, stored: readonly Uint8Array[], from = 1): string[] =>
  stored.slice(from - 1).map((data, i) => {
    const judged = shown(reader.judge(from + i, data))
    return judged === 'unrooted' ? `${judged} ${shown(reader.judge(from + i, data))}` : judged
  })
const shown = (judged: Judged): string =>
  judged.kind === 'valid'
    ? judged.entry.kind
    : judged.kind === 'void'
      ? `void:${judged.reason}`
      : judged.kind === 'fault'
        ? judged.cause
        : judged.kind

test('C1: an entry that does not continue the last valid one is void, however plausible', () => {
  const { writer, stored } = log()
  writer.events([put('/b')])
  const zombie = writer.void(writer.eventsBody([writer.commit([put('/z')])]))
  writer.void(writer.eventsBody([writer.commit([put('/z')])]), zombie.entryId)
  writer.head -= 2
  writer.events([put('/c')])
  const reader = new ChainReader(1)
  assert.deepEqual(readAll(reader, stored).slice(3), ['events', 'void:chain', 'void:chain', 'events'])
  assert.equal(reader.state?.revision, '3')
})

test('entries missing between two are found by the chain; missing void entries are no loss', () => {
  const { writer, stored } = log()
  writer.events([put('/b')])
  writer.void(writer.eventsBody([writer.commit([put('/z')])]))
  writer.head--
  writer.events([put('/c')])
  writer.events([put('/d')])
  const reader = new ChainReader(1)
  for (const seq of [1, 2, 3, 4]) reader.judge(seq, stored[seq - 1] as Uint8Array)
  assert.equal(shown(reader.judge(6, stored[5] as Uint8Array)), 'events', 'only a void entry was left out')
  const other = new ChainReader(1)
  for (const seq of [1, 2, 3]) other.judge(seq, stored[seq - 1] as Uint8Array)
  assert.equal(shown(other.judge(7, stored[6] as Uint8Array)), 'trimmed')
})

test('an entry built on one this reader does not have contradicts its chain', () => {
  const { writer, stored } = log()
  writer.events([put('/b')])
  const reader = new ChainReader(1)
  readAll(reader, stored)
  // What a reader sees whose entry 4 is not the one the hub stored in the end.
  writer.lastId = writer.newId()
  writer.knownFrom(4)
  writer.events([put('/c')])
  assert.equal(shown(reader.judge(5, stored[4] as Uint8Array)), 'contradiction')
})

test("a chain begun anew at the log's end is followed when looking for one, and a fault when there was one", () => {
  const { writer, stored } = log()
  writer.events([put('/b')])
  const before = stored.length
  writer.lastId = GENESIS
  writer.knownFrom(writer.seq)
  writer.newEpoch(2, 9, writer.state)
  writer.checkpoint('epoch')
  writer.events([put('/c')])
  const found = new ChainReader(1)
  readAll(found, stored.slice(0, before))
  assert.equal(shown(found.judge(before + 1, stored[before] as Uint8Array)), 'contradiction')
  const seeking = new ChainReader()
  assert.deepEqual(readAll(seeking, stored, 2), [
    'void:before-root',
    'void:before-root',
    'void:before-root',
    'snapshot-begin',
    'snapshot-items',
    'snapshot-end',
    'events',
  ])
  assert.equal(seeking.state?.epoch, epochOf(2))
})

test("a BEGIN that turns out to be nobody's is left again while looking for a chain", () => {
  const { writer, stored } = log()
  writer.void({ kind: 'snapshot-begin', checkpointId: 'zombie', revision: rev(1), reason: 'gap' })
  writer.events([put('/b')])
  writer.checkpoint('routine')
  const seeking = new ChainReader()
  // The zombie's BEGIN comes first; the next BEGIN shows that its writer knew another entry to be valid.
  assert.deepEqual(readAll(seeking, stored, 4), [
    'snapshot-begin',
    'void:chain',
    'unrooted snapshot-begin',
    'snapshot-items',
    'snapshot-end',
  ])
})

test('C2: broken lineage has names', () => {
  const event = (writer: LogWriter) => writer.eventsBody([writer.commit([put('/c')])])
  const cases: Readonly<Record<string, (writer: LogWriter) => void>> = {
    'broken-prev-revision': (writer) => writer.append({ ...event(writer), prevRevision: rev(77) } as EntryBody),
    'broken-revision-order': (writer) => writer.append({ kind: 'progress', prevRevision: rev(2), revision: rev(2) }),
    'broken-chunk': (writer) =>
      writer.append({
        kind: 'chunk',
        prevRevision: rev(2),
        revision: rev(3),
        groupId: 'g',
        index: 1,
        count: 2,
        data: new Uint8Array(3),
      }),
    'broken-epoch-without-checkpoint': (writer) => {
      writer.epoch = epochOf(5)
      writer.append({ kind: 'progress', prevRevision: rev(2), revision: rev(3) })
    },
  }
  for (const [cause, write] of Object.entries(cases)) {
    const { writer, stored } = log()
    writer.events([put('/b')])
    write(writer)
    assert.deepEqual(readAll(new ChainReader(1), stored).slice(3), ['events', cause])
  }
})

test('L3: an unknown kind, a checkpoint that is not there, and bytes that are no entry', () => {
  const { stored } = log()
  const bytes = (tag: number, length: number) => [tag, length, ...Array<number>(length).fill(tag)]
  const unknown = new Uint8Array([...bytes(0x0a, 16), ...bytes(0x12, 16), 0x18, 42, ...bytes(0x22, 8)])
  assert.deepEqual(readAll(new ChainReader(1), [...stored, unknown]).at(-1), 'unknown-kind')
  assert.equal(shown(new ChainReader(2).judge(2, stored[1] as Uint8Array)), 'no-checkpoint')
  assert.equal(shown(new ChainReader(1).judge(1, new Uint8Array([255, 255]))), 'void:undecodable')
})

/** A void entry that claims to build on an entry that nobody wrote, where the newest valid one stands. */
const lie = (writer: LogWriter): void => {
  const { lastId, seq } = writer
  writer.lastId = writer.newId()
  writer.knownFrom(seq)
  writer.void({ kind: 'progress', prevRevision: rev(1), revision: rev(99) })
  writer.lastId = lastId
  writer.knownFrom(seq)
}

test('an entry whose base lies has the log read again once, and is void from then on', () => {
  const { writer, stored } = log()
  writer.events([put('/b')])
  lie(writer)
  writer.events([put('/c')])
  const first = new ChainReader(1)
  assert.deepEqual(readAll(first, stored).slice(4), ['contradiction', 'events'])
  const again = new ChainReader(1, first.doubts)
  assert.deepEqual(readAll(again, stored).slice(4), ['void:false-base', 'events'])
  const elsewhere = new ChainReader(1, new Map([...first.doubts.keys()].map((id) => [id, GENESIS])))
  assert.equal(readAll(elsewhere, stored)[4], 'contradiction', 'of another chain it may be right')
})

test('I8: a log full of lying bases is read again a bounded number of times, then its own chain counts', () => {
  const { writer, stored } = log()
  writer.events([put('/b')])
  for (let i = 0; i < 100; i++) {
    lie(writer)
    writer.events([put('/c')])
  }
  let reader = new ChainReader(1)
  let readings = 1
  // As a follower does: the first fault ends the reading.
  while (stored.some((data, i) => reader.judge(i + 1, data).kind === 'fault')) {
    assert.ok(++readings < 20, 'read over and over')
    reader = new ChainReader(1, reader.doubts)
  }
  assert.equal(reader.state?.revision, String(writer.position))
})
