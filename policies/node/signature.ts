// Ed25519 over the bytes of the manifest. `openssl pkeyutl -verify -rawin` reads the same signature.
// Owns: signing, verifying, and reading keys in PEM. Does not own: when a signature is required (open-bundle.ts).

import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { PolicyError } from './errors.ts'

/** Base64 with a line end, the content of MANIFEST.sha256.sig. */
export function signManifest(manifest: string, privateKey: KeyObject): string {
  return `${sign(null, Buffer.from(manifest), privateKey).toString('base64')}\n`
}

export function verifyManifest(manifest: string, signature: string, publicKey: KeyObject): boolean {
  const text = signature.trim()
  // Buffer.from skips what is no base64; only the one spelling of 64 bytes is a signature.
  const bytes = Buffer.from(text, 'base64')
  return (
    bytes.length === 64 && bytes.toString('base64') === text && verify(null, Buffer.from(manifest), publicKey, bytes)
  )
}

export function readPublicKey(pem: string): KeyObject {
  return ed25519(() => createPublicKey(pem), 'public')
}

export function readPrivateKey(pem: string): KeyObject {
  return ed25519(() => createPrivateKey(pem), 'private')
}

function ed25519(read: () => KeyObject, kind: 'public' | 'private'): KeyObject {
  let key: KeyObject
  try {
    key = read()
  } catch (cause) {
    throw new PolicyError(
      'POLICY_SIGNATURE',
      `the ${kind} key is no PEM key (try: openssl genpkey -algorithm ed25519)`,
      { cause },
    )
  }
  if (key.asymmetricKeyType !== 'ed25519')
    throw new PolicyError('POLICY_SIGNATURE', `the ${kind} key is ${key.asymmetricKeyType ?? 'symmetric'}, not ed25519`)
  return key
}
