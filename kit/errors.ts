// The base of every error this project throws, and the two safe ways to describe any error.
// Owns: the stable `code`, the `cause`, and the cleaning of messages before they reach a log or a peer.
// Does not own: the codes themselves. Each area declares its own subclass and codes next to the code that throws them.

/** An error with a stable, documented `code`. The message names the field, the value and what to do next; never a secret. */
export class DeltawatchError extends Error {
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
    this.code = code
  }
}

const SYMBOLIC_CODE = /^[A-Za-z][A-Za-z0-9_.-]{1,63}$/
const MAX_MESSAGE = 500
const MAX_CAUSES = 3

/**
 * A short stable word for anything that was thrown, fit for a metric label or a log field.
 * Order: our own code, a symbolic code of Node or a library, `GRPC_<n>` for numeric gRPC codes, the error's name, `UNKNOWN`.
 */
export function errorCode(e: unknown): string {
  if (e instanceof DeltawatchError) return e.code
  if (!(e instanceof Error)) return 'UNKNOWN'
  // AbortError and TimeoutError are DOMExceptions, whose legacy numeric `code` would read as a gRPC status.
  if (e.name === 'AbortError') return 'ABORTED'
  if (e.name === 'TimeoutError') return 'TIMEOUT'
  const code: unknown = 'code' in e ? e.code : undefined
  if (typeof code === 'string' && SYMBOLIC_CODE.test(code)) return code
  if (typeof code === 'number' && Number.isInteger(code) && code >= 0 && code <= 16) return `GRPC_${code}`
  return SYMBOLIC_CODE.test(e.name) ? e.name : 'UNKNOWN'
}

/** One line, at most 500 characters, with its causes appended and credentials removed. Never contains a stack. */
export function errorMessage(e: unknown): string {
  const parts: string[] = []
  let current = e
  for (let depth = 0; depth <= MAX_CAUSES && current !== undefined && current !== null; depth++) {
    const text = describe(current)
    // Libraries often repeat the cause's message in their own; saying it once is enough.
    if (text !== '' && !parts.some((p) => p.includes(text))) parts.push(text)
    current = current instanceof Error ? current.cause : undefined
  }
  const joined = redactText(parts.join(': ') || 'unknown error')
  return joined.length > MAX_MESSAGE ? `${joined.slice(0, MAX_MESSAGE)}…` : joined
}

/** Removes credentials that libraries put into text: URL user info, bearer and basic tokens, JWTs, `password=…` pairs. */
export function redactText(text: string): string {
  return text
    .replace(/\p{Cc}+/gu, ' ')
    .replace(/\b([a-z][a-z0-9+.-]*:\/\/)[^\s/@]+@/gi, '$1***@')
    .replace(/\b(bearer|basic)\s+[\w.~+/=-]+/gi, '$1 ***')
    .replace(/\beyJ[\w-]+\.[\w-]+(\.[\w-]*)?/g, '***')
    .replace(
      /\b(password|passwd|pass|token|secret|jwt|seed|ticket|authorization)(["']?\s*[=:]\s*["']?)[^\s"'&,;]+/gi,
      '$1$2***',
    )
    .trim()
}

function describe(e: unknown): string {
  if (e instanceof AggregateError && e.message === '') {
    // Node's happy-eyeballs connect throws an empty AggregateError; its parts hold the reason.
    return e.errors
      .slice(0, 3)
      .map((inner) => describe(inner))
      .join(', ')
  }
  if (e instanceof Error) return e.message === '' ? e.name : e.message
  return typeof e === 'string' ? e : 'a value that is not an Error was thrown'
}
