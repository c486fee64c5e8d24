// etcd revisions as decimal strings.
// Owns: the branded type, its order and the only arithmetic the product needs.
// Refuses: conversion to number for keeping; revisions are 64-bit and JavaScript's safe integers end at 2^53.

declare const revisionBrand: unique symbol
/** A canonical decimal string of an unsigned 63-bit integer: no sign, no leading zero except "0" itself. */
export type Revision = string & { readonly [revisionBrand]: true }

export const REVISION_ZERO = '0' as Revision
const MAX_INT64 = '9223372036854775807'
const CANONICAL = /^(?:0|[1-9][0-9]{0,18})$/

/** Narrows a string to a revision, or returns undefined for anything that is not canonical or exceeds int64. */
export function parseRevision(text: unknown): Revision | undefined {
  if (typeof text !== 'string' || !CANONICAL.test(text)) return undefined
  return text.length === 19 && text > MAX_INT64 ? undefined : (text as Revision)
}

/** Negative, zero or positive, as a < b, a = b, a > b. Canonical decimals order by length, then as text. */
export function compareRevisions(a: Revision, b: Revision): number {
  if (a.length !== b.length) return a.length - b.length
  return a < b ? -1 : a > b ? 1 : 0
}

export function maxRevision(a: Revision, b: Revision): Revision {
  return compareRevisions(a, b) >= 0 ? a : b
}

/** a + delta; delta may be negative, the result is clamped to what a revision can be. */
export function addRevision(a: Revision, delta: number): Revision {
  if (a.length < 16) {
    const sum = Number(a) + delta
    if (Number.isSafeInteger(sum)) return (sum <= 0 ? '0' : String(sum)) as Revision
  }
  const sum = BigInt(a) + BigInt(delta)
  return (sum <= 0n ? '0' : sum > BigInt(MAX_INT64) ? MAX_INT64 : sum.toString()) as Revision
}

/** How many revisions lie between two positions (a - b); saturates at Number.MAX_SAFE_INTEGER. For lag display only. */
export function revisionDistance(a: Revision, b: Revision): number {
  const distance = BigInt(a) - BigInt(b)
  const limit = BigInt(Number.MAX_SAFE_INTEGER)
  return Number(distance > limit ? limit : distance < -limit ? -limit : distance)
}
