// Every kind of cursor on both transports, over a real hub: each gets the outcome that SPEC.md documents, and the stream
// behind it is exact. The rows are those of the table under "R · Resume".

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { encodeCursor, type ViewTag } from '#protocol/cursor.ts'
import type { ServerFrame } from '#protocol/frames.ts'
import type { Epoch } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import { caughtUp, cluster, type Followed, region } from '../gateway-upstream/jetstream.ts'
import { GZ, MO, type Place, put, SZ, World } from './cursor-world.ts'
import { EventStream } from './event-stream.ts'
import { startGateway } from './gateway.ts'

type Given = {
  /** The cluster that is watched. */
  readonly on: ClusterId
  /** The cluster that the cursor names; default: the one watched. */
  readonly named?: ClusterId
  readonly place: Place
  readonly viewTag?: ViewTag
  /** Done once the watch has been answered. */
  readonly meanwhile?: () => Promise<void>
}
/** What follows the answer: exactly the revisions behind the cursor, or a full snapshot, told why or not. */
type Told = { readonly outcome: string; readonly reason?: string; readonly follows: 'events' | 'snapshot' | 'nothing' }
type Row = {
  readonly cursor: string
  readonly given: (world: World) => Given
  readonly websocket: Told
  /** Default: the same. */
  readonly stream?: Told
}

const RESUMED: Told = { outcome: 'resumed', follows: 'events' }
const resync = (reason: string): Told => ({ outcome: 'resync', reason, follows: 'snapshot' })

const ROWS: readonly Row[] = [
  { cursor: 'current', given: (w) => ({ on: SZ, place: w.at(SZ, 0) }), websocket: RESUMED },
  { cursor: 'behind', given: (w) => ({ on: SZ, place: w.at(SZ, -5) }), websocket: RESUMED },
  { cursor: 'beyond the ring', given: (w) => ({ on: SZ, place: w.at(SZ, -40) }), websocket: RESUMED },
  {
    cursor: 'beyond the stream (trimmed)',
    given: (w) => ({ on: GZ, place: { epoch: w.writer(GZ).epoch, revision: 3 } }),
    websocket: resync('trimmed'),
  },
  {
    cursor: 'compacted (behind a gap of the log)',
    given: (w) => ({ on: SZ, place: { epoch: w.writer(SZ).epoch, revision: w.gap - 2 } }),
    websocket: resync('compacted'),
  },
  {
    cursor: 'future, reached within the time to wait',
    given: (w) => ({ on: SZ, place: w.at(SZ, 2), meanwhile: () => w.write(SZ, 3) }),
    websocket: { outcome: 'waiting', follows: 'events' },
  },
  {
    cursor: 'other epoch',
    given: (w) => ({ on: SZ, place: { ...w.at(SZ, -5), epoch: 'ffffffffffffffff' as Epoch } }),
    websocket: resync('epoch'),
  },
  {
    cursor: 'other cluster',
    given: (w) => ({ on: SZ, named: GZ, place: w.at(GZ, 0) }),
    websocket: { outcome: 'snapshot', follows: 'snapshot' },
    stream: resync('epoch'),
  },
  {
    cursor: 'removed cluster',
    given: (w) => ({ on: MO, place: w.removed }),
    websocket: { outcome: 'denied', follows: 'nothing' },
  },
  {
    cursor: 'other selector, mode or values',
    given: (w) => ({ on: SZ, place: w.at(SZ, -5), viewTag: `00000000${w.viewTag.slice(8)}` }),
    websocket: resync('selector'),
  },
  {
    cursor: 'other rules',
    given: (w) => ({ on: SZ, place: w.at(SZ, -5), viewTag: `${w.viewTag.slice(0, 8)}00000000` }),
    websocket: resync('policy'),
  },
]

/** One connection of either kind: frames in order. */
type Seat = AsyncDisposable & { next(): Promise<ServerFrame> }

async function websocket(world: World, given: Given): Promise<Seat> {
  const { on, named = on, place, viewTag = world.viewTag } = given
  const client = await world.gateway.client()
  const positions = new Map([[named, { epoch: place.epoch, revision: String(place.revision) as Revision }]])
  client.watch({ id: 'w', prefix: '/', clusters: [on], start: encodeCursor({ viewTag, positions }) })
  return {
    next: () => client.any(),
    [Symbol.asyncDispose]: async () => client.ws.terminate(),
  }
}

async function stream(world: World, given: Given): Promise<Seat> {
  const { on, place, viewTag = world.viewTag } = given
  const events = new EventStream()
  const id = `${place.epoch}:${place.revision}:${viewTag}`
  const path = `/v1/events?cluster=${on}&prefix=/`
  assert.equal(await events.open(world.gateway.port, path, { 'last-event-id': id }), 200)
  return {
    next: async () => (await events.any()).frame,
    [Symbol.asyncDispose]: async () => events[Symbol.dispose](),
  }
}

/** Follows a seat until it has everything the writer wrote, and says what it was told on the way. */
async function follow(world: World, given: Given, told: Told, seat: Seat): Promise<void> {
  const answer = await frame(seat, 'watching')
  assert.equal(answer.clusters[given.on]?.outcome, told.outcome)
  await given.meanwhile?.()
  if (told.follows === 'nothing') return
  // Whatever came before, what is written now comes next, once.
  await world.write(given.on, 1)
  const writer = world.writer(given.on)
  const revisions: number[] = []
  const reasons: string[] = []
  let snapshot: number | undefined
  let items = 0
  for (let at = 0; at < writer.position; ) {
    const one = await seat.next()
    if (!('cluster' in one) || one.cluster !== given.on) continue
    if (one.type === 'resync') reasons.push(one.reason)
    if (one.type === 'snapshot' && one.phase === 'items') items += one.items.length
    if (one.type === 'snapshot' && one.phase === 'begin') assert.equal(one.base, 'full')
    if (one.type === 'snapshot' && one.phase === 'end') snapshot = at = Number(one.revision)
    if (one.type === 'events') {
      at = Number(one.revision)
      revisions.push(at)
    }
  }
  assert.deepEqual(reasons, told.reason === undefined ? [] : [told.reason])
  const from = snapshot ?? given.place.revision
  assert.equal(snapshot !== undefined, told.follows === 'snapshot')
  if (snapshot !== undefined) assert.equal(items, writer.state.size)
  assert.deepEqual(
    revisions,
    Array.from({ length: writer.position - from }, (_, n) => from + 1 + n),
  )
}

async function frame<T extends ServerFrame['type']>(seat: Seat, type: T): Promise<Extract<ServerFrame, { type: T }>> {
  for (;;) {
    const one = await seat.next()
    if (one.type === type) return one as Extract<ServerFrame, { type: T }>
  }
}

describe('cursors', { timeout: 120_000 }, () => {
  let world: World
  before(async () => {
    world = await World.start()
  })
  after(() => world?.[Symbol.asyncDispose]())

  for (const { cursor, given, websocket: told, stream: streamed = told } of ROWS) {
    it(`R1 R3 R4 R5 R6: ${cursor}, WebSocket: ${summary(told)}`, async () => {
      const what = given(world)
      await using seat = await websocket(world, what)
      await follow(world, what, told, seat)
    })
    it(`R1 R3 R4 R5 R6: ${cursor}, event stream: ${summary(streamed)}`, async () => {
      const what = given(world)
      await using seat = await stream(world, what)
      await follow(world, what, streamed, seat)
    })
  }

  it('R4: a gateway that has to search the log for a position says what cut it off', async () => {
    await using followed = await world.hub.sources()
    const source = followed.sources.add(SZ, region('sz'))
    await caughtUp(source, world.writer(SZ))
    await using gateway = await startGateway({ sources: followed.sources })
    const client = await gateway.client()
    const positions = new Map([[SZ, { epoch: world.writer(SZ).epoch, revision: String(world.gap - 2) as Revision }]])
    client.watch({ id: 'w', prefix: '/', start: encodeCursor({ viewTag: world.viewTag, positions }) })
    assert.equal((await client.next('watching')).clusters[SZ]?.outcome, 'resumed')
    assert.equal((await client.next('resync')).reason, 'compacted')
    assert.equal((await client.next('snapshot')).phase, 'begin')
  })

  it('R10 I6: at the very revision of a policy checkpoint, before or after, a resume is a resync (policy)', async () => {
    const id = cluster('hk-edge-1')
    await world.hub.createStream(id)
    const writer = world.hub.writer(id, { epoch: 9, seed: 9 })
    writer.commit([put('/secret', '1'), put('/open', '1')])
    writer.checkpoint('epoch')
    writer.events([put('/open', '2')])
    await writer.flush()
    const { epoch, position } = writer
    const positions = new Map([[id, { epoch, revision: String(position) as Revision }]])
    const start = encodeCursor({ viewTag: world.viewTag, positions })
    // Quiet as the cluster is, the narrowed state stands at the revision the client holds.
    writer.state.delete('/secret')
    writer.checkpoint('policy')
    await writer.flush()
    const resume = async (followed: Followed): Promise<void> => {
      await caughtUp(followed.sources.add(id, region('hk')), writer)
      await using gateway = await startGateway({ sources: followed.sources })
      const client = await gateway.client()
      client.watch({ id: 'w', prefix: '/', clusters: [id], start })
      assert.equal((await client.next('resync')).reason, 'policy')
      const snapshot = await client.next('snapshot', (one) => one.phase === 'items')
      assert.equal(snapshot.phase === 'items' && snapshot.items.length, 1)
      // A page of state is pinned to what is there now, and goes on.
      const page = await gateway.get(`/v1/state?cluster=${id}&limit=1`)
      assert.equal(page.status, 200)
    }
    {
      await using followed = await world.hub.sources()
      await resume(followed)
    }
    // A gateway that started behind the checkpoint finds it in the log.
    writer.events([put('/open', '3')])
    writer.checkpoint('routine')
    await writer.flush()
    await using followed = await world.hub.sources()
    await resume(followed)
  })

  it('R9: a cluster the cursor does not name begins by default, also from now', async () => {
    const client = await world.gateway.client()
    const positions = new Map([[GZ, { epoch: world.writer(GZ).epoch, revision: '3' as Revision }]])
    const start = encodeCursor({ viewTag: world.viewTag, positions })
    client.watch({ id: 'w', prefix: '/', clusters: [SZ], start, default: 'now' })
    assert.equal((await client.next('watching')).clusters[SZ]?.outcome, 'live')
  })

  it('R8: garbage, WebSocket: DW4012, and the connection lives on', async () => {
    const client = await world.gateway.client()
    for (const start of ['dw1.', 'dw1.AAAA', 'dw2.AAAA', 'dw1.****', `dw1.${'A'.repeat(200)}`]) {
      client.watch({ id: 'w', prefix: '/', start })
      assert.equal((await client.next('error')).code, 'DW4012', start)
    }
    await client.snapshot({ id: 'w', prefix: '/', clusters: [SZ] }, SZ)
  })

  it('R8: bit-flipped, WebSocket: DW4012 for every bit of it', async () => {
    const client = await world.gateway.client()
    const { epoch, revision } = world.at(SZ, -5)
    const positions = new Map([[SZ, { epoch, revision: String(revision) as Revision }]])
    const bytes = Buffer.from(encodeCursor({ viewTag: world.viewTag, positions }).slice(4), 'base64url')
    for (let bit = 0; bit < bytes.length * 8; bit += 5) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7))
      client.watch({ id: 'w', prefix: '/', start: `dw1.${flipped.toString('base64url')}` })
      assert.equal((await client.next('error')).code, 'DW4012', `bit ${bit}`)
      // The inbound rate is not what is tested here.
      if (bit % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 100))
    }
    client.send({ type: 'ping' })
    await client.next('pong')
  })

  it('R8: garbage and broken ids, event stream: 400 and DW4012', async () => {
    const { epoch, revision } = world.at(SZ, -5)
    const path = `/v1/events?cluster=${SZ}&prefix=/`
    for (const id of [
      'x',
      `${epoch}:${revision}`,
      `${epoch}:0${revision}:${world.viewTag}`,
      `${epoch}:${revision}:zz`,
    ]) {
      const answer = await world.gateway.get(path, { 'last-event-id': id })
      assert.equal(answer.status, 400, id)
      assert.match(answer.body, /DW4012|4012/)
    }
  })

  it('R8: bit-flipped, event stream: refused, or the place and view it happens to name; never from now', async () => {
    const { epoch, revision } = world.at(SZ, -5)
    const id = `${epoch}:${revision}:${world.viewTag}`
    for (let n = 0; n < id.length; n++) {
      const flipped = id.slice(0, n) + String.fromCharCode(id.charCodeAt(n) ^ 1) + id.slice(n + 1)
      using events = new EventStream()
      const path = `/v1/events?cluster=${SZ}&prefix=/`
      const status = await events.open(world.gateway.port, path, { 'last-event-id': flipped })
      if (status === 400) continue
      const { outcome = '' } = (await events.next('watching')).frame.clusters[SZ] ?? {}
      const expected = n < 16 ? ['resync'] : n > id.length - 17 ? ['resync'] : ['resumed', 'waiting', 'resync']
      assert.ok(expected.includes(outcome), `${flipped}: ${outcome}`)
    }
  })
})

function summary({ outcome, reason, follows }: Told): string {
  return `${outcome}${reason === undefined ? '' : ` (${reason})`}, then ${follows}`
}
