// The decoded value of the event decided last, because all rules and all classes ask about one event before the next.
// Owns: one slot per source, keyed by the event object, which is immutable by contract. Does not own: what a condition makes of it.

import { MAX_CONDITION_VALUE_BYTES } from './bounds.ts'
import { decodeJson } from './json-decode.ts'
import type { PolicyEvent } from './types.ts'

const NOT_YET = Symbol('not decoded yet')

export class ValueMemo {
  #event: PolicyEvent | undefined
  #decoded: unknown = NOT_YET
  readonly #get = (): unknown => this.#decode()

  /** How to get at the value of a put, or the previous value of a delete; the function throws when there is none, or no JSON. */
  of(event: PolicyEvent): () => unknown {
    if (this.#event !== event) {
      this.#event = event
      this.#decoded = NOT_YET
    }
    return this.#get
  }

  #decode(): unknown {
    if (this.#decoded === NOT_YET) {
      const event = this.#event
      const bytes = event?.op === 'put' ? event.value : event?.prevValue
      if (bytes === undefined) throw new Error('there is no value to look at')
      this.#decoded = decodeJson(bytes, MAX_CONDITION_VALUE_BYTES)
    }
    return this.#decoded
  }
}
