// A subscriber written from the protocol's text alone: it folds frames into state and position, and objects to every breach.
// Owns: the judgement of one watch's stream on its own terms. Refuses: knowing the gateway; it shares no code with it or the SDK.

import assert from 'node:assert/strict'
import type { ServerFrame, SnapshotItem, WireEvent } from '#protocol/frames.ts'

type Held = { readonly value: string; readonly revision: string }
type Position = { readonly epoch: string; readonly revision: bigint }
type Staged = { readonly base: 'full' | 'diff'; readonly at: Position; readonly items: SnapshotItem[] }

export type Seen = {
  readonly cluster: string
  readonly epoch: string
  readonly revision: bigint
  readonly events: readonly WireEvent[]
  readonly after: bigint
}

export class ClusterFold {
  state = new Map<string, Held>()
  position: Position | undefined
  staged: Staged | undefined
  /** Continuity was declared broken; a snapshot or a new position must follow. */
  broken = false
  conflated: SnapshotItem[] = []
}

export class FoldingClient {
  readonly clusters = new Map<string, ClusterFold>()
  ch: number | undefined
  cursor: string | undefined
  /** Frames seen since the last call, with the position they followed. */
  readonly seen: Seen[] = []
  readonly errors: string[] = []
  resyncs = 0
  readonly #holdsState: boolean

  constructor(holdsState = true) {
    this.#holdsState = holdsState
  }

  /** A new connection resumes from the folded vector: what was half staged is void. */
  reconnect(): void {
    for (const fold of this.clusters.values()) {
      fold.staged = undefined
      fold.conflated = []
    }
    this.ch = undefined
  }

  fold(name: string): ClusterFold {
    let fold = this.clusters.get(name)
    if (fold === undefined) this.clusters.set(name, (fold = new ClusterFold()))
    return fold
  }

  receive(frame: ServerFrame): void {
    if ('ch' in frame && frame.type !== 'watching')
      assert.equal(frame.ch, this.ch, `${frame.type} on a channel not ours`)
    switch (frame.type) {
      case 'watching':
        this.ch = frame.ch
        for (const [name, answer] of Object.entries(frame.clusters)) {
          if (answer.outcome === 'denied') this.clusters.delete(name)
          // What was held belongs to another view: only a snapshot or a difference gives a position again.
          if (answer.outcome === 'resync' && this.#holdsState) this.fold(name).position = undefined
          if (!this.#holdsState && answer.outcome === 'live')
            this.fold(name).position = at(answer as { epoch: string; revision: string })
          if (answer.outcome === 'resumed') {
            assert.deepEqual(
              at(answer as { epoch: string; revision: string }),
              this.fold(name).position,
              'resumed elsewhere',
            )
          }
        }
        return
      case 'snapshot':
        return this.#snapshot(frame)
      case 'events':
        return this.#events(frame)
      case 'state':
        return this.#state(frame)
      case 'resync': {
        const fold = this.fold(frame.cluster)
        this.resyncs++
        fold.staged = undefined
        fold.conflated = []
        if (this.#holdsState) {
          fold.broken = true
          fold.position = undefined
        } else if (frame.to !== undefined) fold.position = at(frame.to)
        return
      }
      case 'scope':
        for (const key of frame.left) this.fold(frame.cluster).state.delete(key)
        return
      case 'bookmark':
        this.cursor = frame.cursor
        for (const [name, told] of Object.entries(frame.clusters)) {
          const fold = this.fold(name)
          assert.ok(fold.position !== undefined, `a bookmark names ${name}, which has no position`)
          assert.equal(fold.staged, undefined, 'a bookmark inside a snapshot')
          const next = at(told)
          assert.equal(next.epoch, fold.position.epoch)
          assert.ok(
            next.revision >= fold.position.revision,
            `bookmark ${next.revision} behind ${fold.position.revision}`,
          )
          this.seen.push({
            cluster: name,
            epoch: next.epoch,
            revision: next.revision,
            events: [],
            after: fold.position.revision,
          })
          fold.position = next
        }
        return
      case 'cluster':
        if (frame.state === 'removed') this.clusters.delete(frame.cluster)
        return
      case 'error':
        this.errors.push(frame.code)
        return
      default:
    }
  }

  #snapshot(frame: Extract<ServerFrame, { type: 'snapshot' }>): void {
    const fold = this.fold(frame.cluster)
    if (frame.phase === 'begin') {
      fold.staged = { base: frame.base, at: at(frame), items: [] }
      fold.position = undefined
      return
    }
    const { staged } = fold
    assert.ok(staged !== undefined, `snapshot ${frame.phase} without begin`)
    if (frame.phase === 'items') {
      staged.items.push(...frame.items)
      return
    }
    assert.equal(BigInt(frame.revision), staged.at.revision)
    if (staged.base === 'full') fold.state = new Map()
    for (const item of staged.items) apply(fold.state, item)
    fold.staged = undefined
    fold.broken = false
    fold.position = staged.at
  }

  #events(frame: Extract<ServerFrame, { type: 'events' }>): void {
    const fold = this.fold(frame.cluster)
    assert.equal(fold.staged, undefined, 'events inside a snapshot')
    assert.ok(fold.position !== undefined, 'events without a position')
    assert.equal(frame.epoch, fold.position.epoch, 'epoch changed without a resync')
    const revision = BigInt(frame.revision)
    assert.ok(revision > fold.position.revision, `revision ${revision} after ${fold.position.revision}`)
    this.seen.push({
      cluster: frame.cluster,
      epoch: frame.epoch,
      revision,
      events: frame.events,
      after: fold.position.revision,
    })
    for (const event of frame.events) {
      const name = keyOf(event)
      if (event.op === 'put') fold.state.set(name, { value: valueOf(event), revision: frame.revision })
      else fold.state.delete(name)
    }
    fold.position = { epoch: frame.epoch, revision }
  }

  #state(frame: Extract<ServerFrame, { type: 'state' }>): void {
    const fold = this.fold(frame.cluster)
    assert.ok(fold.position !== undefined, 'a difference without a position')
    // It may begin ahead of the client's own position, never behind: revisions without anything visible are not told.
    assert.ok(BigInt(frame.fromRevision) >= fold.position.revision, 'a difference from before')
    assert.ok(BigInt(frame.revision) > fold.position.revision, 'a difference to before')
    fold.conflated.push(...frame.items)
    if (!frame.last) return
    for (const item of fold.conflated) apply(fold.state, item)
    fold.conflated = []
    fold.position = at(frame)
  }
}

const at = (from: { readonly epoch: string; readonly revision: string }): Position => ({
  epoch: from.epoch,
  revision: BigInt(from.revision),
})
const keyOf = (from: object): string =>
  'key' in from ? String(from.key) : 'keyBase64' in from ? `b64:${String(from.keyBase64)}` : ''

function apply(state: Map<string, Held>, item: SnapshotItem): void {
  if ('gone' in item) state.delete(keyOf(item))
  else state.set(keyOf(item), { value: valueOf(item), revision: item.revision })
}

export function valueOf(from: object): string {
  if ('json' in from) return JSON.stringify(from.json)
  if ('text' in from) return String(from.text)
  return 'base64' in from ? `b64:${String(from.base64)}` : ''
}
