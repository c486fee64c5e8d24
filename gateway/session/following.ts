// A connection that only reads: an event stream, or a `cloudevents.json` socket. Its watch was chosen by a query.
// Owns: the life of one such connection: one watch, heartbeats, expiry, slow readers, the end.
// Refuses: frames from the peer (there are none) and the handshake (its endpoint did that).

import { Close, type Code } from '#protocol/codes.ts'
import type { Principal } from '../auth/principal.ts'
import { Outlet, type Wire } from '../delivery/outlet.ts'
import type { FormatName } from '../delivery/encoder.ts'
import type { Refusal } from '../delivery/delivery.ts'
import type { Subscriber } from '../delivery/subscriber.ts'
import type { Lease } from './admission.ts'
import type { Follower, SessionContext } from './sessions.ts'
import { Vitals } from './vitals.ts'
import type { Wanted } from './watch-request.ts'
import type { Sleeper } from './wheel.ts'

/** The connection underneath. */
export interface Endpoint {
  readonly wire: Wire
  close(code: Code): void
  reset(): void
}

export type FollowingSpec = {
  readonly format: FormatName
  readonly principal: Principal
  /** Asked for once the peer may stay, so that a refusal can still be an answer. */
  readonly endpoint: () => Endpoint
  readonly lease: Lease
  readonly address: string
}

export class Following implements Follower, Sleeper {
  readonly principal: Principal
  readonly subscriber: Subscriber
  readonly outlet: Outlet
  readonly address: string
  readonly id: string
  readonly startedAt: number
  slot = -1
  rounds = 0
  #over = false
  #beatWritten = 0
  /** For transports without marks: since when bytes have been waiting in this process. */
  #pendingSince: number | undefined
  readonly #endpoint: Endpoint
  readonly #lease: Lease
  readonly #vitals: Vitals
  readonly #context: SessionContext
  readonly #registered: Disposable

  /** Undefined policy class or a full subject is the caller's to check; see {@link openFollowing}. */
  constructor(
    spec: Omit<FollowingSpec, 'endpoint'>,
    endpoint: Endpoint,
    subscriber: (outlet: Outlet) => Subscriber,
    context: SessionContext,
  ) {
    const { limits } = context
    const now = context.monotonic()
    this.startedAt = now
    this.principal = spec.principal
    this.address = spec.address
    this.id = Buffer.from(context.random.bytes(9)).toString('base64url')
    this.#endpoint = endpoint
    this.#lease = spec.lease
    this.#context = context
    this.#vitals = new Vitals(limits, now, now + limits.maxLifetimeMs * (1 - 0.1 * context.chance()))
    this.outlet = new Outlet(endpoint.wire, limits, context.budget, context.chance, context.monotonic)
    this.subscriber = subscriber(this.outlet)
    this.#registered = context.follow(this)
    context.wheel.add(this, Math.min(limits.heartbeatMs, this.#expiresIn()))
  }

  open(wanted: Extract<Wanted, { ok: true }>): Refusal | undefined {
    return this.#context.delivery.open(this.subscriber, wanted.spec, wanted.request)
  }

  /** The peer read something. */
  seen(): void {
    this.#vitals.seenAt = this.#context.monotonic()
    this.#pendingSince = undefined
    this.subscriber.drained()
  }

  ponged(payload: number | undefined): void {
    if (payload !== undefined && this.outlet.ponged(payload)) this.subscriber.drained()
    this.#vitals.seenAt = this.#context.monotonic()
  }

  close(code: Code, retryAfterMs?: number): void {
    if (this.#over) return
    this.#context.delivery.conclude(this.subscriber)
    const goodbye = { type: 'goodbye', code: code.code, reason: code.text } as const
    this.subscriber.send(retryAfterMs === undefined ? goodbye : { ...goodbye, retryAfterMs })
    this.#context.count(code)
    this.#endpoint.close(code)
    this.#finish()
  }

  reset(code: Code): void {
    if (this.#over) return
    this.#context.count(code)
    this.#endpoint.reset()
    this.#finish()
  }

  /** The peer went away. */
  gone(): void {
    if (this.#over) return
    this.#context.countPeer(1000)
    this.#finish()
  }

  revoke(revoked: (principal: Principal) => boolean): void {
    if (!this.#over && revoked(this.principal)) this.close(Close.Revoked)
  }

  reclass(bursts: Parameters<Follower['reclass']>[0]): void {
    const policyClass = this.#context.policy().classOf(this.principal.subscriber)
    if (policyClass === undefined) return this.close(Close.ClassChanged)
    this.#context.delivery.reclass(this.subscriber, policyClass, bursts)
  }

  wake(now: number): number | undefined {
    if (this.#over) return undefined
    const { outlet } = this
    const marked = outlet.wire.mark !== undefined
    if (!marked) this.#pendingSince = outlet.wire.pending === 0 ? undefined : (this.#pendingSince ?? now)
    const waitingSince = marked ? outlet.waitingSince : this.#pendingSince
    const loaded = outlet.inFlight > this.#context.limits.markBytes / 2 || !marked
    const verdict = this.#vitals.judge({ now, expiresInMs: this.#expiresIn(), waitingSince, loaded })
    if (verdict.kind === 'close') this.close(verdict.code)
    else if (verdict.kind === 'reset') this.reset(verdict.code)
    if (verdict.kind !== 'well') return undefined
    if (verdict.ask) outlet.mark()
    if (outlet.written === this.#beatWritten) {
      const bytes = this.subscriber.encoder.frame({ type: 'heartbeat' })
      if (bytes !== undefined) outlet.offer(bytes)
    }
    this.#beatWritten = outlet.written
    return verdict.wakeInMs
  }

  #expiresIn(): number {
    const { expiresAt } = this.principal
    return expiresAt === undefined ? Number.POSITIVE_INFINITY : expiresAt - this.#context.now()
  }

  #finish(): void {
    this.#over = true
    this.#context.delivery.end(this.subscriber)
    this.outlet.closed()
    this.#lease[Symbol.dispose]()
    this.#registered[Symbol.dispose]()
    this.#context.wheel.remove(this)
  }
}

export type Opened =
  | { readonly ok: true; readonly following: Following }
  | { readonly ok: false; readonly code: Code; readonly message: string }

/** Everything between a known identity and a running watch; on refusal the lease is returned. */
export async function openFollowing(spec: FollowingSpec, context: SessionContext): Promise<Opened> {
  const refuse = (code: Code): Opened => {
    spec.lease[Symbol.dispose]()
    return { ok: false, code, message: code.text }
  }
  if (!(await spec.lease.identify(spec.principal.subscriber.subject))) return refuse(Close.TooManyConnections)
  // Behind the wait: a class of a bundle that was replaced meanwhile sees nothing.
  const policyClass = context.policy().classOf(spec.principal.subscriber)
  if (policyClass === undefined) return refuse(Close.Overloaded)
  const endpoint = spec.endpoint()
  if (!endpoint.wire.open) return refuse(Close.HelloTimeout)
  context.opened()
  const subscribe = (outlet: Outlet): Subscriber =>
    context.delivery.subscribe(outlet, spec.format, policyClass, spec.principal.clusters)
  return { ok: true, following: new Following(spec, endpoint, subscribe, context) }
}
