// From a token's verified claims to an identity.
// Owns: which claims are read and their bounds. Refuses: signatures, issuer, audience and time (verifier.ts checked them).
//
//   sub        subject, required                       region     region of the subscriber, required
//   org        organisation, becomes audience org:<org>
//   scope      scopes, space-separated (RFC 8693), or `scopes` as a list
//   audiences  further policy audiences, a list        clusters   clusters this token is narrowed to, a list
//   labels     labels that a canary rollout may pick by, an object of strings
//   jti, iat   for revocation

import type { JWTPayload } from 'jose'
import { parseRegion } from '#protocol/subjects.ts'
import type { Principal } from './principal.ts'

const MAX_TEXT = 256
const MAX_LIST = 128
const MAX_LABELS = 32

/** The identity, or what is wrong with the claims; never a claim's value. */
export function principalOf(claims: JWTPayload): Principal | string {
  const { sub, exp, iat, jti } = claims
  if (!isText(sub) || sub === '') return 'sub is missing or longer than 256 characters'
  if (typeof exp !== 'number' || !Number.isFinite(exp)) return 'exp is missing'
  const region = parseRegion(claims['region'])
  if (region === undefined) return 'region is missing or no region id'
  const org = claims['org']
  if (org !== undefined && !isText(org)) return 'org is not a string of at most 256 characters'
  const scopes = scopesOf(claims)
  const audiences = listOf(claims['audiences'] ?? [])
  const clusters = claims['clusters'] === undefined ? undefined : listOf(claims['clusters'])
  if (scopes === undefined) return 'scope (or scopes) is not a list of at most 128 scopes'
  if (audiences === undefined) return 'audiences is not a list of at most 128 names'
  if (claims['clusters'] !== undefined && clusters === undefined) return 'clusters is not a list of at most 128 names'
  if (jti !== undefined && !isText(jti)) return 'jti is longer than 256 characters'
  const labels = labelsOf(claims['labels'])
  if (labels === undefined) return 'labels is not an object of at most 32 strings'
  const subscriber = { subject: sub, region, audiences, scopes, anonymous: false, labels }
  return {
    subscriber: org === undefined ? subscriber : { ...subscriber, org },
    expiresAt: exp * 1000,
    tokenId: jti,
    issuedAt: typeof iat === 'number' ? iat * 1000 : undefined,
    clusters,
    dev: false,
  }
}

function labelsOf(value: unknown): Readonly<Record<string, string>> | undefined {
  if (value === undefined) return {}
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const pairs = Object.entries(value)
  if (pairs.length > MAX_LABELS || !pairs.every(([name, text]) => isText(name) && isText(text))) return undefined
  return Object.fromEntries(pairs)
}

function scopesOf(claims: JWTPayload): readonly string[] | undefined {
  const { scope } = claims
  if (scope === undefined) return listOf(claims['scopes'] ?? [])
  if (typeof scope !== 'string' || scope.length > MAX_TEXT * MAX_LIST) return undefined
  return listOf(scope.split(' ').filter((one) => one !== ''))
}

function listOf(value: unknown): readonly string[] | undefined {
  if (!Array.isArray(value) || value.length > MAX_LIST || !value.every(isText)) return undefined
  return value
}

const isText = (value: unknown): value is string => typeof value === 'string' && value.length <= MAX_TEXT
