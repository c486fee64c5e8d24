// A list of callbacks that cannot hurt each other.
// Owns: adding, removing and calling them in order. Refuses: replay of past events and any error of a callback: that is
// told as a notice and the others are still called.

import type { Context } from './context.ts'

export class Listeners<T> {
  readonly #all = new Set<{ readonly call: (event: T) => void }>()
  readonly #context: Pick<Context, 'notice'> | undefined

  /** Without a context, errors of callbacks end here: a notice about a failing notice listener would go round for ever. */
  constructor(context?: Pick<Context, 'notice'>) {
    this.#context = context
  }

  /** Returns a function that removes it again. The same callback may be added twice. */
  add(call: (event: T) => void): () => void {
    const entry = { call }
    this.#all.add(entry)
    return () => void this.#all.delete(entry)
  }

  /** Callbacks added meanwhile are called too, removed ones are not. */
  emit(event: T): void {
    for (const { call } of this.#all) {
      try {
        call(event)
      } catch (cause) {
        this.#context?.notice({ code: 'listener-failed', message: 'a listener threw', cause })
      }
    }
  }
}
