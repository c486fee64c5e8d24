// Bookmarks: decoding what anyone may send, and the gate they pass.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeMark, type LastEntry, MarkGate } from '#gateway/upstream/marks.ts'
import { epochOf, LogWriter, rev } from './log-writer.ts'

const writer = new LogWriter({ sink: () => undefined })
writer.commit([{ op: 'put', key: '/a', value: '1' }])
writer.checkpoint('epoch')
const encode = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value))
const last = (seq: number, id = 'a'.repeat(32)): LastEntry => ({
  seq,
  entryId: id as never,
  epoch: epochOf(1),
  configHash: 'config-1',
})
const markAt = (seq: number, proven: number, id = 'a'.repeat(32)) =>
  writer.mark({ seq, provenRevision: rev(proven), entryId: id as never, epoch: epochOf(1) })

test('a well-formed bookmark is read, and one with any field missing or wrong is not', () => {
  const mark = writer.mark()
  assert.deepEqual(decodeMark(encode(mark)), mark)
  for (const field of Object.keys(mark)) {
    const { [field as keyof typeof mark]: _, ...rest } = mark
    assert.equal(decodeMark(encode(rest)), undefined, field)
  }
  assert.equal(decodeMark(encode({ ...mark, ageMs: 9_000 }))?.ageMs, 9_000, 'of a held log')
  const wrong = {
    ageMs: -1,
    v: 2,
    agentId: 3,
    epoch: 'E'.repeat(16),
    provenRevision: '-1',
    seq: 1.5,
    entryId: '',
    configHash: null,
    state: 'fine',
    lag: '0',
    atMs: 'now',
  }
  for (const [field, value] of Object.entries(wrong))
    assert.equal(decodeMark(encode({ ...mark, [field]: value })), undefined, field)
  assert.equal(decodeMark(encode({ ...mark, provenRevision: '9223372036854775808' })), undefined)
  assert.equal(decodeMark(encode({ ...mark, agentId: 'x'.repeat(5000) })), undefined, 'too long')
})

test('I10: no bytes make the decoder throw', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (data) => void decodeMark(data)))
  fc.assert(fc.property(fc.json(), (json) => void decodeMark(new TextEncoder().encode(json))))
})

test('B2: applied only at the very entry it names; later ones wait, earlier ones are stale, others are foreign', () => {
  const gate = new MarkGate()
  assert.equal(gate.offer(markAt(5, 9), last(5)), 'applied')
  assert.equal(gate.offer(markAt(4, 9), last(5)), 'stale')
  assert.equal(gate.offer(markAt(5, 9, 'b'.repeat(32)), last(5)), 'foreign')
  assert.equal(gate.offer({ ...markAt(5, 9), configHash: 'x' }, last(5)), 'foreign')
  assert.equal(gate.offer({ ...markAt(5, 9), epoch: epochOf(2) }, last(5)), 'foreign')
  assert.equal(gate.offer(markAt(6, 9), last(5)), 'waiting')
  assert.equal(gate.offer(markAt(6, 9), undefined), 'waiting')
  assert.equal(gate.reached(last(5)), undefined)
  assert.equal(gate.reached(last(6))?.provenRevision, '9')
  assert.equal(gate.reached(last(6)), undefined, 'once')
})

test('of waiting bookmarks the newest is kept; one passed by without being true is dropped', () => {
  const gate = new MarkGate()
  for (const [seq, proven] of [
    [7, 10],
    [6, 50],
    [7, 12],
    [7, 11],
  ] as const) {
    assert.equal(gate.offer(markAt(seq, proven), last(5)), 'waiting')
  }
  assert.equal(gate.reached(last(6)), undefined)
  assert.equal(gate.reached(last(7))?.provenRevision, '12')
  gate.offer(markAt(8, 20), last(7))
  assert.equal(gate.reached(last(9)), undefined, 'its entry was not where it said')
  assert.equal(gate.reached(last(8)), undefined)
})
