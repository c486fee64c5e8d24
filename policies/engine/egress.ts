// The agent's question: may this leave the source region for the hub, and how?
// Owns: the egress decider and the hash by which agents notice that the answer changed. A pure function of event, bundle, keys and time,
// so that two agents of one cluster always write the same.

import { toBase64Url } from '#protocol/bytes.ts'
import { ENGINE_VERSION } from './compile.ts'
import { Decider } from './decider.ts'
import { effectiveRules, fingerprints, lapsedAt, nextLapse, rulesReadValues } from './effective.ts'
import type { Decision, EgressDecider, PolicyBundle, Visibility } from './types.ts'

const encoder = new TextEncoder()

export function egress(bundle: PolicyBundle, sourceRegion: string, hubRegion: string): EgressDecider {
  const { sources, deps } = bundle.compiled
  const source = sources.get(sourceRegion)
  if (source === undefined) return closed(bundle, sourceRegion, hubRegion)
  const decider = new Decider(source, { stage: 'egress', hub: hubRegion }, deps)
  const rules = effectiveRules(source, decider.fit)
  const parts = [
    `deltawatch egress ${ENGINE_VERSION}`,
    sourceRegion,
    hubRegion,
    ...rules.map((rule) => `${decider.fit.allow[rule.index]}${decider.fit.deny[rule.index]} ${rule.canonical}`),
    ...source.schemas.map(
      (schema) =>
        `${schema.id} ${schema.digest} ${schema.onInvalid} ${JSON.stringify(schema.keys.map((k) => k.text).sort())}`,
    ),
    ...fingerprints(rules, deps),
  ]
  const hashes = new Map<string, string>()
  return {
    needsPrevValue: rulesReadValues(rules) || source.schemas.some((schema) => schema.onInvalid === 'quarantine'),
    configHash(now) {
      const lapsed = lapsedAt(rules, now)
      let hash = hashes.get(lapsed)
      if (hash === undefined) {
        hash = toBase64Url(deps.sha256(encoder.encode(JSON.stringify([...parts, lapsed]))))
        hashes.set(lapsed, hash)
      }
      return hash
    },
    decide: (event, now) => decider.decide(event, now),
    visible: (event, now) => decider.visible(event, now),
    nextExpiry: (now) => nextLapse(rules, now),
  }
}

const UNKNOWN_SOURCE: Decision = Object.freeze({ effect: 'deny', reason: 'unknown-source' })

/** No document speaks for the region: nothing leaves it. */
function closed(bundle: PolicyBundle, sourceRegion: string, hubRegion: string): EgressDecider {
  const text = JSON.stringify([`deltawatch egress ${ENGINE_VERSION}`, sourceRegion, hubRegion, 'no document'])
  const hash = toBase64Url(bundle.compiled.deps.sha256(encoder.encode(text)))
  return {
    needsPrevValue: false,
    configHash: () => hash,
    decide: () => UNKNOWN_SOURCE,
    visible: (): Visibility => 'hidden',
    nextExpiry: () => undefined,
  }
}
