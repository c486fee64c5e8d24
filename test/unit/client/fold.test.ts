// The fold, frame by frame: the protocol's published vectors, and every way a gateway may break its word.
// The long sequences are in test/model/client.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import type { Change } from '#client/core/changes.ts'
import { WatchFold, type WatchFrames } from '#client/core/fold.ts'
import { Violation } from '#client/core/reading.ts'
import { PositionVector } from '#client/core/vector.ts'
import { WatchError } from '#client/errors.ts'
import { decodeCursor, encodeCursor } from '#protocol/cursor.ts'
import type { ServerFrame } from '#protocol/frames.ts'
import type { Epoch } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ClusterId } from '#protocol/subjects.ts'

type FoldVector = {
  readonly name: string
  readonly start: string
  readonly frames: readonly ServerFrame[]
  readonly cursor: string | null
}
const { folds } = JSON.parse(readFileSync(new URL('../../../protocol/vectors/fold.json', import.meta.url), 'utf8')) as {
  readonly folds: readonly FoldVector[]
}

const E1 = '00112233445566aa'
const E2 = 'ffeeddccbbaa9988'
const TAG = 'a1b2c3d4e5f60718'
const SZ = 'sz-edge-1'
const r = (revision: number): Revision => String(revision) as Revision
const place = (revision: number, epoch = E1) => ({ epoch: epoch as Epoch, revision: r(revision) })
const cursorAt = (revision: number, epoch = E1): string =>
  encodeCursor({ viewTag: TAG, positions: new Map([[SZ as ClusterId, place(revision, epoch)]]) })

const watching = (outcome: string, revision?: number, epoch = E1): WatchFrames =>
  ({
    type: 'watching',
    id: 'w1',
    ch: 1,
    clusters: { [SZ]: revision === undefined ? { outcome } : { outcome, ...place(revision, epoch) } },
  }) as WatchFrames
const head = { ch: 1, cluster: SZ } as const
const begin = (revision: number, base: 'full' | 'diff' = 'full', epoch = E1): WatchFrames => ({
  type: 'snapshot',
  ...head,
  phase: 'begin',
  base,
  ...place(revision, epoch),
})
const items = (...keys: string[]): WatchFrames => ({
  type: 'snapshot',
  ...head,
  phase: 'items',
  items: keys.map((key) => ({ key, text: 'v', revision: r(1) })),
})
const end = (revision: number): WatchFrames => ({ type: 'snapshot', ...head, phase: 'end', revision: r(revision) })
const events = (revision: number, epoch = E1): WatchFrames => ({
  type: 'events',
  ...head,
  ...place(revision, epoch),
  events: [{ op: 'delete', key: '/a' }],
})
const state = (from: number, to: number, last: boolean, key = '/a'): WatchFrames => ({
  type: 'state',
  ...head,
  ...place(to),
  fromRevision: r(from),
  items: [{ key, gone: 'delete' }],
  last,
})
const bookmark = (revision: number, epoch = E1): WatchFrames => ({
  type: 'bookmark',
  ch: 1,
  cursor: cursorAt(revision, epoch),
  clusters: { [SZ]: { ...place(revision, epoch), state: 'live', ageMs: 1 } },
})
const resync = (to: number, epoch = E1, reason = 'epoch'): WatchFrames =>
  ({ type: 'resync', ...head, reason, to: place(to, epoch) }) as WatchFrames

/** What a consumer sees, in short, and where the watch stands. */
function run(start: string, frames: readonly WatchFrames[], limit = 1_000_000) {
  const cursor = decodeCursor(start)
  const vector = new PositionVector(cursor.ok ? cursor.cursor : undefined)
  const fold = new WatchFold(limit, cursor.ok ? cursor.cursor.positions : undefined)
  fold.asked(start === 'now' ? 'now' : 'snapshot')
  const seen: Change[] = []
  for (const frame of frames) {
    for (const { change, advances } of fold.accept(structuredClone(frame), 10)) {
      vector.apply(advances)
      if (change !== undefined) seen.push(change)
    }
  }
  return { fold, vector, seen, kinds: seen.map(({ kind }) => kind).join(' ') }
}

describe('folding', () => {
  for (const { name, start, frames, cursor } of folds) {
    it(`Q4: ${name}`, () => {
      const decoded = decodeCursor(start)
      const vector = new PositionVector(decoded.ok ? decoded.cursor : undefined)
      const fold = new WatchFold(1_000_000, decoded.ok ? decoded.cursor.positions : undefined)
      fold.asked(start === 'now' ? 'now' : 'snapshot')
      for (const frame of structuredClone(frames) as WatchFrames[]) {
        if (!('ch' in frame) && frame.type !== 'cluster') continue
        try {
          for (const { advances } of fold.accept(frame, 1)) vector.apply(advances)
        } catch (error) {
          assert.ok(error instanceof Violation && error.cluster !== undefined, `${name}: ${String(error)}`)
          vector.apply(fold.broken(error.cluster).advances)
        }
      }
      assert.equal(vector.cursor() ?? null, cursor)
    })
  }

  it('a snapshot is one change, at its end', () => {
    const { seen } = run('snapshot', [watching('snapshot'), begin(5), items('/a', '/b'), items('/c'), end(5)])
    assert.equal(seen.length, 1)
    assert.ok(seen[0]?.kind === 'snapshot' && seen[0].items.length === 3 && seen[0].base === 'full')
  })

  it('a snapshot that restarts forgets its first items', () => {
    const { seen } = run('snapshot', [watching('snapshot'), begin(5), items('/a'), begin(6), items('/b'), end(6)])
    assert.ok(seen[0]?.kind === 'snapshot')
    assert.deepEqual(
      seen[0].items.map(({ key }) => key),
      ['/b'],
    )
  })

  it('half a snapshot is worth nothing after an interruption', () => {
    const { fold, vector } = run('snapshot', [watching('snapshot'), begin(5), items('/a')])
    assert.equal(fold.staging, true)
    fold.interrupt()
    assert.equal(fold.staging, false)
    assert.deepEqual(vector.resume({ start: 'now', default: undefined }), { start: 'snapshot', default: undefined })
    assert.throws(() => fold.accept(items('/b'), 1), Violation)
  })

  it('I2: what a reconnect repeats is dropped and counted', () => {
    const { fold, kinds } = run(cursorAt(10), [watching('resumed', 8), events(9), events(10), events(11)])
    assert.equal(kinds, 'events')
    assert.equal(fold.duplicates, 2)
  })

  it('a difference in state mode is staged until its last chunk, and lost with the connection', () => {
    const frames = [watching('resumed', 10), state(10, 15, false, '/a'), state(10, 15, true, '/b')]
    const { seen } = run(cursorAt(10), frames)
    assert.ok(seen[0]?.kind === 'state' && seen[0].items.length === 2 && seen[0].fromRevision === '10')
    const cut = run(cursorAt(10), frames.slice(0, 2))
    cut.fold.interrupt()
    assert.equal(cut.vector.cursor(), cursorAt(10))
    cut.fold.asked('snapshot')
    assert.equal(cut.fold.accept(watching('resumed', 10), 1)[0]?.change, undefined)
    const [whole] = cut.fold.accept(state(10, 16, true), 1)
    assert.ok(whole?.change?.kind === 'state' && whole.change.items.length === 1)
  })

  it('a watch from "now" goes on after a resync, and is owed nothing while it waits to begin', () => {
    const { kinds, vector } = run('now', [watching('live', 10), resync(50, E2), events(51, E2)])
    assert.equal(kinds, 'resync events')
    assert.equal(vector.resume({ start: 'now', default: undefined }).default, 'now')
    const waits = run('now', [watching('waiting')])
    assert.deepEqual(waits.vector.resume({ start: 'now', default: undefined }), { start: 'now', default: undefined })
    assert.equal(run('now', [watching('waiting'), resync(50, E2), events(51, E2)]).kinds, 'resync events')
  })

  it('a held place that is not continued is told before the snapshot that replaces it', () => {
    const { seen } = run(cursorAt(10), [watching('snapshot'), begin(20), end(20)])
    assert.deepEqual(
      seen.map(({ kind }) => kind),
      ['resync', 'snapshot'],
    )
    assert.ok(seen[0]?.kind === 'resync' && seen[0].reason === 'ahead' && seen[0].from?.revision === '10')
  })

  it('a changed view voids the tag until the next bookmark names it', () => {
    const { fold, vector } = run(cursorAt(10), [watching('resumed', 10), bookmark(11)])
    assert.notEqual(vector.cursor(), undefined)
    for (const { advances } of fold.accept(watching('resync', 11), 1)) vector.apply(advances)
    assert.equal(vector.cursor(), undefined)
    for (const frame of [resync(11, E1, 'policy'), begin(11, 'diff'), end(11), bookmark(12)]) {
      for (const { advances } of fold.accept(frame, 1)) vector.apply(advances)
    }
    assert.equal(vector.cursor(), cursorAt(12))
  })

  it('keys that leave while their cluster is staged do not come back with the snapshot', () => {
    const scope: WatchFrames = { type: 'scope', ...head, left: ['/a'] }
    const { seen } = run('snapshot', [watching('snapshot'), begin(5), items('/a', '/b'), scope, end(5)])
    assert.ok(seen[1]?.kind === 'snapshot')
    assert.deepEqual(
      seen[1].items.map(({ key }) => key),
      ['/b'],
    )
  })

  it('binary keys arrive as bytes, one character each', () => {
    const frame = { ...events(11), events: [{ op: 'delete', keyBase64: '/wAB' }] } as WatchFrames
    const { seen } = run(cursorAt(10), [watching('resumed', 10), frame])
    assert.ok(seen[0]?.kind === 'events')
    assert.deepEqual(seen[0].events, [{ op: 'delete', key: '\u00ff\u0000\u0001', binary: true }])
  })

  it('a snapshot above the limit ends the watch', () => {
    assert.throws(
      () => run('snapshot', [watching('snapshot'), begin(5), items('/a'), items('/b')], 15),
      (error) => error instanceof WatchError && error.code === 'client.snapshot-too-large',
    )
  })
})

describe('a gateway that breaks its word', () => {
  const resumed = watching('resumed', 10)
  const broken: Record<string, readonly WatchFrames[]> = {
    'events of another epoch': [resumed, events(11, E2)],
    'a bookmark in another epoch': [resumed, bookmark(11, E2)],
    'resumed in another epoch': [watching('resumed', 10, E2)],
    'events in the middle of a snapshot': [resumed, resync(20), begin(20), events(21)],
    'events while a snapshot is owed': [resumed, resync(20), events(21)],
    'items without a begin': [resumed, items('/a')],
    'an end elsewhere than its begin': [resumed, resync(20), begin(20), end(21)],
    'a difference for who holds nothing': [watching('snapshot'), begin(20, 'diff')],
    'a difference after half a snapshot': [resumed, resync(20), begin(20), resync(21), begin(21, 'diff')],
    'live without the snapshot it owes': [resumed, resync(20), watching('resumed', 20)],
    'a state difference that skips revisions': [resumed, state(12, 15, true)],
    'a state difference that changes its end': [resumed, state(10, 15, false), state(10, 16, true)],
    'an unknown outcome': [watching('perhaps', 10)],
    'a revision that is none': [resumed, { ...events(11), revision: '011' } as WatchFrames],
    'an epoch that is none': [resumed, events(11, 'xyz')],
    'a cluster name that is none': [resumed, { ...events(11), cluster: 'SZ!' } as WatchFrames],
    'a cursor that is none': [resumed, { ...bookmark(11), cursor: 'dw1.x' } as WatchFrames],
    'a key that is not base64': [resumed, { ...events(11), events: [{ op: 'delete', keyBase64: '*' }] } as WatchFrames],
  }
  for (const [name, frames] of Object.entries(broken)) {
    it(`is noticed: ${name}`, () => {
      const start = frames[0] === resumed || name.includes('resumed') ? cursorAt(10) : 'snapshot'
      assert.throws(() => run(start, frames), Violation)
      assert.doesNotThrow(() => run(start, frames.slice(0, -1)), 'and only by the last frame')
    })
  }

  it('only a full snapshot repairs it', () => {
    const { fold } = run(cursorAt(10), [resumed])
    assert.throws(() => fold.accept(events(11, E2), 1), Violation)
    const told = fold.broken(SZ as ClusterId)
    assert.ok(
      told.change?.kind === 'resync' && told.change.reason === 'violation' && told.change.from?.revision === '10',
    )
    assert.throws(() => fold.accept(begin(11, 'diff', E2), 1), Violation)
    fold.accept(begin(11, 'full', E2), 1)
    assert.equal(fold.accept(end(11), 1)[0]?.change?.kind, 'snapshot')
  })
})
