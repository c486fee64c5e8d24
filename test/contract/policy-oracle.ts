// A second reading of the policy semantics, to judge the engine by: straight-line, slow, sharing no code with it.
// Owns: what must come out for one event, written from the specification: default deny, deny beats allow, lapsed bases deny, strictest
// transform per place, egress at the hub's region, classes, unknown previous values.
// Refuses: imports from policies/. Conditions are given as small trees (policy-oracle-cases.ts prints them as CEL); values are compared
// as parsed JSON, so that splicing is judged elsewhere.

import { createHash, createHmac } from 'node:crypto'

export type Cond =
  | { is: 'field'; name: string; to: string; not: boolean }
  | { is: 'above'; name: string; than: number }
  | { is: 'has'; name: string }
  | { is: 'tagged'; tag: string }
  | { is: 'op'; op: string }
  | { is: 'keyStarts'; prefix: string }
  | { is: 'const'; value: boolean }
  | { is: 'not'; of: Cond }
  | { is: 'and' | 'or'; left: Cond; right: Cond }
export type SubCond =
  | { is: 'scope'; scope: string }
  | { is: 'anonymous'; not: boolean }
  | { is: 'label'; name: string; value: string }
  | { is: 'org'; org: string }

export type OTransform = {
  field?: string
  detect?: string[]
  action: string
  n?: number
  key?: string
  required?: boolean
}
export type ORule = {
  id: string
  effect: 'allow' | 'deny'
  keys: string[]
  except: string[]
  ops: string[] | undefined
  regions: string[] | undefined
  audience: string[] | undefined
  when: Cond | undefined
  whenSubscriber: SubCond | undefined
  transform: OTransform[]
  keyTransform: { segment: number; key: string } | undefined
  expires: number | undefined
}
/** The one schema used says: an object with the name `c`. */
export type OSchema = { keys: string[]; id: string; onInvalid: 'withhold' | 'quarantine' }
export type OWorld = { rules: ORule[]; schemas: OSchema[]; hub: string }
export type OSubscriber = {
  region: string
  org: string
  audiences: string[]
  scopes: string[]
  anonymous: boolean
  labels: Record<string, string>
}
export type OEvent = {
  op: 'put' | 'delete'
  key: string
  value: string | undefined
  prev: string | undefined
  prevKnown: boolean
  withheld: string | undefined
  applied: OTransform[]
}

export type OAnswer =
  | { effect: 'allow'; key: string; value: unknown; raw: string | undefined; rules: string[]; transforms: OTransform[] }
  | { effect: 'withhold'; key: string; causes: string[]; rules: string[]; transforms: OTransform[] }
  /** Each cause is `reason rule`. Any of them may be the one reported. */
  | { effect: 'deny'; causes: string[] }

/** Texts that hold personal data, by kind. Nothing else the cases contain does. */
export const PERSONAL: readonly { kind: string; text: string }[] = [
  { kind: 'cn-id', text: '11010519491231002X' },
  { kind: 'phone', text: '13800138000' },
  { kind: 'phone', text: '+86 139 0013 9000' },
  { kind: 'hkid', text: 'A123456(3)' },
  { kind: 'mo-id', text: '1234567(8)' },
  { kind: 'email', text: 'tai.man@example.com' },
  { kind: 'bank-card', text: '6222021234567890128' },
]
export const KNOWN_KEYS = ['k1', 'k2']
const secret = (id: string): string => `oracle key ${id} with more than thirty-two bytes`
export const secretOf = secret

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
  parts[segment] = `~${id}.${createHmac('sha256', secret(id)).update(Buffer.from(part, 'latin1')).digest('base64url')}`
  return parts.join('/')
}

// ---- conditions

function readsValue(c: Cond): boolean {
  if (c.is === 'not') return readsValue(c.of)
  if (c.is === 'and' || c.is === 'or') return readsValue(c.left) || readsValue(c.right)
  return c.is === 'field' || c.is === 'above' || c.is === 'has' || c.is === 'tagged'
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

// ---- values

function json(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) as unknown }
  } catch {
    return undefined
  }
}

function schemaHolds(text: string): boolean {
  const parsed = json(text)?.value
  return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) && Object.hasOwn(parsed, 'c')
}

type Ruled = OTransform & { rule: string }
const plainOf = ({ field, detect, action, n, key }: OTransform): string =>
  JSON.stringify([field, detect, action, n, key])

function transformed(
  text: string,
  transforms: Ruled[],
  applied: OTransform[],
): { value: unknown; raw: string | undefined; causes: string[] } {
  const done = new Set(applied.flatMap(single).map(plainOf))
  const fields = transforms.filter((t) => t.field !== undefined)
  const detects = transforms.filter((t) => t.detect !== undefined).flatMap(single)
  const openDetects = detects.filter((t) => !done.has(plainOf(t))) as Ruled[]
  const openFields = fields.some((t) => !done.has(plainOf(t)))
  const causes: string[] = []
  if (!openFields && openDetects.length === 0) return { value: json(text)?.value, raw: text, causes }
  const parsed = json(text)
  if (parsed === undefined) {
    if (openFields) return { value: undefined, raw: undefined, causes: fields.map((t) => `not-json ${t.rule}`) }
    const masked = maskIn(text, openDetects, causes)
    return { value: undefined, raw: masked, causes }
  }
  const present = new Set<string>()
  const walk = (value: unknown, path: string[], covered: boolean): unknown => {
    const at = path.length === 0 ? [] : fields.filter((t) => pointerMatches(t.field as string, path))
    for (const t of at) if (t.required === true) present.add(t.field as string)
    const open = at.some((t) => !done.has(plainOf(t)))
    const action = open ? strictestOf(at) : undefined
    if (action?.action === 'withhold') for (const t of at) if (t.action === 'withhold') causes.push(`rule ${t.rule}`)
    const hidden = covered || (action !== undefined && action.action !== 'withhold')
    let inner: unknown = value
    if (Array.isArray(value)) {
      inner = value.map((item, i) => {
        const result = walk(item, [...path, String(i)], hidden)
        return result === DROPPED ? null : result
      })
      if (action !== undefined && action.action !== 'drop') return '***'
    } else if (typeof value === 'object' && value !== null) {
      const out: Record<string, unknown> = {}
      for (const [name, item] of Object.entries(value)) {
        const result = walk(item, [...path, name], hidden)
        if (result !== DROPPED) out[hidden ? name : maskIn(name, openDetects, causes)] = result
      }
      inner = out
      if (action !== undefined && action.action !== 'drop') return '***'
    } else if (!covered && action !== undefined && action.action !== 'drop' && action.action !== 'withhold') {
      return act(action, value, openDetects, causes)
    } else if (!hidden) inner = scalar(value, openDetects, causes)
    return action?.action === 'drop' && !covered ? DROPPED : inner
  }
  const value = walk(parsed.value, [], false)
  for (const t of fields) {
    if (t.required !== true || present.has(t.field as string)) continue
    if (applied.some((a) => a.field === t.field)) continue
    causes.push(`missing-field ${t.rule}`)
  }
  return { value, raw: undefined, causes }
}

const DROPPED = Symbol('dropped')

function single(t: OTransform): OTransform[] {
  return t.detect === undefined ? [t] : t.detect.map((d) => ({ ...t, detect: [d] }))
}

function pointerMatches(pointer: string, path: string[]): boolean {
  const parts = pointer.slice(1).split('/')
  const go = (p: number, i: number): boolean => {
    if (p === parts.length) return i === path.length
    if (parts[p] === '**') {
      // At the end it means everything below, elsewhere any number of names.
      if (p === parts.length - 1) return i < path.length
      for (let k = i; k <= path.length; k++) if (go(p + 1, k)) return true
      return false
    }
    return (
      i < path.length &&
      (parts[p] === '*' || parts[p]?.replaceAll('~1', '/').replaceAll('~0', '~') === path[i]) &&
      go(p + 1, i + 1)
    )
  }
  return go(0, 0)
}

function strictestOf(all: Ruled[]): Ruled {
  for (const kind of ['withhold', 'drop', 'mask']) {
    const found = all.find((t) => t.action === kind)
    if (found !== undefined) return found
  }
  const kinds = new Set(all.map((t) => `${t.action} ${t.key ?? ''}`))
  if (kinds.size > 1) return { ...(all[0] as Ruled), action: 'mask' }
  return all.reduce((a, b) => ((b.n ?? 0) < (a.n ?? 0) ? b : a))
}

function act(t: Ruled, value: unknown, detects: Ruled[], causes: string[]): unknown {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  const bytes = Buffer.from(text)
  switch (t.action) {
    case 'mask':
      return '***'
    case 'hash':
      return `sha256:${createHash('sha256').update(bytes).digest('base64url')}`
    case 'hmac':
      if (!KNOWN_KEYS.includes(t.key as string)) {
        causes.push(`missing-key ${t.rule}`)
        return undefined
      }
      return `hmac:${t.key}:${createHmac('sha256', secret(t.key as string))
        .update(bytes)
        .digest('base64url')}`
    default:
  }
  const n = t.n as number
  const half = Math.min(n, Math.floor(text.length / 2))
  const kept =
    t.action === 'truncate'
      ? text.slice(0, n)
      : t.action === 'keepFirst'
        ? text.slice(0, half).padEnd(text.length, '*')
        : text.slice(text.length - half).padStart(text.length, '*')
  return maskIn(kept, detects, causes)
}

function scalar(value: unknown, detects: Ruled[], causes: string[]): unknown {
  if (typeof value === 'string') return maskIn(value, detects, causes)
  if (typeof value !== 'number') return value
  const masked = maskIn(String(value), detects, causes)
  return masked === String(value) ? value : masked
}

function maskIn(text: string, detects: Ruled[], causes: string[]): string {
  let out = text
  for (const { kind, text: personal } of PERSONAL) {
    const asking = detects.filter((t) => t.detect?.[0] === kind)
    if (asking.length === 0 || !out.includes(personal)) continue
    for (const t of asking) if (t.action === 'withhold') causes.push(`detected ${t.rule}`)
    out = out.replaceAll(personal, '*'.repeat(personal.length))
  }
  return out
}
