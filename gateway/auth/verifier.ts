// Checks a token: signature, algorithm, issuer, audience, time; then its claims, then revocation.
// Owns: the order of these checks and what each failure is answered with.
// Refuses: saying more than needed: a refusal names the kind of fault, never a value from the token.

import { errors, jwtVerify } from 'jose'
import type { Clock } from '#kit/clock.ts'
import { Close, type Code, ErrorCode } from '#protocol/codes.ts'
import { principalOf } from './claims.ts'
import { KeyError, type KeySource } from './keys.ts'
import type { Authenticator, AuthOutcome } from './principal.ts'
import type { Revocations } from './revocations.ts'

export type VerifierOptions = {
  readonly keys: KeySource
  readonly issuer: string
  readonly audience: string
  readonly clockToleranceMs: number
  readonly revocations: Revocations | undefined
  readonly clock: Clock
  /** Refusals come this late, so that a client that retries without thinking is slowed down. */
  readonly refusalDelayMs: number
  readonly onOutcome?: (outcome: string) => void
}

const MAX_TOKEN = 16_384

export function jwtAuthenticator(options: VerifierOptions): Authenticator {
  const { clock, revocations } = options

  async function check(token: string | undefined): Promise<AuthOutcome> {
    if (token === undefined)
      return refuse(Close.Unauthorized, 'a token is needed: Authorization header, hello.token or ticket')
    if (token.length > MAX_TOKEN) return refuse(Close.Unauthorized, `the token is longer than ${MAX_TOKEN} characters`)
    const { payload } = await jwtVerify(token, async (header) => (await options.keys.keyFor(header)).key, {
      issuer: options.issuer,
      audience: options.audience,
      clockTolerance: options.clockToleranceMs / 1000,
      requiredClaims: ['sub', 'exp', 'iss', 'aud'],
      currentDate: new Date(clock.now()),
    })
    const principal = principalOf(payload)
    if (typeof principal === 'string')
      return refuse(Close.Unauthorized, `the token's claims are not usable: ${principal}`)
    if (revocations?.available === false) return refuse(Close.AuthUnavailable, 'revocations cannot be read; try later')
    if (revocations?.revoked(principal) === true) return refuse(Close.Revoked, Close.Revoked.text)
    return { ok: true, principal }
  }

  return {
    dev: false,
    async authenticate(token) {
      let outcome: AuthOutcome
      try {
        outcome = await check(token)
      } catch (e) {
        outcome = refusalOf(e)
      }
      options.onOutcome?.(outcome.ok ? 'accepted' : outcome.close.name)
      if (!outcome.ok && options.refusalDelayMs > 0) await clock.sleep(options.refusalDelayMs)
      return outcome
    },
  }
}

const refuse = (close: Code, reason: string): AuthOutcome => ({
  ok: false,
  close,
  error: ErrorCode.Unauthorized,
  reason,
})

function refusalOf(e: unknown): AuthOutcome {
  if (e instanceof errors.JWTExpired) return refuse(Close.TokenExpired, 'the token has expired; get a new one')
  if (e instanceof errors.JWTClaimValidationFailed)
    return refuse(Close.Unauthorized, `the token's ${e.claim} is not what this gateway asks for`)
  if (e instanceof errors.JWSSignatureVerificationFailed)
    return refuse(Close.Unauthorized, "the token's signature does not verify")
  if (e instanceof KeyError) {
    const close = e.code === 'keys-unavailable' ? Close.AuthUnavailable : Close.Unauthorized
    return refuse(close, e.code === 'keys-unavailable' ? 'keys cannot be read; try later' : e.message)
  }
  if (e instanceof errors.JOSEError)
    return refuse(Close.Unauthorized, 'the token is not a signed JWT this gateway can read')
  return refuse(Close.AuthUnavailable, 'credentials cannot be checked at the moment')
}
