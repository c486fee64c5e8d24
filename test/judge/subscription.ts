// One subscription in one cluster, judged against that cluster's history.
// Owns: the position a subscriber may believe in, what it holds, and every rule about frames that follow one another.
// Refuses: parsing (seen.ts) and reading etcd (truth.ts).
// After a violation the judge goes on from what it was told, so that one fault is not counted a thousand times.

import { compareEntry, compareRevision, printable } from './compare.ts'
import { type Place, readCursor, type Seen, type SeenEntry, type SeenEvent } from './seen.ts'
import type { History } from './truth.ts'
import type { Rule, Verdict } from './verdict.ts'
import { type Expected, type View, visibleState, Walk } from './view.ts'

const NO_VIEW = '0000000000000000'

export type Expectation = {
  readonly cluster: string
  /** One per lineage, in order: the first epoch seen is judged by the first. More epochs than histories is a violation. */
  readonly histories: readonly History[]
  readonly view: View
  /** Reasons of resyncs the scenario makes legitimate; default none. */
  readonly resyncs?: readonly string[]
  /** Default true: the end of the last history must have been reached. */
  readonly complete?: boolean
}

export class SubscriptionJudge {
  readonly #expect: Expectation
  readonly #verdict: Verdict
  readonly #epochs: string[] = []
  /** Where the subscriber stands: everything up to here was delivered or proved. */
  #walk: Walk | undefined
  #epoch: string | undefined
  /** Highest revision delivered as a frame, per epoch, over all connections. */
  readonly #delivered = new Map<string, number>()
  #bookmark = 0
  #cursor: Place | undefined
  #resumed: Place | undefined
  #first = false
  #owed = false
  #denied = false
  /** The client came back before any bookmark had named its view: only a full snapshot can answer that. */
  #viewless = false
  /** What the subscriber holds, once it had a snapshot. */
  #held: Map<string, SeenEntry> | undefined

  constructor(expect: Expectation, verdict: Verdict) {
    this.#expect = expect
    this.#verdict = verdict
  }

  #fail(rule: Rule, detail: string): void {
    this.#verdict.fail(rule, this.#expect.cluster, detail)
  }

  take(seen: Seen): void {
    if ('cluster' in seen && seen.cluster !== this.#expect.cluster) return
    switch (seen.kind) {
      case 'connected':
        return this.#connected(seen.start)
      case 'outcome':
        return this.#outcome(seen.outcome, seen.at)
      case 'snapshot':
        return this.#snapshot(seen)
      case 'events':
        return this.#events(seen)
      case 'bookmark':
        return this.#bookmarked(seen.at)
      case 'cursor':
        return this.#cursorSeen(seen.cursor)
      case 'resync':
        return this.#resync(seen.reason, seen.to)
      case 'cluster':
        return
      case 'garbled':
        return this.#fail('Garbled', seen.what)
      default: {
        const never: never = seen
        return never
      }
    }
  }

  /** Call when everything was seen. */
  end(): void {
    if (this.#expect.complete === false) return
    const last = this.#expect.histories.at(-1)
    if (last === undefined) return
    if (this.#walk === undefined) return this.#fail('Complete', 'the subscription ended without a position')
    if (this.#epoch === undefined || this.#historyOf(this.#epoch) !== last) {
      return this.#fail('Complete', `the subscription ended in lineage ${this.#epoch}, which is not the last`)
    }
    const from = this.#walk.at
    for (const missing of this.#walk.to(last.to)) {
      this.#fail('Complete', `stopped at ${from}; revision ${missing.revision} never arrived`)
    }
    this.#compareHeld()
  }

  #connected(start: string): void {
    this.#verdict.count('connections')
    this.#resumed = undefined
    this.#first = true
    this.#bookmark = 0
    this.#viewless = false
    if (!start.startsWith('dw1.')) return
    const cursor = readCursor(start)
    if (typeof cursor === 'string') return this.#fail('Cursor', `the client kept a broken cursor: ${cursor}`)
    this.#resumed = cursor.positions.get(this.#expect.cluster)
    this.#viewless = cursor.viewTag === NO_VIEW
  }

  #outcome(outcome: string, at: Place | undefined): void {
    this.#verdict.count('outcomes')
    this.#owed = outcome === 'snapshot' || outcome === 'resync'
    this.#denied = outcome === 'denied'
    if (outcome === 'resumed') {
      const wanted = this.#resumed
      if (wanted === undefined) return this.#fail('Resumable', 'resumed without a position in the cursor')
      if (at === undefined || at.epoch !== wanted.epoch || at.revision !== wanted.revision) {
        this.#fail('Resumable', `resumed at ${show(at)}, the cursor says ${show(wanted)}`)
      }
      if (at !== undefined) this.#stand(at)
    } else if (outcome === 'live' && at !== undefined) {
      if (this.#resumed !== undefined) this.#fail('Resumable', 'a cursor was answered with "live": the gap is silent')
      this.#held = undefined
      this.#stand(at)
    }
  }

  #historyOf(epoch: string): History | undefined {
    return this.#expect.histories[this.#epochs.indexOf(epoch)]
  }

  /** Moves the judge's own position, forgetting the old one. False when the place cannot exist. */
  #stand(at: Place): boolean {
    if (!this.#epochs.includes(at.epoch)) this.#epochs.push(at.epoch)
    const history = this.#historyOf(at.epoch)
    if (history === undefined) {
      this.#fail('Epoch', `epoch ${at.epoch} is one more than there were lineages`)
      this.#walk = undefined
      return false
    }
    if (at.revision > history.to || at.revision < history.from) {
      this.#fail('Bookmarkable', `position ${show(at)} lies outside etcd's history ${history.from}..${history.to}`)
      this.#walk = undefined
      return false
    }
    if (this.#epoch !== at.epoch) this.#bookmark = 0
    if (this.#epoch !== at.epoch || this.#walk?.at !== at.revision) {
      this.#walk = new Walk(history, this.#expect.view, at.revision)
    }
    this.#epoch = at.epoch
    return true
  }

  #snapshot(seen: Seen & { readonly kind: 'snapshot' }): void {
    this.#verdict.count('snapshots')
    const { at } = seen
    if (this.#denied) this.#fail('Filter', 'a snapshot of a denied cluster')
    if (!this.#owed && seen.base === 'full' && this.#walk !== undefined) {
      this.#fail('Resync', `a full snapshot at ${at.revision} nobody announced`)
    }
    const high = this.#delivered.get(at.epoch)
    if (high !== undefined && at.revision < high) {
      this.#fail('Ordered', `a snapshot at ${at.revision} after revision ${high} was delivered`)
    }
    this.#owed = false
    if (seen.base === 'diff') {
      for (const key of seen.gone) this.#held?.delete(key)
    } else this.#held = new Map()
    for (const entry of seen.entries) {
      if (seen.base === 'full' && this.#held?.has(entry.key) === true) {
        this.#fail('Unique', `snapshot at ${at.revision}: key ${printable(entry.key)} twice`)
      }
      this.#held?.set(entry.key, entry)
    }
    this.#delivered.set(at.epoch, Math.max(high ?? 0, at.revision))
    this.#verdict.count('items', seen.entries.length)
    if (this.#stand(at)) this.#compareHeld()
  }

  /** What the subscriber holds against etcd's state at the current position. */
  #compareHeld(): void {
    if (this.#held === undefined || this.#walk === undefined) return
    const at = `state at ${this.#walk.at}`
    const truth = visibleState(this.#expect.view, this.#walk.state)
    for (const [key, held] of truth) {
      const entry = this.#held.get(key)
      if (entry === undefined) this.#fail('Snapshot', `${at}: key ${printable(key)} is missing`)
      else for (const { rule, detail } of compareEntry(at, held, held.masked, entry)) this.#fail(rule, detail)
    }
    for (const key of this.#held.keys()) {
      if (!truth.has(key)) this.#fail('Snapshot', `${at}: key ${printable(key)} should not be there`)
    }
  }

  #events(seen: Seen & { readonly kind: 'events' }): void {
    const { at, events } = seen
    this.#verdict.count('frames')
    this.#verdict.count('events', events.length)
    if (this.#denied) this.#fail('Filter', 'events of a denied cluster')
    if (this.#walk === undefined || this.#owed) {
      this.#fail('Resync', `events of revision ${at.revision} before the snapshot that was owed`)
      if (!this.#stand({ ...at, revision: at.revision - 1 })) return
    }
    if (at.epoch !== this.#epoch) {
      this.#fail('Epoch', `epoch ${this.#epoch} became ${at.epoch} without a resync`)
      if (!this.#stand({ ...at, revision: at.revision - 1 })) return
    }
    const high = this.#delivered.get(at.epoch) ?? 0
    const walk = this.#walk
    if (walk === undefined) return
    if (at.revision <= high || at.revision <= walk.at) {
      // Not applied: the subscriber's state and the judge's walk stay where they were.
      const rule = at.revision <= this.#bookmark ? 'Bookmarkable' : at.revision === high ? 'Unique' : 'Ordered'
      return this.#fail(rule, `revision ${at.revision} again, or late: ${high} was delivered, ${walk.at} proved`)
    }
    this.#delivered.set(at.epoch, at.revision)
    if (walk.beyond(at.revision)) return this.#fail('Reliable', `revision ${at.revision} does not exist in etcd`)
    let matched = false
    for (const expected of walk.to(at.revision)) {
      if (expected.revision < at.revision) {
        this.#fail(
          this.#first && this.#resumed !== undefined ? 'Resumable' : 'Reliable',
          `revision ${expected.revision} is missing`,
        )
        this.#hold(expected.events.map(asSeen), expected.revision)
        continue
      }
      matched = true
      for (const { rule, detail } of compareRevision(expected, events, this.#expect.view)) this.#fail(rule, detail)
    }
    if (!matched) this.#fail('Filter', `revision ${at.revision} shows nothing to this subscriber, yet it came`)
    this.#first = false
    this.#hold(events, at.revision)
  }

  #hold(events: readonly SeenEvent[], revision: number): void {
    for (const event of events) {
      if (event.op === 'put') this.#held?.set(event.key, { ...event, revision })
      else this.#held?.delete(event.key)
    }
  }

  #bookmarked(at: Place): void {
    this.#verdict.count('bookmarks')
    if (this.#walk === undefined || this.#owed)
      return this.#fail('Bookmarkable', `a bookmark at ${show(at)} in a snapshot's place`)
    if (at.epoch !== this.#epoch) {
      this.#fail('Epoch', `a bookmark names epoch ${at.epoch}, the stream ${this.#epoch}`)
      return
    }
    if (at.revision < this.#bookmark) this.#fail('Bookmarkable', `bookmark ${at.revision} after ${this.#bookmark}`)
    if (at.revision < this.#walk.at) {
      return this.#fail('Bookmarkable', `bookmark ${at.revision} below the delivered ${this.#walk.at}`)
    }
    this.#bookmark = at.revision
    if (this.#walk.beyond(at.revision)) return this.#fail('Bookmarkable', `bookmark ${at.revision} is ahead of etcd`)
    for (const missing of this.#walk.to(at.revision)) {
      this.#fail('Bookmarkable', `bookmark ${at.revision} proves revision ${missing.revision}, which never arrived`)
      this.#hold(missing.events.map(asSeen), missing.revision)
    }
  }

  #cursorSeen(text: string): void {
    const cursor = readCursor(text)
    if (typeof cursor === 'string') return this.#fail('Cursor', `a bookmark's cursor is broken: ${cursor}`)
    const at = cursor.positions.get(this.#expect.cluster)
    if (at === undefined) return
    const before = this.#cursor
    if (before?.epoch === at.epoch && at.revision < before.revision) {
      this.#fail('Cursor', `cursor went back from ${before.revision} to ${at.revision}`)
    }
    if (at.epoch === this.#epoch && this.#walk !== undefined && at.revision > this.#walk.at) {
      this.#fail('Cursor', `cursor ${at.revision} is ahead of the delivered ${this.#walk.at}`)
    }
    this.#cursor = at
  }

  #resync(reason: string, to: Place | undefined): void {
    this.#verdict.count('resyncs')
    const known = (this.#expect.resyncs ?? []).includes(reason) || (this.#viewless && reason === 'selector')
    if (!known) this.#fail('Resync', `resync (${reason}) without cause`)
    this.#owed = this.#held !== undefined || to === undefined
    if (!this.#owed && to !== undefined) this.#stand(to)
  }
}

const show = (at: Place | undefined): string => (at === undefined ? 'nowhere' : `${at.epoch}:${at.revision}`)
/** What a subscriber would hold, had the missing revision arrived. */
const asSeen = (event: Expected): SeenEvent =>
  event.op === 'put' ? { op: 'put', key: event.key, value: { kind: 'exact', value: event.value } } : event

/** Judges one subscription's whole transcript in one cluster. */
export function judgeSubscription(seen: readonly Seen[], expect: Expectation, verdict: Verdict): Verdict {
  const judge = new SubscriptionJudge(expect, verdict)
  for (const item of seen) judge.take(item)
  judge.end()
  return verdict
}
