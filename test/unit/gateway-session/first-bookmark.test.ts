// The bookmark right behind `watching`: a client that is cut off a moment later resumes instead of beginning anew.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keyFromText, prefixEnd } from '#protocol/bytes.ts'
import { decodeCursor } from '#protocol/cursor.ts'
import { CursorFold } from '#protocol/fold.ts'
import type { Subscriber } from '#gateway/delivery/subscriber.ts'
import type { FormatName } from '#gateway/delivery/encoder.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { FakeWire, policyOf, Rig } from './rig.ts'

const from = keyFromText('/')
const range = { from, to: prefixEnd(from) }

type Ask = { readonly rig: Rig; readonly start: string; readonly format?: FormatName }
type Asked = { readonly wire: FakeWire; readonly fold: CursorFold; readonly subscriber: Subscriber }

function ask({ rig, start, format = 'json' }: Ask): Asked {
  const wire = new FakeWire()
  const subscriber = rig.connect(wire, format, 1 << 20)
  const decoded = decodeCursor(start)
  const begin = decoded.ok ? decoded.cursor : (start as 'now' | 'snapshot')
  const request = {
    id: 'w',
    clusters: '*',
    regions: undefined,
    start: begin,
    otherwise: 'snapshot',
    narrowed: undefined,
  } as const
  assert.equal(rig.delivery.open(subscriber, { range, mode: 'log', values: 'auto' }, request), undefined)
  return { wire, fold: new CursorFold(start), subscriber }
}

/** Takes what was written until now, without giving anything time to follow. */
const receive = ({ wire, fold }: Asked): string[] =>
  wire.take().map((frame) => {
    fold.apply(frame)
    return frame.type === 'snapshot' ? `snapshot ${frame.phase}` : frame.type
  })

const outcome = (asked: Asked): string | undefined => {
  const frame = asked.wire.take().find((one) => one.type === 'watching')
  return frame?.type === 'watching' ? frame.clusters['sz-edge-1']?.outcome : undefined
}

test('B5: a watch from now can be resumed from its first answer on', () => {
  const sz = new FakeSource()
  using rig = new Rig(new FakeSources(sz), policyOf({}))
  const asked = ask({ rig, start: 'now' })
  assert.deepEqual(receive(asked), ['watching', 'bookmark'])
  sz.commit({ put: '/a', value: '1' })
  assert.equal(outcome(ask({ rig, start: asked.fold.cursor() ?? '' })), 'resumed')
})

test('B5: a snapshot can be resumed from its end on, before any bookmark was due', async () => {
  const sz = new FakeSource()
  sz.commit({ put: '/a', value: '1' })
  using rig = new Rig(new FakeSources(sz), policyOf({}))
  const asked = ask({ rig, start: 'snapshot' })
  await rig.run()
  assert.deepEqual(receive(asked), ['watching', 'snapshot begin', 'snapshot items', 'snapshot end', 'bookmark'])
  sz.commit({ put: '/a', value: '2' })
  assert.equal(outcome(ask({ rig, start: asked.fold.cursor() ?? '' })), 'resumed')
})

test('B5: a client whose view changed on the way is told the new one at once', async () => {
  const sz = new FakeSource()
  sz.commit({ put: '/a', value: '1' }, { put: '/b', value: '1' })
  using rig = new Rig(new FakeSources(sz), policyOf({}))
  const asked = ask({ rig, start: 'snapshot' })
  await rig.run()
  receive(asked)
  rig.policy = policyOf({ hidden: ['/b'] })
  rig.delivery.reclass(asked.subscriber, asked.subscriber.policyClass, new Map())
  await rig.run()
  receive(asked)
  assert.equal(outcome(ask({ rig, start: asked.fold.cursor() ?? '' })), 'resumed')
  // Away while the view changed: the answer is a resync, and its end can be resumed.
  const held = asked.fold.cursor() ?? ''
  rig.policy = policyOf({ hidden: ['/a'] })
  const back = ask({ rig, start: held })
  await rig.run()
  assert.ok(receive(back).includes('resync'))
  assert.equal(outcome(ask({ rig, start: back.fold.cursor() ?? '' })), 'resumed')
})

test('B5: a policy checkpoint from the hub names the view again behind its difference', async () => {
  const sz = new FakeSource()
  sz.commit({ put: '/a', value: '1' }, { put: '/b', value: '1' })
  using rig = new Rig(new FakeSources(sz), policyOf({}))
  const asked = ask({ rig, start: 'snapshot' })
  await rig.run()
  receive(asked)
  sz.reset('policy', [{ leave: '/b' }])
  await rig.run()
  assert.ok(receive(asked).includes('resync'))
  assert.equal(outcome(ask({ rig, start: asked.fold.cursor() ?? '' })), 'resumed')
})

test('B5: no bookmark comes before there is a position to tell', async () => {
  const sz = new FakeSource({ ready: false })
  using rig = new Rig(new FakeSources(sz), policyOf({}))
  const asked = ask({ rig, start: 'snapshot' })
  await rig.run()
  assert.deepEqual(receive(asked), ['watching'])
  sz.becomeReady()
  await rig.run()
  assert.deepEqual(receive(asked), ['snapshot begin', 'snapshot end', 'bookmark'])
})
