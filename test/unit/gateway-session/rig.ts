// Delivery without sockets: a wire that records bytes, a scheduler that runs when told, a policy of a few lines.
// Owns: the rig that unit and model tests of the gateway drive. Refuses: judging (tests and the folding client do).

import type { ServerFrame } from '#protocol/frames.ts'
import type { Region } from '#protocol/subjects.ts'
import type { Key } from '#protocol/bytes.ts'
import type { Decision, DeliverDecider, PolicyClass, PolicyEvent } from '#policies/engine/types.ts'
import { Delivery, type DeliveryOptions } from '#gateway/delivery/delivery.ts'
import type { FormatName } from '#gateway/delivery/encoder.ts'
import { ByteBudget, Outlet, type Wire } from '#gateway/delivery/outlet.ts'
import type { PolicyView } from '#gateway/delivery/policy-port.ts'
import type { Sources } from '#gateway/delivery/ports.ts'
import type { Subscriber } from '#gateway/delivery/subscriber.ts'

/** What a class may see: keys under `hidden` are denied, values holding `secret` are denied too. */
export type Rules = {
  readonly hidden?: readonly string[]
  readonly secret?: string
  readonly hideActivity?: boolean
  readonly blind?: readonly string[]
  readonly eventsPerSecond?: number
  /** Renames keys by a prefix, as a keyTransform would. */
  readonly rename?: string
}

export function policyOf(rules: Rules, revision = JSON.stringify(rules)): PolicyView {
  const policyClass: PolicyClass = { id: 'all', bundle: revision, region: 'sz', audiences: [], conditions: '' }
  const deny: Decision = { effect: 'deny', reason: 'default-deny' }
  const decide = (event: PolicyEvent): Decision => {
    if (rules.hidden?.some((prefix) => event.key.startsWith(prefix)) === true) return deny
    const value = event.op === 'put' ? event.value : event.prevValue
    if (rules.secret !== undefined && event.op === 'delete' && !event.prevKnown)
      return { effect: 'deny', reason: 'prev-unknown' }
    if (rules.secret !== undefined && value !== undefined && Buffer.from(value).includes(rules.secret)) return deny
    const key = ((rules.rename ?? '') + event.key) as Key
    if (event.op === 'put' && event.value === undefined) {
      return { effect: 'withhold', key, rule: event.withheld ?? 'none', reason: 'egress', transforms: [], rules: [] }
    }
    return { effect: 'allow', key, value: event.value, transforms: [], rules: ['r'] }
  }
  const decider = (source: Region): DeliverDecider => ({
    needsPrevValue: rules.secret !== undefined,
    movesKeys: rules.rename !== undefined,
    blind: rules.blind?.includes(source) === true,
    hideActivity: rules.hideActivity === true,
    limits: rules.eventsPerSecond === undefined ? {} : { eventsPerSecond: rules.eventsPerSecond },
    decide,
    visible: (event) => (decide(event).effect === 'deny' ? 'hidden' : 'visible'),
    tagFor: () => revision,
    nextExpiry: () => undefined,
  })
  return { revision, regions: ['sz' as unknown as Region], classOf: () => policyClass, decider }
}

export class FakeWire implements Wire {
  open = true
  pending = 0
  /** Everything written, in order; marks are remembered apart. */
  readonly chunks: Buffer[] = []
  readonly marks: number[] = []
  corked = 0

  write(bytes: Buffer): void {
    this.chunks.push(bytes)
  }
  readonly mark = (payload: number): void => void this.marks.push(payload)
  cork(): void {
    this.corked++
  }
  uncork(): void {
    this.corked--
  }

  /** Frames written since the last call. */
  take(): ServerFrame[] {
    const frames = this.chunks.flatMap((chunk) => parseFrames(chunk))
    this.chunks.length = 0
    return frames
  }
}

/** Unmasked WebSocket text frames, whole ones only: every write ends at a frame's end. */
export function parseFrames(bytes: Buffer): ServerFrame[] {
  const frames: ServerFrame[] = []
  let at = 0
  while (at < bytes.length) {
    if (bytes[at] !== 0x81) throw new Error(`not a final text frame at ${at}: ${bytes[at]}`)
    const short = bytes[at + 1] as number
    const head = short === 126 ? 4 : short === 127 ? 10 : 2
    const length =
      short === 126 ? bytes.readUInt16BE(at + 2) : short === 127 ? Number(bytes.readBigUInt64BE(at + 2)) : short
    const end = at + head + length
    if (end > bytes.length) throw new Error('a write ends inside a frame')
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(at + head, end))
    frames.push(JSON.parse(text) as ServerFrame)
    at = end
  }
  return frames
}

export const RIG_OPTIONS: DeliveryOptions = {
  sliceWrites: 8,
  restFactor: 1,
  maxDelayMs: 5,
  maxTickBytes: 2048,
  maxValueBytes: 100_000,
  frameCacheBytes: 64 * 1024,
}

export class Rig implements Disposable {
  readonly delivery: Delivery
  readonly budget: ByteBudget
  readonly resyncs: string[] = []
  readonly outcomes: string[] = []
  readonly errors: string[] = []
  policy: PolicyView
  time = 1_000
  #soon: (() => void)[] = []
  #later: { readonly at: number; readonly fn: () => void }[] = []

  constructor(sources: Sources, policy: PolicyView, options: Partial<DeliveryOptions> = {}, budget = 1 << 30) {
    this.policy = policy
    this.budget = new ByteBudget(budget)
    this.delivery = new Delivery(
      {
        sources,
        policy: () => this.policy,
        now: () => this.time,
        monotonic: () => this.time,
        soon: (fn) => void this.#soon.push(fn),
        later: (fn, ms) => void this.#later.push({ at: this.time + ms, fn }),
        onStatus: () => undefined,
        onResync: (_cluster, reason) => void this.resyncs.push(reason),
        onOutcome: (outcome) => void this.outcomes.push(outcome),
        onError: (code) => void this.errors.push(code.name),
      },
      { ...RIG_OPTIONS, ...options },
    )
  }

  connect(wire: FakeWire, format: FormatName = 'json', maxInFlight = 4096): Subscriber {
    let payload = 0
    const outlet = new Outlet(
      wire,
      { maxInFlight, markBytes: maxInFlight / 4 },
      this.budget,
      () => (payload++ % 1000) / 1000,
      () => this.time,
    )
    const policyClass = this.policy.classOf({ subject: 's', region: 'sz', audiences: [], scopes: [], anonymous: false })
    if (policyClass === undefined) throw new Error('no class')
    return this.delivery.subscribe(outlet, format, policyClass, undefined)
  }

  /** The peer read everything: all marks are ponged. */
  pong(subscriber: Subscriber, wire: FakeWire): void {
    for (let mark = wire.marks.shift(); mark !== undefined; mark = wire.marks.shift())
      subscriber.outlet.ponged(payloadOf(mark))
    subscriber.drained()
  }

  /** Runs what is scheduled, moving time as far as `ms`. Bounded: a loop that never ends fails. */
  async run(ms = 0): Promise<void> {
    const end = this.time + ms
    for (let turn = 0; turn < 20_000; turn++) {
      // Replays and microtasks take real turns of the loop.
      if (turn % 8 === 0) await new Promise((resolve) => setImmediate(resolve))
      const soon = this.#soon
      this.#soon = []
      for (const fn of soon) fn()
      if (soon.length > 0) continue
      const due = this.#later.toSorted((a, b) => a.at - b.at)[0]
      if (due !== undefined && due.at <= end) {
        this.#later.splice(this.#later.indexOf(due), 1)
        this.time = Math.max(this.time, due.at)
        due.fn()
        continue
      }
      if (turn % 8 !== 0) continue
      if (this.#soon.length > 0) continue
      this.time = end
      return
    }
    throw new Error('the rig never came to rest')
  }

  /** Housekeeping and everything that follows from it. */
  async tick(ms = 250): Promise<void> {
    await this.run(ms)
    this.delivery.tick()
    await this.run(0)
  }

  [Symbol.dispose](): void {
    this.delivery[Symbol.dispose]()
  }
}

/** The wire is given the very number that must come back. */
const payloadOf = (mark: number): number => mark
