// The oracle's reading of what transforms leave of a value, on parsed JSON, one place after the other.
// Owns: pointers, the strictest action per place, detection by the known samples. Refuses: imports from policies/.

import { createHash, createHmac } from 'node:crypto'
import { KNOWN_KEYS, PERSONAL, secretOf } from './policy-oracle-model.ts'
import type { OTransform } from './policy-oracle-model.ts'

// ---- values

export function json(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) as unknown }
  } catch {
    return undefined
  }
}

export function schemaHolds(text: string): boolean {
  const parsed = json(text)?.value
  return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) && Object.hasOwn(parsed, 'c')
}

type Ruled = OTransform & { rule: string }
const plainOf = ({ field, detect, action, n, key }: OTransform): string =>
  JSON.stringify([field, detect, action, n, key])

export function transformed(
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
  const walk = (value: unknown, path: string[], coveredBy: string[]): unknown => {
    const covered = coveredBy.length > 0
    const at = path.length === 0 ? [] : fields.filter((t) => pointerMatches(t.field as string, path))
    for (const t of at) if (t.required === true) present.add(t.field as string)
    const open = at.some((t) => !done.has(plainOf(t)))
    const action = open ? strictestOf(at) : undefined
    if (action?.action === 'withhold') for (const t of at) if (t.action === 'withhold') causes.push(`rule ${t.rule}`)
    const hidden = covered || (action !== undefined && action.action !== 'withhold')
    const here = open ? at : []
    const inside = [...coveredBy, ...here.map((t) => t.rule)]
    // A rule's detector is heard unless that very rule takes the place away from it.
    const listening = openDetects.filter((t) => !coveredBy.includes(t.rule))
    let inner: unknown = value
    if (Array.isArray(value)) {
      inner = value.map((item, i) => {
        const result = walk(item, [...path, String(i)], inside)
        return result === DROPPED ? null : result
      })
      if (action !== undefined && action.action !== 'drop') return '***'
    } else if (typeof value === 'object' && value !== null) {
      const out: Record<string, unknown> = {}
      for (const [name, item] of Object.entries(value)) {
        const result = walk(item, [...path, name], inside)
        const member = fields.filter((t) => pointerMatches(t.field as string, [...path, name]))
        const droppers = member.some((t) => !done.has(plainOf(t)))
          ? member.filter((t) => strictestOf(member.filter((u) => u.rule === t.rule)).action === 'drop')
          : []
        const listeners = openDetects.filter(
          (t) => !inside.includes(t.rule) && !droppers.some((drop) => drop.rule === t.rule),
        )
        if (hidden || result === DROPPED) heard(name, listeners, causes)
        if (result !== DROPPED) out[hidden ? name : maskIn(name, openDetects, causes)] = result
      }
      inner = out
      if (action !== undefined && action.action !== 'drop') return '***'
    } else if (typeof value !== 'object' || value === null) {
      const before = hidden ? foundAlone(value, here, action, covered, listening, coveredBy, causes) : false
      if (!covered && action !== undefined && action.action !== 'drop' && action.action !== 'withhold')
        return before ? '***' : act(action, value, openDetects, causes)
      if (!hidden) inner = scalar(value, openDetects, causes)
    }
    return action?.action === 'drop' && !covered ? DROPPED : inner
  }
  const value = walk(parsed.value, [], [])
  for (const t of fields) {
    if (t.required !== true || present.has(t.field as string)) continue
    if (applied.some((a) => a.field === t.field)) continue
    causes.push(`missing-field ${t.rule}`)
  }
  return { value, raw: undefined, causes }
}

/** Whether some of the rules, had they been fewer, would have found something here. Those that withhold for it say so. */
function foundAlone(
  value: unknown,
  here: Ruled[],
  together: Ruled | undefined,
  covered: boolean,
  listening: Ruled[],
  coveredBy: string[],
  causes: string[],
): boolean {
  const original = typeof value === 'string' ? value : JSON.stringify(value)
  const idle = listening.filter((t) => !here.some((mine) => mine.rule === t.rule))
  let found = typeof value === 'string' || typeof value === 'number' ? heard(original, idle, causes) : false
  for (const rule of new Set(here.map((t) => t.rule))) {
    const alone = strictestOf(here.filter((t) => t.rule === rule))
    if (coveredBy.includes(rule) || !['truncate', 'keepFirst', 'keepLast'].includes(alone.action)) continue
    if (!covered && together?.action === alone.action && together.n === alone.n) continue
    found = heard(act(alone, value, [], causes) as string, listening, causes) || found
  }
  return found
}

/** Whether any of the detectors finds something in a text. */
function heard(text: string, listening: Ruled[], causes: string[]): boolean {
  const kinds = PERSONAL.filter((p) => text.includes(p.text)).map((p) => p.kind)
  const found = listening.filter((t) => kinds.includes(t.detect?.[0] as string))
  for (const t of found) if (t.action === 'withhold') causes.push(`detected ${t.rule}`)
  return found.length > 0
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
      return `hmac:${t.key}:${createHmac('sha256', secretOf(t.key as string))
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
