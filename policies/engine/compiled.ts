// What a bundle looks like once compiled. Internal to the engine; callers hold it as an opaque PolicyBundle.
// Owns: shapes only.

import type { ValueCondition, SubscriberCondition } from './condition.ts'
import type { KeyTransform, Transform } from './document.ts'
import type { Glob } from './glob.ts'
import type { KeyMatcher } from './key-matcher.ts'
import type { PlanTable } from './plan.ts'
import type { ValueMemo } from './value-memo.ts'
import type { ValueSchema } from './value-schema.ts'
import type { Op, PolicyDeps, RateLimits } from './types.ts'

export type CompiledRule = {
  /** Position within the source; rules of one source are sorted by id, so smaller index means smaller id. */
  readonly index: number
  readonly id: string
  readonly file: string
  readonly effect: 'allow' | 'deny'
  readonly keys: readonly Glob[]
  readonly except: readonly Glob[]
  readonly ops: Readonly<Record<Op, boolean>>
  /** Undefined: any. */
  readonly regions: ReadonlySet<string> | undefined
  readonly audience: readonly string[] | undefined
  readonly when: ValueCondition | undefined
  /** Index into CompiledBundle.conditions. */
  readonly whenSubscriber: number | undefined
  readonly transforms: readonly Transform[]
  readonly keyTransform: readonly KeyTransform[]
  /** Ms since 1970 from which the basis no longer holds. */
  readonly expires: number | undefined
  /** Everything of the rule that decides, minus where to, as canonical text: the input of view tags and config hashes. */
  readonly canonical: string
}

export type CompiledDestination = {
  readonly regions: ReadonlySet<string> | undefined
  readonly audience: readonly string[] | undefined
}
export type CompiledLimit = CompiledDestination & { readonly limits: RateLimits }

export type CompiledSource = {
  readonly region: string
  readonly regime: string
  /** The documents that speak for this source: name to path. */
  readonly documents: ReadonlyMap<string, string>
  readonly rules: readonly CompiledRule[]
  readonly matcher: KeyMatcher
  readonly plans: PlanTable
  readonly values: ValueMemo
  readonly schemas: readonly ValueSchema[]
  readonly limits: readonly CompiledLimit[]
  readonly hiddenActivity: readonly CompiledDestination[]
  readonly transformsKeys: boolean
}

export type CompiledBundle = {
  readonly sources: ReadonlyMap<string, CompiledSource>
  /** What classes are projected onto: everything some rule, limit or activity entry names. */
  readonly regions: ReadonlySet<string>
  readonly audiences: ReadonlySet<string>
  readonly conditions: readonly SubscriberCondition[]
  readonly deps: PolicyDeps
}
