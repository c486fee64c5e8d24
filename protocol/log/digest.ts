// What the digest in SNAPSHOT_END is taken over.
// Owns: finding the items of an encoded SNAPSHOT_ITEMS entry. SPEC: digest = SHA-256 over these bytes of every ITEMS entry
// of the checkpoint, in log order: each `items` field as it stands on the wire, tag and length included.
// Refuses: hashing (no platform here). Working on the bytes as sent, fields that a newer agent adds stay covered.

import { WireError, WireReader } from './wire.ts'

const ITEMS_TAG = (21 << 3) | 2

/** A view of `message` from its first item to the end of its last; empty when it holds none or is no valid encoding. */
export function itemsBytes(message: Uint8Array): Uint8Array {
  const r = new WireReader(message)
  let start = -1
  let end = 0
  try {
    while (r.at < r.end) {
      const at = r.at
      const tag = r.tag()
      r.skip(tag & 7)
      if (tag !== ITEMS_TAG) continue
      if (start < 0) start = at
      end = r.at
    }
  } catch (error) {
    if (!(error instanceof WireError)) throw error
    return message.subarray(0, 0)
  }
  return start < 0 ? message.subarray(0, 0) : message.subarray(start, end)
}
