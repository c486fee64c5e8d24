// A subscriber in its simplest form: it holds a state and believes what the source says.
// Owns: applying ring revisions and resets to its own copy, and the contradictions it finds on the way.
// Refuses: any of the view's code beyond the port.

import assert from 'node:assert/strict'
import type { Difference, RingEvent, SourceEvent, StateEntry } from '#gateway/delivery/ports.ts'
import type { ViewEvent } from '#gateway/view/contract.ts'

export const plain = (entry: StateEntry): Record<string, unknown> => ({
  key: entry.key,
  value: Buffer.from(entry.value).toString('latin1'),
  modRevision: entry.modRevision,
  createRevision: entry.createRevision,
  version: entry.version,
  lease: entry.lease,
})

export type SourceLike = {
  at(
    index: number,
  ): { readonly epoch: string; readonly revision: string; readonly events: readonly RingEvent[] } | undefined
  everything(): readonly StateEntry[]
  /** False while the state is being rebuilt in place. */
  readonly ready: boolean
  readonly epoch: string | undefined
  readonly revision: string
}

export class SubscriberModel {
  readonly state = new Map<string, Record<string, unknown>>()
  readonly delivered: { readonly epoch: string; readonly revision: string }[] = []
  readonly resets: Extract<SourceEvent, { kind: 'reset' }>[] = []
  outcomes: string[] = []
  #nextIndex: number | undefined
  #at: { epoch: string; revision: bigint } | undefined

  take(source: SourceLike, event: ViewEvent): void {
    switch (event.kind) {
      case 'checkpoint':
        return void this.outcomes.push(event.outcome)
      case 'revisions':
        for (let i = event.first; i <= event.last; i++) this.#revision(source, i)
        break
      case 'reset':
        this.#reset(source, event)
        break
      case 'proven':
      case 'status':
        break
      default: {
        const never: never = event
        return never
      }
    }
    if (this.#at !== undefined && source.epoch === this.#at.epoch) {
      const now = BigInt(source.revision)
      assert.ok(now >= this.#at.revision, `the position went back from ${this.#at.revision} to ${now}`)
      this.#at.revision = now
    }
    this.agrees(source)
  }

  /** The copy equals what the source shows. */
  agrees(source: SourceLike): void {
    if (this.#at === undefined || !source.ready) return
    const mine = [...this.state.values()].toSorted((a, b) => (String(a.key) < String(b.key) ? -1 : 1))
    assert.deepEqual(mine, source.everything().map(plain))
  }

  #revision(source: SourceLike, index: number): void {
    const revision = source.at(index)
    assert.ok(revision !== undefined, `ring revision ${index} is not there`)
    assert.equal(index, this.#nextIndex, 'indices are dense')
    this.#nextIndex = index + 1
    assert.ok(
      this.#at !== undefined && revision.epoch === this.#at.epoch,
      'a revision of another epoch without a reset',
    )
    assert.ok(BigInt(revision.revision) > this.#at.revision, `revision ${revision.revision} after ${this.#at.revision}`)
    this.#at.revision = BigInt(revision.revision)
    this.delivered.push({ epoch: revision.epoch, revision: revision.revision })
    for (const { key, op, entry, prior } of revision.events) {
      assert.deepEqual(prior === undefined ? undefined : plain(prior), this.state.get(key), 'prior is what was held')
      if (op === 'put') {
        assert.ok(entry !== undefined)
        assert.equal(entry.modRevision, revision.revision)
        this.state.set(key, plain(entry))
      } else this.state.delete(key)
    }
  }

  #reset(source: SourceLike, event: Extract<SourceEvent, { kind: 'reset' }>): void {
    this.resets.push(event)
    if (this.#at !== undefined) {
      assert.equal(event.from?.epoch, this.#at.epoch)
      assert.equal(BigInt(event.from?.revision ?? -1), this.#at.revision)
    }
    const { differences } = event
    if (differences === undefined || this.#at === undefined) {
      this.state.clear()
      for (const entry of source.everything()) this.state.set(entry.key, plain(entry))
    } else this.#differ(differences)
    this.#at = { epoch: event.to.epoch, revision: BigInt(event.to.revision) }
    this.#nextIndex = event.index
    assert.equal(source.revision, event.to.revision, 'the state is at `to` when the reset is told')
  }

  #differ(differences: readonly Difference[]): void {
    for (const difference of differences) {
      const held = this.state.get(difference.key)
      assert.deepEqual(difference.prior === undefined ? undefined : plain(difference.prior), held)
      if ('entry' in difference) {
        assert.notDeepEqual(plain(difference.entry), held, 'a difference that is none')
        this.state.set(difference.key, plain(difference.entry))
      } else this.state.delete(difference.key)
    }
  }
}
