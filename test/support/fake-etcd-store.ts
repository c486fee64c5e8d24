// The store behind the fake etcd: a short, honest history of puts and deletes.
// Owns: revisions, versions, the state at any revision, events since one. Refuses: serving it (fake-etcd.ts) and lying (tests do).
// Revisions are BigInt, because tests place them beyond what a floating-point number holds.

export type FakeKeyValue = {
  readonly key: Buffer
  readonly value: Buffer
  readonly create_revision: string
  readonly mod_revision: string
  readonly version: string
  readonly lease: string
}
export type FakeEvent = { readonly type: 'Put' | 'Delete'; readonly kv: FakeKeyValue }
export type FakeRevision = { readonly revision: bigint; readonly events: readonly FakeEvent[] }
export type FakeChange =
  | { readonly op: 'put'; readonly key: string; readonly value: string }
  | { readonly op: 'delete'; readonly key: string }

export class FakeStore {
  /** Every revision since the start, ascending, without holes. */
  readonly revisions: FakeRevision[] = []
  readonly #before: bigint
  readonly #listeners = new Set<(revision: FakeRevision) => void>()

  /** The first change becomes revision `before` + 1. */
  constructor(before: bigint) {
    this.#before = before
  }

  get head(): bigint {
    return this.#before + BigInt(this.revisions.length)
  }

  /** All changes in one revision, which it returns. Nobody who watches is told before {@link publish}. */
  write(...changes: readonly FakeChange[]): FakeRevision {
    const revision = this.head + 1n
    const state = this.state(this.head)
    const events = changes.map(({ op, key, ...rest }): FakeEvent => {
      const kv = { key: Buffer.from(key), value: Buffer.alloc(0), mod_revision: String(revision), lease: '0' }
      if (op === 'delete') return { type: 'Delete', kv: { ...kv, create_revision: '0', version: '0' } }
      const before = state.get(key)
      return {
        type: 'Put',
        kv: {
          ...kv,
          value: Buffer.from('value' in rest ? rest.value : ''),
          create_revision: before?.create_revision ?? String(revision),
          version: String(BigInt(before?.version ?? 0) + 1n),
        },
      }
    })
    const written = { revision, events }
    this.revisions.push(written)
    return written
  }

  publish(revision: FakeRevision): void {
    for (const listener of this.#listeners) listener(revision)
  }

  put(key: string, value: string): FakeRevision {
    const revision = this.write({ op: 'put', key, value })
    this.publish(revision)
    return revision
  }

  onPublish(listener: (revision: FakeRevision) => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  /** From `revision` on. */
  since(revision: bigint): readonly FakeRevision[] {
    return this.revisions.filter((one) => one.revision >= revision)
  }

  state(at: bigint): Map<string, FakeKeyValue> {
    const state = new Map<string, FakeKeyValue>()
    for (const { revision, events } of this.revisions) {
      if (revision > at) break
      for (const { type, kv } of events) {
        if (type === 'Delete') state.delete(kv.key.toString())
        else state.set(kv.key.toString(), kv)
      }
    }
    return state
  }
}
