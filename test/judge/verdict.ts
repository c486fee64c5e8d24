// What the judge found.
// Owns: the names of the rules, a bounded list of violations, and totals that make a silent judge visible.
// Refuses: judging.

/**
 * The nine of etcd's robustness suite (Filter to PrevKV), and what a federated subscriber adds: Snapshot (state at its
 * revision), Cursor (monotonic, never ahead), Epoch (no change without a resync), Resync (only where allowed), Complete
 * (the end was reached), Chain and Checkpoint (the log), Garbled (no frame or entry at all).
 */
export type Rule =
  | 'Filter'
  | 'Ordered'
  | 'Unique'
  | 'Atomic'
  | 'Bookmarkable'
  | 'Resumable'
  | 'IsCreate'
  | 'Reliable'
  | 'PrevKV'
  | 'Snapshot'
  | 'Cursor'
  | 'Epoch'
  | 'Resync'
  | 'Complete'
  | 'Chain'
  | 'Checkpoint'
  | 'Garbled'

export type Violation = { readonly rule: Rule; readonly cluster: string; readonly detail: string }

/** The first of each rule explain; the thousandth does not. */
const KEPT_PER_RULE = 8

export class Verdict {
  readonly violations: Violation[] = []
  readonly byRule = new Map<Rule, number>()
  /** Everything that was compared: revisions, events, snapshots, bookmarks, connections, void entries, … */
  readonly totals = new Map<string, number>()

  fail(rule: Rule, cluster: string, detail: string): void {
    const n = (this.byRule.get(rule) ?? 0) + 1
    this.byRule.set(rule, n)
    if (n <= KEPT_PER_RULE) this.violations.push({ rule, cluster, detail })
  }

  count(what: string, by = 1): void {
    this.totals.set(what, (this.totals.get(what) ?? 0) + by)
  }

  total(what: string): number {
    return this.totals.get(what) ?? 0
  }

  get failed(): number {
    let sum = 0
    for (const n of this.byRule.values()) sum += n
    return sum
  }

  merge(other: Verdict): void {
    for (const [what, n] of other.totals) this.count(what, n)
    for (const [rule, n] of other.byRule) {
      const room = Math.max(0, KEPT_PER_RULE - (this.byRule.get(rule) ?? 0))
      this.violations.push(...other.violations.filter((violation) => violation.rule === rule).slice(0, room))
      this.byRule.set(rule, (this.byRule.get(rule) ?? 0) + n)
    }
  }

  /** One line of totals, then what failed. */
  toString(): string {
    const totals = [...this.totals].map(([what, n]) => `${n} ${what}`).join(', ')
    const rules = [...this.byRule].map(([rule, n]) => `${rule} ${n}`).join(', ')
    const list = this.violations.map((v) => `  ${v.rule} ${v.cluster}: ${v.detail}`).join('\n')
    return this.failed === 0 ? `judged ${totals}: no violation` : `judged ${totals}: ${rules}\n${list}`
  }
}
