// What delivery asks of the policy engine, and how a change of the view becomes what one class may see of it.
// Owns: the port (a bundle's classes and deciders) and the mapping of put, delete and leave under a decider.
// Refuses: rules. It fails closed: a decider that throws hides, and what cannot be decided is `unknown`, never a guess.

import type { Key } from '#protocol/bytes.ts'
import type { Region } from '#protocol/subjects.ts'
import type { DeliverDecider, PolicyClass, PolicyEvent, Subscriber } from '#policies/engine/types.ts'
import type { RingEvent, StateEntry } from './ports.ts'

export interface PolicyView {
  /** Revision of the bundle; a class means nothing under another one. */
  readonly revision: string
  /** Source regions the bundle speaks for, sorted. */
  readonly regions: readonly Region[]
  /** Undefined when the bundle distinguishes more classes than the cap allows. */
  classOf(subscriber: Subscriber): PolicyClass | undefined
  /** The same object for the same arguments. */
  decider(source: Region, policyClass: PolicyClass): DeliverDecider
}

export interface PolicySource {
  readonly current: PolicyView
  /** Called after `current` changed, also when a legal basis lapsed. */
  onChange(listener: () => void): Disposable
}

export type Visible =
  | {
      readonly op: 'put'
      readonly key: Key
      readonly entry: StateEntry
      /** Undefined when withheld. */
      readonly value: Uint8Array | undefined
      readonly withheld: string | undefined
    }
  | { readonly op: 'delete' | 'leave'; readonly key: Key }

export type Outcome = Visible | undefined | 'unknown'

/** The engine remembers parsed values per event object, so an entry keeps one event object for all classes. */
const putEvents = new WeakMap<StateEntry, PolicyEvent>()
const deleteEvents = new WeakMap<RingEvent, PolicyEvent>()

/** Reads through to the entry, whose bytes the view may move, so that no old memory is kept alive. */
class PutEvent implements PolicyEvent {
  readonly op = 'put'
  readonly prevKnown = true
  readonly key: Key
  readonly withheld: string | undefined
  readonly applied: readonly string[] | undefined
  readonly #entry: StateEntry

  constructor(entry: StateEntry) {
    this.#entry = entry
    this.key = entry.key
    this.withheld = entry.withheld
    this.applied = entry.transforms
  }

  get value(): Uint8Array | undefined {
    return this.withheld === undefined ? this.#entry.value : undefined
  }
}

function putEvent(entry: StateEntry): PolicyEvent {
  const known = putEvents.get(entry)
  if (known !== undefined) return known
  const event = new PutEvent(entry)
  putEvents.set(entry, event)
  return event
}

function deleteEvent(event: RingEvent, priorKnown: boolean): PolicyEvent {
  const known = deleteEvents.get(event)
  if (known !== undefined) return known
  const { prior } = event
  const made: PolicyEvent = {
    op: 'delete',
    key: event.key,
    prevValue: prior === undefined || prior.withheld !== undefined ? undefined : prior.value,
    withheld: prior?.withheld,
    applied: prior?.transforms,
    prevKnown: priorKnown,
  }
  deleteEvents.set(event, made)
  return made
}

/** A live change as the engine is asked about it; undefined for what egress took out of view, which nobody decides here. */
export function policyEventOf(event: RingEvent): PolicyEvent | undefined {
  if (event.op === 'put') return event.entry === undefined ? undefined : putEvent(event.entry)
  return event.op === 'delete' ? deleteEvent(event, true) : undefined
}

/** What a class sees of one held entry; undefined when nothing. */
export function decideEntry(
  decider: DeliverDecider,
  entry: StateEntry,
  now: number,
): Extract<Visible, { op: 'put' }> | undefined {
  const decision = decider.decide(putEvent(entry), now)
  switch (decision.effect) {
    case 'allow':
      return { op: 'put', key: decision.key, entry, value: decision.value, withheld: undefined }
    case 'withhold':
      return { op: 'put', key: decision.key, entry, value: undefined, withheld: decision.rule }
    case 'deny':
      return undefined
    default: {
      const unknown: never = decision
      return unknown
    }
  }
}

/**
 * What a class sees of one change. `priorKnown` is false for changes replayed from the log, which carry no prior:
 * then a change that could only be told apart by it is `unknown`, and the reader needs a snapshot.
 */
export function decideChange(decider: DeliverDecider, event: RingEvent, now: number, priorKnown: boolean): Outcome {
  if (event.op === 'put' && event.entry !== undefined) {
    const seen = decideEntry(decider, event.entry, now)
    // Under one class a key's new name depends on the key alone, so a put never moves it.
    if (seen !== undefined) return seen
    return leaveOf(decider, event, now, priorKnown)
  }
  if (event.op === 'delete') {
    const decision = decider.decide(deleteEvent(event, priorKnown), now)
    if (decision.effect === 'allow') {
      // A key that this class did not see before does not go away for it either.
      if (priorKnown && (event.prior === undefined || decideEntry(decider, event.prior, now) === undefined))
        return undefined
      return { op: 'delete', key: decision.key }
    }
    if (decision.effect === 'deny' && decision.reason === 'prev-unknown') return 'unknown'
  }
  return leaveOf(decider, event, now, priorKnown)
}

function leaveOf(decider: DeliverDecider, event: RingEvent, now: number, priorKnown: boolean): Outcome {
  if (priorKnown) {
    const before = event.prior === undefined ? undefined : decideEntry(decider, event.prior, now)
    return before === undefined ? undefined : { op: 'leave', key: before.key }
  }
  if (decider.needsPrevValue) return 'unknown'
  // Rules that look at keys alone: what they admit now they admitted before, so the name tells the class nothing new.
  const asPut = decider.decide({ op: 'put', key: event.key, prevKnown: false }, now)
  return asPut.effect === 'deny' ? undefined : { op: 'leave', key: asPut.key }
}
