// What a subscriber (or the hub) is entitled to see of etcd's history.
// Owns: selection and expected visibility of each revision, walking forward through a History.
// Refuses: the product's policy engine: a scenario states in plain code what it expects to be hidden or masked.

import { applyTruth, type Held, type History, type State, type TruthEvent } from './truth.ts'

export type Visibility = 'exact' | 'masked' | 'hidden'
export type View = {
  readonly selects: (key: string) => boolean
  /** Default: everything selected arrives exactly. `masked`: it arrives, with other bytes. */
  readonly shows?: (key: string, held: Held) => Visibility
}

export type Expected =
  | ({ readonly op: 'put'; readonly key: string; readonly masked: boolean } & Held)
  | { readonly op: 'delete' | 'leave'; readonly key: string }
export type ExpectedRevision = {
  readonly revision: number
  readonly events: readonly Expected[]
  readonly ordered: boolean
}

export const everything: View = { selects: () => true }
export const prefixed = (prefix: string): View => ({ selects: (key) => key.startsWith(prefix) })

const shown = (view: View, key: string, held: Held | undefined): Visibility => {
  if (held === undefined || !view.selects(key)) return 'hidden'
  return view.shows?.(key, held) ?? 'exact'
}

/** The part of a state that the view shows. */
export function visibleState(view: View, state: State): Map<string, Held & { readonly masked: boolean }> {
  const visible = new Map<string, Held & { readonly masked: boolean }>()
  for (const [key, held] of state) {
    const how = shown(view, key, held)
    if (how !== 'hidden') visible.set(key, { ...held, masked: how === 'masked' })
  }
  return visible
}

/** A position in one history that moves forward, revealing what the view shows on the way. */
export class Walk {
  readonly #history: History
  readonly #view: View
  readonly #state: Map<string, Held>
  #at: number

  constructor(history: History, view: View, from: number) {
    this.#history = history
    this.#view = view
    this.#state = new Map(history.stateAt(from))
    this.#at = from
  }

  get at(): number {
    return this.#at
  }

  /** True when the history does not reach `revision`. */
  beyond(revision: number): boolean {
    return revision > this.#history.to
  }

  /** State at the current position, before selection. */
  get state(): State {
    return this.#state
  }

  /** Moves to `revision` and yields every revision on the way, the last included, that shows anything. */
  *to(revision: number): Generator<ExpectedRevision> {
    while (this.#at < revision) {
      const truth = this.#history.at(this.#at + 1)
      if (truth === undefined) return
      const events = truth.events.flatMap((event) => this.#expected(event))
      applyTruth(this.#state, truth.events)
      this.#at = truth.revision
      if (events.length > 0) yield { revision: truth.revision, events, ordered: truth.ordered }
    }
  }

  #expected(event: TruthEvent): Expected[] {
    const { key } = event
    const before = shown(this.#view, key, this.#state.get(key))
    if (event.op === 'delete') return before === 'hidden' ? [] : [{ op: 'delete', key }]
    const now = shown(this.#view, key, event)
    if (now !== 'hidden') return [{ ...event, masked: now === 'masked' }]
    return before === 'hidden' ? [] : [{ op: 'leave', key }]
  }
}
