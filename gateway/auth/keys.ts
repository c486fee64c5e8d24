// Keys that tokens may be signed with, each pinned to one algorithm.
// Owns: reading a shared secret or a JWKS, choosing the key of a token's header. Refuses: `none`, symmetric keys in a JWKS,
// and any algorithm that is not the key's own: a public key must never be taken for a shared secret.

import { createSecretKey, type KeyObject } from 'node:crypto'
import { type CryptoKey, importJWK, type JWK, type JWTHeaderParameters } from 'jose'
import { DeltawatchError } from '#kit/errors.ts'

export class KeyError extends DeltawatchError {}

export type SigningKey = { readonly kid: string | undefined; readonly alg: string; readonly key: KeyObject | CryptoKey }

export interface KeySource {
  /** Throws KeyError `unknown-key` or `wrong-alg`; rejects with `keys-unavailable` when no keys are known at all. */
  keyFor(header: JWTHeaderParameters): Promise<SigningKey>
}

const MIN_SECRET_BYTES = 32
const ALGORITHMS = new Set(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'])
const CURVES: Readonly<Record<string, string>> = {
  'P-256': 'ES256',
  'P-384': 'ES384',
  'P-521': 'ES512',
  Ed25519: 'EdDSA',
}
const MAX_KEYS = 64

export function sharedSecret(bytes: Uint8Array): KeySource {
  const text = Buffer.from(bytes)
  const end = text.at(-1) === 0x0a ? text.length - 1 : text.length
  if (end < MIN_SECRET_BYTES) {
    throw new KeyError(
      'short-secret',
      `the shared secret has ${end} bytes; at least ${MIN_SECRET_BYTES} are needed (try: openssl rand -hex 32)`,
    )
  }
  const key = createSecretKey(text.subarray(0, end))
  const only: SigningKey = { kid: undefined, alg: 'HS256', key }
  return { keyFor: async (header) => pinned(only, header) }
}

/** Keys of a JWKS document; throws KeyError `bad-jwks` for anything that is not one. Keys we cannot use are left out. */
export async function readJwks(text: string): Promise<readonly SigningKey[]> {
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch (cause) {
    throw new KeyError('bad-jwks', 'the JWKS is not JSON', { cause })
  }
  const list = typeof document === 'object' && document !== null && 'keys' in document ? document.keys : undefined
  if (!Array.isArray(list) || list.length > MAX_KEYS)
    throw new KeyError('bad-jwks', `the JWKS has no list of at most ${MAX_KEYS} keys`)
  const keys: SigningKey[] = []
  for (const jwk of list as JWK[]) {
    const alg = algorithmOf(jwk)
    if (alg === undefined || (jwk.use !== undefined && jwk.use !== 'sig')) continue
    // `oct` keys never get here, so the answer is always a public key.
    keys.push({ kid: jwk.kid, alg, key: (await importJWK({ ...jwk, alg }, alg)) as CryptoKey })
  }
  if (keys.length === 0) throw new KeyError('bad-jwks', 'the JWKS holds no public signing key this gateway can use')
  return keys
}

export function choose(keys: readonly SigningKey[], header: JWTHeaderParameters): SigningKey {
  const fitting =
    header.kid === undefined
      ? keys.filter((key) => key.alg === header.alg)
      : keys.filter((key) => key.kid === header.kid)
  const [key] = fitting
  if (key === undefined) throw new KeyError('unknown-key', 'no key has the id the token names')
  if (header.kid === undefined && fitting.length > 1)
    throw new KeyError('unknown-key', 'the token names no key and several fit')
  return pinned(key, header)
}

function pinned(key: SigningKey, header: JWTHeaderParameters): SigningKey {
  if (header.alg !== key.alg) throw new KeyError('wrong-alg', `the key is for ${key.alg}, the token says otherwise`)
  return key
}

function algorithmOf(jwk: JWK): string | undefined {
  if (typeof jwk !== 'object' || jwk === null || jwk.kty === 'oct' || jwk.d !== undefined) return undefined
  const natural = jwk.kty === 'RSA' ? 'RS256' : CURVES[jwk.crv ?? '']
  const alg = jwk.alg ?? natural
  return alg !== undefined && ALGORITHMS.has(alg) ? alg : undefined
}
