// What changes from one bundle to another: rule by rule from the documents, and event by event from a recording.
// Owns: both comparisons. Recorded decisions hold no keys, so against them only the rules they name can be looked up.

import type { PolicyBundle, Result } from './types.ts'
import type { DecisionRecord } from './record.ts'

export type RuleChange = {
  readonly region: string
  readonly rule: string
  readonly change: 'added' | 'removed' | 'changed'
  readonly effect: 'allow' | 'deny'
}

/** Sorted by region and rule. A change of destination, condition, transform or basis counts as changed. */
export function ruleChanges(before: PolicyBundle, after: PolicyBundle): readonly RuleChange[] {
  const changes: RuleChange[] = []
  for (const region of [...new Set([...before.regions, ...after.regions])].sort()) {
    const old = rulesOf(before, region)
    const now = rulesOf(after, region)
    for (const [rule, { effect, text }] of old) {
      const other = now.get(rule)
      if (other === undefined) changes.push({ region, rule, change: 'removed', effect })
      else if (other.text !== text) changes.push({ region, rule, change: 'changed', effect: other.effect })
    }
    for (const [rule, { effect }] of now) if (!old.has(rule)) changes.push({ region, rule, change: 'added', effect })
  }
  return changes
}

function rulesOf(
  bundle: PolicyBundle,
  region: string,
): ReadonlyMap<string, { effect: 'allow' | 'deny'; text: string }> {
  const { sources, conditions } = bundle.compiled
  const source = sources.get(region)
  return new Map(
    (source?.rules ?? []).map((rule) => {
      const subscriber = rule.whenSubscriber === undefined ? '' : conditions[rule.whenSubscriber]?.text
      const to = [rule.regions === undefined ? null : [...rule.regions].sort(), rule.audience ?? null]
      return [rule.id, { effect: rule.effect, text: JSON.stringify([rule.canonical, to, subscriber]) }]
    }),
  )
}

/** Recorded decisions that rest on a rule which the other bundle changes or no longer has, counted per rule. */
export function affectedDecisions(
  records: Iterable<DecisionRecord>,
  changes: readonly RuleChange[],
): readonly (RuleChange & { readonly decisions: number })[] {
  const counts = new Map<string, number>()
  for (const record of records) for (const rule of record.rule.split(' ')) counts.set(rule, (counts.get(rule) ?? 0) + 1)
  return changes.map((change) => ({ ...change, decisions: counts.get(change.rule) ?? 0 }))
}

/** One line of a decision log. */
export function parseRecord(line: string): Result<DecisionRecord, string> {
  try {
    const raw: unknown = JSON.parse(line)
    if (typeof raw !== 'object' || raw === null) return { ok: false, error: 'is no object' }
    const record = raw as Record<string, unknown>
    for (const field of ['id', 'bundle', 'cluster', 'stage', 'to', 'rule', 'effect', 'keyHash', 'mode', 'reason']) {
      if (typeof record[field] !== 'string') return { ok: false, error: `has no text in ${field}` }
    }
    if (typeof record['at'] !== 'number' || !Array.isArray(record['transforms']))
      return { ok: false, error: 'has no at or transforms' }
    return { ok: true, value: raw as DecisionRecord }
  } catch {
    return { ok: false, error: 'is no JSON' }
  }
}
