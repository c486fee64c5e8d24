// The reader's state machine, transition by transition.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Key } from '#protocol/bytes.ts'
import type { Epoch } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { Position } from '#gateway/delivery/encoder.ts'
import type { Located } from '#gateway/delivery/ports.ts'
import {
  AHEAD_MS,
  BUSY_RETRY_MS,
  type Input,
  MAX_RESTARTS,
  positionOf,
  type ReaderState,
  transition,
  type View,
} from '#gateway/delivery/reader-core.ts'

const at = (revision: number, epoch = 'aa'): Position => ({
  epoch: epoch.padStart(16, '0') as Epoch,
  revision: String(revision) as Revision,
})
const HEAD = at(50)
const view = (located: Located = { kind: 'ring', index: 7 }, over: Partial<View> = {}): View => ({
  ready: true,
  nextIndex: 10,
  head: HEAD,
  locate: () => located,
  ...over,
})
const UNREADY = view({ kind: 'unready' }, { ready: false, head: undefined })

const WAITING: ReaderState = { kind: 'waiting', why: 'unready', start: { kind: 'snapshot' }, until: undefined }
const AHEAD: ReaderState = {
  kind: 'waiting',
  why: 'ahead',
  start: { kind: 'position', position: at(90) },
  until: 1_000 + AHEAD_MS,
}
const SNAPSHOTTING: ReaderState = { kind: 'snapshotting', at: HEAD, pin: 10, after: undefined, restarts: 0 }
const LIVE: ReaderState = { kind: 'live' }
const BEHIND: ReaderState = { kind: 'behind', index: 4, at: at(40) }
const REPLAYING: ReaderState = { kind: 'replaying', at: at(20) }
const RESYNCING: ReaderState = { kind: 'resyncing', at: HEAD, pin: 10 }
const DENIED: ReaderState = { kind: 'denied' }
const REMOVED: ReaderState = { kind: 'removed' }
const ALL = [WAITING, AHEAD, SNAPSHOTTING, LIVE, BEHIND, REPLAYING, RESYNCING, DENIED, REMOVED]

type Row = readonly [
  name: string,
  state: ReaderState,
  input: Input,
  next: string,
  effects: string,
  holdsState?: boolean,
]
const now = 1_000
const resync = { reason: 'epoch', from: at(40) } as const
const open = (start: Extract<Input, { type: 'open' }>['start'], v: View = view()): Input => ({
  type: 'open',
  start,
  view: v,
  now,
})
const reset = (difference: boolean): Input => ({ type: 'reset', resync, view: view(), now, difference })

const TABLE: readonly Row[] = [
  ['open: a snapshot begins at the head', REMOVED, open({ kind: 'snapshot' }), 'snapshotting', 'begin'],
  [
    'open: a snapshot for a client that held something',
    REMOVED,
    open({ kind: 'snapshot', resync }),
    'snapshotting',
    'resync begin',
  ],
  ['open: now continues behind the head', REMOVED, open({ kind: 'now' }), 'behind', '', false],
  ['open: an unready cluster waits without a deadline', REMOVED, open({ kind: 'snapshot' }, UNREADY), 'waiting', ''],
  ['open: a position in the ring', REMOVED, open({ kind: 'position', position: at(40) }), 'behind', ''],
  [
    'open: a position in the log',
    REMOVED,
    open({ kind: 'position', position: at(4) }, view({ kind: 'log' })),
    'replaying',
    'replay',
  ],
  [
    'open: a position ahead',
    REMOVED,
    open({ kind: 'position', position: at(90) }, view({ kind: 'ahead' })),
    'waiting',
    '',
  ],
  [
    'open: a trimmed position',
    REMOVED,
    open({ kind: 'position', position: at(1) }, view({ kind: 'resync', reason: 'trimmed' })),
    'snapshotting',
    'resync begin',
  ],
  [
    'open: a trimmed position of a watch from now',
    REMOVED,
    open({ kind: 'position', position: at(1) }, view({ kind: 'resync', reason: 'trimmed' })),
    'behind',
    'resync',
    false,
  ],
  ['waiting: the cluster became ready', WAITING, { type: 'source', view: view(), now }, 'snapshotting', 'begin'],
  ['waiting: nothing changed', WAITING, { type: 'source', view: UNREADY, now }, 'waiting', ''],
  [
    'waiting: now is told where it begins',
    { ...WAITING, start: { kind: 'now' } },
    { type: 'source', view: view(), now },
    'behind',
    'resync',
    false,
  ],
  ['ahead: still ahead', AHEAD, { type: 'source', view: view({ kind: 'ahead' }), now: 20_000 }, 'waiting', ''],
  ['ahead: the source arrived', AHEAD, { type: 'source', view: view({ kind: 'ring', index: 9 }), now }, 'behind', ''],
  [
    'ahead: before the deadline',
    AHEAD,
    { type: 'deadline', view: view({ kind: 'ahead' }), now: 20_000 },
    'waiting',
    '',
  ],
  [
    'ahead: after 30 s',
    AHEAD,
    { type: 'deadline', view: view({ kind: 'ahead' }), now: now + AHEAD_MS },
    'snapshotting',
    'resync begin',
  ],
  ['snapshotting: a page', SNAPSHOTTING, { type: 'page', after: 'k' as Key }, 'snapshotting', ''],
  ['snapshotting: the end', SNAPSHOTTING, { type: 'snapshot-end' }, 'behind', 'end'],
  ['snapshotting: the pin is lost', SNAPSHOTTING, { type: 'pin-lost', view: view(), now }, 'snapshotting', 'begin'],
  [
    'snapshotting: the pin is lost too often',
    { ...SNAPSHOTTING, restarts: MAX_RESTARTS },
    { type: 'pin-lost', view: view(), now },
    'waiting',
    'busy',
  ],
  ['snapshotting: the cluster is lost', SNAPSHOTTING, { type: 'pin-lost', view: UNREADY, now }, 'waiting', ''],
  ['behind: passed', BEHIND, { type: 'passed', index: 8, at: at(44) }, 'behind', ''],
  ['behind: caught up', BEHIND, { type: 'caught-up' }, 'live', 'join'],
  [
    'behind: the ring is lost, the log holds it',
    BEHIND,
    { type: 'ring-lost', view: view({ kind: 'log' }), now },
    'replaying',
    'replay',
  ],
  [
    'behind: the ring is lost, the log too',
    BEHIND,
    { type: 'ring-lost', view: view({ kind: 'resync', reason: 'trimmed' }), now },
    'snapshotting',
    'resync begin',
  ],
  ['live: full', LIVE, { type: 'blocked', index: 8, at: at(45) }, 'behind', 'leave'],
  ['replaying: onwards', REPLAYING, { type: 'replayed', at: at(30) }, 'replaying', ''],
  [
    'replaying: done',
    REPLAYING,
    { type: 'replay-end', progress: true, scanned: at(30), view: view(), now },
    'behind',
    '',
  ],
  [
    'replaying: again',
    REPLAYING,
    { type: 'replay-end', progress: true, scanned: at(30), view: view({ kind: 'log' }), now },
    'replaying',
    'replay',
  ],
  [
    'replaying: trimmed meanwhile',
    REPLAYING,
    { type: 'replay-failed', why: 'trimmed', view: view(), now },
    'snapshotting',
    'resync begin',
  ],
  [
    'replaying: undecidable',
    REPLAYING,
    { type: 'replay-failed', why: 'undecidable', view: view(), now },
    'snapshotting',
    'resync begin',
  ],
  ['replaying: busy', REPLAYING, { type: 'replay-failed', why: 'busy', view: view(), now }, 'waiting', 'busy'],
  ['resyncing: done', RESYNCING, { type: 'difference-end' }, 'behind', ''],
  ['reset: a live reader gets the difference', LIVE, reset(true), 'resyncing', 'leave difference'],
  ['reset: without a difference a snapshot', LIVE, reset(false), 'snapshotting', 'leave resync begin'],
  ['reset: a watch from now gets the position', LIVE, reset(true), 'behind', 'leave resync', false],
  ['reset: behind', BEHIND, reset(true), 'snapshotting', 'resync begin'],
  ['reset: replaying', REPLAYING, reset(true), 'snapshotting', 'stop-replay resync begin'],
  ['reset: in the middle of a snapshot', SNAPSHOTTING, reset(true), 'snapshotting', 'resync begin'],
  ['reset: in the middle of a difference', RESYNCING, reset(true), 'snapshotting', 'resync begin'],
  ['reset: a waiting position is judged anew', AHEAD, reset(true), 'behind', ''],
  ['deny: live', LIVE, { type: 'deny' }, 'denied', 'leave'],
  ['remove: replaying', REPLAYING, { type: 'remove' }, 'removed', 'stop-replay'],
]

for (const [name, state, input, next, effects, holdsState = true] of TABLE) {
  test(`reader: ${name}`, () => {
    const step = transition(state, input, holdsState)
    assert.equal(step.state.kind, next)
    assert.equal(step.effects.map((effect) => effect.do).join(' '), effects)
  })
}

test('reader: a log that has nothing and says it has is not asked for ever', () => {
  let calls = 0
  const lying = view(undefined, { locate: () => (calls++ < 3 ? { kind: 'log' } : { kind: 'ring', index: 1 }) })
  const step = transition(REPLAYING, { type: 'replay-end', progress: false, scanned: at(20), view: lying, now }, true)
  assert.equal(step.state.kind, 'snapshotting')
  assert.equal(step.effects[0]?.do, 'resync')
})

test('reader: hidden revisions that were read are not read again, and the client is not told of them', () => {
  const trimmed = (to: number): View => {
    const locate = ({ revision }: Position): Located =>
      Number(revision) < to ? { kind: 'log' } : { kind: 'ring', index: 9 }
    return view(undefined, { locate })
  }
  const end = (to: number): Input => ({ type: 'replay-end', progress: true, scanned: at(30), view: trimmed(to), now })
  const done = transition(REPLAYING, end(30), true)
  assert.deepEqual(done.state, { kind: 'behind', index: 9, at: at(20) })
  const onwards = transition(REPLAYING, end(40), true)
  assert.deepEqual(onwards.state, REPLAYING)
  assert.deepEqual(onwards.effects, [{ do: 'replay', at: at(20), from: at(30) }])
  // The ring went no further while nothing more came: what was read counts, not what was told.
  const nothing = transition(REPLAYING, { ...end(30), progress: false } as Input, true)
  assert.deepEqual(nothing.state, done.state)
})

test('reader: a snapshot keeps its pin and the tail starts there', () => {
  const paged = transition(SNAPSHOTTING, { type: 'page', after: 'm' as Key }, true).state
  assert.deepEqual(paged, { ...SNAPSHOTTING, after: 'm' })
  assert.deepEqual(transition(paged, { type: 'snapshot-end' }, true).state, { kind: 'behind', index: 10, at: HEAD })
})

test('reader: looking again does not extend the wait', () => {
  const later = transition(AHEAD, { type: 'source', view: view({ kind: 'ahead' }), now: 25_000 }, true).state
  assert.equal(later, AHEAD)
  const busy = transition(REPLAYING, { type: 'replay-failed', why: 'busy', view: view(), now }, true).state
  assert.ok(busy.kind === 'waiting' && busy.until === now + BUSY_RETRY_MS)
  assert.equal(transition(busy, { type: 'source', view: view(), now: now + 1 }, true).state, busy)
  assert.equal(
    transition(busy, { type: 'deadline', view: view(), now: now + BUSY_RETRY_MS }, true).state.kind,
    'behind',
  )
})

test('reader: denied and removed are terminal, and late inputs change nothing', () => {
  const inputs: Input[] = [...TABLE.map(([, , input]) => input)].filter((input) => input.type !== 'open')
  for (const input of inputs) {
    if (input.type !== 'remove') assert.equal(transition(DENIED, input, true).state.kind, 'denied', input.type)
    if (input.type !== 'deny') assert.equal(transition(REMOVED, input, true).state.kind, 'removed', input.type)
  }
  assert.equal(transition(LIVE, { type: 'snapshot-end' }, true).state, LIVE)
  assert.equal(
    transition(LIVE, { type: 'replay-end', progress: true, scanned: at(30), view: view(), now }, true).state,
    LIVE,
  )
  assert.equal(transition(SNAPSHOTTING, { type: 'caught-up' }, true).state, SNAPSHOTTING)
})

test('reader: only live, behind and replaying have a position', () => {
  const having = ALL.filter((state) => positionOf(state, HEAD) !== undefined).map((state) => state.kind)
  assert.deepEqual(having, ['live', 'behind', 'replaying'])
})

test('reader: joins and leaves alternate, whatever comes', () => {
  const input = fc.constantFrom(...TABLE.map(([, , one]) => one))
  fc.assert(
    fc.property(fc.array(input, { maxLength: 40 }), fc.boolean(), (inputs, holdsState) => {
      let state: ReaderState = REMOVED
      let joined = false
      let replaying = false
      for (const one of [open({ kind: 'snapshot' }), ...inputs.filter((i) => i.type !== 'open')]) {
        const step = transition(state, one, holdsState)
        for (const effect of step.effects) {
          if (effect.do === 'join') {
            assert.ok(!joined)
            joined = true
          }
          if (effect.do === 'leave') {
            assert.ok(joined)
            joined = false
          }
          if (effect.do === 'replay') replaying = true
          if (effect.do === 'stop-replay') {
            assert.ok(replaying)
            replaying = false
          }
        }
        state = step.state
        assert.equal(joined, state.kind === 'live')
      }
    }),
    { numRuns: 500 },
  )
})
