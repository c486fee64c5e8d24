// Runs the tests that stand beside the documents: each case goes the whole way, agent then gateway, as in production.
// Owns: building events from cases, comparing, and coverage (every rule decides at least once for and once against).
// Does not own: HMAC keys. Tests run under keys made from the key ids, so that they need no secret and always say the same.

import { keyFromText, keyToText } from '#protocol/bytes.ts'
import { classify } from './classes.ts'
import { deliver } from './deliver.ts'
import { egress } from './egress.ts'
import { globMatches } from './glob.ts'
import type { PolicySuite, SuiteCase, SuiteExpect, SuiteGiven } from './suite-document.ts'
import { ABSENT, transition, visibilityOf } from './transition.ts'
import type { Transition } from './transition.ts'
import type { Decision, PolicyBundle, PolicyEvent, Subscriber, Visibility } from './types.ts'

export type Mismatch = { readonly field: string; readonly expected: string; readonly actual: string }
export type CaseResult = { readonly name: string; readonly mismatches: readonly Mismatch[] }
export type RuleCoverage = { readonly rule: string; readonly allow: boolean; readonly deny: boolean }
export type SuiteResult = {
  readonly path: string
  readonly policy: string
  /** What keeps the suite from running at all. */
  readonly problem?: string
  readonly cases: readonly CaseResult[]
  readonly coverage: readonly RuleCoverage[]
}

export const suitePassed = (result: SuiteResult): boolean =>
  result.problem === undefined && result.cases.every((c) => c.mismatches.length === 0)
export const covered = (result: SuiteResult): boolean => result.coverage.every((rule) => rule.allow && rule.deny)

/** Runs every suite of the bundle, which must have been compiled with test keys. Suites of one document share their coverage. */
export function runSuites(bundle: PolicyBundle): readonly SuiteResult[] {
  const seen = new Map<string, Map<string, { allow: boolean; deny: boolean }>>()
  const results = bundle.suites.map(({ path, suite }) => {
    const target = bundleFor(bundle, suite.policy)
    if (target === undefined)
      return {
        path,
        policy: suite.policy,
        problem: `the bundle has no document named ${suite.policy}`,
        cases: [],
        coverage: [],
      }
    let marks = seen.get(suite.policy)
    if (marks === undefined)
      seen.set(suite.policy, (marks = new Map(target.rules.map((rule) => [rule, { allow: false, deny: false }]))))
    return { path, policy: suite.policy, ...runCases(target, suite, marks) }
  })
  return results.map((result) => ({
    ...result,
    coverage: [...(seen.get(result.policy) ?? [])].map(([rule, mark]) => ({ rule, ...mark })),
  }))
}

type Target = { readonly bundle: PolicyBundle; readonly region: string; readonly rules: readonly string[] }

/** A document in shadow mode is tested as if it were enforced. */
function bundleFor(bundle: PolicyBundle, policy: string): Target | undefined {
  for (const candidate of [bundle, bundle.shadow]) {
    for (const source of candidate?.compiled.sources.values() ?? []) {
      const file = source.documents.get(policy)
      if (candidate === undefined || file === undefined) continue
      return {
        bundle: candidate,
        region: source.region,
        rules: source.rules.filter((rule) => rule.file === file).map((rule) => rule.id),
      }
    }
  }
  return undefined
}

type Marks = Map<string, { allow: boolean; deny: boolean }>

function runCases(target: Target, suite: PolicySuite, marks: Marks): { problem?: string; cases: CaseResult[] } {
  const cases: CaseResult[] = []
  const named = new Map<string, SuiteGiven>()
  for (const one of suite.cases) {
    const base = one.like === undefined ? {} : named.get(one.like)
    if (base === undefined)
      return {
        problem: `case ${JSON.stringify(one.name)} is like ${JSON.stringify(one.like)}, which no earlier case is named`,
        cases,
      }
    if (named.has(one.name)) return { problem: `two cases are named ${JSON.stringify(one.name)}`, cases }
    const given = merge(base, one.given ?? {})
    named.set(one.name, given)
    const at = given.at ?? suite.at
    if (given.key === undefined || at === undefined)
      return {
        problem: `case ${JSON.stringify(one.name)} has no ${given.key === undefined ? 'key' : 'time (at)'}`,
        cases,
      }
    const outcome = play(target, suite.hub, { ...given, key: given.key }, Date.parse(at))
    if (typeof outcome === 'string') return { problem: `case ${JSON.stringify(one.name)}: ${outcome}`, cases }
    cover(target, one, given.key, outcome, marks)
    cases.push({ name: one.name, mismatches: compare(one.expect, outcome) })
  }
  return { cases }
}

/** A value given anew replaces the old one in whatever form that was. */
function merge(base: SuiteGiven, over: SuiteGiven): SuiteGiven {
  const { value, text, base64, ...rest } = base
  const replaced =
    over.value !== undefined || over.text !== undefined || over.base64 !== undefined || over.op === 'delete'
  const content = replaced
    ? {}
    : {
        ...(value === undefined ? {} : { value }),
        ...(text === undefined ? {} : { text }),
        ...(base64 === undefined ? {} : { base64 }),
      }
  return { ...rest, ...content, ...over }
}

type Played = {
  readonly decision: Decision
  readonly stage: 'egress' | 'deliver'
  readonly change: Transition
  readonly deciders: ReadonlySet<string>
}

function play(target: Target, hub: string, given: SuiteGiven & { key: string }, now: number): Played | string {
  const key = keyFromText(given.key)
  const op = given.op ?? 'put'
  const prevValue = given.prev === undefined ? undefined : bytesOf(given.prev)
  const prevKnown = given.prev?.unknown !== true
  const value = bytesOf(given)
  if (op === 'put' && value === undefined) return 'a put needs value, text or base64'
  const event: PolicyEvent = { op, key, value, prevValue, prevKnown }
  const agent = egress(target.bundle, target.region, hub)
  const left = agent.decide(event, now)
  const before =
    prevValue === undefined ? undefined : agent.decide({ op: 'put', key, value: prevValue, prevKnown: true }, now)
  const wasVisible: Visibility = !prevKnown ? 'unknown' : before === undefined ? ABSENT : visibilityOf(before)
  const deciders = new Set(rulesOf(left))
  const out = transition(wasVisible, left, op)
  if (given.subscriber === undefined) return { decision: left, stage: 'egress', change: out, deciders }

  const cls = classify(target.bundle, subscriberOf(given.subscriber))
  if ('refused' in cls) return 'the bundle already has too many classes'
  const gateway = deliver(target.bundle, target.region, cls)
  const held =
    before === undefined || before.effect === 'deny' ? undefined : gateway.decide(asLogged(before, 'put'), now)
  const wasHeld: Visibility = wasVisible === 'unknown' ? 'unknown' : held === undefined ? ABSENT : visibilityOf(held)
  if (left.effect === 'deny') {
    const change = out === 'leave' ? (wasHeld === 'visible' ? 'leave' : 'nothing') : out
    return { decision: left, stage: 'egress', change, deciders }
  }
  const logged = asLogged(left, op)
  const previous = before === undefined || before.effect !== 'allow' ? undefined : before
  const applied = op === 'delete' ? previous?.transforms : logged.applied
  const decision = gateway.decide({ ...logged, applied, prevValue: previous?.value, prevKnown }, now)
  for (const rule of rulesOf(decision)) deciders.add(rule)
  return { decision, stage: 'deliver', change: transition(wasHeld, decision, op), deciders }
}

/** The event as the gateway reads it from the log. */
function asLogged(decision: Exclude<Decision, { effect: 'deny' }>, op: PolicyEvent['op']): PolicyEvent {
  const applied = decision.transforms
  if (decision.effect === 'withhold')
    return { op, key: decision.key, withheld: decision.rule, applied, prevKnown: true }
  return { op, key: decision.key, value: decision.value, applied, prevKnown: true }
}

function rulesOf(decision: Decision): readonly string[] {
  if (decision.effect !== 'deny') return decision.rules
  return decision.rule === undefined ? [] : [decision.rule]
}

function subscriberOf(given: NonNullable<SuiteGiven['subscriber']>): Subscriber {
  return {
    subject: given.subject ?? 'test',
    region: given.region,
    org: given.org,
    audiences: given.audiences ?? [],
    scopes: given.scopes ?? [],
    anonymous: given.anonymous ?? false,
    labels: given.labels,
  }
}

function bytesOf(content: {
  value?: unknown
  text?: string | undefined
  base64?: string | undefined
}): Uint8Array | undefined {
  if (content.text !== undefined) return new TextEncoder().encode(content.text)
  if (content.base64 !== undefined) return Uint8Array.from(atob(content.base64), (c) => c.charCodeAt(0))
  return content.value === undefined ? undefined : new TextEncoder().encode(JSON.stringify(content.value))
}

/**
 * A rule's allow side is covered when it is among those that allowed; its deny side when it denied, or, for an allow rule, when a key of
 * its own was denied all the same. `about` lends a case to rules it does not plainly exercise (a key just outside a deny rule).
 */
function cover(target: Target, one: SuiteCase, key: string, played: Played, marks: Marks): void {
  const source = target.bundle.compiled.sources.get(target.region)
  const passed = played.decision.effect !== 'deny'
  for (const rule of source?.rules ?? []) {
    const mark = marks.get(rule.id)
    if (mark === undefined) continue
    const decided = played.deciders.has(rule.id)
    const about = one.about?.includes(rule.id) === true
    const own = about || rule.keys.some((glob) => globMatches(glob, keyFromText(key)))
    if (passed && (rule.effect === 'allow' ? decided : about)) mark.allow = true
    if (!passed && (rule.effect === 'deny' ? decided : own)) mark.deny = true
  }
}

function compare(expect: SuiteExpect, { decision, stage, change }: Played): Mismatch[] {
  const mismatches: Mismatch[] = []
  const check = (field: string, expected: unknown, actual: unknown): void => {
    if (expected !== undefined && !same(expected, actual))
      mismatches.push({ field, expected: show(expected), actual: show(actual) })
  }
  check('effect', expect.effect, decision.effect)
  check('stage', expect.stage, stage)
  check('change', expect.change, change)
  const rules = rulesOf(decision)
  if (
    expect.rule !== undefined &&
    !rules.includes(expect.rule) &&
    (decision.effect !== 'withhold' || decision.rule !== expect.rule)
  ) {
    mismatches.push({ field: 'rule', expected: expect.rule, actual: rules.join(', ') || 'none' })
  }
  check('rules', expect.rules === undefined ? undefined : [...expect.rules].sort(), rules)
  check('reason', expect.reason, decision.effect === 'allow' ? undefined : decision.reason)
  check(
    'key',
    expect.key,
    decision.effect === 'deny' ? undefined : (keyToText(decision.key) ?? 'bytes that are no text'),
  )
  const text =
    decision.effect === 'allow' && decision.value !== undefined ? new TextDecoder().decode(decision.value) : undefined
  check('text', expect.text, text)
  if (expect.value !== undefined) check('value', expect.value, parsed(text))
  return mismatches
}

function parsed(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text)
  } catch {
    return text
  }
}

const show = (x: unknown): string => (typeof x === 'string' ? x : (JSON.stringify(x, undefined, 1) ?? 'none'))

function same(a: unknown, b: unknown): boolean {
  return a === b || canonical(a) === canonical(b)
}

function canonical(x: unknown): string {
  return (
    JSON.stringify(x, (_, part: unknown) =>
      typeof part === 'object' && part !== null && !Array.isArray(part)
        ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
        : part,
    ) ?? 'undefined'
  )
}
