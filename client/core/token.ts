// When to fetch the next token.
// Owns: reading `exp` from a JWT, unverified, and the moment of refresh. Refuses: judging tokens; gateways do that.

import { fromBase64Url } from '../../protocol/bytes.ts'

const MAX_LEAD_MS = 60_000
const MIN_WAIT_MS = 1_000

/** Wall time in ms at which a JWT expires; undefined for opaque tokens and tokens without `exp`. */
export function expiryOf(token: string): number | undefined {
  const body = token.split('.')[1]
  const bytes = body === undefined ? undefined : fromBase64Url(body)
  if (bytes === undefined) return undefined
  try {
    const exp: unknown = (JSON.parse(new TextDecoder().decode(bytes)) as { readonly exp?: unknown } | null)?.exp
    return Number.isFinite(exp) ? (exp as number) * 1000 : undefined
  } catch {
    return undefined
  }
}

/** Milliseconds to wait before refreshing: a fifth of what is left before the end, at most a minute before it. */
export function refreshIn(expiresAt: number, now: number): number {
  const left = expiresAt - now
  return Math.max(MIN_WAIT_MS, left - Math.min(MAX_LEAD_MS, left / 5))
}
