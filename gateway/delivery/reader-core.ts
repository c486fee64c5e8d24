// The state of one reader: one watch of one session on one cluster.
// Owns: the union of states and every transition between them, as a pure function. Time comes in with the input.
// Refuses: bytes, sockets, timers and sources. What a transition asks for comes back as effects; reader.ts carries them out.
//
//   waiting ──► snapshotting ──► behind ◄──► live          denied, removed: terminal; an offer begins a new reader
//      │  └────► replaying ───────┘ ▲         │
//      └───────────► resync ────────┴─ resyncing (a live reader that gets a difference instead of a snapshot)

import type { Key } from '#protocol/bytes.ts'
import type { Outcome, ResyncReason } from '#protocol/frames.ts'
import type { Position } from './encoder.ts'
import type { Located } from './ports.ts'

export type Resync = { readonly reason: ResyncReason; readonly from: Position | undefined }
export type Start =
  /** `resync` when the client held something before. */
  | { readonly kind: 'snapshot'; readonly resync?: Resync }
  | { readonly kind: 'now'; readonly resync?: Resync }
  | { readonly kind: 'position'; readonly position: Position }

export type ReaderState =
  | {
      readonly kind: 'waiting'
      /** unready: nothing is known of the cluster yet. ahead: the position lies in our future. busy: a budget is used up. */
      readonly why: 'unready' | 'ahead' | 'busy'
      readonly start: Start
      /** Monotonic ms at which waiting ends; undefined while only the source can end it. */
      readonly until: number | undefined
    }
  | {
      readonly kind: 'snapshotting'
      readonly at: Position
      /** Ring index the snapshot is pinned before; the tail starts here. */
      readonly pin: number
      readonly after: Key | undefined
      readonly restarts: number
    }
  | { readonly kind: 'live' }
  | { readonly kind: 'behind'; readonly index: number; readonly at: Position }
  | { readonly kind: 'replaying'; readonly at: Position }
  /** Receiving a shared difference that leads to `at`. */
  | { readonly kind: 'resyncing'; readonly at: Position; readonly pin: number }
  | { readonly kind: 'denied' }
  | { readonly kind: 'removed' }

/** The source as this reader's class sees it, at the moment of the input. */
export type View = {
  readonly ready: boolean
  readonly nextIndex: number
  /** Undefined before the cluster has an epoch. */
  readonly head: Position | undefined
  locate(position: Position): Located
}

export type Input =
  | { readonly type: 'open'; readonly start: Start; readonly view: View; readonly now: number }
  /** The source moved: readers that wait look again. */
  | { readonly type: 'source'; readonly view: View; readonly now: number }
  | { readonly type: 'deadline'; readonly view: View; readonly now: number }
  | { readonly type: 'page'; readonly after: Key }
  | { readonly type: 'snapshot-end' }
  | { readonly type: 'pin-lost'; readonly view: View; readonly now: number }
  | { readonly type: 'passed'; readonly index: number; readonly at: Position }
  | { readonly type: 'caught-up' }
  | { readonly type: 'ring-lost'; readonly view: View; readonly now: number }
  /** A live reader's connection is full at the tick that starts with ring index `index`. */
  | { readonly type: 'blocked'; readonly index: number; readonly at: Position }
  | { readonly type: 'replayed'; readonly at: Position }
  | {
      readonly type: 'replay-end'
      /** At least one revision came. */
      readonly progress: boolean
      /** How far the log was read. Ahead of the reader's own position when what came last is hidden, activity and all. */
      readonly scanned: Position
      readonly view: View
      readonly now: number
    }
  | {
      readonly type: 'replay-failed'
      /** A reason: history ends there. */
      readonly why: 'busy' | 'undecidable' | ResyncReason
      readonly view: View
      readonly now: number
    }
  | {
      readonly type: 'reset'
      readonly resync: Resync
      readonly view: View
      readonly now: number
      /** A shared difference from the old state to the new one is at hand. */
      readonly difference: boolean
    }
  | { readonly type: 'difference-end' }
  | { readonly type: 'deny' }
  | { readonly type: 'remove' }

export type Effect =
  | { readonly do: 'resync'; readonly resync: Resync; readonly to: Position | undefined }
  | { readonly do: 'begin'; readonly at: Position }
  | { readonly do: 'end'; readonly at: Position }
  | { readonly do: 'join' }
  | { readonly do: 'leave' }
  /** Read the log after `from`, for a client that stands at `at`. */
  | { readonly do: 'replay'; readonly at: Position; readonly from: Position }
  | { readonly do: 'stop-replay' }
  | { readonly do: 'difference' }
  /** A snapshot could not be kept at one revision, repeatedly; or the replays' budget is used up. It is tried again. */
  | { readonly do: 'busy'; readonly what: 'snapshot' | 'replay' }

export type Step = { readonly state: ReaderState; readonly effects: readonly Effect[]; readonly outcome: Outcome }

export const AHEAD_MS = 30_000
export const MAX_RESTARTS = 2
export const BUSY_RETRY_MS = 1_000

const NONE: readonly Effect[] = []

/** `holdsState`: the client folds snapshots; a watch from "now" does not, and gets no snapshot on a resync. */
export function transition(state: ReaderState, input: Input, holdsState: boolean): Step {
  switch (input.type) {
    case 'open':
      return begin(input.start, input, holdsState)
    case 'deny':
      return { state: { kind: 'denied' }, effects: endOf(state), outcome: 'denied' }
    case 'remove':
      return state.kind === 'denied'
        ? keep(state)
        : { state: { kind: 'removed' }, effects: endOf(state), outcome: 'denied' }
    case 'reset':
      return reset(state, input, holdsState)
    default:
      return within(state, input, holdsState)
  }
}

type Inner = Exclude<Input, { type: 'open' | 'deny' | 'remove' | 'reset' }>

/** Inputs that belong to one state; in any other they are late and change nothing. */
function within(state: ReaderState, input: Inner, holdsState: boolean): Step {
  switch (state.kind) {
    case 'waiting':
      return waiting(state, input, holdsState)
    case 'snapshotting':
      return snapshotting(state, input)
    case 'live':
      if (input.type !== 'blocked') return keep(state)
      return go({ kind: 'behind', index: input.index, at: input.at }, [{ do: 'leave' }])
    case 'behind':
      return behind(state, input, holdsState)
    case 'replaying':
      return replaying(state, input, holdsState)
    case 'resyncing':
      if (input.type !== 'difference-end') return keep(state)
      return go({ kind: 'behind', index: state.pin, at: state.at })
    case 'denied':
    case 'removed':
      return keep(state)
    default: {
      const unknown: never = state
      return unknown
    }
  }
}

type Context = { readonly view: View; readonly now: number }

/** `scanned`: how far the log was read for a reader at a position, when its client may not be told. */
function begin(start: Start, context: Context, holdsState: boolean, scanned?: Position): Step {
  const { view, now } = context
  const { head } = view
  if (!view.ready || head === undefined) {
    return { state: { kind: 'waiting', why: 'unready', start, until: undefined }, effects: NONE, outcome: 'waiting' }
  }
  if (start.kind !== 'position' && liesAhead(start.resync, view)) {
    return { state: { kind: 'waiting', why: 'ahead', start, until: now + AHEAD_MS }, effects: NONE, outcome: 'waiting' }
  }
  if (start.kind === 'snapshot') return snapshot(start.resync, view, head)
  if (start.kind === 'now') {
    const told: readonly Effect[] =
      start.resync === undefined ? NONE : [{ do: 'resync', resync: start.resync, to: head }]
    const outcome = start.resync === undefined ? 'live' : 'resync'
    return { state: { kind: 'behind', index: view.nextIndex, at: head }, effects: told, outcome }
  }
  const { position } = start
  const from = scanned ?? position
  const located = view.locate(from)
  switch (located.kind) {
    case 'ring':
      return { state: { kind: 'behind', index: located.index, at: position }, effects: NONE, outcome: 'resumed' }
    case 'log':
      return {
        state: { kind: 'replaying', at: position },
        effects: [{ do: 'replay', at: position, from }],
        outcome: 'resumed',
      }
    case 'ahead':
      return {
        state: { kind: 'waiting', why: 'ahead', start, until: now + AHEAD_MS },
        effects: NONE,
        outcome: 'waiting',
      }
    case 'resync':
      return repair({ reason: located.reason, from: position }, view, now, holdsState)
    case 'unready':
      return { state: { kind: 'waiting', why: 'unready', start, until: undefined }, effects: NONE, outcome: 'waiting' }
    default: {
      const unknown: never = located
      return unknown
    }
  }
}

/** A snapshot below what the client already saw would deliver again: a gateway that still reads its log waits first. */
const liesAhead = (resync: Resync | undefined, view: View): boolean =>
  resync?.from !== undefined && resync.reason !== 'ahead' && view.locate(resync.from).kind === 'ahead'

function snapshot(resync: Resync | undefined, view: View, head: Position): Step {
  const state = { kind: 'snapshotting', at: head, pin: view.nextIndex, after: undefined, restarts: 0 } as const
  const effects: Effect[] = resync === undefined ? [] : [{ do: 'resync', resync, to: head }]
  effects.push({ do: 'begin', at: head })
  return { state, effects, outcome: resync === undefined ? 'snapshot' : 'resync' }
}

/** Continuity is broken: say so, then a snapshot, or for a watch from "now" the new position alone. */
function repair(resync: Resync, view: View, now: number, holdsState: boolean): Step {
  const start: Start = { kind: holdsState ? 'snapshot' : 'now', resync }
  return begin(start, { view, now }, holdsState)
}

type Waiting = Extract<ReaderState, { kind: 'waiting' }>

function waiting(state: Waiting, input: Inner, holdsState: boolean): Step {
  if (input.type === 'source') {
    if (state.why === 'busy') return keep(state)
    const step = begin(state.start, input, holdsState)
    // Looking again does not extend the time to wait.
    if (step.state.kind === 'waiting' && step.state.why === state.why) return keep(state)
    // A watch from "now" that had to wait is told where it begins.
    if (state.start.kind === 'now' && state.start.resync === undefined && step.state.kind === 'behind') {
      const told: Effect = { do: 'resync', resync: { reason: 'epoch', from: undefined }, to: step.state.at }
      return { ...step, effects: [told, ...step.effects] }
    }
    return step
  }
  if (input.type !== 'deadline' || state.until === undefined || input.now < state.until) return keep(state)
  if (state.why === 'ahead') {
    const from = state.start.kind === 'position' ? state.start.position : state.start.resync?.from
    return repair({ reason: 'ahead', from }, input.view, input.now, holdsState)
  }
  return begin(state.start, input, holdsState)
}

type Snapshotting = Extract<ReaderState, { kind: 'snapshotting' }>

function snapshotting(state: Snapshotting, input: Inner): Step {
  switch (input.type) {
    case 'page':
      return go({ ...state, after: input.after })
    case 'snapshot-end':
      return go({ kind: 'behind', index: state.pin, at: state.at }, [{ do: 'end', at: state.at }])
    case 'pin-lost': {
      const { view } = input
      if (view.head === undefined || !view.ready) {
        return go({ kind: 'waiting', why: 'unready', start: { kind: 'snapshot' }, until: undefined })
      }
      if (state.restarts >= MAX_RESTARTS) {
        const until = input.now + BUSY_RETRY_MS
        return go({ kind: 'waiting', why: 'busy', start: { kind: 'snapshot' }, until }, [
          { do: 'busy', what: 'snapshot' },
        ])
      }
      const again = { ...state, at: view.head, pin: view.nextIndex, after: undefined, restarts: state.restarts + 1 }
      return go(again, [{ do: 'begin', at: view.head }])
    }
    default:
      return keep(state)
  }
}

type Behind = Extract<ReaderState, { kind: 'behind' }>

function behind(state: Behind, input: Inner, holdsState: boolean): Step {
  switch (input.type) {
    case 'passed':
      return go({ kind: 'behind', index: input.index, at: input.at })
    case 'caught-up':
      return go({ kind: 'live' }, [{ do: 'join' }])
    case 'ring-lost':
      return relocate(state.at, input, holdsState)
    default:
      return keep(state)
  }
}

type Replaying = Extract<ReaderState, { kind: 'replaying' }>

function replaying(state: Replaying, input: Inner, holdsState: boolean): Step {
  switch (input.type) {
    case 'replayed':
      return go({ kind: 'replaying', at: input.at })
    case 'replay-end':
      // A log that has nothing and says it has would be asked for ever.
      if (!input.progress && input.view.locate(input.scanned).kind === 'log') {
        return repair({ reason: 'trimmed', from: state.at }, input.view, input.now, holdsState)
      }
      // Located by its own position, a reader of hidden revisions alone would read them for ever.
      return relocate(state.at, input, holdsState, input.scanned)
    case 'replay-failed': {
      if (input.why === 'busy') {
        const start: Start = { kind: 'position', position: state.at }
        const until = input.now + BUSY_RETRY_MS
        return go({ kind: 'waiting', why: 'busy', start, until }, [{ do: 'busy', what: 'replay' }])
      }
      const reason = input.why === 'undecidable' ? 'policy' : input.why
      return repair({ reason, from: state.at }, input.view, input.now, holdsState)
    }
    default:
      return keep(state)
  }
}

function relocate(at: Position, context: Context, holdsState: boolean, scanned?: Position): Step {
  return begin({ kind: 'position', position: at }, context, holdsState, scanned)
}

function reset(state: ReaderState, input: Extract<Input, { type: 'reset' }>, holdsState: boolean): Step {
  switch (state.kind) {
    case 'denied':
    case 'removed':
      return keep(state)
    case 'waiting': {
      // A reader that holds a position judges it anew; one that waits for a snapshot still does.
      const step = begin(state.start, input, holdsState)
      return step.state.kind === 'waiting' && step.state.why === state.why ? keep(state) : step
    }
    case 'live': {
      const { head } = input.view
      if (holdsState && input.difference && head !== undefined && input.view.ready) {
        const effects: readonly Effect[] = [{ do: 'leave' }, { do: 'difference' }]
        return go({ kind: 'resyncing', at: head, pin: input.view.nextIndex }, effects)
      }
      return after(endOf(state), repair(input.resync, input.view, input.now, holdsState))
    }
    case 'behind':
    case 'replaying':
    case 'snapshotting':
    case 'resyncing':
      // In the middle of something: what was sent cannot be the base of a difference.
      return after(endOf(state), repair(input.resync, input.view, input.now, holdsState))
    default: {
      const unknown: never = state
      return unknown
    }
  }
}

function endOf(state: ReaderState): readonly Effect[] {
  if (state.kind === 'live') return [{ do: 'leave' }]
  return state.kind === 'replaying' ? [{ do: 'stop-replay' }] : NONE
}

const after = (first: readonly Effect[], step: Step): Step => ({ ...step, effects: [...first, ...step.effects] })
const go = (state: ReaderState, effects: readonly Effect[] = NONE): Step => ({ state, effects, outcome: 'live' })
const keep = (state: ReaderState): Step => ({ state, effects: NONE, outcome: 'live' })

/** Where a client that folds every frame stands; undefined in the middle of a snapshot, resync or wait. */
export function positionOf(state: ReaderState, head: Position | undefined): Position | undefined {
  switch (state.kind) {
    case 'live':
      return head
    case 'behind':
    case 'replaying':
      return state.at
    default:
      return undefined
  }
}

/** Revision a stream continues from, for `watching`. */
export function startPosition(state: ReaderState): Position | undefined {
  switch (state.kind) {
    case 'behind':
    case 'replaying':
    case 'snapshotting':
    case 'resyncing':
      return state.at
    case 'waiting':
      return state.start.kind === 'position' ? state.start.position : undefined
    default:
      return undefined
  }
}
