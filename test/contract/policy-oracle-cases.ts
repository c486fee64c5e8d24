// Random bundles, events, subscribers and times for the policy oracle, dense where rules meet: few names, many coincidences.
// Owns: generation from a seeded source, and printing the oracle's trees as the documents the engine reads.

import type { Random } from '#kit/random.ts'
import { PERSONAL } from './policy-oracle-model.ts'
import type { Cond, ORule, OSchema, OSubscriber, OTransform, OWorld, SubCond } from './policy-oracle-model.ts'

export const LAPSES = [1_000_000, 2_000_000, 3_000_000]
export const TIMES = [0, 999_999, 1_000_000, 1_000_001, 2_000_000, 2_500_000, 3_000_000, 9_000_000]

export class Draw {
  readonly #random: Random
  constructor(random: Random) {
    this.#random = random
  }
  below(n: number): number {
    return Math.floor(this.#random.next() * n)
  }
  maybe(share: number): boolean {
    return this.#random.next() < share
  }
  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T
  }
  some<T>(list: readonly T[], most: number): T[] {
    const count = 1 + this.below(most)
    return [...new Set(Array.from({ length: count }, () => this.of(list)))]
  }
}

const NAMES = ['a', 'b', 'ab', 'u', 'é', ''] as const
const REGIONS = ['sz', 'hk', 'mo'] as const
const AUDIENCES = ['org:acme', 'team:x'] as const
const FIELDS = [
  '/c',
  '/n',
  '/p',
  '/o',
  '/o/p',
  '/o/*',
  '/l',
  '/l/*',
  '/l/1',
  '/l/*/p',
  '/*',
  '/**/p',
  '/o/**',
  '/x~1y',
  '/tags',
] as const
const KINDS = [...new Set(PERSONAL.map((p) => p.kind))]
const TOKEN = `~k1.${'A'.repeat(43)}`

/** Often a key that some rule was written for, else any. */
export function drawKey(d: Draw, world: OWorld): string {
  const glob = d.maybe(0.7) ? d.of(d.of(world.rules).keys) : undefined
  if (glob !== undefined) {
    const parts = glob
      .slice(1)
      .split('/')
      .flatMap((part) =>
        part === '**'
          ? Array.from({ length: 1 + d.below(2) }, () => d.of(NAMES))
          : [part === '*' ? (d.maybe(0.02) ? TOKEN : d.of(NAMES)) : part.replace('*', d.of(['', 'u']))],
      )
    return Buffer.from(`/${parts.join('/')}`).toString('latin1')
  }
  const parts = Array.from({ length: 1 + d.below(3) }, () => (d.maybe(0.02) ? TOKEN : d.of(NAMES)))
  return Buffer.from(`/${parts.join('/')}`).toString('latin1')
}

function drawGlob(d: Draw, plainAt?: number): string {
  const parts = Array.from({ length: 1 + d.below(3) }, (_, i) => {
    if (i + 1 === plainAt) return '*'
    const roll = d.below(10)
    return roll < 4 ? d.of(NAMES) : roll < 7 ? '*' : roll < 8 ? 'a*' : roll < 9 ? '*b' : '**'
  })
  // Never twice in a row, which documents must not say.
  const fixed = parts.map((part, i) => (part === '**' && parts[i - 1] === '**' ? '*' : part))
  return `/${fixed.join('/')}`
}

function drawCond(d: Draw, depth: number): Cond {
  if (depth > 0 && d.maybe(0.35)) {
    if (d.maybe(0.3)) return { is: 'not', of: drawCond(d, depth - 1) }
    return { is: d.of(['and', 'or'] as const), left: drawCond(d, depth - 1), right: drawCond(d, depth - 1) }
  }
  switch (d.below(8)) {
    case 0:
    case 1:
      return { is: 'field', name: d.of(['c', 'missing']), to: d.of(['s', 't']), not: d.maybe(0.5) }
    case 2:
      return { is: 'above', name: 'n', than: d.of([0, 5]) }
    case 3:
      return { is: 'has', name: d.of(['c', 'n', 'missing']) }
    case 4:
      return { is: 'tagged', tag: d.of(['t1', 't2']) }
    case 5:
      return { is: 'op', op: d.of(['put', 'delete']) }
    case 6:
      return { is: 'keyStarts', prefix: d.of(['/a', '/b']) }
    default:
      return { is: 'const', value: d.maybe(0.5) }
  }
}

const celOf = (c: Cond): string => {
  switch (c.is) {
    case 'field':
      return `value.${c.name} ${c.not ? '!=' : '=='} "${c.to}"`
    case 'above':
      return `value.${c.name} > ${c.than}.0`
    case 'has':
      return `has(value.${c.name})`
    case 'tagged':
      return `value.tags.exists(t, t == "${c.tag}")`
    case 'op':
      return `op == "${c.op}"`
    case 'keyStarts':
      return `key.startsWith("${c.prefix}")`
    case 'const':
      return String(c.value)
    case 'not':
      return `!(${celOf(c.of)})`
    case 'and':
      return `(${celOf(c.left)}) && (${celOf(c.right)})`
    case 'or':
      return `(${celOf(c.left)}) || (${celOf(c.right)})`
    default: {
      const unknown: never = c
      return unknown
    }
  }
}

function drawSubCond(d: Draw): SubCond {
  switch (d.below(4)) {
    case 0:
      return { is: 'scope', scope: 'orders:read' }
    case 1:
      return { is: 'anonymous', not: d.maybe(0.5) }
    case 2:
      return { is: 'label', name: 'env', value: 'canary' }
    default:
      return { is: 'org', org: 'acme' }
  }
}

const subCelOf = (c: SubCond): string => {
  if (c.is === 'scope') return `"${c.scope}" in subscriber.scopes`
  if (c.is === 'anonymous') return c.not ? '!subscriber.anonymous' : 'subscriber.anonymous'
  return c.is === 'label' ? `subscriber.labels.${c.name} == "${c.value}"` : `subscriber.org == "${c.org}"`
}

function drawTransform(d: Draw): OTransform {
  if (d.maybe(0.25)) return { detect: d.some(KINDS, 3), action: d.maybe(0.85) ? 'mask' : 'withhold' }
  const field = d.of(FIELDS)
  const required = !field.includes('*') && d.maybe(0.1) ? { required: true } : {}
  const roll = d.below(12)
  if (roll < 2) return { field, action: 'mask', ...required }
  if (roll < 4) return { field, action: 'drop', ...required }
  if (roll < 5) return { field, action: 'hash', ...required }
  if (roll < 6) return { field, action: 'withhold', ...required }
  if (roll < 8) return { field, action: 'hmac', key: d.of(['k1', 'k1', 'k2', 'gone']), ...required }
  return { field, action: d.of(['keepFirst', 'keepLast', 'keepLast', 'truncate']), n: d.of([1, 2, 4, 6]), ...required }
}

function drawRule(d: Draw, id: string, moveAt: number | undefined): ORule {
  const effect = d.maybe(0.78) ? 'allow' : 'deny'
  const moves = effect === 'allow' && moveAt !== undefined && d.maybe(0.5)
  const globs = (most: number): string[] => [
    ...new Set(Array.from({ length: 1 + d.below(most) }, () => drawGlob(d, moveAt))),
  ]
  return {
    id,
    effect,
    keys: globs(3),
    except: d.maybe(0.15) ? globs(2) : [],
    ops: d.maybe(0.2) ? [d.of(['put', 'delete'])] : undefined,
    regions: d.maybe(0.45) ? d.some(REGIONS, 3) : undefined,
    audience: d.maybe(0.2) ? d.some(AUDIENCES, 2) : undefined,
    when: d.maybe(0.3) ? drawCond(d, 2) : undefined,
    whenSubscriber: d.maybe(0.2) ? drawSubCond(d) : undefined,
    transform: effect === 'allow' && d.maybe(0.5) ? Array.from({ length: 1 + d.below(3) }, () => drawTransform(d)) : [],
    keyTransform: moves ? { segment: moveAt, key: d.of(['k1', 'k1', 'k1', 'k2', 'gone']) } : undefined,
    expires: effect === 'allow' && d.maybe(0.25) ? d.of(LAPSES) : undefined,
  }
}

export function drawWorld(d: Draw): OWorld {
  const moveAt = d.maybe(0.2) ? d.of([1, 2]) : undefined
  const rules = Array.from({ length: 1 + d.below(6) }, (_, i) => drawRule(d, `r${i}`, moveAt))
  const schemas: OSchema[] = d.maybe(0.15)
    ? [{ keys: [drawGlob(d)], id: 'schema:c.json', onInvalid: d.of(['withhold', 'quarantine']) }]
    : []
  return { rules, schemas, hub: d.of(REGIONS) }
}

/** The documents that say what the world says; rules in any order, over one or two files. */
export function documentsOf(world: OWorld, d: Draw): unknown[] {
  const shuffled = [...world.rules]
  for (let i = shuffled.length - 1; i > 0; i--) {
    const j = d.below(i + 1)
    const [a, b] = [shuffled[i] as ORule, shuffled[j] as ORule]
    shuffled[i] = b
    shuffled[j] = a
  }
  const cut = d.maybe(0.3) ? d.below(shuffled.length + 1) : shuffled.length
  return [shuffled.slice(0, cut), shuffled.slice(cut)].map((rules, i) => ({
    apiVersion: 'watch-policy/v1',
    kind: 'RegionPolicy',
    metadata: { name: `part-${i}`, owner: 'oracle' },
    spec: {
      source: { region: 'sz', regime: 'PIPL' },
      mode: 'enforce',
      ...(i === 0 && world.schemas.length > 0
        ? { schemas: world.schemas.map(({ keys, onInvalid }) => ({ keys, onInvalid, schema: 'c.json' })) }
        : {}),
      rules: rules.map(ruleDocument),
    },
  }))
}

function ruleDocument(rule: ORule): unknown {
  const to = {
    ...(rule.regions === undefined ? {} : { regions: rule.regions }),
    ...(rule.audience === undefined ? {} : { audience: rule.audience }),
  }
  const expires = rule.expires === undefined ? {} : { expires: new Date(rule.expires).toISOString() }
  return {
    id: rule.id,
    effect: rule.effect,
    match: {
      keys: rule.keys,
      ...(rule.except.length === 0 ? {} : { except: rule.except }),
      ...(rule.ops === undefined ? {} : { ops: rule.ops }),
      ...(Object.keys(to).length === 0 ? {} : { to }),
    },
    ...(rule.when === undefined ? {} : { when: celOf(rule.when) }),
    ...(rule.whenSubscriber === undefined ? {} : { whenSubscriber: subCelOf(rule.whenSubscriber) }),
    ...(rule.transform.length === 0 ? {} : { transform: rule.transform }),
    ...(rule.keyTransform === undefined ? {} : { keyTransform: [{ ...rule.keyTransform, action: 'hmac' }] }),
    ...(rule.effect === 'allow'
      ? { basis: { kind: rule.expires === undefined ? 'no-personal-data' : 'contract', ref: 'x', ...expires } }
      : {}),
  }
}

export const SCHEMA = { type: 'object', required: ['c'] }

function drawText(d: Draw): string {
  const roll = d.below(8)
  if (roll < 2) return d.of(['s', 't'])
  if (roll < 4) return d.of(['', 'plain words', 'Straße 陈', 'q"uo\\te'])
  const personal = d.of(PERSONAL).text
  return d.maybe(0.5) ? personal : `to ${personal}, please`
}

function drawJson(d: Draw, depth: number): unknown {
  const roll = d.below(depth > 0 ? 10 : 6)
  if (roll < 3) return drawText(d)
  if (roll < 4) return d.of([0, 5, 7, 2.5, -1, 13800138000, 42])
  if (roll < 5) return d.maybe(0.5)
  if (roll < 6) return null
  if (roll < 8) return Array.from({ length: d.below(4) }, () => drawJson(d, depth - 1))
  const entries = Array.from(
    { length: d.below(4) },
    () => [d.maybe(0.08) ? d.of(PERSONAL).text : d.of(['p', 'q', 'c', 'x/y']), drawJson(d, depth - 1)] as const,
  )
  return Object.fromEntries(entries)
}

export function drawValue(d: Draw): string {
  if (d.maybe(0.08)) return d.of(['plain', '{"c": "s"', 'call 13800138000 now', '', 'true false'])
  if (d.maybe(0.08)) return JSON.stringify(drawJson(d, 1))
  const value: Record<string, unknown> = {}
  if (d.maybe(0.75)) value['c'] = d.of(['s', 't', 's', 't', 5])
  if (d.maybe(0.6)) value['n'] = d.of([3, 7, 7, 'seven'])
  if (d.maybe(0.4)) value['tags'] = d.of([['t1'], ['t1', 't2'], [], ['13800138000'], 4])
  if (d.maybe(0.5)) value['p'] = drawText(d)
  if (d.maybe(0.5)) value['o'] = drawJson(d, 2)
  if (d.maybe(0.4)) value['l'] = drawJson(d, 2)
  if (d.maybe(0.2)) value['x/y'] = drawText(d)
  return JSON.stringify(value)
}

export function drawSubscriber(d: Draw): OSubscriber {
  return {
    region: d.of(['sz', 'hk', 'mo', 'us']),
    org: d.of(['', 'acme', 'other']),
    audiences: d.maybe(0.4) ? [d.of(AUDIENCES)] : [],
    scopes: d.maybe(0.5) ? ['orders:read', 'more'] : [],
    anonymous: d.maybe(0.4),
    labels: d.maybe(0.5) ? { env: d.of(['canary', 'prod']) } : {},
  }
}
