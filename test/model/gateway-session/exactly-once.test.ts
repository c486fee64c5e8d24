// I1, I2, I8: whatever happens to connections, rings, logs and readers, a client that folds frames ends with the source's
// state, and every revision it was given continued the one before: none twice, none missing, none split.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeCursor, encodeCursor } from '#protocol/cursor.ts'
import type { DeliveryMode } from '#protocol/frames.ts'
import type { Epoch } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import { keyFromText, prefixEnd } from '#protocol/bytes.ts'
import type { PolicyClass } from '#policies/engine/types.ts'
import type { Feed } from '#gateway/delivery/feed.ts'
import type { Burst } from '#gateway/delivery/reader.ts'
import type { Subscriber } from '#gateway/delivery/subscriber.ts'
import type { Begin } from '#gateway/delivery/watch.ts'
import { FakeSource, FakeSources, type Write } from '#test/support/fake-source.ts'
import { FakeWire, policyOf, Rig, type Rules } from '../../unit/gateway-session/rig.ts'
import { FoldingClient, type Seen, valueOf } from './folding-client.ts'

type Command =
  | { readonly do: 'commit'; readonly on: number; readonly writes: readonly Write[]; readonly times: number }
  | { readonly do: 'prove'; readonly on: number }
  | { readonly do: 'read'; readonly who: number; readonly settle: boolean }
  | { readonly do: 'tick' }
  | { readonly do: 'reconnect'; readonly who: number; readonly how: 'cursor' | 'snapshot' }
  | { readonly do: 'trim-ring'; readonly on: number; readonly keep: number }
  | { readonly do: 'trim-log'; readonly on: number }
  | {
      readonly do: 'reset'
      readonly on: number
      readonly writes: readonly Write[]
      readonly epoch: boolean
      readonly differences: boolean
    }
  | { readonly do: 'policy'; readonly rules: number }
  | { readonly do: 'replays'; readonly fail: 'replay-busy' | undefined }

const PREFIX = '/k/'
const keys = ['/k/a', '/k/b', '/k/c', '/k/hide/x', '/k/hide/y', '/other/z', '/k/é']
const RULES: readonly Rules[] = [
  {},
  { hidden: ['/k/hide/'] },
  { secret: 'secret' },
  { hidden: ['/k/a', '/other'], secret: 'S' },
  { hidden: ['/k/hide/', '/k/a'], hideActivity: true },
]

const write: fc.Arbitrary<Write> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      put: fc.constantFrom(...keys),
      value: fc.constantFrom('{"a":1}', 'text', 'secret S', 'x'.repeat(300), ''),
    }),
  },
  { weight: 1, arbitrary: fc.record({ delete: fc.constantFrom(...keys) }) },
  { weight: 1, arbitrary: fc.record({ leave: fc.constantFrom(...keys) }) },
)
/** etcd refuses one key twice in a transaction. */
const transaction = fc.uniqueArray(write, {
  minLength: 1,
  maxLength: 4,
  selector: (w) => ('put' in w ? w.put : 'delete' in w ? w.delete : w.leave),
})
const on = fc.nat(1)
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant('commit' as const),
      on,
      writes: transaction,
      times: fc.constantFrom(1, 1, 1, 3, 12),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('prove' as const), on }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('read' as const), who: fc.nat(1), settle: fc.boolean() }) },
  { weight: 4, arbitrary: fc.constant({ do: 'tick' } as const) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('reconnect' as const),
      who: fc.nat(1),
      how: fc.constantFrom('cursor' as const, 'cursor' as const, 'snapshot' as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('trim-ring' as const), on, keep: fc.constantFrom(0, 1, 5) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('trim-log' as const), on }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('reset' as const),
      on,
      writes: transaction,
      epoch: fc.boolean(),
      differences: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('policy' as const), rules: fc.nat(RULES.length - 1) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('replays' as const),
      fail: fc.constantFrom('replay-busy' as const, undefined),
    }),
  },
)

/** One subscriber: two of them share every channel, so that one's doings meet the other's. */
class Seat {
  readonly client = new FoldingClient(true)
  readonly #world: World
  wire = new FakeWire()
  subscriber: Subscriber

  constructor(world: World) {
    this.#world = world
    this.subscriber = world.rig.connect(this.wire)
    this.watch('snapshot')
  }

  watch(start: Begin): void {
    const { rig, mode } = this.#world
    const range = { from: keyFromText(PREFIX), to: prefixEnd(keyFromText(PREFIX)) }
    const request = {
      id: 'w',
      clusters: '*',
      regions: undefined,
      start,
      otherwise: 'snapshot',
      narrowed: undefined,
    } as const
    const refusal = rig.delivery.open(this.subscriber, { range, mode, values: 'auto' }, request)
    assert.equal(refusal, undefined)
  }

  read(): void {
    for (const frame of this.wire.take()) this.client.receive(frame)
    this.#world.rig.pong(this.subscriber, this.wire)
  }

  /** What the client had not read is lost with the connection, as on a real one. */
  reconnect(how: 'cursor' | 'snapshot'): void {
    const { client } = this
    const { rig } = this.#world
    this.wire.open = false
    rig.delivery.end(this.subscriber)
    this.subscriber.outlet.closed()
    client.reconnect()
    this.wire = new FakeWire()
    this.subscriber = rig.connect(this.wire)
    const known = client.cursor === undefined ? undefined : decodeCursor(client.cursor)
    if (how === 'snapshot' || known === undefined || !known.ok) return this.watch('snapshot')
    const positions = new Map<ClusterId, { epoch: Epoch; revision: Revision }>()
    for (const [name, fold] of client.clusters) {
      if (fold.position === undefined || fold.broken) continue
      const { epoch, revision } = fold.position
      positions.set(name as ClusterId, { epoch: epoch as Epoch, revision: String(revision) as Revision })
    }
    const decoded = decodeCursor(encodeCursor({ viewTag: known.cursor.viewTag, positions }))
    assert.ok(decoded.ok)
    this.watch(decoded.cursor)
  }
}

class World {
  readonly sources: FakeSource[]
  readonly rig: Rig
  readonly mode: DeliveryMode
  readonly seats: readonly Seat[]
  /** What each revision of each cluster did, by cluster, epoch and revision. */
  readonly history = new Map<string, readonly Write[]>()
  readonly order = new Map<string, string[]>()
  epochs = 0
  rules: Rules = {}
  policyChanged = false

  constructor(mode: DeliveryMode) {
    this.mode = mode
    const sz = new FakeSource({ cluster: 'a-1', ring: 40 })
    this.sources = [sz, new FakeSource({ cluster: 'b-1', region: 'gz', ring: 40 })]
    this.rig = new Rig(new FakeSources(...this.sources), policyOf(this.rules))
    this.seats = [new Seat(this), new Seat(this)]
  }

  async act(command: Command): Promise<void> {
    const { rig } = this
    switch (command.do) {
      case 'commit': {
        const source = this.sources[command.on] as FakeSource
        const all = Array.from({ length: command.times }, () => command.writes)
        const before = BigInt(source.status.revision)
        source.commitAll(all)
        for (const [i] of all.entries()) this.#remember(source, String(before + BigInt(i + 1)), command.writes)
        return
      }
      case 'prove':
        return (this.sources[command.on] as FakeSource).prove(3)
      case 'read':
        // Half of the time without letting the gateway run first: ticks are still being gathered then.
        if (command.settle) await rig.run()
        return this.seats[command.who]?.read()
      case 'tick':
        return rig.tick(600)
      case 'reconnect':
        return this.seats[command.who]?.reconnect(command.how)
      case 'trim-ring': {
        const source = this.sources[command.on] as FakeSource
        return source.trimRing(source.nextIndex - command.keep)
      }
      case 'trim-log':
        return (this.sources[command.on] as FakeSource).trimLog()
      case 'reset': {
        const source = this.sources[command.on] as FakeSource
        const epoch = (++this.epochs).toString(16).padStart(16, '0')
        const { differences } = command
        return source.reset(
          command.epoch ? 'epoch' : 'compacted',
          command.writes,
          command.epoch ? { epoch, differences } : { differences },
        )
      }
      case 'policy': {
        this.rules = RULES[command.rules] as Rules
        this.policyChanged = true
        rig.policy = policyOf(this.rules)
        const bursts = new Map<Feed, Map<Feed, Burst | undefined>>()
        for (const { subscriber } of this.seats) {
          const policyClass = rig.policy.classOf({
            subject: 's',
            region: 'sz',
            audiences: [],
            scopes: [],
            anonymous: false,
          })
          rig.delivery.reclass(subscriber, policyClass as PolicyClass, bursts)
        }
        return
      }
      case 'replays':
        for (const source of this.sources) source.replayError = command.fail
        return
      default: {
        const unknown: never = command
        return unknown
      }
    }
  }

  /** Lets everything come to rest with clients that read. */
  async settle(): Promise<void> {
    for (const source of this.sources) source.replayError = undefined
    for (let i = 0; i < 60; i++) {
      await this.rig.tick(1_000)
      for (const seat of this.seats) seat.read()
    }
  }

  /** No visible revision lies between a frame and the position it followed; its events are exactly the visible ones. */
  judge(seen: Seen): void {
    if (this.policyChanged || this.mode === 'state') return
    const line = this.order.get(`${seen.cluster} ${seen.epoch}`) ?? []
    for (const revision of line) {
      const at = BigInt(revision)
      if (at <= seen.after || at > seen.revision) continue
      const visible = (this.history.get(`${seen.cluster} ${seen.epoch} ${revision}`) ?? []).filter((w) =>
        nameOf(w).startsWith(PREFIX),
      )
      if (at < seen.revision || seen.events.length === 0) {
        // Deletes of keys that were not there are hidden, rightly.
        const missed = visible.filter((w) => 'put' in w)
        assert.deepEqual(missed, [], `revision ${revision} of ${seen.cluster} was skipped`)
        continue
      }
      const told = seen.events.map((e) => (e.op === 'put' ? `${keyName(e)}=${valueOf(e)}` : keyName(e)))
      const puts = visible
        .filter((w) => 'put' in w)
        .map((w) => `${nameOf(w)}=${(w as { readonly value: string }).value}`)
      for (const put of puts)
        assert.ok(told.includes(put), `${put} is missing from revision ${revision}: ${told.join()}`)
    }
  }

  #remember(source: FakeSource, revision: string, writes: readonly Write[]): void {
    const line = `${source.cluster} ${source.epoch}`
    this.history.set(`${line} ${revision}`, writes)
    const order = this.order.get(line)
    if (order === undefined) this.order.set(line, [revision])
    else order.push(revision)
  }
}

const nameOf = (w: Write): string => ('put' in w ? w.put : 'delete' in w ? w.delete : w.leave)
const keyName = (e: object): string => ('key' in e ? String(e.key) : '')

function expected(source: FakeSource, rules: Rules): Map<string, string> {
  const shown = new Map<string, string>()
  for (const [key, entry] of source.state) {
    if (!key.startsWith(PREFIX)) continue
    if (rules.hidden?.some((prefix) => key.startsWith(prefix)) === true) continue
    const value = Buffer.from(entry.value)
    if (rules.secret !== undefined && value.includes(rules.secret)) continue
    shown.set(Buffer.from(key, 'latin1').toString('utf8'), value.toString())
  }
  return shown
}

for (const mode of ['log', 'state'] as const) {
  test(`I1 I2: mode ${mode}: a folding client ends with the source's state, each revision once and in order`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 5, maxLength: 60 }), async (commands) => {
        const world = new World(mode)
        using _rig = world.rig
        for (const step of commands) await world.act(step)
        await world.settle()
        for (const { client } of world.seats) {
          for (const seen of client.seen) world.judge(seen)
          for (const source of world.sources) {
            const fold = client.fold(source.cluster)
            assert.equal(fold.staged, undefined, `${source.cluster} is still staging`)
            // A class that must not learn of hidden activity stands at what it saw last.
            if (world.rules.hideActivity !== true)
              assert.equal(fold.position?.revision, BigInt(source.status.revision), `${source.cluster} did not arrive`)
            const held = new Map([...fold.state].map(([key, { value }]) => [key, value]))
            assert.deepEqual(held, expected(source, world.rules))
          }
        }
        assert.equal(world.rig.delivery.pump.queued, 0)
      }),
      { numRuns: 400 },
    )
  })
}
