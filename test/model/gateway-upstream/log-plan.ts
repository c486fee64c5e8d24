// Random logs: what agents do to them, step by step, with the truth kept beside.
// Owns: the steps, their generator, and a log in memory that can be truncated and written again.
// Refuses: the reading side.

import fc from 'fast-check'
import type { CheckpointReason, LogEntry, RevisionRecord } from '#protocol/log/entry.ts'
import { type Change, LogWriter, rev } from '../../unit/gateway-upstream/log-writer.ts'

export type Step =
  | { readonly do: 'events'; readonly revisions: readonly (readonly Change[])[] }
  | { readonly do: 'chunks'; readonly changes: readonly Change[]; readonly count: number }
  | { readonly do: 'progress'; readonly by: number }
  /** Entries of an abandoned pipeline; `run` of them continue each other. */
  | { readonly do: 'void'; readonly run: number; readonly kind: 'events' | 'begin' }
  | { readonly do: 'garbage' }
  | {
      readonly do: 'checkpoint'
      readonly reason: 'routine'
      readonly per: number
      readonly between: readonly Change[]
      readonly abandoned: number
    }
  /** Changes that never reach the log, then a checkpoint that covers them. `attempts` - 1 of them are abandoned. */
  | {
      readonly do: 'pending'
      readonly reason: 'gap' | 'policy'
      readonly lost: readonly Change[]
      readonly per: number
      readonly attempts: number
    }
  /** etcd was restored: another state under a lower or higher revision. */
  | {
      readonly do: 'epoch'
      readonly keep: number
      readonly head: number
      readonly per: number
      readonly genesis: boolean
    }
  /** The hub loses the last entries; the agent writes them again. */
  | { readonly do: 'rollback'; readonly entries: number }
  /** The reader begins again at the newest checkpoint, as after any doubt. */
  | { readonly do: 'rejoin' }
  | { readonly do: 'bookmark'; readonly ahead: number }

const KEYS = ['/a', '/b', '/b/1', '/b/2', '/c', '/d\u0000', '/\u00ff', ''] as const
const changeArb: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('put' as const),
      key: fc.constantFrom(...KEYS),
      value: fc.string({ maxLength: 6 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constantFrom('delete' as const, 'leave' as const), key: fc.constantFrom(...KEYS) }),
  },
)
/** One revision never names a key twice. */
const changesArb = fc.uniqueArray(changeArb, { minLength: 1, maxLength: 3, selector: (change) => change.key })
const perArb = fc.integer({ min: 1, max: 4 })

export const stepArb: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('events' as const),
      revisions: fc.array(changesArb, { minLength: 1, maxLength: 3 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('chunks' as const),
      changes: changesArb,
      count: fc.integer({ min: 1, max: 4 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('progress' as const), by: fc.integer({ min: 1, max: 20 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('void' as const),
      run: fc.integer({ min: 1, max: 3 }),
      kind: fc.constantFrom('events' as const, 'begin' as const),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'garbage' as const }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('checkpoint' as const),
      reason: fc.constant('routine' as const),
      per: perArb,
      between: fc.array(changeArb, { maxLength: 4 }),
      abandoned: fc.nat(2),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('pending' as const),
      reason: fc.constantFrom('gap' as const, 'policy' as const),
      lost: fc.array(changeArb, { maxLength: 4 }),
      per: perArb,
      attempts: fc.integer({ min: 1, max: 2 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('epoch' as const),
      keep: fc.nat(6),
      head: fc.integer({ min: 1, max: 40 }),
      per: perArb,
      genesis: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('rollback' as const), entries: fc.integer({ min: 1, max: 4 }) }),
  },
  { weight: 2, arbitrary: fc.constant({ do: 'rejoin' as const }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('bookmark' as const), ahead: fc.integer({ min: 0, max: 5 }) }) },
)

export type Stored = { readonly data: Uint8Array; readonly entry: LogEntry | undefined; readonly valid: boolean }

/** Everything that was ever relayed as a revision, in the order of the valid chain. */
export type Relayed = { readonly epoch: string; readonly record: RevisionRecord }

export class PlannedLog {
  readonly stored: Stored[] = []
  readonly relayed: Relayed[] = []
  readonly writer: LogWriter
  #epochs = 1
  #asVoid = false

  constructor() {
    this.writer = new LogWriter({
      sink: (_, data, entry) => this.stored.push({ data, entry, valid: !this.#asVoid }),
    })
    this.writer.commit([{ op: 'put', key: '/a', value: 'first' }])
    this.writer.checkpoint('epoch')
  }

  /** BEGIN sequence of the newest complete checkpoint. */
  get newestComplete(): number {
    return this.writer.newestComplete
  }

  run(step: Step): void {
    const { writer } = this
    switch (step.do) {
      case 'events': {
        const records = step.revisions.map((changes) => writer.commit(changes))
        writer.append(writer.eventsBody(records))
        for (const record of records) this.#relay(record)
        return
      }
      case 'chunks': {
        const before = writer.head
        writer.chunks(step.changes, step.count)
        this.#relayChunk(before + 1)
        return
      }
      case 'progress':
        return void writer.progress(writer.head + step.by)
      case 'void':
        return this.#void(step.run, step.kind)
      case 'garbage':
        writer.seq++
        return void this.stored.push({
          data: new Uint8Array([1, 2, 3, writer.seq & 255]),
          entry: undefined,
          valid: false,
        })
      case 'checkpoint':
        if (step.abandoned > 0) {
          writer.begin('routine').items(step.abandoned)
          for (const change of step.between) this.run({ do: 'events', revisions: [[change]] })
        }
        return writer.checkpoint('routine', step.per, (i) => {
          const change = step.between[i]
          if (change !== undefined) this.run({ do: 'events', revisions: [[change]] })
        })
      case 'pending':
        return this.#pending(step.reason, step.lost, step.per, step.attempts)
      case 'epoch': {
        const kept = new Map(
          [...writer.state]
            .slice(0, step.keep)
            .map(([key, item]) => [key, { ...item, modRevision: rev(Math.min(step.head, Number(item.modRevision))) }]),
        )
        writer.newEpoch(++this.#epochs, step.head, kept)
        if (step.genesis) writer.lastId = '0'.repeat(32) as never
        return writer.checkpoint('epoch', step.per)
      }
      case 'rollback':
      case 'rejoin':
      case 'bookmark':
        return undefined
      default: {
        const never: never = step
        return never
      }
    }
  }

  /** Drops up to `count` entries from the end if all are EVENTS or void; returns what has to be written again. */
  truncate(count: number): readonly RevisionRecord[] {
    const again: RevisionRecord[] = []
    const { writer, stored } = this
    while (count-- > 0) {
      const last = stored.at(-1)
      const { entry } = last ?? {}
      if (last === undefined || (last.valid && entry?.kind !== 'events')) break
      stored.pop()
      writer.seq--
      if (!last.valid || entry?.kind !== 'events') continue
      writer.lastId = entry.prevEntryId
      writer.position = Number(entry.prevRevision)
      again.unshift(...entry.revisions)
    }
    return again
  }

  #relay(record: RevisionRecord): void {
    this.relayed.push({ epoch: this.writer.epoch, record })
  }

  #relayChunk(revision: number): void {
    const { writer } = this
    const events = [...writer.state.values()].filter((item) => item.modRevision === rev(revision))
    this.#relay({ revision: rev(revision), events: events.map((item) => ({ op: 'put', ...item })) })
  }

  #void(run: number, kind: 'events' | 'begin'): void {
    const { writer } = this
    const { head, state } = writer
    const kept = new Map(state)
    this.#asVoid = true
    let prev = writer.newId()
    for (let i = 0; i < run; i++) {
      const body =
        kind === 'begin'
          ? ({ kind: 'snapshot-begin', checkpointId: 'zombie', revision: rev(head), reason: 'gap' } as const)
          : writer.eventsBody([writer.commit([{ op: 'put', key: '/a', value: 'zombie' }])])
      prev = writer.void(body, prev).entryId
    }
    this.#asVoid = false
    writer.head = head
    state.clear()
    for (const [key, item] of kept) state.set(key, item)
  }

  #pending(reason: CheckpointReason, lost: readonly Change[], per: number, attempts: number): void {
    const { writer } = this
    for (const change of lost) writer.commit([change])
    for (let attempt = 1; attempt < attempts; attempt++) {
      writer.begin(reason).items(per)
      writer.commit([{ op: 'put', key: '/c', value: `attempt ${attempt}` }])
    }
    writer.checkpoint(reason, per)
  }
}
