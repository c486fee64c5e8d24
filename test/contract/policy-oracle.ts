// A second reading of the policy semantics, to judge the engine by: straight-line, slow, sharing no code with it.
// Owns: what must come out for one event, written from the specification: default deny, deny beats allow, lapsed bases deny, strictest
// transform per place, egress at the hub's region, classes, unknown previous values.
// Refuses: imports from policies/. Conditions are given as small trees (policy-oracle-cases.ts prints them as CEL); values are compared
// as parsed JSON, so that splicing is judged elsewhere.

import { createHmac } from 'node:crypto'
import { KNOWN_KEYS, secretOf } from './policy-oracle-model.ts'
import type { Cond, OAnswer, OEvent, ORule, OSubscriber, OTransform, OWorld, SubCond } from './policy-oracle-model.ts'
import { json, schemaHolds, transformed } from './policy-oracle-values.ts'

type Stage = { at: 'egress' } | { at: 'deliver'; who: OSubscriber }
type Tri = boolean | 'error' | 'unknown'

export function judge(world: OWorld, event: OEvent, now: number, stage: Stage): OAnswer {
  const matching = world.rules.filter(
    (r) => r.keys.some((g) => globRe(g).test(event.key)) && !r.except.some((g) => globRe(g).test(event.key)),
  )
  const place = stage.at === 'egress' ? world.hub : stage.who.region
  const here = matching.filter((r) => r.regions === undefined || r.regions.includes(place))
  const lapsed = (r: ORule): boolean => r.effect === 'allow' && r.expires !== undefined && now >= r.expires
  const asDeny = (r: ORule): boolean => r.effect === 'deny' || lapsed(r)

  const mine = (r: ORule, denying: boolean): boolean => {
    if (stage.at === 'egress') return denying ? r.audience === undefined && r.whenSubscriber === undefined : true
    const who = stage.who
    const groups = [...who.audiences, ...(who.org === '' ? [] : [`org:${who.org}`])]
    if (r.audience !== undefined && !r.audience.some((a) => groups.includes(a))) return false
    if (r.whenSubscriber === undefined) return true
    const result = subscriberHolds(r.whenSubscriber, who)
    return result === 'error' ? denying : result
  }
  const ofOp = (r: ORule): boolean => r.ops === undefined || r.ops.includes(event.op)
  const seen = event.op === 'put' ? event.value : event.prev
  const holds = (r: ORule): Tri => {
    if (r.when === undefined) return true
    if (event.op === 'delete' && !event.prevKnown && readsValue(r.when)) return 'unknown'
    // What egress did to a field must not decide: whoever would read it cannot say.
    if (seen !== undefined && namesRead(r.when).some((name) => disturbed(name, seen, event.applied))) return 'error'
    return evaluate(r.when, event, seen)
  }

  const denies = here.filter((r) => asDeny(r) && ofOp(r) && mine(r, true))
  const allows = here.filter((r) => !asDeny(r) && ofOp(r) && mine(r, false))

  const causes: string[] = []
  for (const r of denies) {
    const result = holds(r)
    if (result === true) causes.push(`${lapsed(r) ? 'basis-expired' : 'deny-rule'} ${r.id}`)
    if (result === 'error') causes.push(`condition-error ${r.id}`)
  }
  const sure = allows.filter((r) => holds(r) === true)
  const perhaps = allows.filter((r) => holds(r) === 'unknown')
  if (sure.length === 0 && perhaps.length === 0) {
    causes.push('default-deny ')
    if (allows.length === 0)
      for (const r of here) if (lapsed(r) && ofOp(r) && mine(r, false)) causes.push(`basis-expired ${r.id}`)
  }
  // Key transforms: every allow rule that names the key for this scope, whatever its op, condition or basis.
  const moves = here
    .filter((r) => r.effect === 'allow' && mine(r, false))
    .flatMap((r) => (r.keyTransform === undefined ? [] : [r.keyTransform]))
  const different = new Set(moves.map((m) => JSON.stringify([m.segment, m.key])))
  if (different.size > 1) causes.push('key-transform-conflict ')
  if (
    stage.at === 'egress' &&
    world.rules.some((r) => r.keyTransform !== undefined) &&
    event.key.split('/').some((s) => /^~[a-z0-9]+\.[\w-]{43}$/.test(s))
  ) {
    causes.push('key-reserved ')
  }
  const schemas =
    stage.at === 'egress' ? world.schemas.filter((s) => s.keys.some((g) => globRe(g).test(event.key))) : []
  const quarantines = schemas.filter((s) => s.onInvalid === 'quarantine')
  if (seen !== undefined) for (const s of quarantines) if (!schemaHolds(seen)) causes.push(`quarantined ${s.id}`)

  let key: string | undefined = event.key
  const move = moves[0]
  if (move !== undefined && different.size === 1) {
    key = moveKey(event.key, move, stage.at === 'deliver')
    if (key === undefined) causes.push('key-transform-failed ')
  }
  // What nobody can know: is there one way the unknown could be under which it is allowed, and one under which it is not?
  const unknownDeny =
    denies.some((r) => holds(r) === 'unknown') || (event.op === 'delete' && !event.prevKnown && quarantines.length > 0)
  const hard = causes.filter((c) => !c.startsWith('key-transform-failed'))
  if (hard.length > 0) return { effect: 'deny', causes }
  if (unknownDeny || sure.length === 0) return { effect: 'deny', causes: ['prev-unknown '] }
  if (key === undefined) return { effect: 'deny', causes }

  const rules = sure.map((r) => r.id).sort()
  const transforms = sure.flatMap((r) => r.transform.map((t) => ({ ...t, rule: r.id })))
  if (event.op === 'delete') return { effect: 'allow', key, value: undefined, raw: undefined, rules, transforms: [] }
  const withhold = (list: string[]): OAnswer => ({
    effect: 'withhold',
    key,
    causes: list,
    rules,
    transforms,
  })
  if (event.withheld !== undefined) return withhold([`egress ${event.withheld}`])
  const value = event.value as string
  const invalid = schemas
    .filter((s) => s.onInvalid === 'withhold' && !schemaHolds(value))
    .map((s) => `schema-invalid ${s.id}`)
  const result = transformed(value, transforms, event.applied)
  if (invalid.length > 0) return withhold(invalid)
  if (result.causes.length > 0) return withhold(result.causes)
  return { effect: 'allow', key, value: result.value, raw: result.raw, rules, transforms }
}

// ---- keys

export function globRe(glob: string): RegExp {
  const escape = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  // Keys are byte strings; a glob stands for its UTF-8 bytes.
  const parts = Buffer.from(glob).toString('latin1').split('/')
  let source = ''
  for (const [i, part] of parts.entries()) {
    const last = i === parts.length - 1
    if (part === '**') source += last ? '[^]*' : '(?:[^/]*/)*'
    else source += part.split('*').map(escape).join('[^/]*') + (last ? '' : '/')
  }
  return new RegExp(`^${source}$`)
}

function moveKey(
  key: string,
  { segment, key: id }: { segment: number; key: string },
  gateway: boolean,
): string | undefined {
  const parts = key.split('/')
  const part = parts[segment]
  if (part === undefined) return undefined
  if (gateway && new RegExp(`^~${id}\\.[\\w-]{43}$`).test(part)) return key
  if (!KNOWN_KEYS.includes(id)) return undefined
  parts[segment] =
    `~${id}.${createHmac('sha256', secretOf(id)).update(Buffer.from(part, 'latin1')).digest('base64url')}`
  return parts.join('/')
}

// ---- conditions

function readsValue(c: Cond): boolean {
  if (c.is === 'not') return readsValue(c.of)
  if (c.is === 'and' || c.is === 'or') return readsValue(c.left) || readsValue(c.right)
  return c.is === 'field' || c.is === 'above' || c.is === 'has' || c.is === 'tagged'
}

function namesRead(c: Cond): string[] {
  if (c.is === 'not') return namesRead(c.of)
  if (c.is === 'and' || c.is === 'or') return [...namesRead(c.left), ...namesRead(c.right)]
  if (c.is === 'tagged') return ['tags']
  return c.is === 'field' || c.is === 'above' || c.is === 'has' ? [c.name] : []
}

/** Whether egress may have touched a member of the value: cut it, cut something in it, or put stars where a detector hit. */
function disturbed(name: string, text: string, applied: OTransform[]): boolean {
  const parsed = json(text)
  if (parsed === undefined) return true
  const value = parsed.value
  const isObject = typeof value === 'object' && value !== null
  const member: unknown = isObject ? (Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined) : undefined
  const inside = typeof member === 'object' && member !== null
  return applied.some((t) => {
    if (t.action === 'withhold') return false
    if (t.detect !== undefined) return JSON.stringify((isObject ? member : value) ?? null).includes('*')
    const [head, ...rest] = (t.field as string).slice(1).split('/')
    if (head === '**') return rest.length === 0 || rest.join('/') === name || rest[0] === '*' || inside
    if (head !== '*' && head !== name) return false
    return rest.length === 0 || inside
  })
}

function evaluate(c: Cond, event: OEvent, text: string | undefined): boolean | 'error' {
  const ask = (d: Cond): boolean | 'error' => evaluate(d, event, text)
  if (readsValue(c)) {
    // The value is needed as soon as the expression mentions it.
    if (text === undefined || json(text) === undefined) return 'error'
  }
  switch (c.is) {
    case 'const':
      return c.value
    case 'op':
      return event.op === c.op
    case 'keyStarts':
      return event.key.startsWith(c.prefix)
    case 'not': {
      const of = ask(c.of)
      return of === 'error' ? of : !of
    }
    case 'and': {
      const [l, r] = [ask(c.left), ask(c.right)]
      if (l === false || r === false) return false
      return l === 'error' || r === 'error' ? 'error' : true
    }
    case 'or': {
      const [l, r] = [ask(c.left), ask(c.right)]
      if (l === true || r === true) return true
      return l === 'error' || r === 'error' ? 'error' : false
    }
    default:
  }
  const value = json(text as string)?.value
  // What is no object has no fields: asking whether it has one is no error, reading one is.
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return c.is === 'has' ? false : 'error'
  const object = value as Record<string, unknown>
  if (c.is === 'has') return Object.hasOwn(object, c.name)
  const name = c.is === 'tagged' ? 'tags' : c.name
  if (!Object.hasOwn(object, name)) return 'error'
  const field = object[name]
  if (c.is === 'tagged') return Array.isArray(field) ? field.includes(c.tag) : 'error'
  if (c.is === 'above') return typeof field === 'number' ? field > c.than : 'error'
  return c.not ? field !== c.to : field === c.to
}

function subscriberHolds(c: SubCond, who: OSubscriber): boolean | 'error' {
  if (c.is === 'scope') return who.scopes.includes(c.scope)
  if (c.is === 'anonymous') return c.not ? !who.anonymous : who.anonymous
  if (c.is === 'org') return who.org === c.org
  return Object.hasOwn(who.labels, c.name) ? who.labels[c.name] === c.value : 'error'
}
