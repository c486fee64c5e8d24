// The whole range at one revision, page by page.
// Owns: paging, pinning every page to the revision of the first, the growth of pages towards a byte target.
// Refuses: keeping what it reads.

import type { Key } from '#protocol/bytes.ts'
import type { Revision } from '#protocol/revision.ts'
import type { HeldKey } from '../egress/change.ts'
import { nextLimit, PAGE_FIRST } from '../uplink/checkpoint.ts'
import type { EtcdMember, KeyRange, Page } from './etcd.ts'

/** Reads at `revision`, or at the newest when undefined; resolves with the revision read at. */
export async function readState(
  member: EtcdMember,
  range: KeyRange,
  revision: Revision | undefined,
  onHeld: (held: HeldKey) => void,
): Promise<Revision> {
  let at = revision
  let after: Key | undefined
  let limit = PAGE_FIRST
  for (;;) {
    const page: Page = await readPage(member, range, at, after, limit)
    at ??= page.header.revision
    let bytes = 0
    for (const held of page.items) {
      bytes += held.key.length + held.value.length
      onHeld(held)
    }
    const last = page.items.at(-1)
    if (!page.more || last === undefined) return at
    after = last.key
    limit = nextLimit(limit, bytes, page.items.length)
  }
}

/** Keys after `after`, or from the range's first key on. */
export function readPage(
  member: EtcdMember,
  range: KeyRange,
  revision: Revision | undefined,
  after: Key | undefined,
  limit: number,
): Promise<Page> {
  // The first key after a key is the key and one zero byte.
  const from = after === undefined ? range.from : (`${after}\u0000` as Key)
  return member.page({ range: { from, to: range.to }, limit, ...(revision === undefined ? {} : { revision }) })
}
