// All WebSocket sessions of this process.
// Owns: the registry, what sessions share, the drain, and telling everybody about clusters.
// Refuses: the life of one session (session.ts) and admission (admission.ts).

import type { Code } from '#protocol/codes.ts'
import { Close } from '#protocol/codes.ts'
import type { ClusterFrame, ClusterState, ClusterStatus } from '#protocol/frames.ts'
import type { Clock } from '#kit/clock.ts'
import type { Random } from '#kit/random.ts'
import type { Authenticator, AuthOutcome, Principal } from '../auth/principal.ts'
import { shownState } from '../delivery/activity.ts'
import type { ClusterHub } from '../delivery/cluster-hub.ts'
import type { Delivery } from '../delivery/delivery.ts'
import type { Feed } from '../delivery/feed.ts'
import type { ByteBudget } from '../delivery/outlet.ts'
import type { PolicyView } from '../delivery/policy-port.ts'
import type { ClusterSource } from '../delivery/ports.ts'
import type { Burst } from '../delivery/reader.ts'
import type { Subscriber } from '../delivery/subscriber.ts'
import type { Lease } from './admission.ts'
import type { InboundLimits } from './inbound-rate.ts'
import type { SessionLimits } from './limits.ts'
import type { SessionMetrics } from './metrics.ts'
import { Session } from './session.ts'
import type { WsTransport } from './transport.ts'
import { TimingWheel } from './wheel.ts'

/** What every session needs of its surroundings. */
export interface SessionContext {
  readonly limits: SessionLimits
  /** One object for all sessions. */
  readonly inbound: InboundLimits
  readonly delivery: Delivery
  readonly authenticator: Authenticator
  readonly budget: ByteBudget
  readonly wheel: TimingWheel
  readonly random: Random
  readonly policy: () => PolicyView
  readonly now: () => number
  readonly monotonic: () => number
  readonly chance: () => number
  /** One principal from up to two tokens, which must agree. */
  readonly identify: (upgradeToken: string | undefined, helloToken: string | undefined) => Promise<AuthOutcome>
  readonly opened: () => void
  readonly follow: (follower: Follower) => Disposable
  readonly ended: (session: Session) => void
  readonly count: (code: Code) => void
  readonly countPeer: (code: number) => void
  readonly countError: (code: Code) => void
}

export interface SessionsDeps {
  readonly limits: SessionLimits
  readonly delivery: Delivery
  readonly authenticator: Authenticator
  readonly budget: ByteBudget
  readonly clock: Clock
  readonly random: Random
  readonly metrics: SessionMetrics
  readonly policy: () => PolicyView
}

/** Another kind of connection that delivery serves (event streams). */
export interface Follower {
  readonly subscriber: Subscriber
  readonly principal: Principal
  readonly id: string
  readonly address: string
  readonly startedAt: number
  revoke(revoked: (principal: Principal) => boolean): void
  reclass(bursts: Map<Feed, Map<Feed, Burst | undefined>>): void
  close(code: Code, retryAfterMs?: number): void
}

const SLICE = 500

export class Sessions implements Disposable {
  readonly wheel = new TimingWheel()
  readonly #deps: SessionsDeps
  readonly #context: SessionContext
  readonly #sessions = new Set<Session>()
  readonly #followers = new Set<Follower>()
  readonly #timers: NodeJS.Timeout[]
  /** Each cluster's state as last told to those who must not learn of activity. */
  readonly #told = new Map<string, ClusterState>()
  #closing: Promise<void> | undefined

  constructor(deps: SessionsDeps) {
    this.#deps = deps
    const { clock, metrics } = deps
    this.#context = {
      limits: deps.limits,
      inbound: { framesPerSecond: deps.limits.inboundPerSecond, burst: deps.limits.inboundBurst },
      delivery: deps.delivery,
      authenticator: deps.authenticator,
      budget: deps.budget,
      wheel: this.wheel,
      random: deps.random,
      policy: deps.policy,
      now: () => clock.now(),
      monotonic: () => clock.monotonic(),
      chance: () => deps.random.next(),
      identify: (upgrade, hello) => this.#identify(upgrade, hello),
      opened: () => metrics.opened.inc(),
      follow: (follower) => this.#follow(follower),
      ended: (session) => void this.#sessions.delete(session),
      count: (code) => metrics.disconnects.with({ code: code.name }).inc(),
      countPeer: (code) => metrics.disconnects.with({ code: peerLabel(code) }).inc(),
      countError: (code) => metrics.errors.with({ code: code.name }).inc(),
    }
    const beat = setInterval(() => this.wheel.advance(clock.monotonic()), this.wheel.slotMs)
    const housekeeping = setInterval(() => deps.delivery.tick(), 250)
    this.#timers = [beat, housekeeping]
  }

  get size(): number {
    return this.#sessions.size
  }

  [Symbol.iterator](): IterableIterator<Session> {
    return this.#sessions.values()
  }

  accept(transport: WsTransport, address: string, token: string | undefined, lease: Lease): Session {
    const session = new Session(transport, address, token, lease, this.#context)
    this.#sessions.add(session)
    if (this.#closing !== undefined) session.close(Close.Draining)
    return session
  }

  get context(): SessionContext {
    return this.#context
  }

  get followers(): ReadonlySet<Follower> {
    return this.#followers
  }

  /** Tells every session that may know of it about a cluster's state, encoded once per variant. */
  announce(hub: ClusterHub, removed: boolean): void {
    const { source } = hub
    const { delivery } = this.#deps
    const state = removed ? 'removed' : source.status.state
    // For those who must not learn of activity, live and idle are one state: moving between them is not told.
    const calm = shownState(state, true)
    const moved = calm !== this.#told.get(source.cluster)
    if (removed) this.#told.delete(source.cluster)
    else this.#told.set(source.cluster, calm)
    const variants = new Map<string, Buffer | undefined>()
    const again = (subscriber: Subscriber): Buffer | undefined => {
      const status = delivery.statusFor(source, subscriber)
      return status && delivery.encoder(subscriber.encoder.format).frame(clusterFrame(source, status, removed))
    }
    const tell = (subscriber: Subscriber): void => {
      const status = delivery.statusFor(source, subscriber)
      if (status === undefined || (status.revision === undefined && status.epoch !== undefined && !moved)) return
      const { format } = subscriber.encoder
      const name = `${format} ${status.revision ?? ''}`
      if (!variants.has(name)) {
        variants.set(name, delivery.encoder(format).frame(clusterFrame(source, status, removed)))
      }
      const bytes = variants.get(name)
      if (bytes !== undefined) subscriber.notify(source.cluster, bytes, again)
    }
    const told = [...this.#sessions].flatMap((session) => session.subscriber ?? [])
    for (const follower of this.#followers) if (covers(follower, source.cluster)) told.push(follower.subscriber)
    inSlices(told, tell)
  }

  /** The policy changed: every session is judged anew. At once: what is no longer to be seen must not go out. */
  reclass(): void {
    const bursts = new Map<Feed, Map<Feed, Burst | undefined>>()
    for (const session of Array.from(this.#sessions)) session.reclass(bursts)
    for (const follower of Array.from(this.#followers)) follower.reclass(bursts)
  }

  /** Ends every session whose credential was revoked. */
  revoke(revoked: (principal: Principal) => boolean): void {
    for (const session of Array.from(this.#sessions)) session.revoke(revoked)
    for (const follower of Array.from(this.#followers)) follower.revoke(revoked)
  }

  /** Says goodbye to everybody, spread over `overMs`; resolves when all are gone or told. */
  drain(overMs: number, signal: AbortSignal): Promise<void> {
    this.#closing ??= this.#drain(overMs, signal)
    return this.#closing
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearInterval(timer)
  }

  async #drain(overMs: number, signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#deps
    const all: (Session | Follower)[] = [...this.#sessions, ...this.#followers]
    const batches = Math.max(1, Math.min(20, Math.ceil(all.length / 50)))
    const size = Math.ceil(all.length / batches)
    for (let i = 0; i < all.length; i += size) {
      // Those told first come back first; a jitter keeps each batch from arriving as one.
      for (const one of all.slice(i, i + size)) one.close(Close.Draining, Math.round(200 + random.next() * 1_800))
      if (i + size < all.length) await clock.sleep(overMs / batches, signal).catch(() => undefined)
    }
  }

  #follow(follower: Follower): Disposable {
    this.#followers.add(follower)
    return { [Symbol.dispose]: () => void this.#followers.delete(follower) }
  }

  async #identify(upgradeToken: string | undefined, helloToken: string | undefined): Promise<AuthOutcome> {
    const { authenticator } = this.#deps
    const first = await authenticator.authenticate(helloToken ?? upgradeToken)
    if (!first.ok || upgradeToken === undefined || helloToken === undefined || upgradeToken === helloToken) return first
    const second = await authenticator.authenticate(upgradeToken)
    if (!second.ok) return second
    if (second.principal.subscriber.subject === first.principal.subscriber.subject) return first
    const reason = 'the token of the upgrade and the token of hello name different subjects; send one of them'
    return { ok: false, close: Close.Unauthorized, error: Close.Unauthorized, reason }
  }
}

function clusterFrame(source: ClusterSource, status: ClusterStatus, removed: boolean): ClusterFrame {
  return {
    type: 'cluster',
    cluster: source.cluster,
    region: source.region,
    state: removed ? 'removed' : status.state,
    since: new Date(source.status.since).toISOString(),
    ...(status.revision === undefined ? {} : { lastRevision: status.revision }),
  }
}

const covers = (follower: Follower, cluster: string): boolean =>
  [...follower.subscriber.watches.values()].some((watch) => watch.readers.has(cluster as never))

/** Label of a close code that the peer chose; bounded whatever it sends. */
function peerLabel(code: number): string {
  if (code === 1000 || code === 1001) return 'PeerClosed'
  return code === 1006 ? 'PeerVanished' : 'PeerError'
}

function inSlices<T>(items: readonly T[], act: (item: T) => void): void {
  let at = 0
  const run = (): void => {
    const end = Math.min(items.length, at + SLICE)
    for (; at < end; at++) act(items[at] as T)
    if (at < items.length) setImmediate(run)
  }
  run()
}
