// What detectors would have found had fewer rules matched: a field action of one rule must not hide a text from another rule's detector,
// or adding the rule would reveal what was masked or withheld before.
// Owns: looking at a scalar as it came, for rules that do nothing to its place, and as each rule alone would leave it.
// Does not own: what the rules together leave, and detection in that (value-transform.ts).

import { maskNumber, maskText } from './detect/detect.ts'
import type { Wanted } from './detect/detect.ts'
import { actOn, sameAction } from './field-action.ts'
import type { PlaceAction } from './field-program.ts'
import type { PolicyDeps } from './types.ts'

/** The detectors of one rule, and those of them whose hit withholds. */
export type RuleDetection = { readonly rule: string; readonly wanted: Wanted; readonly withholding: Wanted }

export type Scalar = { readonly text: string; readonly quoted: boolean }

/** `withheldBy` names a rule whose detector withholds; `hit` says that some detector found something. */
export type Foreseen = { readonly withheldBy?: string; readonly hit: boolean }

const CLEAN: Foreseen = { hit: false }
const HIT: Foreseen = { hit: true }

/** `above`: the rules that cover the place from above; empty when the action itself is carried out. */
export function foreseeScalar(
  scalar: Scalar,
  rules: readonly RuleDetection[],
  place: PlaceAction | undefined,
  above: readonly string[],
  deps: PolicyDeps,
): Foreseen {
  const owners = place?.owners ?? []
  const watching = rules.filter(({ rule }) => !above.includes(rule))
  let hit = false
  for (const { rule, wanted, withholding } of watching) {
    if (owners.some((owner) => owner.rule === rule)) continue
    if (finds(scalar, withholding)) return { withheldBy: rule, hit: true }
    hit ||= finds(scalar, wanted)
  }
  for (const { rule, action } of owners) {
    // Only what shows a part of the text can show something to find; what all rules together leave is looked at anyway.
    if (!('n' in action) || above.includes(rule)) continue
    if (above.length === 0 && place !== undefined && sameAction(action, place.action)) continue
    const left: Scalar = { text: actOn(action, scalar.text, deps) ?? '', quoted: true }
    for (const { rule: asking, wanted, withholding } of watching) {
      if (finds(left, withholding)) return { withheldBy: asking, hit: true }
      hit ||= finds(left, wanted)
    }
  }
  return hit ? HIT : CLEAN
}

/** The rule that withholds for a name which goes away together with what it names. */
export function foreseeName(
  text: string,
  rules: readonly RuleDetection[],
  place: PlaceAction | undefined,
  above: readonly string[],
): string | undefined {
  const gone = (rule: string): boolean =>
    above.includes(rule) || place?.owners.some((owner) => owner.rule === rule && owner.action.kind === 'drop') === true
  return rules.find(({ rule, withholding }) => !gone(rule) && finds({ text, quoted: true }, withholding))?.rule
}

const finds = ({ text, quoted }: Scalar, wanted: Wanted): boolean =>
  wanted.size > 0 && (quoted ? maskText : maskNumber)(text, wanted) !== undefined
