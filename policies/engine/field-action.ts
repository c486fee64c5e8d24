// What may happen to one field, and how several rules' wishes for it become one.
// Owns: the strictness order withhold > drop > mask > the rest, where two that do not nest become mask; and the bytes each action leaves.
// Does not own: finding the field (field-program.ts) or splicing (field-transform.ts).

import { toBase64Url } from '#protocol/bytes.ts'
import type { Transform } from './document.ts'
import type { PolicyDeps } from './types.ts'

export type FieldAction =
  | { readonly kind: 'withhold' }
  | { readonly kind: 'drop' }
  | { readonly kind: 'mask' }
  | { readonly kind: 'hash' }
  | { readonly kind: 'hmac'; readonly key: string }
  | { readonly kind: 'keepFirst' | 'keepLast' | 'truncate'; readonly n: number }

export type FieldTransform = Extract<Transform, { field: string }>

export function actionOf(transform: FieldTransform): FieldAction {
  switch (transform.action) {
    case 'hmac':
      return { kind: 'hmac', key: transform.key }
    case 'keepFirst':
    case 'keepLast':
    case 'truncate':
      return { kind: transform.action, n: transform.n }
    case 'mask':
    case 'drop':
    case 'hash':
    case 'withhold':
      return { kind: transform.action }
    default: {
      const unknown: never = transform
      return unknown
    }
  }
}

/** Names a transform in the log, so that the gateway can see it was applied. The part behind the last `=` holds no `=`. */
export function fieldDescriptor(transform: FieldTransform): string {
  const action = actionOf(transform)
  const argument = 'n' in action ? `:${action.n}` : 'key' in action ? `:${action.key}` : ''
  return `${transform.field}=${action.kind}${argument}`
}

const RANK = { withhold: 4, drop: 3, mask: 2, hash: 1, hmac: 1, keepFirst: 1, keepLast: 1, truncate: 1 } as const
const MASK: FieldAction = { kind: 'mask' }

/** The one action that reveals no more than any of the given ones. Associative and commutative. */
export function strictest(a: FieldAction, b: FieldAction): FieldAction {
  if (RANK[a.kind] !== RANK[b.kind]) return RANK[a.kind] > RANK[b.kind] ? a : b
  if (RANK[a.kind] > 1) return a
  if ('n' in a && 'n' in b && a.kind === b.kind) return a.n <= b.n ? a : b
  if (a.kind === 'hmac' && b.kind === 'hmac' && a.key === b.key) return a
  if (a.kind === 'hash' && b.kind === 'hash') return a
  return MASK
}

export const sameAction = (a: FieldAction, b: FieldAction): boolean =>
  a.kind === b.kind && ('n' in a ? a.n : undefined) === ('n' in b ? b.n : undefined) && keyOf(a) === keyOf(b)

const keyOf = (action: FieldAction): string => (action.kind === 'hmac' ? action.key : '')

/** What a masked field says. Its length is fixed, because lengths tell. */
export const MASK_TEXT = '***'

/**
 * The text a scalar becomes, or undefined when the key it needs is missing. Not for drop and withhold, which leave no text.
 * keepFirst and keepLast show at most half of the characters, so that short values are not shown whole.
 */
export function actOn(action: FieldAction, text: string, deps: PolicyDeps): string | undefined {
  switch (action.kind) {
    case 'hash':
      return `sha256:${toBase64Url(deps.sha256(encoder.encode(text)))}`
    case 'hmac': {
      const mac = deps.hmac(action.key, encoder.encode(text))
      return mac === undefined ? undefined : `hmac:${action.key}:${toBase64Url(mac)}`
    }
    case 'truncate': {
      if (text.length <= action.n) return text
      return points(text).slice(0, action.n).join('')
    }
    case 'keepFirst': {
      const all = points(text)
      const shown = Math.min(action.n, all.length >> 1)
      return all.slice(0, shown).join('') + '*'.repeat(all.length - shown)
    }
    case 'keepLast': {
      const all = points(text)
      const shown = Math.min(action.n, all.length >> 1)
      return '*'.repeat(all.length - shown) + all.slice(all.length - shown).join('')
    }
    case 'mask':
    case 'drop':
    case 'withhold':
      return MASK_TEXT
    default: {
      const unknown: never = action
      return unknown
    }
  }
}

const encoder = new TextEncoder()

/** Characters, not UTF-16 units: half of a surrogate pair is no character. */
const points = (text: string): readonly string[] => (/[\ud800-\udfff]/.test(text) ? Array.from(text) : text.split(''))
