// Does each key's history fit together? What no revision check can see: an event skipped in the middle of a watch.
// Owns: version and create revision per recently changed key, within a bounded memory of keys.
// Refuses: judging keys it does not remember. Overflow rule: two generations of at most `maxKeys` each; the older is
// forgotten when the younger is full.

import type { Key } from '#protocol/bytes.ts'
import type { Change, ChangedRevision } from '../egress/change.ts'

export type Break = {
  readonly revision: string
  readonly reason: 'version-skipped' | 'create-revision-changed' | 'created-while-present' | 'changed-while-deleted'
  readonly keyLength: number
}

type Last = { readonly version: string; readonly createRevision: string }
const GONE: Last = { version: '0', createRevision: '0' }

export class Continuity {
  readonly #maxKeys: number
  #young = new Map<Key, Last>()
  #old = new Map<Key, Last>()

  constructor(maxKeys: number) {
    this.#maxKeys = maxKeys
  }

  get keys(): number {
    return this.#young.size + this.#old.size
  }

  /** The breaks this revision shows; it is remembered either way. */
  check(revision: ChangedRevision): readonly Break[] {
    let breaks: Break[] | undefined
    for (const change of revision.changes) {
      const last = this.#young.get(change.key) ?? this.#old.get(change.key)
      const reason = last === undefined ? undefined : judge(last, change)
      if (reason !== undefined) {
        breaks ??= []
        breaks.push({ revision: revision.revision, reason, keyLength: change.key.length })
      }
      this.#remember(change)
    }
    return breaks ?? NONE
  }

  forget(): void {
    this.#young.clear()
    this.#old.clear()
  }

  #remember(change: Change): void {
    const last = change.op === 'delete' ? GONE : { version: change.version, createRevision: change.createRevision }
    this.#young.set(change.key, last)
    if (this.#young.size < this.#maxKeys) return
    this.#old = this.#young
    this.#young = new Map()
  }
}

const NONE: readonly Break[] = []

function judge(last: Last, change: Change): Break['reason'] | undefined {
  // Deleting a key that is gone makes no event in etcd, so a second delete means that a put was missed.
  if (change.op === 'delete') return last === GONE ? 'changed-while-deleted' : undefined
  if (last === GONE) return change.version === '1' ? undefined : 'changed-while-deleted'
  if (change.version === '1') return 'created-while-present'
  if (change.createRevision !== last.createRevision) return 'create-revision-changed'
  return isNext(last.version, change.version) ? undefined : 'version-skipped'
}

const isNext = (before: string, after: string): boolean =>
  before.length < 16 ? Number(before) + 1 === Number(after) : BigInt(before) + 1n === BigInt(after)
