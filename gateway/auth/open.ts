// From configuration to an authenticator and its revocations.
// Owns: reading secrets and keys, and following the revocation list. Refuses: defaults that let anybody in.

import { readFile } from 'node:fs/promises'
import type { Clock } from '#kit/clock.ts'
import type { NatsLink } from '#kit/nats.ts'
import { devAuthenticator } from './dev.ts'
import { fetchText, Jwks, JWKS_DEFAULTS } from './jwks.ts'
import { type KeySource, sharedSecret } from './keys.ts'
import type { Authenticator } from './principal.ts'
import { followRevocationBucket } from './revocation-bucket.ts'
import { followRevocationFile } from './revocation-file.ts'
import { Revocations } from './revocations.ts'
import { jwtAuthenticator } from './verifier.ts'

export type AuthConfig = {
  readonly mode: 'dev' | 'jwt'
  readonly secretFile?: string | undefined
  readonly jwksFile?: string | undefined
  readonly jwksUrl?: string | undefined
  readonly issuer?: string | undefined
  readonly audience?: string | undefined
  readonly clockTolerance: number
  readonly revocationsFile?: string | undefined
  readonly revocationsBucket?: string | undefined
}

export type AuthDeps = {
  readonly clock: Clock
  readonly link: NatsLink
  /** Region of a dev token that names none. */
  readonly defaultRegion: string
  readonly onOutcome?: (outcome: string) => void
  /** How long revocations may go unread before nobody new is let in; default a minute. */
  readonly revocationGraceMs?: number
}

export interface Auth extends AsyncDisposable {
  readonly authenticator: Authenticator
  readonly revocations: Revocations | undefined
  /** What keeps credentials from being checked as they should; empty when nothing does. */
  readonly problem: string
}

const REFUSAL_DELAY_MS = 250
/** A file is cheap to read again, and rotating it should not take minutes. */
const FILE_KEYS = { maxAgeMs: 5_000, cooldownMs: 1_000 }

export async function openAuth(config: AuthConfig, deps: AuthDeps): Promise<Auth> {
  await using stack = new AsyncDisposableStack()
  const { clock } = deps
  let revocations: Revocations | undefined
  if (config.revocationsFile !== undefined || config.revocationsBucket !== undefined)
    revocations = new Revocations(clock, deps.revocationGraceMs)
  if (revocations !== undefined && config.revocationsFile !== undefined) {
    stack.use(await followRevocationFile(config.revocationsFile, revocations, clock))
  } else if (revocations !== undefined && config.revocationsBucket !== undefined) {
    stack.use(followRevocationBucket(config.revocationsBucket, revocations, deps.link, clock))
  }
  if (config.mode === 'dev') return finish(devAuthenticator(deps.defaultRegion), () => '')
  const keys = await keysOf(config, clock)
  const authenticator = jwtAuthenticator({
    keys,
    issuer: config.issuer ?? '',
    audience: config.audience ?? '',
    clockToleranceMs: config.clockTolerance,
    revocations,
    clock,
    refusalDelayMs: REFUSAL_DELAY_MS,
    ...(deps.onOutcome === undefined ? {} : { onOutcome: deps.onOutcome }),
  })
  return finish(authenticator, () => (keys instanceof Jwks ? keys.problem : ''))

  function finish(made: Authenticator, keyProblem: () => string): Auth {
    const kept = stack.move()
    return {
      authenticator: made,
      revocations,
      get problem() {
        return keyProblem() || (revocations?.problem ?? '')
      },
      [Symbol.asyncDispose]: () => kept.disposeAsync(),
    }
  }
}

async function keysOf(config: AuthConfig, clock: Clock): Promise<KeySource> {
  const { secretFile, jwksFile, jwksUrl } = config
  if (secretFile !== undefined) return sharedSecret(await readFile(secretFile))
  const keys =
    jwksUrl === undefined
      ? new Jwks(() => readFile(jwksFile ?? '', 'utf8'), clock, FILE_KEYS)
      : new Jwks(() => fetchText(jwksUrl), clock, JWKS_DEFAULTS)
  await keys.refresh()
  return keys
}
