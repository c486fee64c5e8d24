// Node's hashing behind the engine's ports.
// Owns: SHA-256, HMAC under a keyring, fingerprints, and the keys tests run under. Does not own: where keys come from (keyring.ts).

import { createHmac, createSecretKey, hash } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { toBase64Url } from '#protocol/bytes.ts'
import type { PolicyDeps } from '../engine/types.ts'
import type { Keyring } from './keyring.ts'

export function sha256(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(hash('sha256', bytes, 'buffer'))
}

export function sha256Hex(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'hex')
}

export function policyDeps(keyring: Keyring): PolicyDeps {
  return {
    sha256,
    hmac(keyId, bytes) {
      const key = keyring.keys.get(keyId)
      return key === undefined ? undefined : hmac(key, bytes)
    },
    keyFingerprint(keyId) {
      const key = keyring.keys.get(keyId)
      return key === undefined ? undefined : fingerprint(key)
    },
  }
}

/** Tests beside the documents need no secret and must always say the same: each key is made from its own id. */
export function testDeps(): PolicyDeps {
  const key = (id: string): KeyObject => createSecretKey(Buffer.from(`test key ${id}`))
  return { sha256, hmac: (id, bytes) => hmac(key(id), bytes), keyFingerprint: (id) => fingerprint(key(id)) }
}

function hmac(key: KeyObject, bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHmac('sha256', key).update(bytes).digest())
}

/** Under a label no value can have by accident: the fingerprint of a key must not equal the token of anybody's text. */
function fingerprint(key: KeyObject): string {
  return toBase64Url(hmac(key, Buffer.from('\0deltawatch key fingerprint'))).slice(0, 22)
}
