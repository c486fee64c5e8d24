// Short ways to write bundles, events and subscribers in policy tests.

import assert from 'node:assert/strict'
import { keyFromText } from '#protocol/bytes.ts'
import { classify } from '#policies/engine/classes.ts'
import { compileBundle } from '#policies/engine/compile.ts'
import { deliver } from '#policies/engine/deliver.ts'
import { parsePolicy } from '#policies/engine/document.ts'
import { egress } from '#policies/engine/egress.ts'
import type {
  Decision,
  DeliverDecider,
  EgressDecider,
  ParsedDocument,
  PolicyBundle,
  PolicyClass,
  PolicyDeps,
  PolicyEvent,
  PolicyIssue,
  Subscriber,
} from '#policies/engine/types.ts'
import { testDeps } from '#policies/node/hashing.ts'

export const NOW = Date.parse('2026-11-22T00:00:00Z')
export const PUBLIC = { kind: 'no-personal-data', ref: 'none' }

type Json = Record<string, unknown>

export function documentOf(rules: readonly unknown[], spec: Json = {}, name = 'doc'): Json {
  return {
    apiVersion: 'watch-policy/v1',
    kind: 'RegionPolicy',
    metadata: { name, owner: 'test' },
    spec: { source: { region: 'sz', regime: 'PIPL' }, mode: 'enforce', ...spec, rules },
  }
}

/** An allow rule to anywhere, which therefore states that it needs no legal basis. */
export const allow = (id: string, keys: readonly string[], more: Json = {}): Json => {
  const { match, ...rest } = more
  return { id, effect: 'allow', match: { keys, ...(match as Json | undefined) }, basis: PUBLIC, ...rest }
}
export const deny = (id: string, keys: readonly string[], more: Json = {}): Json => {
  const { match, ...rest } = more
  return { id, effect: 'deny', match: { keys, ...(match as Json | undefined) }, ...rest }
}

export function compileDocuments(
  documents: readonly unknown[],
  deps: PolicyDeps = testDeps(),
  schemas: Readonly<Record<string, unknown>> = {},
): { bundle?: PolicyBundle; issues: readonly PolicyIssue[] } {
  const parsed: ParsedDocument[] = []
  for (const [i, raw] of documents.entries()) {
    const policy = parsePolicy(raw, `d${i}.yaml`)
    if (!policy.ok) return { issues: policy.error }
    parsed.push({ kind: 'policy', path: `d${i}.yaml`, digest: String(i).repeat(64).slice(0, 64), policy: policy.value })
  }
  for (const [path, schema] of Object.entries(schemas))
    parsed.push({ kind: 'schema', path, digest: 'f'.repeat(64), schema })
  const bundle = compileBundle(parsed, deps)
  return bundle.ok ? { bundle: bundle.value, issues: bundle.value.warnings } : { issues: bundle.error }
}

export function bundleOf(
  rules: readonly unknown[],
  spec: Json = {},
  deps: PolicyDeps = testDeps(),
  schemas: Readonly<Record<string, unknown>> = {},
): PolicyBundle {
  const { bundle, issues } = compileDocuments([documentOf(rules, spec)], deps, schemas)
  assert.ok(bundle !== undefined, JSON.stringify(issues).slice(0, 1000))
  return bundle
}

/** The codes of what is wrong with one document. */
export function issuesOf(rules: readonly unknown[], spec: Json = {}): string[] {
  const { bundle, issues } = compileDocuments([documentOf(rules, spec)])
  return bundle === undefined ? issues.map((issue) => issue.code) : []
}

export const agentOf = (bundle: PolicyBundle, hub = 'sz'): EgressDecider => egress(bundle, 'sz', hub)

export const subscriber = (over: Partial<Subscriber> = {}): Subscriber => ({
  subject: 's',
  region: 'sz',
  audiences: [],
  scopes: [],
  anonymous: false,
  ...over,
})

export function classOf(bundle: PolicyBundle, over: Partial<Subscriber> = {}): PolicyClass {
  const cls = classify(bundle, subscriber(over))
  assert.ok(!('refused' in cls))
  return cls
}
export const gatewayOf = (bundle: PolicyBundle, over: Partial<Subscriber> = {}): DeliverDecider =>
  deliver(bundle, 'sz', classOf(bundle, over))

export const bytes = (value: unknown): Uint8Array =>
  new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value))
export const text = (value: Uint8Array | undefined): string | undefined =>
  value === undefined ? undefined : new TextDecoder().decode(value)

export const put = (key: string, value: unknown = '{}', more: Partial<PolicyEvent> = {}): PolicyEvent => ({
  op: 'put',
  key: keyFromText(key),
  value: bytes(value),
  prevKnown: true,
  ...more,
})
export const del = (key: string, prev?: unknown, more: Partial<PolicyEvent> = {}): PolicyEvent => ({
  op: 'delete',
  key: keyFromText(key),
  ...(prev === undefined ? {} : { prevValue: bytes(prev) }),
  prevKnown: true,
  ...more,
})

/** A decision in one word or two: `allow`, `withhold not-json`, `deny default-deny`. */
export const word = (decision: Decision): string =>
  decision.effect === 'allow' ? 'allow' : `${decision.effect} ${decision.reason}`

/** What one transform list makes of a value: the text that goes out, or `withhold <reason>`. */
export function through(
  transform: readonly unknown[],
  value: unknown,
  deps: PolicyDeps = testDeps(),
): string | undefined {
  const decision = agentOf(bundleOf([allow('a', ['**'], { transform })], {}, deps)).decide(put('/k', value), NOW)
  return decision.effect === 'allow' ? text(decision.value) : word(decision)
}
