// Whether a request without a credential comes from this machine's own user rather than from a web page in his browser.
// Owns: that rule. Refuses: where the listener stands and who the user is.
//
// A listener on loopback keeps other machines out, not pages: one whose name was re-pointed to loopback (DNS rebinding)
// carries its own name in Host, and one of another site its own Origin. Tools such as curl send a loopback Host alone.

import type { HttpRequest } from './router.ts'

export function isLocalOrigin({ headers }: Pick<HttpRequest, 'headers'>): boolean {
  const host = headers.host?.toLowerCase()
  if (host === undefined || !LOOPBACK_HOST.test(host)) return false
  const site = headers['sec-fetch-site']
  // Links and images of other sites bring no Origin, but browsers say where they stand.
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return false
  return headers.origin === undefined || headers.origin.toLowerCase() === `http://${host}`
}

const LOOPBACK_HOST = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/
