// Folding frames into a cursor: the published vectors, and the properties a resume relies on.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { decodeCursor, encodeCursor } from '#protocol/cursor.ts'
import { CursorFold } from '#protocol/fold.ts'
import type { ServerFrame } from '#protocol/frames.ts'
import type { Epoch } from '#protocol/log/entry.ts'
import { compareRevisions, type Revision } from '#protocol/revision.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import { serverFrameArb } from './frames.ts'

type FoldVector = {
  readonly name: string
  readonly start: string
  readonly frames: readonly ServerFrame[]
  readonly positions: Readonly<Record<string, string>>
  readonly cursor: string | null
}
const vectors = JSON.parse(readFileSync(new URL('../../../protocol/vectors/fold.json', import.meta.url), 'utf8')) as {
  readonly folds: readonly FoldVector[]
}

const fold = (start: string, frames: readonly ServerFrame[]): CursorFold => {
  const folded = new CursorFold(start)
  for (const frame of frames) folded.apply(frame)
  return folded
}
const [EPOCH, VIEW] = ['00112233445566aa' as Epoch, 'a1b2c3d4e5f60718']
const cursorAt = (revision: number): string =>
  encodeCursor({
    viewTag: VIEW,
    positions: new Map([['sz' as ClusterId, { epoch: EPOCH, revision: String(revision) as Revision }]]),
  })
const events = (revision: number): ServerFrame => ({
  type: 'events',
  ch: 1,
  cluster: 'sz',
  epoch: EPOCH,
  revision: String(revision) as Revision,
  events: [],
})

describe('folding', () => {
  it('Q4: the published vectors hold', () => {
    assert.ok(vectors.folds.length >= 10)
    for (const { name, start, frames, positions, cursor } of vectors.folds) {
      const folded = fold(start, frames)
      assert.equal(folded.cursor() ?? null, cursor, name)
      for (const [cluster, expected] of Object.entries(positions)) {
        const position = folded.position(cluster as ClusterId)
        assert.equal(position === undefined ? '' : `${position.epoch}:${position.revision}`, expected, name)
      }
    }
  })

  it('Q4: whatever frames arrive, the cursor is canonical and no position ever goes back within its epoch', () => {
    fc.assert(
      fc.property(fc.array(serverFrameArb, { maxLength: 30 }), (frames) => {
        const folded = new CursorFold('snapshot')
        for (const frame of frames) {
          const before = folded.position('sz-edge-1' as ClusterId)
          folded.apply(frame)
          const after = folded.position('sz-edge-1' as ClusterId)
          const text = folded.cursor()
          if (text !== undefined) {
            const decoded = decodeCursor(text)
            assert.ok(decoded.ok && encodeCursor(decoded.cursor) === text)
          }
          const absolute = frame.type === 'watching' || frame.type === 'snapshot' || frame.type === 'resync'
          if (absolute || before === undefined || after === undefined) continue
          assert.equal(after.epoch, before.epoch)
          assert.ok(compareRevisions(after.revision, before.revision) >= 0)
        }
      }),
      { numRuns: 500 },
    )
  })

  it('I2: resuming from the folded cursor after any prefix of a stream repeats nothing and skips nothing', () => {
    const stream = fc.array(fc.tuple(fc.integer({ min: 1, max: 3 }), fc.boolean()), { minLength: 1, maxLength: 30 })
    fc.assert(
      fc.property(stream, fc.nat(), (steps, cut) => {
        let revision = 10
        const frames = steps.map(([step, bookmark]): ServerFrame => {
          revision += step
          if (!bookmark) return events(revision)
          const proof = { epoch: EPOCH, revision: String(revision) as Revision, state: 'live', ageMs: 0 } as const
          return { type: 'bookmark', ch: 1, cursor: cursorAt(revision), clusters: { sz: proof } }
        })
        const revisionsOf = (list: readonly ServerFrame[]): number[] =>
          list.filter((frame) => frame.type === 'events').map((frame) => Number(frame.revision))
        const seen = frames.slice(0, cut % (frames.length + 1))
        const decoded = decodeCursor(fold(cursorAt(10), seen).cursor() ?? '')
        assert.ok(decoded.ok)
        const from = Number(decoded.cursor.positions.get('sz' as ClusterId)?.revision)
        const replayed = revisionsOf(frames).filter((r) => r > from)
        assert.deepEqual([...revisionsOf(seen), ...replayed], revisionsOf(frames))
      }),
    )
  })
})
