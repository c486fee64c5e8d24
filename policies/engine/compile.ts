// Documents to a bundle: everything that can be wrong is found here, at load time, and refuses the whole bundle.
// Owns: cross-document checks (ids, regimes, legal bases, schemas, key transforms), the order of rules (by id, so that the order of
// files and rules never matters) and the bundle's revision. Does not own: reading files, or what overlaps (lint.ts).

import { keyFromText, toHex } from '#protocol/bytes.ts'
import { MAX_DOCUMENTS, MAX_KEY_TRANSFORM_RULES, MAX_RULES, MAX_SCHEMAS } from './bounds.ts'
import { blindedRules } from './blinded.ts'
import { compileRule } from './compile-rule.ts'
import type { CompiledDestination, CompiledLimit, CompiledRule, CompiledSource } from './compiled.ts'
import { conditionCompiler } from './condition.ts'
import type { SubscriberCondition } from './condition.ts'
import { byteRate, eventRate, NO_PERSONAL_DATA } from './document.ts'
import type { RegionPolicy } from './document.ts'
import { parseGlob } from './glob.ts'
import { TooManyPatterns } from './glob-trie.ts'
import { KeyMatcher } from './key-matcher.ts'
import { manifestOf } from './manifest.ts'
import { PlanTable } from './plan.ts'
import type { ParsedDocument, PolicyBundle, PolicyDeps, PolicyIssue, Result } from './types.ts'
import { ValueMemo } from './value-memo.ts'
import { compileSchema } from './value-schema.ts'
import type { ValueSchema } from './value-schema.ts'

type PolicyDocument = Extract<ParsedDocument, { kind: 'policy' }>
type SchemaDocument = Extract<ParsedDocument, { kind: 'schema' }>

/** Part of every hash: raise it when the engine starts to decide or transform differently, so that agents take a checkpoint. */
export const ENGINE_VERSION = 2

export function compileBundle(
  documents: readonly ParsedDocument[],
  deps: PolicyDeps,
): Result<PolicyBundle, PolicyIssue[]> {
  const issues: PolicyIssue[] = []
  if (documents.length > MAX_DOCUMENTS)
    return { ok: false, error: [tooMany('', `more than ${MAX_DOCUMENTS} documents`)] }
  const sorted = [...documents].sort((a, b) => (keyFromText(a.path) < keyFromText(b.path) ? -1 : 1))
  for (const [i, doc] of sorted.entries()) {
    if (doc.path === sorted[i + 1]?.path)
      issues.push({ level: 'error', code: 'duplicate-id', file: doc.path, message: 'comes twice in the bundle' })
  }
  const policies = sorted.filter((d) => d.kind === 'policy')
  const names = new Map<string, string>()
  for (const { policy, path } of policies) {
    const other = names.get(policy.metadata.name)
    if (other !== undefined)
      issues.push({
        level: 'error',
        code: 'duplicate-id',
        file: path,
        at: 'metadata.name',
        message: `${policy.metadata.name} is also the name of ${other}`,
      })
    names.set(policy.metadata.name, path)
  }
  const rules = policies.reduce((n, d) => n + d.policy.spec.rules.length, 0)
  if (rules > MAX_RULES) issues.push(tooMany('', `more than ${MAX_RULES} rules`))
  if (issues.length > 0) return { ok: false, error: issues }

  const revision = toHex(deps.sha256(new TextEncoder().encode(manifestOf(sorted))))
  const schemas = sorted.filter((d) => d.kind === 'schema')
  const suites = sorted.filter((d) => d.kind === 'suite').map(({ path, suite }) => ({ path, suite }))
  const live = compileSet(
    policies.filter((d) => d.policy.spec.mode === 'enforce'),
    policies,
    schemas,
    deps,
    issues,
  )
  const shadowed = policies.some((d) => d.policy.spec.mode === 'shadow')
  const shadow = shadowed ? compileSet(policies, policies, schemas, deps, issues) : undefined
  const errors = issues.filter((issue) => issue.level === 'error')
  if (errors.length > 0) return { ok: false, error: unique(errors) }

  const warnings = unique(issues)
  const bundle = (compiled: PolicyBundle['compiled']): Omit<PolicyBundle, 'shadow'> => ({
    revision,
    regions: [...compiled.sources.keys()].sort(),
    ruleCount: [...compiled.sources.values()].reduce((n, source) => n + source.rules.length, 0),
    warnings,
    suites,
    compiled,
  })
  return { ok: true, value: shadow === undefined ? bundle(live) : { ...bundle(live), shadow: bundle(shadow) } }
}

const tooMany = (file: string, what: string): PolicyIssue => ({
  level: 'error',
  code: 'too-many',
  file,
  message: `the bundle has ${what}`,
})

function unique(issues: readonly PolicyIssue[]): PolicyIssue[] {
  const seen = new Set<string>()
  return issues.filter((issue) => {
    const text = JSON.stringify(issue)
    return !seen.has(text) && seen.add(text).size <= 500
  })
}

/** Compiles `documents`; the regimes of regions come from `all`, so that a shadow document still says where it stands. */
function compileSet(
  documents: readonly PolicyDocument[],
  all: readonly PolicyDocument[],
  schemas: readonly SchemaDocument[],
  deps: PolicyDeps,
  issues: PolicyIssue[],
): PolicyBundle['compiled'] {
  const regimes = regimesOf(all, issues)
  const compiler = conditionCompiler()
  const conditions: SubscriberCondition[] = []
  const conditionIds = new Map<string, number>()
  const named = { regions: new Set<string>(), audiences: new Set<string>() }
  const valid = new Map<string, Result<ValueSchema['accepts'], string>>()
  const sources = new Map<string, CompiledSource>()
  for (const region of [...new Set(documents.map((d) => d.policy.spec.source.region))].sort()) {
    const own = documents.filter((d) => d.policy.spec.source.region === region)
    const compiled: CompiledRule[] = []
    for (const { policy, path } of own) {
      for (const [i, rule] of policy.spec.rules.entries()) {
        const at = `spec.rules[${i}]`
        const result = compileRule(rule, policy, { file: path, at, conditions, conditionIds, compiler, deps })
        for (const issue of result.issues) issues.push(issue)
        if (result.rule !== undefined) compiled.push(result.rule)
        const missing = rule.effect === 'allow' ? needsBasis(policy, rule.match.to?.regions, regimes) : undefined
        if (missing !== undefined && rule.basis === undefined) {
          issues.push({
            level: 'error',
            code: 'missing-basis',
            file: path,
            at: `${at}.basis`,
            rule: rule.id,
            message: `is required: ${missing} (kind ${NO_PERSONAL_DATA} states that no personal data is in what the rule matches)`,
          })
        }
      }
    }
    // Sorted by id, which makes every "first" below independent of how the rules were written down.
    compiled.sort((a, b) => (a.id < b.id ? -1 : 1))
    const rules = compiled.map((rule, index) => ({ ...rule, index }))
    for (const [i, rule] of rules.entries()) {
      if (rule.id === rules[i + 1]?.id)
        issues.push({
          level: 'error',
          code: 'duplicate-id',
          file: rule.file,
          rule: rule.id,
          message: `the rule id comes twice for region ${region} (see ${rules[i + 1]?.file})`,
        })
      for (const to of rule.regions ?? []) named.regions.add(to)
      for (const audience of rule.audience ?? []) named.audiences.add(audience)
    }
    const transforming = rules.filter((rule) => rule.keyTransform.length > 0)
    if (transforming.length > MAX_KEY_TRANSFORM_RULES)
      issues.push(
        tooMany(
          own[0]?.path ?? '',
          `more than ${MAX_KEY_TRANSFORM_RULES} rules with keyTransform for region ${region}`,
        ),
      )
    else for (const issue of blindedRules(rules, transforming)) issues.push(issue)
    const used = own.flatMap((d) => usedSchemas(d, schemas, valid, issues)).slice(0, MAX_SCHEMAS)
    const limits = own.flatMap((d) =>
      (d.policy.spec.limits ?? []).map(
        (limit): CompiledLimit => ({
          ...destination(limit.to),
          limits: {
            ...(limit.events === undefined ? {} : { eventsPerSecond: eventRate(limit.events) }),
            ...(limit.bytes === undefined ? {} : { bytesPerSecond: byteRate(limit.bytes) }),
          },
        }),
      ),
    )
    const hiddenActivity = own.flatMap((d) => (d.policy.spec.activity ?? []).map((entry) => destination(entry.to)))
    for (const to of [...limits, ...hiddenActivity]) {
      for (const place of to.regions ?? []) named.regions.add(place)
      for (const audience of to.audience ?? []) named.audiences.add(audience)
    }
    const matcher = matcherOf(rules, used, issues)
    if (matcher === undefined) continue
    sources.set(region, {
      region,
      regime: regimes.get(region) ?? '',
      documents: new Map(own.map((d) => [d.policy.metadata.name, d.path])),
      rules,
      matcher,
      plans: new PlanTable(),
      values: new ValueMemo(),
      schemas: used,
      limits,
      hiddenActivity,
      transformsKeys: transforming.length > 0,
    })
  }
  return { sources, ...named, conditions, deps }
}

function matcherOf(
  rules: readonly CompiledRule[],
  schemas: readonly ValueSchema[],
  issues: PolicyIssue[],
): KeyMatcher | undefined {
  try {
    return new KeyMatcher([...rules, ...schemas.map(({ keys }) => ({ keys, except: [] }))])
  } catch (e) {
    if (!(e instanceof TooManyPatterns)) throw e
    const rule = rules[e.id < 0 ? -1 - e.id : e.id]
    issues.push({
      level: 'error',
      code: 'too-many',
      file: rule?.file ?? '',
      ...(rule === undefined ? {} : { rule: rule.id }),
      message: `the bundle has ${e.message} of its keys`,
    })
    return undefined
  }
}

const destination = (
  to: { regions?: string[] | undefined; audience?: string[] | undefined } | undefined,
): CompiledDestination => ({
  regions: to?.regions === undefined ? undefined : new Set(to.regions),
  audience: to?.audience === undefined ? undefined : [...to.audience].sort(),
})

function regimesOf(documents: readonly PolicyDocument[], issues: PolicyIssue[]): ReadonlyMap<string, string> {
  const regimes = new Map<string, string>()
  for (const { policy, path } of documents) {
    const { region, regime } = policy.spec.source
    const known = regimes.get(region)
    if (known !== undefined && known !== regime) {
      issues.push({
        level: 'error',
        code: 'conflicting-regime',
        file: path,
        at: 'spec.source.regime',
        message: `says ${regime}, another document says ${known} for region ${region}`,
      })
    }
    regimes.set(region, regime)
  }
  return regimes
}

/** Why an allow rule needs a legal basis, or undefined. A region without a document has no known regime, which counts as another one. */
function needsBasis(
  policy: RegionPolicy,
  to: readonly string[] | undefined,
  regimes: ReadonlyMap<string, string>,
): string | undefined {
  const { region, regime } = policy.spec.source
  if (to === undefined) return 'the rule names no regions, so it reaches any'
  for (const place of to) {
    const there = regimes.get(place)
    if (place !== region && there !== regime)
      return `${place} is under ${there ?? 'an unknown regime (no document says)'}, ${region} under ${regime}`
  }
  return undefined
}

function usedSchemas(
  document: PolicyDocument,
  schemas: readonly SchemaDocument[],
  valid: Map<string, Result<ValueSchema['accepts'], string>>,
  issues: PolicyIssue[],
): ValueSchema[] {
  const used: ValueSchema[] = []
  const folder = document.path.slice(0, document.path.lastIndexOf('/') + 1)
  for (const [i, use] of (document.policy.spec.schemas ?? []).entries()) {
    const at = `spec.schemas[${i}]`
    const path = folder + use.schema
    const found = schemas.find((s) => s.path === path)
    if (found === undefined) {
      issues.push({
        level: 'error',
        code: 'missing-schema',
        file: document.path,
        at: `${at}.schema`,
        message: `the bundle has no file ${path}`,
      })
      continue
    }
    let accepts = valid.get(path)
    if (accepts === undefined) valid.set(path, (accepts = compileSchema(found.schema)))
    const keys = use.keys.map((text) => parseGlob(text))
    for (const [k, glob] of keys.entries()) {
      if (!glob.ok)
        issues.push({
          level: 'error',
          code: 'bad-glob',
          file: document.path,
          at: `${at}.keys[${k}]`,
          message: glob.error,
        })
    }
    if (!accepts.ok) issues.push({ level: 'error', code: 'bad-schema', file: path, message: accepts.error })
    else
      used.push({
        id: `schema:${path}`,
        digest: found.digest,
        keys: keys.flatMap((g) => (g.ok ? [g.value] : [])),
        onInvalid: use.onInvalid,
        accepts: accepts.value,
      })
  }
  return used
}
