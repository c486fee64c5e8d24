// From configured prefixes to the one range that is watched.
// Owns: the smallest range that holds all prefixes, and the check that none lies outside a given range.
// Refuses: several ranges. One log is one range is one watch, so that a transaction stays whole.

import { DeltawatchError } from '#kit/errors.ts'
import { type Key, keyFromText, prefixEnd } from '#protocol/bytes.ts'
import type { Scope } from './egress/policy.ts'

export function scopeOf(
  prefixTexts: readonly string[],
  range: { readonly from: string; readonly to?: string | undefined } | undefined,
): Scope {
  const prefixes = reduce(prefixTexts.map(keyFromText))
  if (range === undefined) return { ...cover(prefixes), prefixes }
  const from = keyFromText(range.from)
  const to = range.to === undefined ? undefined : keyFromText(range.to)
  for (const prefix of prefixes) {
    const end = prefixEnd(prefix)
    if (prefix < from || (to !== undefined && (end === undefined || end > to))) {
      throw new DeltawatchError(
        'DW_CONFIG_RANGE',
        `a prefix lies outside the range: widen range.from and range.to or drop the prefix`,
      )
    }
  }
  return { from, to, prefixes }
}

/** Without those that others contain; none, or the empty one, means every key. */
function reduce(prefixes: readonly Key[]): readonly Key[] {
  const sorted = [...new Set(prefixes)].sort()
  if (sorted[0] === '') return []
  return sorted.filter((one) => !sorted.some((other) => other !== one && one.startsWith(other)))
}

function cover(prefixes: readonly Key[]): { readonly from: Key; readonly to: Key | undefined } {
  const [first] = prefixes
  if (first === undefined) return { from: '' as Key, to: undefined }
  let to: Key | undefined = first
  for (const prefix of prefixes) {
    const end = prefixEnd(prefix)
    if (end === undefined) return { from: first, to: undefined }
    if (to === undefined || end > to) to = end
  }
  return { from: first, to }
}
