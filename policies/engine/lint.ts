// What loads but deserves a look: rules that overlap, bases about to lapse, rules that can never let anything out.
// Owns: warnings that depend on the time or the hub, or that cost too much for every load. `deltawatch policy check` prints them.

import type { CompiledDestination, CompiledRule, CompiledSource } from './compiled.ts'
import { globsMeet } from './glob.ts'
import type { PolicyBundle, PolicyIssue } from './types.ts'

const DAY = 86_400_000
export const EXPIRY_NOTICE_DAYS = 30
const MAX_OVERLAPS = 200
const MAX_PAIRS = 2_000_000

/** Bases that have lapsed or will within 30 days. Agent and gateway ask this too, for their alert. */
export function expiryWarnings(bundle: PolicyBundle, now: number): PolicyIssue[] {
  const issues: PolicyIssue[] = []
  for (const source of bundle.compiled.sources.values()) {
    for (const rule of source.rules) {
      if (rule.expires === undefined || rule.expires - now > EXPIRY_NOTICE_DAYS * DAY) continue
      const lapsed = rule.expires <= now
      const when = new Date(rule.expires).toISOString()
      issues.push({
        level: 'warning',
        code: lapsed ? 'basis-expired' : 'basis-expiring',
        file: rule.file,
        rule: rule.id,
        message: lapsed
          ? `its basis lapsed at ${when}; it denies what it matched`
          : `its basis lapses at ${when}, in ${Math.ceil((rule.expires - now) / DAY)} days`,
      })
    }
  }
  return issues
}

/** Allow rules that can never have an effect: they leave out the hub's region, and no rule lets the same keys get as far as the hub. */
export function unreachableRules(bundle: PolicyBundle, hub: string): PolicyIssue[] {
  return [...bundle.compiled.sources.values()].flatMap((source) => {
    const allows = source.rules.filter((rule) => rule.effect === 'allow')
    const leaving = allows.filter((rule) => rule.regions === undefined || rule.regions.has(hub))
    return allows
      .filter((rule) => rule.regions !== undefined && !rule.regions.has(hub))
      .filter((rule) => !leaving.some((other) => shareKeys(rule, other)))
      .map(
        (rule): PolicyIssue => ({
          level: 'warning',
          code: 'dead-rule',
          file: rule.file,
          rule: rule.id,
          message: `can let nothing through: the hub stands in ${hub}, which neither it nor any other rule for these keys names`,
        }),
      )
  })
}

/**
 * Rates of the bundle in force that nothing in `candidate` stands for. Subscribers of a canary have the rates of its documents alone, so
 * that one without `limits` sets them free. A rate counts as kept when an entry for everybody or for the same destination limits the same.
 */
export function lostLimits(live: PolicyBundle, candidate: PolicyBundle): PolicyIssue[] {
  const issues: PolicyIssue[] = []
  const kept = [...candidate.compiled.sources.values()].flatMap((source) => source.limits)
  for (const source of live.compiled.sources.values()) {
    for (const limit of source.limits) {
      for (const what of ['eventsPerSecond', 'bytesPerSecond'] as const) {
        if (limit.limits[what] === undefined) continue
        if (kept.some((other) => other.limits[what] !== undefined && covers(other, limit))) continue
        const [file = ''] = candidate.compiled.sources.get(source.region)?.documents.values() ?? []
        issues.push({
          level: 'warning',
          code: 'lost-limits',
          file,
          at: 'spec.limits',
          message: `has no rate of ${what === 'bytesPerSecond' ? 'bytes' : 'events'} for ${destinationText(limit)}, which the bundle in force limits: as a canary it sets them free`,
        })
      }
    }
  }
  return issues
}

/** Whether everybody `other` is for is among those `one` is for. */
function covers(one: CompiledDestination, other: CompiledDestination): boolean {
  const regions = one.regions
  const audience = one.audience
  return (
    (regions === undefined || (other.regions !== undefined && [...other.regions].every((r) => regions.has(r)))) &&
    (audience === undefined || (other.audience !== undefined && other.audience.every((a) => audience.includes(a))))
  )
}

const destinationText = ({ regions, audience }: CompiledDestination): string =>
  regions === undefined && audience === undefined ? 'everybody' : [...(regions ?? []), ...(audience ?? [])].join(', ')

/**
 * Rules whose `when` reads a field that another rule, or they themselves, may have changed at egress. The gateway takes such a condition
 * for one that fails: the deny matches, the allow does not. Rules that do not name `hub`, when it is given, change nothing at egress.
 */
export function blindedConditions(bundle: PolicyBundle, hub?: string): PolicyIssue[] {
  const issues: PolicyIssue[] = []
  for (const source of bundle.compiled.sources.values()) {
    const reading = source.rules.filter((rule) => rule.when?.readsValue === true)
    const changing = source.rules.filter(
      (rule) => hub === undefined || rule.regions === undefined || rule.regions.has(hub),
    )
    let pairs = 0
    for (const rule of reading) {
      for (const other of changing) {
        if (issues.length >= MAX_OVERLAPS || ++pairs > MAX_PAIRS) return issues
        const pointer = other.transforms.find(
          (t) => 'field' in t && rule.when?.readable.changedBy(t.field, t.action) === true,
        )
        if (pointer === undefined || !('field' in pointer) || !shareKeys(rule, other)) continue
        issues.push({
          level: 'warning',
          code: 'blinded-by-transform',
          file: rule.file,
          rule: rule.id,
          message: `its \`when\` reads what ${other.id === rule.id ? 'it' : `rule ${other.id}`} changes at egress (${pointer.field}): at the gateway it counts as failed, so that ${rule.effect === 'deny' ? 'it denies' : 'it allows nothing'}; decide by a field that no rule changes`,
        })
      }
    }
  }
  return issues
}

/** Pairs of allow rules that can match one key for one destination and transform it differently: both apply, and the strictest wins. */
export function overlaps(bundle: PolicyBundle): PolicyIssue[] {
  const issues: PolicyIssue[] = []
  for (const source of bundle.compiled.sources.values()) collect(source, issues)
  return issues
}

function collect(source: CompiledSource, issues: PolicyIssue[]): void {
  const allows = source.rules.filter((rule) => rule.effect === 'allow')
  let pairs = 0
  for (const [i, a] of allows.entries()) {
    for (const b of allows.slice(i + 1)) {
      if (issues.length >= MAX_OVERLAPS) return
      if (++pairs > MAX_PAIRS) {
        issues.push({
          level: 'warning',
          code: 'overlap',
          file: a.file,
          message: `too many rules to hold all of region ${source.region} against each other`,
        })
        return
      }
      if (!meet(a, b)) continue
      const keys = differ(a.keyTransform, b.keyTransform) && a.keyTransform.length > 0 && b.keyTransform.length > 0
      if (!keys && !differ(a.transforms, b.transforms)) continue
      issues.push({
        level: 'warning',
        code: 'overlap',
        file: b.file,
        rule: b.id,
        message: keys
          ? `and ${a.id} match some of the same keys and transform the key differently: such keys are denied`
          : `and ${a.id} match some of the same keys: both their transforms apply, the strictest wins`,
      })
    }
  }
}

const differ = (a: unknown, b: unknown): boolean => JSON.stringify(a) !== JSON.stringify(b)

function meet(a: CompiledRule, b: CompiledRule): boolean {
  if (!(a.ops.put && b.ops.put) && !(a.ops.delete && b.ops.delete)) return false
  if (a.regions !== undefined && b.regions !== undefined && ![...a.regions].some((region) => b.regions?.has(region)))
    return false
  return shareKeys(a, b)
}

const shareKeys = (a: CompiledRule, b: CompiledRule): boolean =>
  a.keys.some((x) => b.keys.some((y) => prefixesMeet(x.prefix, y.prefix) && globsMeet(x, y)))

const prefixesMeet = (a: string, b: string): boolean => a.startsWith(b) || b.startsWith(a)
