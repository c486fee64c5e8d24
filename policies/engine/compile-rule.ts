// One rule, compiled: globs parsed, expressions checked, the basis dated.
// Owns: what can be said about a rule on its own. Rules against each other are compile.ts and lint.ts.

import type { CompiledRule } from './compiled.ts'
import type { ConditionCompiler, SubscriberCondition } from './condition.ts'
import { expiryInstant } from './document.ts'
import type { RegionPolicy, Rule } from './document.ts'
import { refusePointer } from './field-program.ts'
import { parseGlob } from './glob.ts'
import type { Glob } from './glob.ts'
import type { PolicyDeps, PolicyIssue, PolicyIssueCode } from './types.ts'

export type RuleContext = {
  readonly file: string
  /** Path of the rule inside its document. */
  readonly at: string
  /** All distinct whenSubscriber of the bundle; grows. */
  readonly conditions: SubscriberCondition[]
  readonly conditionIds: Map<string, number>
  readonly compiler: ConditionCompiler
  readonly deps: PolicyDeps
}

/** The rule without its index when nothing is wrong with it, and everything there is to say about it. */
export function compileRule(
  rule: Rule,
  policy: RegionPolicy,
  context: RuleContext,
): { readonly rule: CompiledRule | undefined; readonly issues: readonly PolicyIssue[] } {
  const issues: PolicyIssue[] = []
  const say = (level: PolicyIssue['level'], code: PolicyIssueCode, at: string, message: string): void => {
    issues.push({ level, code, file: context.file, at: `${context.at}.${at}`, rule: rule.id, message })
  }
  const globs = (texts: readonly string[], at: string): Glob[] =>
    texts.flatMap((text, i) => {
      const glob = parseGlob(text)
      if (!glob.ok) say('error', 'bad-glob', `${at}[${i}]`, `${JSON.stringify(text)} ${glob.error}`)
      return glob.ok ? [glob.value] : []
    })
  const keys = globs(rule.match.keys, 'match.keys')
  const except = globs(rule.match.except ?? [], 'match.except')

  const when = rule.when === undefined ? undefined : context.compiler.value(rule.when)
  if (when?.ok === false) say('error', 'bad-expression', 'when', when.error)
  let whenSubscriber: number | undefined
  if (rule.whenSubscriber !== undefined) {
    whenSubscriber = context.conditionIds.get(rule.whenSubscriber)
    if (whenSubscriber === undefined) {
      const condition = context.compiler.subscriber(rule.whenSubscriber)
      if (!condition.ok) say('error', 'bad-expression', 'whenSubscriber', condition.error)
      else {
        whenSubscriber = context.conditions.push(condition.value) - 1
        context.conditionIds.set(rule.whenSubscriber, whenSubscriber)
      }
    }
  }

  const keyIds = new Set<string>()
  for (const [i, transform] of (rule.transform ?? []).entries()) {
    if (!('field' in transform)) continue
    const refusal = refusePointer(transform)
    if (refusal !== undefined) say('error', 'bad-transform', `transform[${i}].field`, `${transform.field} ${refusal}`)
    if (transform.action === 'hmac') keyIds.add(transform.key)
    if (transform.action === 'hash')
      say(
        'warning',
        'weak-hash',
        `transform[${i}]`,
        'a plain hash of a telephone or identity number is undone by trying them all; hmac is not',
      )
  }
  const segments = new Set<number>()
  for (const [i, transform] of (rule.keyTransform ?? []).entries()) {
    if (segments.has(transform.segment))
      say('error', 'bad-transform', `keyTransform[${i}].segment`, `segment ${transform.segment} comes twice`)
    segments.add(transform.segment)
    keyIds.add(transform.key)
  }
  for (const id of keyIds) {
    if (context.deps.keyFingerprint(id) === undefined)
      say('warning', 'missing-key', 'transform', `HMAC key ${id} is not here: what needs it is withheld or denied`)
  }

  let expires: number | undefined
  if (rule.basis?.expires !== undefined) {
    expires = expiryInstant(rule.basis.expires, policy.spec.source.utcOffset)
    if (expires === undefined) say('error', 'bad-document', 'basis.expires', `${rule.basis.expires} is no real date`)
  }
  if (issues.some((issue) => issue.level === 'error')) return { rule: undefined, issues }

  const ops = { put: rule.match.ops?.includes('put') ?? true, delete: rule.match.ops?.includes('delete') ?? true }
  const to = rule.match.to
  const compiled: CompiledRule = {
    index: 0,
    id: rule.id,
    file: context.file,
    effect: rule.effect,
    keys,
    except,
    ops,
    regions: to?.regions === undefined ? undefined : new Set(to.regions),
    audience: to?.audience === undefined ? undefined : [...to.audience].sort(),
    when: when?.ok === true ? when.value : undefined,
    whenSubscriber,
    transforms: rule.transform ?? [],
    keyTransform: rule.keyTransform ?? [],
    expires,
    canonical: JSON.stringify([
      rule.id,
      rule.effect,
      [...rule.match.keys].sort(),
      [...(rule.match.except ?? [])].sort(),
      ops.put,
      ops.delete,
      rule.when ?? '',
      rule.transform ?? [],
      rule.keyTransform ?? [],
      expires ?? 0,
    ]),
  }
  return { rule: compiled, issues }
}
