// A reader whose position lies ahead of what this gateway has read, whatever it is owed.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Epoch } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { Located } from '#gateway/delivery/ports.ts'
import type { Position } from '#gateway/delivery/encoder.ts'
import { AHEAD_MS, type Start, transition, type View } from '#gateway/delivery/reader-core.ts'

const at = (revision: number): Position => ({
  epoch: '00000000000000aa' as Epoch,
  revision: String(revision) as Revision,
})
/** A source at `head` that knows every position up to it. */
const view = (head: number): View => ({
  ready: true,
  nextIndex: head,
  head: at(head),
  locate: ({ revision }): Located =>
    Number(revision) > head ? { kind: 'ahead' } : { kind: 'ring', index: Number(revision) },
})
const held: Start = { kind: 'snapshot', resync: { reason: 'selector', from: at(75) } }
const none = { kind: 'removed' } as const
const now = 1000

describe('a snapshot owed to a client that has seen more than this gateway', () => {
  const opened = transition(none, { type: 'open', start: held, view: view(1), now }, true)

  it('R7: waits instead of delivering again', () => {
    assert.equal(opened.outcome, 'waiting')
    assert.deepEqual(opened.effects, [])
    const later = transition(opened.state, { type: 'source', view: view(74), now: now + 10 }, true)
    assert.deepEqual(later.state, opened.state, 'looking again neither begins too early nor extends the wait')
  })

  it('R7: begins once the gateway has caught up, with the reason it was owed for', () => {
    const step = transition(opened.state, { type: 'source', view: view(80), now: now + 10 }, true)
    assert.equal(step.state.kind, 'snapshotting')
    assert.deepEqual(
      step.effects.map((e) => e.do),
      ['resync', 'begin'],
    )
    assert.ok(step.effects[0]?.do === 'resync' && step.effects[0].resync.reason === 'selector')
  })

  it('R3: gives way after its time, and says that it did', () => {
    const early = transition(opened.state, { type: 'deadline', view: view(1), now: now + AHEAD_MS - 1 }, true)
    assert.equal(early.state.kind, 'waiting')
    const step = transition(opened.state, { type: 'deadline', view: view(1), now: now + AHEAD_MS }, true)
    assert.equal(step.state.kind, 'snapshotting')
    assert.ok(step.effects[0]?.do === 'resync' && step.effects[0].resync.reason === 'ahead')
  })

  it('R7: holds for a watch from now as well', () => {
    const start: Start = { kind: 'now', resync: { reason: 'policy', from: at(75) } }
    const step = transition(none, { type: 'open', start, view: view(1), now }, false)
    assert.equal(step.outcome, 'waiting')
    assert.equal(transition(step.state, { type: 'source', view: view(90), now }, false).state.kind, 'behind')
  })
})
