// Judges the changes one subscriber was given, against the reference gateway's history.
// Owns: I1 (increasing, whole, no silent gap) and I2 (nothing twice) per cluster. Written apart from the client: it knows
// only places and revisions.

import assert from 'node:assert/strict'
import type { Change } from '#client/core/changes.ts'
import type { ReferenceCluster } from '#test/support/reference-cluster.ts'
import type { ReferenceGateway } from '#test/support/reference-session.ts'

type Seen = {
  /** Where the consumer stands; undefined after a resync until the snapshot, or the first revision from "now". */
  place: { readonly epoch: string; readonly revision: number } | undefined
}

export class Judge {
  readonly #gateway: ReferenceGateway
  readonly #seen = new Map<string, Seen>()

  constructor(gateway: ReferenceGateway) {
    this.#gateway = gateway
  }

  see(change: Change): void {
    if (change.kind === 'bookmark') {
      for (const [cluster, mark] of Object.entries(change.clusters))
        this.#proved(cluster, mark.epoch, Number(mark.revision))
      return
    }
    const seen = this.#of(change.cluster)
    switch (change.kind) {
      case 'snapshot': {
        const revision = Number(change.revision)
        const { place } = seen
        // Without a resync, a snapshot may only restate the very place the consumer is at.
        const restated = place === undefined || (place.epoch === change.epoch && place.revision === revision)
        assert.ok(restated, `a snapshot of ${change.cluster} at ${revision} came without a resync`)
        seen.place = { epoch: change.epoch, revision }
        return
      }
      case 'events':
      case 'state':
        this.#continues(change.cluster, change.epoch, Number(change.revision), seen)
        return
      case 'resync':
        seen.place = undefined
        return
      case 'cluster':
        if (change.state === 'removed' || change.state === 'denied') seen.place = undefined
        return
      case 'scope':
        return
      default:
        change satisfies never
    }
  }

  /** At rest: the consumer stands where the gateway stands, so nothing visible is left behind. */
  complete(cluster: ReferenceCluster): void {
    const place = this.#of(cluster.id).place
    if (place === undefined) return
    assert.equal(place.epoch, cluster.epoch, `${cluster.id} ends in another epoch`)
    this.#nothingBetween(cluster, place.revision, cluster.seen + 1)
  }

  #continues(name: string, epoch: string, revision: number, seen: Seen): void {
    const { place } = seen
    if (place !== undefined) {
      assert.equal(epoch, place.epoch, `I1: ${name} changed its epoch without a resync`)
      assert.ok(revision > place.revision, `I2: ${name} ${revision} came again after ${place.revision}`)
      this.#notSkipped(name, epoch, place.revision, revision)
    }
    seen.place = { epoch, revision }
  }

  #proved(name: string, epoch: string, revision: number): void {
    const seen = this.#of(name)
    const { place } = seen
    if (place !== undefined) {
      assert.equal(epoch, place.epoch, `I1: a bookmark changed the epoch of ${name}`)
      if (revision > place.revision) this.#notSkipped(name, epoch, place.revision, revision + 1)
    }
    if (place === undefined || revision > place.revision) seen.place = { epoch, revision }
  }

  #notSkipped(name: string, epoch: string, from: number, to: number): void {
    const cluster = this.#gateway.clusters.get(name)
    // The history of an epoch that is over is not kept; order alone is judged there.
    if (cluster?.epoch === epoch) this.#nothingBetween(cluster, from, to)
  }

  #nothingBetween(cluster: ReferenceCluster, from: number, to: number): void {
    for (const { revision, writes } of cluster.after(from)) {
      if (revision >= to) return
      // A key that policy hid for a while may have been hidden at that revision.
      const visible = writes.some(({ key }) => !this.#gateway.everHidden.has(key))
      assert.ok(!visible, `I1: ${cluster.id} skipped ${revision}, between ${from} and ${to}`)
    }
  }

  #of(cluster: string): Seen {
    let seen = this.#seen.get(cluster)
    if (seen === undefined) this.#seen.set(cluster, (seen = { place: undefined }))
    return seen
  }
}
