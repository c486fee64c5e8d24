// The view's less ordinary hours: damaged, contradicting and oversized checkpoints, and what it asks for then.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Key } from '#protocol/bytes.ts'
import { decodeEntry } from '#protocol/log/decode.ts'
import { encodeEntry } from '#protocol/log/encode.ts'
import type { LogEntry } from '#protocol/log/entry.ts'
import { ChainReader } from '#gateway/upstream/chain-reader.ts'
import type { Demand, ViewBounds, ViewEvent } from '#gateway/view/contract.ts'
import { ViewCore } from '#gateway/view/view-core.ts'
import { LogWriter } from './log-writer.ts'

const ROOMY: ViewBounds = { ringBytes: 1e9, ringRevisions: 1e6, stagingBytes: 1e9, holdBytes: 1e9, stateBytes: 1e9 }
const put = (key: string, value = 'v') => ({ op: 'put', key, value }) as const

/** A writer whose entries go straight into a view; `tamper` changes one on its way, as nobody should. */
const setUp = (bounds: Partial<ViewBounds> = {}) => {
  const events: ViewEvent[] = []
  const demands: Demand[] = []
  const stored: Uint8Array[] = []
  const core = new ViewCore({ ...ROOMY, ...bounds }, (event) => events.push(event))
  let chain = new ChainReader(1)
  let tamper: (entry: LogEntry) => LogEntry = (entry) => entry
  const read = (seq: number): void => {
    const message = stored[seq - 1] as Uint8Array
    const judged = chain.judge(seq, message)
    if (judged.kind !== 'valid') return
    const { entry, state, completed } = judged
    const demand = core.apply({ entry, message, owned: false, position: state.revision, completed, arrivedAt: 0 })
    if (demand !== undefined) demands.push(demand)
  }
  const writer = new LogWriter({
    sink: (seq, data) => {
      const decoded = decodeEntry(data)
      stored.push(decoded.ok ? encodeEntry(tamper(decoded.value)) : data)
      read(seq)
    },
  })
  const again = (from: number): void => {
    core.rejoin()
    chain = new ChainReader(from)
    for (let seq = from; seq <= stored.length; seq++) read(seq)
  }
  writer.commit([put('/a'), put('/b'), put('/c')])
  writer.checkpoint('epoch', 1)
  const outcomes = (): string[] => events.flatMap((event) => (event.kind === 'checkpoint' ? [event.outcome] : []))
  const resets = () => events.filter((event) => event.kind === 'reset')
  return { core, writer, events, demands, outcomes, resets, again, tamperWith: (f: typeof tamper) => void (tamper = f) }
}

test('K2: a checkpoint whose digest, count, revision or order does not fit is no checkpoint', () => {
  const wrong: Readonly<Record<string, (entry: LogEntry) => LogEntry>> = {
    digest: (entry) => (entry.kind === 'snapshot-end' ? { ...entry, digest: new Uint8Array(32) } : entry),
    count: (entry) => (entry.kind === 'snapshot-end' ? { ...entry, itemCount: entry.itemCount + 1 } : entry),
    revision: (entry) => (entry.kind === 'snapshot-end' ? { ...entry, revision: '2' as never } : entry),
    order: (entry) => (entry.kind === 'snapshot-items' && entry.index === 1 ? { ...entry, index: 2 } : entry),
    content: (entry) =>
      entry.kind === 'snapshot-items' && entry.index === 0
        ? { ...entry, items: entry.items.map((item) => ({ ...item, value: new Uint8Array(1) })) }
        : entry,
  }
  for (const [what, tamper] of Object.entries(wrong)) {
    for (const reason of ['routine', 'gap'] as const) {
      const it = setUp()
      it.tamperWith(tamper)
      it.writer.checkpoint(reason, 1)
      assert.equal(it.demands[0]?.cause, 'checkpoint', `${what} of a ${reason} checkpoint`)
      assert.equal(it.resets().length, 1, 'nothing of it was applied')
      assert.equal(it.core.ready, true)
    }
  }
})

test('K3: a routine checkpoint that contradicts the view is an alarm, and repairs it when read again', () => {
  const cases: Readonly<Record<string, (writer: LogWriter) => void>> = {
    'a key the view does not hold': (writer) => {
      writer.commit([put('/unseen')])
      writer.head--
      const item = writer.state.get('/unseen')
      if (item !== undefined)
        writer.state.set('/unseen', { ...item, modRevision: '1' as never, createRevision: '1' as never })
    },
    'a key the view should not hold': (writer) => void writer.state.delete('/b'),
    'another value at the same revision': (writer) => {
      const item = writer.state.get('/c')
      if (item !== undefined) writer.state.set('/c', { ...item, value: new Uint8Array([1]) })
    },
    'another lease': (writer) => {
      const item = writer.state.get('/c')
      if (item !== undefined) writer.state.set('/c', { ...item, lease: '77' })
    },
  }
  for (const [what, drift] of Object.entries(cases)) {
    const it = setUp()
    drift(it.writer)
    it.writer.checkpoint('routine', 1)
    assert.deepEqual(it.demands, [{ kind: 'start-over', cause: 'verify' }], what)
    assert.ok(
      it.events.some((event) => event.kind === 'checkpoint' && event.outcome === 'mismatch' && event.differences === 1),
    )
    it.again(it.writer.newestComplete)
    const reset = it.resets()[1]
    assert.equal(reset?.reason, 'trimmed', what)
    assert.equal(reset?.differences?.length, 1)
    assert.equal(it.core.index.size, it.writer.state.size)
  }
})

test('I8: a checkpoint that differs in more than may be set aside is taken in place, and told without differences', () => {
  const it = setUp({ stagingBytes: 2_000 })
  it.writer.newEpoch(2, 50)
  for (let i = 0; i < 40; i++) it.writer.commit([put(`/new${i}`)])
  const pages: boolean[] = []
  const open = it.writer.begin('epoch')
  while (open.items(5)) {
    pages.push(it.core.ready)
    assert.ok(it.core.stagingBytes < 6_000, `${it.core.stagingBytes} bytes set aside`)
  }
  open.end()
  assert.deepEqual([pages[0], pages.at(-1)], [true, false], 'served until it no longer could')
  assert.equal(it.core.ready, true)
  assert.equal(it.resets()[1]?.differences, undefined)
  assert.equal(it.core.index.size, 43)
})

test('I8: a state beyond its bound is dropped whole, and the reader is told to stop', () => {
  const it = setUp({ stateBytes: 20_000 })
  for (let i = 0; i < 100 && it.demands.length === 0; i++) it.writer.events([put(`/k${i}`, 'x'.repeat(100))])
  assert.deepEqual(it.demands, [{ kind: 'stop', cause: 'state-too-large' }])
  assert.equal(it.core.ready, false)
  assert.equal(it.core.index.bytes, 0)
  assert.deepEqual(it.core.locate({ epoch: it.writer.epoch, revision: '1' as never }), { kind: 'unready' })
})

test('I8: deletes remembered for a checkpoint under way are bounded: beyond that it is not verified', () => {
  const it = setUp({ stagingBytes: 1_000 })
  for (let i = 0; i < 50; i++) it.writer.events([put(`/k${i}`)])
  it.writer.checkpoint('routine', 3, (i) => it.writer.events([{ op: 'delete', key: `/k${i}` }]))
  assert.deepEqual(it.outcomes().slice(-1), ['skipped'])
  assert.deepEqual(it.demands, [])
  assert.equal(it.core.index.size, it.writer.state.size)
})

test('K4: while a checkpoint holds delivery the old state is served as it was; a policy checkpoint makes keys leave', () => {
  const it = setUp()
  it.writer.state.delete('/b')
  it.writer.head++
  const open = it.writer.begin('policy')
  open.items(10)
  assert.equal(it.core.resyncing, true)
  assert.equal(it.core.index.get('/b' as Key)?.modRevision, '1')
  assert.equal(it.core.revision, '1')
  open.end()
  assert.equal(it.core.resyncing, false)
  assert.deepEqual(
    it.resets()[1]?.differences?.map((one) => [one.key, 'gone' in one ? one.gone : 'put']),
    [['/b', 'leave']],
  )
})

test('a position in the epoch being read is ahead, not foreign: another gateway may have been faster', () => {
  const it = setUp()
  const before = it.writer.epoch
  it.writer.newEpoch(2, 9, it.writer.state)
  const open = it.writer.begin('epoch')
  const position = { epoch: it.writer.epoch, revision: '9' as never }
  assert.deepEqual(it.core.locate(position), { kind: 'ahead' })
  open.items(10)
  open.end()
  assert.equal(it.core.locate(position).kind, 'ring')
  assert.deepEqual(it.core.locate({ epoch: before, revision: '1' as never }), { kind: 'resync', reason: 'epoch' })
})
