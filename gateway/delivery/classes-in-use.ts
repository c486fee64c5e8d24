// The classes that connections are served under, each with how many.
// Owns: the count, kept at the three moments that change it, so that asking costs as much as there are classes, not connections.
// Refuses: looking at channels. A channel keeps the class that opened it, although others share it and bundles come and go.

import type { PolicyClass } from '#policies/engine/types.ts'

export class ClassesInUse {
  readonly #counts = new Map<PolicyClass, number>()

  begin(policyClass: PolicyClass): void {
    this.#counts.set(policyClass, (this.#counts.get(policyClass) ?? 0) + 1)
  }

  end(policyClass: PolicyClass): void {
    const left = (this.#counts.get(policyClass) ?? 0) - 1
    if (left > 0) this.#counts.set(policyClass, left)
    else this.#counts.delete(policyClass)
  }

  [Symbol.iterator](): IterableIterator<PolicyClass> {
    return this.#counts.keys()
  }
}
