// A class that must not learn of hidden activity, and a log that holds nothing else since its cursor: it is read once,
// what is visible follows, and no position tells that something was read.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keyFromText, prefixEnd } from '#protocol/bytes.ts'
import { decodeCursor } from '#protocol/cursor.ts'
import type { DeliveryMode, ServerFrame } from '#protocol/frames.ts'
import { CursorFold } from '#protocol/fold.ts'
import type { Subscriber } from '#gateway/delivery/subscriber.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { FakeWire, policyOf, Rig } from './rig.ts'

const from = keyFromText('/')
const range = { from, to: prefixEnd(from) }
const CLUSTER = 'sz-edge-1'

type Asked = { readonly wire: FakeWire; readonly fold: CursorFold; readonly subscriber: Subscriber }

class World implements Disposable {
  readonly source = new FakeSource()
  readonly rig = new Rig(new FakeSources(this.source), policyOf({ hideActivity: true, hidden: ['/h'] }))
  readonly mode: DeliveryMode

  constructor(mode: DeliveryMode) {
    this.mode = mode
  }

  hide(revisions: number): void {
    for (let i = 0; i < revisions; i++) this.source.commit({ put: `/h${i}`, value: 'x' })
  }

  watch(start: string): Asked {
    const wire = new FakeWire()
    const decoded = decodeCursor(start)
    const request = {
      id: 'w',
      clusters: '*',
      regions: undefined,
      start: decoded.ok ? decoded.cursor : 'snapshot',
      otherwise: 'snapshot',
      narrowed: undefined,
    } as const
    const subscriber = this.rig.connect(wire, 'json', 1 << 20)
    const { mode, rig } = this
    assert.equal(rig.delivery.open(subscriber, { range, mode, values: 'auto' }, request), undefined)
    return { wire, fold: new CursorFold(start), subscriber }
  }

  /** Where a bookmark would put the subscriber at each look into the ring, from now on. */
  positionsWhileReadingTheRing(subscriber: Subscriber): ReadonlySet<string> {
    const stood = new Set<string>()
    const { source } = this
    const at = source.at.bind(source)
    source.at = (index) => {
      for (const watch of subscriber.watches.values())
        for (const { revision } of watch.positions().values()) stood.add(revision)
      return at(index)
    }
    return stood
  }

  /** A replay takes a turn of the loop for each revision. */
  async settle(): Promise<void> {
    for (let i = 0; i < 60; i++) await this.rig.tick(100)
  }

  [Symbol.dispose](): void {
    this.rig[Symbol.dispose]()
  }
}

const positionsIn = (frames: readonly ServerFrame[]): (string | undefined)[] =>
  frames.flatMap((frame) => (frame.type === 'bookmark' ? [frame.clusters[CLUSTER]?.revision] : []))

for (const mode of ['log', 'state'] as const) {
  test(`reader: mode ${mode}: hidden revisions behind the ring are read once, and what follows is delivered`, async () => {
    using world = new World(mode)
    const { rig, source } = world
    const visible = source.commit({ put: '/a', value: '0' })
    const first = world.watch('snapshot')
    await rig.run()
    for (const frame of first.wire.take()) first.fold.apply(frame)
    const cursor = first.fold.cursor() ?? ''
    rig.delivery.end(first.subscriber)
    world.hide(30)
    source.trimRing()
    world.hide(3)
    source.replays = 0
    const second = world.watch(cursor)
    const stood = world.positionsWhileReadingTheRing(second.subscriber)
    await world.settle()
    assert.equal(source.replays, 1)
    const quiet = second.wire.take()
    assert.deepEqual([...stood], [visible])
    assert.deepEqual([...new Set(positionsIn(quiet))], [visible])
    assert.deepEqual(
      quiet.filter(({ type }) => type !== 'watching' && type !== 'bookmark'),
      [],
    )

    const next = source.commit({ put: '/a', value: '1' })
    await world.settle()
    assert.equal(source.replays, 1)
    const told = second.wire.take()
    assert.ok(told.some((frame) => frame.type === 'events' && frame.revision === next))
    assert.deepEqual(positionsIn(told).at(-1), next)
  })
}

test('V7: a difference in state mode names the last revision of the class, never a hidden one after it', async () => {
  using world = new World('state')
  const { rig, source } = world
  source.commit({ put: '/a', value: '0' })
  const { wire, subscriber } = world.watch('')
  await rig.tick(100)
  wire.take()
  // Behind from here on: more than there is room for, and nobody answers.
  for (let i = 0; i < 30; i++) {
    source.commit({ put: '/a', value: String(i).repeat(45_000) })
    await rig.tick(10)
  }
  wire.take()
  const visible = source.commit({ put: '/a', value: '2' })
  world.hide(3)
  rig.pong(subscriber, wire)
  await world.settle()
  rig.pong(subscriber, wire)
  await world.settle()
  const named = wire.take().flatMap((frame) => (frame.type === 'state' ? [frame.revision] : []))
  assert.ok(named.length > 0, 'no difference was sent')
  assert.deepEqual(named.at(-1), visible)
})
