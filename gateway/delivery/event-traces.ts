// The gateway's part of a trace: from a sampled log entry to the sockets.
// Owns: which entries under way are traced, and the spans below. Refuses: sampling (the agent decided), keys, values, names
// of subscribers, and a span per subscriber: one tick serves thousands, so spans are per tick of a channel and count them.
//
//   read     the entry's message until the view holds it; parent: the agent's append
//   deliver  from there to the first socket that got it; parent: read
//   write    one tick of one channel to its sockets; a trace of its own, linked to the `read` of every traced entry in it
//
// Overflow rule: per cluster the newest MAX_OPEN entries of the last OPEN_MS, and MAX_WRITES ticks of each.

import type { Revision } from '#protocol/revision.ts'
import { compareRevisions } from '#protocol/revision.ts'
import type { Epoch, RevisionRecord } from '#protocol/log/entry.ts'
import type { Clock } from '#kit/clock.ts'
import type { Tracer } from '#kit/telemetry/tracer.ts'
import type { TraceContext } from '#kit/tracing.ts'
import type { ClusterSource } from './ports.ts'
import type { Feed, Tick } from './feed.ts'

const MAX_OPEN = 32
const MAX_WRITES = 16
const OPEN_MS = 10_000
/** Entries read late, by a gateway that starts or comes back, are nobody's news and would stretch old traces. */
const LATE_MS = 30_000

type Traced = {
  readonly context: TraceContext
  readonly epoch: Epoch
  readonly first: Revision
  readonly last: Revision
  readonly heldAt: number
  writes: number
}

export type ReadEntry = {
  readonly trace: TraceContext | undefined
  readonly seq: number
  readonly bytes: number
  readonly epoch: Epoch
  /** What the entry completes; empty for everything that is not events. */
  readonly revisions: readonly RevisionRecord[]
  /** Monotonic ms. */
  readonly arrivedAt: number
  /** Ms since the entry was news. */
  readonly age: number
}

export class EventTraces {
  readonly #tracer: Tracer
  readonly #clock: Clock
  readonly #open = new Map<string, Traced[]>()

  constructor(tracer: Tracer, clock: Clock) {
    this.#tracer = tracer
    this.#clock = clock
  }

  /** Applies the entry; around that, when it is sampled, its `read` span. */
  read<T>({ cluster, region }: Pick<ClusterSource, 'cluster' | 'region'>, entry: ReadEntry, apply: () => T): T {
    const { trace, revisions, age } = entry
    const [first, last] = [revisions[0], revisions.at(-1)]
    if (trace === undefined || first === undefined || last === undefined || age > LATE_MS) return apply()
    if (!this.#tracer.follows(trace)) return apply()
    const span = this.#tracer.start('read', {
      kind: 'consumer',
      at: entry.arrivedAt,
      parent: trace,
      attributes: {
        'deltawatch.cluster': cluster,
        'deltawatch.region': region,
        'deltawatch.revision': last.revision,
        'deltawatch.seq': entry.seq,
        'messaging.system': 'nats',
        'messaging.operation.type': 'process',
        'messaging.message.body.size': entry.bytes,
      },
    })
    const heldAt = this.#clock.monotonic()
    const open = (this.#open.get(cluster) ?? []).filter((one) => heldAt - one.heldAt < OPEN_MS).slice(1 - MAX_OPEN)
    const { context } = span
    // Before it is applied: delivery may begin at once.
    open.push({ context, epoch: entry.epoch, first: first.revision, last: last.revision, heldAt, writes: 0 })
    this.#open.set(cluster, open)
    try {
      return apply()
    } finally {
      span.end(this.#clock.monotonic())
    }
  }

  /** A tick went out, or a part of its readers got it. */
  delivered(feed: Feed, tick: Tick, sockets: number, held: number): void {
    const { cluster } = feed.source
    const open = this.#open.get(cluster)
    if (open === undefined) return
    const now = this.#clock.monotonic()
    const inIt = open.filter((one) => one.writes < MAX_WRITES && now - one.heldAt < OPEN_MS && carries(tick, one))
    if (inIt.length === 0) return
    for (const one of inIt) {
      if (one.writes++ > 0) continue
      const attributes = { 'deltawatch.cluster': cluster }
      this.#tracer.start('deliver', { kind: 'internal', at: one.heldAt, parent: one.context, attributes }).end(now)
    }
    const attributes = {
      'deltawatch.cluster': cluster,
      'deltawatch.channel': feed.ctx.ch,
      'deltawatch.sockets': sockets,
      'deltawatch.sockets.full': held,
      'deltawatch.events': tick.events,
      'deltawatch.bytes': tick.bytes.length,
    }
    const links = inIt.map(({ context }) => context)
    this.#tracer.start('write', { kind: 'producer', at: tick.arrivedAt, links, attributes }).end(now)
  }
}

/** A tick may hold a revision of the entry; which of them are visible to its class does not matter here. */
const carries = (tick: Tick, { epoch, first, last }: Traced): boolean =>
  tick.before.epoch === epoch &&
  compareRevisions(last, tick.before.revision) > 0 &&
  compareRevisions(first, tick.through) <= 0
