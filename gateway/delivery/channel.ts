// A channel: everybody of one class who asked for the same keys in the same way, on any connection.
// Owns: its gateway-wide number, its view tag, and one feed per cluster it is watched on.
// Refuses: connections. Two watches of one channel on one connection are refused by the session.

import { createHash } from 'node:crypto'
import type { ViewTag } from '#protocol/cursor.ts'
import type { KeyRange } from '#protocol/decode.ts'
import type { DeliveryMode, ValuesMode } from '#protocol/frames.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import type { PolicyClass } from '#policies/engine/types.ts'
import type { FormatName } from './encoder.ts'
import type { Feed } from './feed.ts'
import type { PolicyView } from './policy-port.ts'
import type { Watch } from './watch.ts'

export type ChannelSpec = {
  readonly policyClass: PolicyClass
  readonly range: KeyRange
  readonly mode: DeliveryMode
  readonly values: ValuesMode
  readonly format: FormatName
}

export class Channel {
  readonly ch: number
  readonly spec: ChannelSpec
  readonly policy: PolicyView
  readonly viewTag: ViewTag
  /** What it shows, in full: equal names are equal streams, whichever class or bundle asked first. */
  readonly name: string
  readonly feeds = new Map<ClusterId, Feed>()
  readonly watches = new Set<Watch>()
  /** Monotonic ms of the last bookmark round, and the positions it told of. */
  bookmarkedAt: number
  bookmarked = ''

  constructor(ch: number, name: string, spec: ChannelSpec, policy: PolicyView, now: number, monotonic: number) {
    this.ch = ch
    this.name = name
    this.spec = spec
    this.policy = policy
    this.viewTag = viewTagOf(spec, policy, now)
    this.bookmarkedAt = monotonic
  }
}

/** Channels in use, found by what they show. Numbers are never reused within a process. */
export class Channels {
  readonly #byName = new Map<string, Channel>()
  #next = 1

  get size(): number {
    return this.#byName.size
  }

  [Symbol.iterator](): IterableIterator<Channel> {
    return this.#byName.values()
  }

  open(spec: ChannelSpec, policy: PolicyView, now: number, monotonic: number): Channel {
    const name = channelName(spec, policy, now)
    const known = this.#byName.get(name)
    if (known !== undefined) return known
    const channel = new Channel(this.#next++, name, spec, policy, now, monotonic)
    this.#byName.set(name, channel)
    return channel
  }

  /** Forgets a channel nobody watches. True when it did. */
  release(channel: Channel): boolean {
    return channel.watches.size === 0 && this.#byName.delete(channel.name)
  }
}

/** Classes for whom the same rules can touch the range share a channel: their streams are the same. */
export function channelName(spec: ChannelSpec, policy: PolicyView, now: number): string {
  return JSON.stringify([spec.format, asked(spec), rulesOf(spec, policy, now)])
}

/**
 * 4 bytes for what was asked (selector, mode, values) and 4 for the compiled rules able to touch it, so that a resume
 * can tell which of the two changed. It does not name clusters: they come and go without ending a cursor.
 */
export function viewTagOf(spec: ChannelSpec, policy: PolicyView, now: number): ViewTag {
  return digest(asked(spec)) + digest(rulesOf(spec, policy, now))
}

/** Which half of a foreign view tag differs; undefined when none does. */
export function viewMismatch(held: ViewTag, current: ViewTag): 'selector' | 'policy' | undefined {
  if (held.slice(0, 8) !== current.slice(0, 8)) return 'selector'
  return held === current ? undefined : 'policy'
}

const asked = ({ range, mode, values }: ChannelSpec): unknown => [range.from, range.to ?? null, mode, values]

const rulesOf = ({ range, policyClass }: ChannelSpec, policy: PolicyView, now: number): unknown =>
  policy.regions.map((region) => [region, policy.decider(region, policyClass).tagFor(range, now)])

const digest = (parts: unknown): string =>
  createHash('sha256').update(JSON.stringify(parts), 'latin1').digest('hex').slice(0, 8)
