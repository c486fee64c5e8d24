// What really happened: etcd's history, revision by revision.
// Owns: the writer's acknowledged transactions, completed by reads at revision wherever an acknowledgement is missing
// (lost acks, lease expiries, other writers), and the state at any revision by replay.
// Refuses: watches. A revision that is neither acknowledged nor readable any more makes the history fail, not guess.

import { createHash } from 'node:crypto'
import { ALL_KEYS, type EtcdHttp, type WriteOp, type Written } from './etcd-http.ts'

/** Identity of a value: itself when short, size and hash when long. */
export type Fingerprint = string
const RAW_LIMIT = 48

export function fingerprint(value: Uint8Array): Fingerprint {
  if (value.length <= RAW_LIMIT) return `r:${Buffer.from(value).toString('latin1')}`
  return `h:${value.length}:${createHash('sha256').update(value).digest('hex').slice(0, 32)}`
}

export type Held = {
  readonly value: Fingerprint
  readonly mod: number
  readonly create: number
  readonly version: number
  readonly lease: string
}
export type TruthEvent =
  | ({ readonly op: 'put'; readonly key: string } & Held)
  | { readonly op: 'delete'; readonly key: string }
export type TruthRevision = {
  readonly revision: number
  readonly events: readonly TruthEvent[]
  /** False when the events were read back and their order inside the revision is not known. */
  readonly ordered: boolean
}
export type State = ReadonlyMap<string, Held>

/** What one acknowledged transaction did. */
export type Ack = {
  readonly revision: number
  readonly ops: readonly WriteOp[]
  readonly deleted: Written['deleted']
}

type Change =
  | { readonly op: 'put'; readonly key: string; readonly value: Fingerprint; readonly lease: string }
  | { readonly op: 'delete'; readonly key: string }

export class History {
  /** State before the first judged revision. */
  readonly #base: State
  readonly #base0: number
  readonly #revisions: TruthRevision[] = []
  readonly #head: Map<string, Held>
  /** How many revisions had no acknowledgement and were read back. */
  readBack = 0

  /** `base` is the state at revision `from`; judging starts with the revision after it. */
  constructor(from: number, base: State = new Map()) {
    this.#base0 = from
    this.#base = base
    this.#head = new Map(base)
  }

  /** Begins with what the store holds now. */
  static async startingAt(etcd: EtcdHttp): Promise<History> {
    const { revision, kvs } = await etcd.range(ALL_KEYS)
    return new History(
      revision,
      new Map(
        kvs.map(({ key, value, mod, create, version, lease }) => [
          key,
          { value: fingerprint(value), mod, create, version, lease },
        ]),
      ),
    )
  }

  /** The revision before the first judged one. */
  get from(): number {
    return this.#base0
  }

  /** The last known revision. */
  get to(): number {
    return this.#base0 + this.#revisions.length
  }

  at(revision: number): TruthRevision | undefined {
    return this.#revisions[revision - this.#base0 - 1]
  }

  /** State at `revision`, by replay from the base. */
  stateAt(revision: number): State {
    if (revision < this.from || revision > this.to) {
      throw new RangeError(`revision ${revision} lies outside the known history ${this.from}..${this.to}`)
    }
    if (revision === this.to) return this.#head
    const state = new Map(this.#base)
    for (let r = this.from + 1; r <= revision; r++) applyTruth(state, this.at(r)?.events ?? [])
    return state
  }

  /** Appends the next revision. */
  add(changes: readonly Change[], ordered = true): TruthRevision {
    const revision = this.to + 1
    const events = changes.map((change): TruthEvent => {
      if (change.op === 'delete') return change
      const before = this.#head.get(change.key)
      return {
        ...change,
        mod: revision,
        create: before?.create ?? revision,
        version: (before?.version ?? 0) + 1,
      }
    })
    const truth = { revision, events, ordered }
    applyTruth(this.#head, events)
    this.#revisions.push(truth)
    return truth
  }

  /** Learns everything up to `to` from acknowledgements, and by reading where there is none. */
  async extend(etcd: EtcdHttp, acks: ReadonlyMap<number, Ack>, to: number): Promise<void> {
    while (this.to < to) {
      const ack = acks.get(this.to + 1)
      if (ack === undefined) await this.#readNext(etcd)
      else this.add(changesOf(ack))
    }
  }

  async #readNext(etcd: EtcdHttp): Promise<void> {
    const revision = this.to + 1
    const [written, size] = await Promise.all([
      etcd.range({ ...ALL_KEYS, revision, writtenAt: revision }),
      etcd.range({ ...ALL_KEYS, revision, countOnly: true }),
    ])
    const puts = written.kvs.map(
      (kv): Change => ({ op: 'put', key: kv.key, value: fingerprint(kv.value), lease: kv.lease }),
    )
    const created = written.kvs.filter((kv) => !this.#head.has(kv.key)).length
    const gone: Change[] = []
    // A key deleted and written again in one revision cannot be told from a write; etcd refuses such transactions.
    if (size.count !== this.#head.size + created) {
      const { kvs } = await etcd.range({ ...ALL_KEYS, revision, keysOnly: true })
      const present = new Set(kvs.map((kv) => kv.key))
      for (const key of this.#head.keys()) if (!present.has(key)) gone.push({ op: 'delete', key })
    }
    if (puts.length + gone.length === 0) throw new Error(`etcd's revision ${revision} holds no change`)
    this.readBack += 1
    this.add([...puts, ...gone], puts.length + gone.length === 1)
  }

  /** Compares the replayed state with the store itself at `revision`; the judge's own mistakes end here. */
  async verify(etcd: EtcdHttp, revision = this.to): Promise<void> {
    const { kvs } = await etcd.range({ ...ALL_KEYS, revision })
    const state = this.stateAt(revision)
    if (kvs.length !== state.size) throw new Error(`replay holds ${state.size} keys at ${revision}, etcd ${kvs.length}`)
    for (const kv of kvs) {
      const held = state.get(kv.key)
      const same =
        held?.value === fingerprint(kv.value) &&
        held.mod === kv.mod &&
        held.create === kv.create &&
        held.version === kv.version &&
        held.lease === kv.lease
      if (!same) throw new Error(`replay and etcd differ at ${revision} in key ${JSON.stringify(kv.key)}`)
    }
  }
}

export function applyTruth(state: Map<string, Held>, events: readonly TruthEvent[]): void {
  for (const event of events) {
    if (event.op === 'delete') state.delete(event.key)
    else {
      const { op: _, key, ...held } = event
      state.set(key, held)
    }
  }
}

function changesOf(ack: Ack): Change[] {
  return ack.ops.flatMap((op, i): Change[] =>
    op.op === 'put'
      ? [{ op: 'put', key: op.key, value: fingerprint(op.value), lease: op.lease ?? '0' }]
      : (ack.deleted[i] ?? []).map((key) => ({ op: 'delete', key })),
  )
}

/** Acknowledgements by revision; a transaction that changed nothing has no revision of its own. */
export class AckBook {
  readonly #acks = new Map<number, Ack>()
  get size(): number {
    return this.#acks.size
  }
  get byRevision(): ReadonlyMap<number, Ack> {
    return this.#acks
  }
  add(ops: readonly WriteOp[], written: Written): void {
    const changed = ops.some((op, i) => op.op === 'put' || (written.deleted[i]?.length ?? 0) > 0)
    if (!changed) return
    if (this.#acks.has(written.revision)) throw new Error(`etcd acknowledged revision ${written.revision} twice`)
    this.#acks.set(written.revision, { revision: written.revision, ops, deleted: written.deleted })
  }
  /** Acknowledged values need not be kept once the history has them. */
  forget(upTo: number): void {
    for (const revision of this.#acks.keys()) if (revision <= upTo) this.#acks.delete(revision)
  }
}
