// Which web pages may open a connection: Origin and Host, judged before anything else.
// Owns: the two rules, and who is on this host. Refuses: identity; a passing Origin proves nothing about a person.
//
// A browser always sends Origin; a page of another site must not ride on this gateway (cross-site hijacking), and a page
// whose name was re-pointed to loopback (DNS rebinding) carries its own name in Host. Clients that are no browsers send no
// Origin and are judged by their token, in dev mode by Host alone.

export type OriginRules = {
  /** Exact origins such as `https://app.example`; `*` allows any, for gateways whose every client brings a token. */
  readonly allowedOrigins: readonly string[]
  /** Host names (without port) this gateway answers to; empty means any, except in dev mode. */
  readonly allowedHosts: readonly string[]
  readonly dev: boolean
}

export type OriginVerdict = 'ok' | 'origin' | 'host'

export function judgeOrigin(rules: OriginRules, origin: string | undefined, host: string | undefined): OriginVerdict {
  const name = hostName(host)
  if (rules.allowedHosts.length > 0 || rules.dev) {
    const known = name !== undefined && (rules.allowedHosts.includes(name) || (rules.dev && isLoopback(name)))
    if (!known) return 'host'
  }
  if (origin === undefined) return 'ok'
  if (rules.allowedOrigins.includes('*') && !rules.dev) return 'ok'
  if (rules.allowedOrigins.includes(origin)) return 'ok'
  const from = originHost(origin)
  if (from === undefined) return 'origin'
  // The page this gateway serves itself (the console).
  if (host !== undefined && from.host === host) return 'ok'
  return rules.dev && isLoopback(from.name) ? 'ok' : 'origin'
}

/** `localhost`, 127.0.0.0/8 or ::1, as they stand in a URL. */
export function isLoopback(name: string): boolean {
  return name === 'localhost' || name === '::1' || /^127(?:\.\d{1,3}){3}$/.test(name)
}

/** What proxies add to a request they pass on. */
const FORWARDING = ['forwarded', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-real-ip']

/**
 * Whether a request comes from this host itself. A proxy on this host makes everybody look so, unless it says whom it
 * speaks for: `address` must be the peer's behind the PROXY protocol, and a forwarded request is nobody's here.
 */
export function isLocalPeer(address: string, headers: Readonly<Record<string, unknown>>): boolean {
  return isLoopback(address.replace(/^::ffff:/, '')) && FORWARDING.every((name) => headers[name] === undefined)
}

function hostName(host: string | undefined): string | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/@\s]+))(?::\d{1,5})?$/.exec(host ?? '')
  return (match?.[1] ?? match?.[2])?.toLowerCase()
}

function originHost(origin: string): { readonly name: string; readonly host: string } | undefined {
  // "null" (sandboxed frames, files) is nobody.
  const match = /^https?:\/\/((?:\[([0-9a-fA-F:.]+)\]|([^:[\]/@\s]+))(?::\d{1,5})?)$/.exec(origin)
  const name = (match?.[2] ?? match?.[3])?.toLowerCase()
  return match?.[1] === undefined || name === undefined ? undefined : { name, host: match[1] }
}
