// Keys that are personal data themselves: a segment replaced by its HMAC, the same one every time, so that deletes match.
// Owns: the form of the replacement and recognising it. A key that already has that form at the source is denied, so that two keys can
// never map to one short of an HMAC collision.

import { keyToBytes, toBase64Url } from '#protocol/bytes.ts'
import type { Key } from '#protocol/bytes.ts'
import type { KeyTransform } from './document.ts'
import type { PolicyDeps } from './types.ts'

export const keyDescriptor = (transform: KeyTransform): string =>
  `key:${transform.segment}=${transform.action}:${transform.key}`

/** `~<key id>.<43 characters of base64url>`, a whole segment. */
const TOKEN = /(?:^|\/)~[a-z0-9][a-z0-9._-]{0,63}\.[A-Za-z0-9_-]{43}(?:\/|$)/

export function looksTransformed(key: Key): boolean {
  return key.includes('~') && TOKEN.test(key)
}

/**
 * The key as delivered; undefined when it has no such segment or the HMAC key is missing. At the gateway a segment that already is a
 * token under the same key id was made by egress (which denies source keys of that form) and stays, also where no list of applied
 * transforms came along (a LEAVE has none).
 */
export function transformKey(
  key: Key,
  transforms: readonly KeyTransform[],
  atGateway: boolean,
  deps: PolicyDeps,
): Key | undefined {
  let parts: string[] | undefined
  for (const transform of transforms) {
    parts ??= key.split('/')
    const segment = parts[transform.segment]
    if (segment === undefined) return undefined
    if (atGateway && segment.startsWith(`~${transform.key}.`) && TOKEN.test(segment)) continue
    const mac = deps.hmac(transform.key, keyToBytes(segment as Key))
    if (mac === undefined) return undefined
    parts[transform.segment] = `~${transform.key}.${toBase64Url(mac)}`
  }
  return parts === undefined ? key : (parts.join('/') as Key)
}
