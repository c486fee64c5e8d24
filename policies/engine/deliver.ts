// The gateway's question: may this class of subscribers see it, and how? It can only narrow what egress let out.
// Owns: the deliver decider, its rate limits, and the policy part of a cursor's view tag.
// Does not repeat transforms the log entry says egress applied; does not check value schemas, which judge values as they leave.

import { toBase64Url } from '#protocol/bytes.ts'
import type { Key } from '#protocol/bytes.ts'
import { ENGINE_VERSION } from './compile.ts'
import type { CompiledRule } from './compiled.ts'
import { Decider } from './decider.ts'
import { effectiveRules, fingerprints, lapsedAt, nextLapse, rulesReadValues } from './effective.ts'
import { reaches } from './scope.ts'
import type { Decision, DeliverDecider, PolicyBundle, PolicyClass, RateLimits, Visibility } from './types.ts'

const MAX_TAGS = 1024
const encoder = new TextEncoder()

/** A class made by another bundle means nothing here and sees nothing. */
export function deliver(bundle: PolicyBundle, sourceRegion: string, cls: PolicyClass): DeliverDecider {
  const { sources, deps } = bundle.compiled
  const source = sources.get(sourceRegion)
  if (source === undefined || cls.bundle !== bundle.revision) return closed(bundle, sourceRegion)
  const decider = new Decider(source, { stage: 'deliver', cls }, deps)
  const rules = effectiveRules(source, decider.fit)
  const hideActivity = source.hiddenActivity.some((to) => reaches(to, cls))
  const cut = Math.min(...rules.flatMap((rule) => rule.keyTransform.map((transform) => transform.segment)))
  const spans = rules.map((rule) => spanOf(rule, cut))
  const tags = new Map<string, string>()
  return {
    needsPrevValue: rulesReadValues(rules),
    movesKeys: rules.some((rule) => decider.fit.allow[rule.index] === 1 && rule.keyTransform.length > 0),
    blind: !rules.some((rule) => decider.fit.allow[rule.index] === 1),
    hideActivity,
    limits: strictestLimits(source.limits.filter((limit) => reaches(limit, cls)).map((limit) => limit.limits)),
    decide: (event, now) => decider.decide(event, now),
    visible: (event, now) => decider.visible(event, now),
    nextExpiry: (now) => nextLapse(rules, now),
    tagFor({ from, to }, now) {
      const touching = rules.filter((_, i) => overlaps(spans[i] as Span, from, to))
      const lapsed = lapsedAt(touching, now)
      const name = JSON.stringify([from, to ?? null, lapsed])
      let tag = tags.get(name)
      if (tag === undefined) {
        const parts = [
          `deltawatch view ${ENGINE_VERSION}`,
          sourceRegion,
          hideActivity,
          ...touching.map(
            (rule) => `${decider.fit.allow[rule.index]}${decider.fit.deny[rule.index]} ${rule.canonical}`,
          ),
          ...fingerprints(touching, deps),
          lapsed,
        ]
        tag = toBase64Url(deps.sha256(encoder.encode(JSON.stringify(parts)))).slice(0, 22)
        if (tags.size >= MAX_TAGS) tags.clear()
        tags.set(name, tag)
      }
      return tag
    },
  }
}

type Span = { readonly prefixes: readonly string[] }

/**
 * Where in the space of delivered keys the rule can act: below the literal start of its globs, cut before any segment that some rule
 * replaces for this class.
 */
function spanOf(rule: CompiledRule, cut: number): Span {
  return {
    prefixes: rule.keys.map((glob) => {
      const parts = glob.prefix.split('/')
      return parts.length > cut ? [...parts.slice(0, cut), ''].join('/') : glob.prefix
    }),
  }
}

function overlaps({ prefixes }: Span, from: Key, to: Key | undefined): boolean {
  return prefixes.some((prefix) => {
    // Keys with the prefix form one interval: it starts at the prefix itself and ends behind everything that starts with it.
    if (to !== undefined && prefix >= to) return false
    return prefix >= from || from.startsWith(prefix)
  })
}

function strictestLimits(limits: readonly RateLimits[]): RateLimits {
  const least = (name: keyof RateLimits): number | undefined => {
    const given = limits.flatMap((l) => l[name] ?? [])
    return given.length === 0 ? undefined : Math.min(...given)
  }
  const eventsPerSecond = least('eventsPerSecond')
  const bytesPerSecond = least('bytesPerSecond')
  return {
    ...(eventsPerSecond === undefined ? {} : { eventsPerSecond }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
  }
}

const UNKNOWN_SOURCE: Decision = Object.freeze({ effect: 'deny', reason: 'unknown-source' })

function closed(bundle: PolicyBundle, sourceRegion: string): DeliverDecider {
  const tag = toBase64Url(
    bundle.compiled.deps.sha256(encoder.encode(JSON.stringify(['deltawatch view', sourceRegion, 'closed']))),
  ).slice(0, 22)
  return {
    needsPrevValue: false,
    movesKeys: false,
    blind: true,
    hideActivity: true,
    limits: {},
    decide: () => UNKNOWN_SOURCE,
    visible: (): Visibility => 'hidden',
    nextExpiry: () => undefined,
    tagFor: () => tag,
  }
}
