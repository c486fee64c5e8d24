// What a policy or class change does to one watch: the same id on another channel, and a repair of what the client holds.
// Owns: comparing two feeds of one cluster, old rules and new: keys that leave (`scope`), keys that enter or change (diff).
// Refuses: deciding that something changed (channels are equal when their names are) and who is asked (delivery.ts).

import type { Key } from '#protocol/bytes.ts'
import { burstOf } from './difference.ts'
import type { Item } from './encoder.ts'
import { type Feed, inRange } from './feed.ts'
import { decideEntry, type Visible } from './policy-port.ts'
import type { StateEntry } from './ports.ts'
import type { Burst } from './reader.ts'
import type { Resync } from './reader-core.ts'

/** More entries than this are not compared at one go; readers take a full snapshot instead. */
const MAX_ENTRIES = 20_000
const SCAN = 1_000
/** Keys named by one scope frame. */
const SCOPE_KEYS = 500

type Put = Extract<Visible, { op: 'put' }>

/** From the view of `before` to that of `after`, both at the source's head; undefined when it is too large. */
export function policyBurst(before: Feed, after: Feed): Burst | undefined {
  const to = after.head
  if (to === undefined) return undefined
  const compared = compare(before, after)
  if (compared === undefined) return undefined
  const resync: Resync = { reason: 'policy', from: to }
  const repair = burstOf(after, resync, to, compared.items)
  if (repair === undefined) return undefined
  const scopes: Buffer[] = []
  for (let i = 0; i < compared.left.length; i += SCOPE_KEYS) {
    scopes.push(after.deps.encoder.scope(after.ctx, compared.left.slice(i, i + SCOPE_KEYS)))
  }
  // What is no longer to be seen goes first.
  return [...scopes, ...repair]
}

function compare(
  before: Feed,
  after: Feed,
): { readonly left: readonly Key[]; readonly items: readonly Item[] } | undefined {
  const now = after.deps.now()
  const range = before.movesKeys ? before.scanRange : after.scanRange
  const left: Key[] = []
  const items: Item[] = []
  let from: Key | undefined
  let seen = 0
  for (;;) {
    const entries: readonly StateEntry[] = after.source.scan(range, from, SCAN) ?? []
    for (const entry of entries) {
      const was = within(before, decideEntry(before.decider, entry, before.since))
      const is = within(after, decideEntry(after.decider, entry, now))
      if (was !== undefined && (is === undefined || is.key !== was.key)) left.push(was.key)
      if (is !== undefined && (was === undefined || !same(was, is))) items.push(is)
    }
    seen += entries.length
    if (entries.length < SCAN) return { left, items }
    if (seen >= MAX_ENTRIES) return undefined
    from = entries.at(-1)?.key
  }
}

const within = (feed: Feed, put: Put | undefined): Put | undefined =>
  put !== undefined && inRange(feed.range, put.key) ? put : undefined

function same(a: Put, b: Put): boolean {
  if (a.key !== b.key || a.withheld !== b.withheld) return false
  if (a.value === b.value) return true
  return a.value !== undefined && b.value !== undefined && Buffer.compare(a.value, b.value) === 0
}
