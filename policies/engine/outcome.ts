// What a set of matching allow rules does to a value: all their transforms, merged, compiled once per set.
// Owns: merging, and the descriptors the log lists. Does not own: which rules match (plan.ts).

import type { BytesOut } from './bytes-out.ts'
import type { CompiledRule } from './compiled.ts'
import type { Detector } from './document.ts'
import { fieldDescriptor } from './field-action.ts'
import { FieldProgram } from './field-program.ts'
import type { FieldUse } from './field-program.ts'
import type { PolicyDeps } from './types.ts'
import { detectDescriptor, transformValue } from './value-transform.ts'
import type { Detection, Transformed } from './value-transform.ts'

const NONE: readonly string[] = []

export class Outcome {
  /** Ids of the matching allow rules, sorted. */
  readonly rules: readonly string[]
  /** Value transforms, sorted. Key transforms belong to the plan. */
  readonly descriptors: readonly string[]
  readonly #program: FieldProgram | undefined
  readonly #detects: readonly Use[]
  readonly #detection: Detection | undefined
  /** The fields make more combinations than the bound: nothing may pass. */
  readonly #broken: boolean

  constructor(rules: readonly CompiledRule[]) {
    this.rules = rules.map((rule) => rule.id)
    const fields: FieldUse[] = []
    const detects: Use[] = []
    for (const rule of rules) {
      for (const transform of rule.transforms) {
        if ('field' in transform) fields.push({ rule: rule.id, transform })
        else
          for (const detector of transform.detect) detects.push({ rule: rule.id, detector, action: transform.action })
      }
    }
    this.descriptors = [
      ...new Set([
        ...fields.map((f) => fieldDescriptor(f.transform)),
        ...detects.map((d) => detectDescriptor(d.detector, d.action)),
      ]),
    ].sort()
    this.#detects = detects
    this.#detection = detection(detects, NONE)
    let program: FieldProgram | undefined
    let broken = false
    try {
      program = fields.length === 0 ? undefined : new FieldProgram(fields)
    } catch {
      broken = true
    }
    this.#program = program
    this.#broken = broken
  }

  get touchesValue(): boolean {
    return this.descriptors.length > 0
  }

  apply(value: Uint8Array, applied: readonly string[] | undefined, deps: PolicyDeps, out: BytesOut): Transformed {
    if (this.#broken) return { ok: false, reason: 'error', rule: this.rules[0] ?? '' }
    const done = applied ?? NONE
    if (done.length === 0) return transformValue(value, this.#program, this.#detection, NONE, deps, out)
    if (this.descriptors.every((descriptor) => done.includes(descriptor))) return { ok: true, value }
    const fieldsDone = this.#program?.descriptors.every((descriptor) => done.includes(descriptor)) ?? true
    return transformValue(
      value,
      fieldsDone ? undefined : this.#program,
      detection(this.#detects, done),
      done,
      deps,
      out,
    )
  }
}

type Use = { readonly rule: string; readonly detector: Detector; readonly action: 'mask' | 'withhold' }

const detectorsOf = (uses: readonly Use[], rule: string): ReadonlySet<Detector> =>
  new Set(uses.filter((use) => use.rule === rule).map((use) => use.detector))

function detection(uses: readonly Use[], applied: readonly string[]): Detection | undefined {
  const left = uses.filter((use) => !applied.includes(detectDescriptor(use.detector, use.action)))
  const [first] = left
  if (first === undefined) return undefined
  return {
    wanted: new Set(left.map((use) => use.detector)),
    // Uses come in the order of their rules' ids.
    withholding: left
      .filter((use) => use.action === 'withhold')
      .map(({ rule, detector }) => ({ rule, wanted: new Set([detector]) })),
    rules: [...new Set(left.map((use) => use.rule))].map((rule) => ({
      rule,
      wanted: detectorsOf(left, rule),
      withholding: detectorsOf(
        left.filter((use) => use.action === 'withhold'),
        rule,
      ),
    })),
    rule: first.rule,
  }
}
