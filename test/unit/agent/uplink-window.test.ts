// What waits and what is on its way: the queue and the window.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { encodedBound, LiveQueue } from '#agent/uplink/queue.ts'
import { AppendWindow } from '#agent/uplink/window.ts'
import { rev } from './fixtures.ts'
import { id, outgoing } from './log-fixtures.ts'

describe('the queue', () => {
  const take = (queue: LiveQueue, max = 100_000, batch = max) =>
    queue.take(
      max,
      batch,
      () => 'g',
      () => undefined,
    )

  it('gathers whole revisions up to the batch and leaves the rest', () => {
    const queue = new LiveQueue()
    for (let n = 1; n <= 5; n++) queue.push(outgoing(n, 100))
    const first = take(queue, 100_000, 450)
    assert.ok(first?.kind === 'events')
    assert.deepEqual(
      first.records.map((r) => r.revision),
      ['1', '2'],
    )
    assert.equal(first.through, '2')
    assert.equal(queue.revisions, 3)
  })

  it('hidden revisions move the position and appear nowhere', () => {
    const queue = new LiveQueue()
    queue.push(outgoing(1, 10, true))
    assert.deepEqual(take(queue), { kind: 'hidden', through: '1' })
    for (const one of [outgoing(2), outgoing(3, 10, true)]) queue.push(one)
    const batch = take(queue)
    assert.ok(batch?.kind === 'events')
    assert.deepEqual([batch.records.length, batch.through], [1, '3'])
  })

  it('cuts a revision too large for one entry and lets nothing between its slices', () => {
    const queue = new LiveQueue()
    queue.push(outgoing(1, 25_000))
    queue.push(outgoing(2))
    const kinds: string[] = []
    for (let one = take(queue, 10_000); one !== undefined; one = take(queue, 10_000)) {
      kinds.push(one.kind === 'chunk' ? `${one.index}/${one.count}` : one.kind)
      if (one.kind === 'chunk') assert.equal(queue.slicing, one.index < one.count - 1)
    }
    assert.deepEqual(kinds, ['0/3', '1/3', '2/3', 'events'])
  })

  it('I8: counts what it holds, and holds nothing once it is empty', () => {
    const queue = new LiveQueue()
    for (let n = 1; n <= 3_000; n++) queue.push(outgoing(n, 50))
    assert.ok(queue.bytes >= 150_000)
    while (take(queue, 5_000) !== undefined);
    assert.equal(queue.bytes, 0)
    assert.ok(queue.isEmpty)
  })

  it('the size bound of a record is never below its encoding', async () => {
    const { encodeRevision } = await import('#protocol/log/encode.ts')
    for (const size of [0, 1, 127, 128, 20_000]) {
      const { record } = outgoing(9, size)
      assert.ok(record !== undefined && encodedBound(record) >= encodeRevision(record).length)
    }
  })
})

describe('the window', () => {
  const at5 = { seq: 5, entryId: id(5), revision: rev(50) }
  const open = () => new AppendWindow({ lastSeq: 7, head: at5, base: at5 }, { maxInFlight: 2, maxBytes: 100 })
  const sent = (n: number, more: object = {}) => ({
    entryId: id(n),
    revision: rev(n * 10),
    bytes: 40,
    sentAt: 0,
    restable: true,
    ...more,
  })

  it("expects the stream's end and continues the last valid entry, void ones between them or not", () => {
    const w = open()
    const claim = w.claim()
    assert.deepEqual([claim.expectedSeq, claim.prevEntryId, claim.prevRevision], [7, id(5), '50'])
    w.sent(sent(8))
    assert.deepEqual([w.claim().expectedSeq, w.claim().prevEntryId, w.claim().prevRevision], [8, id(8), '80'])
  })

  it('the base moves only over what is acknowledged without a hole', () => {
    const w = open()
    w.sent(sent(8))
    w.sent(sent(9))
    assert.equal(w.stored(id(9), 9).kind, 'early')
    assert.equal(w.acked.seq, 5)
    assert.deepEqual(w.stored(id(8), 8), { kind: 'advanced', entries: 2 })
    assert.deepEqual(w.claim().base, { seq: 9, entryId: id(9), revision: '90' })
  })

  it('the base never rests inside a chunk group', () => {
    const w = open()
    w.sent(sent(8, { restable: false }))
    w.stored(id(8), 8)
    assert.equal(w.claim().base.seq, 5)
    assert.equal(w.acked.seq, 8)
  })

  it('an acknowledgement at another place, or of nothing sent, is impossible', () => {
    const w = open()
    w.sent(sent(8))
    assert.equal(w.stored(id(8), 12).kind, 'impossible')
    assert.equal(w.stored(id(77), 8).kind, 'impossible')
  })

  it('bounds count and bytes, and always lets one through', () => {
    const w = open()
    assert.ok(w.hasRoom(1_000_000))
    w.sent(sent(8))
    assert.ok(w.hasRoom(60))
    assert.ok(!w.hasRoom(61))
    w.sent(sent(9))
    assert.ok(!w.hasRoom(1))
  })
})
