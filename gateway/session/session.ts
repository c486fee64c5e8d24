// One WebSocket session: handshake, frames, liveness, the end.
// Owns: the session's state (greeting -> open -> over), what each client frame does, and every reason to close.
// Refuses: delivery (a Subscriber does it), token rules (an Authenticator), sockets (a Transport).

import { Close, type Code, ErrorCode, errorLabel, isTemporary } from '#protocol/codes.ts'
import { decodeClientFrame } from '#protocol/decode.ts'
import type { ClientFrame, ErrorFrame, HelloFrame } from '#protocol/frames.ts'
import { negotiateVersion } from '#protocol/version.ts'
import type { Principal } from '../auth/principal.ts'
import { Outlet } from '../delivery/outlet.ts'
import type { Subscriber } from '../delivery/subscriber.ts'
import { InboundRate } from './inbound-rate.ts'
import type { Lease } from './admission.ts'
import type { Inbound, WsTransport } from './transport.ts'
import type { SessionContext } from './sessions.ts'
import { toWatch } from './watch-request.ts'
import { Vitals, type Verdict } from './vitals.ts'
import type { Sleeper } from './wheel.ts'

type State =
  | { readonly kind: 'greeting'; readonly until: number }
  /** A token is being checked; frames wait. */
  | { readonly kind: 'checking'; readonly until: number }
  | { readonly kind: 'open'; readonly principal: Principal; readonly subscriber: Subscriber }
  | { readonly kind: 'over' }

export class Session implements Inbound, Sleeper {
  readonly id: string
  readonly outlet: Outlet
  readonly address: string
  readonly startedAt: number
  slot = -1
  rounds = 0
  client = ''
  /** Told of inbound frames, while somebody traces this session. */
  onInbound: ((type: string, bytes: number) => void) | undefined
  #state: State
  #beatWritten = 0
  #backlog: string[] | undefined
  readonly #vitals: Vitals
  readonly #rate: InboundRate
  readonly #lease: Lease
  readonly #transport: WsTransport
  readonly #context: SessionContext
  /** Token given at the upgrade; `hello` may repeat it, not contradict it. */
  #upgradeToken: string | undefined

  constructor(
    transport: WsTransport,
    address: string,
    token: string | undefined,
    lease: Lease,
    context: SessionContext,
  ) {
    const { limits, random } = context
    const now = context.monotonic()
    this.id = Buffer.from(random.bytes(9)).toString('base64url')
    this.address = address
    this.startedAt = now
    this.#transport = transport
    this.#context = context
    this.#lease = lease
    this.#upgradeToken = token
    this.#state = { kind: 'greeting', until: now + limits.helloTimeoutMs }
    // Lifetimes end at different moments, so that a deploy's wave of connections does not come back as a wave.
    this.#vitals = new Vitals(limits, now, now + limits.maxLifetimeMs * (1 - 0.1 * random.next()))
    this.#rate = new InboundRate(context.inbound, now)
    this.outlet = new Outlet(transport, limits, context.budget, context.chance, context.monotonic)
    transport.inbound = this
    context.wheel.add(this, Math.min(limits.helloTimeoutMs, limits.heartbeatMs))
  }

  get principal(): Principal | undefined {
    return this.#state.kind === 'open' ? this.#state.principal : undefined
  }

  get subscriber(): Subscriber | undefined {
    return this.#state.kind === 'open' ? this.#state.subscriber : undefined
  }

  // ---- what the peer says

  onText(text: string): void {
    if (!this.#heard()) return
    if (this.#state.kind === 'checking') {
      this.#backlog ??= []
      if (this.#backlog.length >= this.#context.limits.maxBacklog) return this.close(Close.InboundRate)
      this.#backlog.push(text)
      return
    }
    this.#read(text)
  }

  onBinary(): void {
    if (this.#heard()) this.close(Close.BadFrame)
  }

  onPing(): void {
    this.#heard()
  }

  onPong(payload: number | undefined): void {
    const known = payload !== undefined && this.outlet.ponged(payload)
    this.#vitals.seenAt = this.#context.monotonic()
    if (known) this.subscriber?.drained()
    // Pongs nobody asked for are allowed by the protocol, and counted like frames.
    else if (payload === undefined) this.#heard()
  }

  onTooLarge(): void {
    this.#context.count(Close.FrameTooLarge)
    this.#finish()
  }

  onClose(code: number): void {
    if (this.#state.kind === 'over') return
    this.#context.countPeer(code)
    this.#finish()
  }

  // ---- what the gateway decides

  /** Last bookmarks, goodbye, close frame. The peer gets `closeTimeoutMs` to answer. */
  close(code: Code, retryAfterMs?: number): void {
    if (this.#state.kind === 'over') return
    const { subscriber } = this
    if (subscriber !== undefined) this.#context.delivery.conclude(subscriber)
    const goodbye = { type: 'goodbye', code: code.code, reason: code.text } as const
    this.#send(retryAfterMs === undefined ? goodbye : { ...goodbye, retryAfterMs })
    this.#context.count(code)
    this.#transport.close(code.code, code.name)
    this.#finish()
  }

  /** Drops the connection with everything queued for it. */
  reset(code: Code): void {
    if (this.#state.kind === 'over') return
    this.#context.count(code)
    this.#transport.reset()
    this.#finish()
  }

  /** Ends the session when its credential was revoked. */
  revoke(revoked: (principal: Principal) => boolean): void {
    if (this.#state.kind === 'open' && revoked(this.#state.principal)) this.close(Close.Revoked)
  }

  /** The policy changed: the same identity may belong elsewhere now. */
  reclass(bursts: Parameters<SessionContext['delivery']['reclass']>[2]): void {
    if (this.#state.kind !== 'open') return
    const policyClass = this.#context.policy().classOf(this.#state.principal.subscriber)
    if (policyClass === undefined) return this.close(Close.ClassChanged)
    this.#context.delivery.reclass(this.#state.subscriber, policyClass, bursts)
  }

  wake(now: number): number | undefined {
    const state = this.#state
    if (state.kind === 'over') return undefined
    if ((state.kind === 'greeting' || state.kind === 'checking') && now >= state.until) {
      this.close(Close.HelloTimeout)
      return undefined
    }
    const verdict = this.#judge(now)
    if (verdict.kind === 'close') this.close(verdict.code)
    else if (verdict.kind === 'reset') this.reset(verdict.code)
    if (verdict.kind !== 'well') return undefined
    if (verdict.ask) this.outlet.mark()
    this.#heartbeat()
    return state.kind === 'open' ? verdict.wakeInMs : Math.max(1, Math.min(verdict.wakeInMs, state.until - now))
  }

  // ---- inside

  #judge(now: number): Verdict {
    const { outlet } = this
    return this.#vitals.judge({
      now,
      expiresInMs: this.#state.kind === 'open' ? this.#expiresIn(this.#state.principal) : Number.POSITIVE_INFINITY,
      waitingSince: outlet.waitingSince,
      loaded: outlet.inFlight > this.#context.limits.markBytes / 2,
    })
  }

  /** For clients that cannot see pings; anything else sent since serves as well. */
  #heartbeat(): void {
    if (this.#state.kind === 'open' && this.outlet.written === this.#beatWritten) {
      const bytes = this.#state.subscriber.encoder.frame({ type: 'heartbeat' })
      if (bytes !== undefined) this.outlet.offer(bytes)
    }
    this.#beatWritten = this.outlet.written
  }

  #sleep(): void {
    const now = this.#context.monotonic()
    const verdict = this.#judge(now)
    this.#context.wheel.add(this, verdict.kind === 'well' ? verdict.wakeInMs : 1)
  }

  #expiresIn(principal: Principal): number {
    return principal.expiresAt === undefined ? Number.POSITIVE_INFINITY : principal.expiresAt - this.#context.now()
  }

  /** Counts a frame against the rate; false when that ended the session. */
  #heard(): boolean {
    if (this.#state.kind === 'over') return false
    const now = this.#context.monotonic()
    this.#vitals.seenAt = now
    if (this.#rate.take(now)) return true
    this.#error(ErrorCode.InboundRate, ErrorCode.InboundRate.text)
    this.close(Close.InboundRate)
    return false
  }

  #read(text: string): void {
    const decoded = decodeClientFrame(text)
    if (!decoded.ok) {
      this.#error(decoded.code, decoded.message, decoded.id)
      // Nobody can tell what a peer means whose frames are not even objects.
      const fatal = this.#state.kind === 'greeting' || !isObject(text)
      if (fatal) this.close(Close.BadFrame)
      return
    }
    const { frame } = decoded
    this.onInbound?.(frame.type, text.length)
    if (this.#state.kind === 'greeting') {
      if (frame.type === 'hello') void this.#greet(frame)
      else this.close(Close.HelloExpected)
      return
    }
    if (this.#state.kind === 'open') this.#act(frame, this.#state.subscriber, this.#state.principal)
  }

  async #greet(hello: HelloFrame): Promise<void> {
    if (this.#state.kind !== 'greeting') return
    const version = negotiateVersion(hello.versions)
    if (version === undefined) return this.close(Close.UnsupportedVersion)
    this.client = hello.client
    this.#state = { kind: 'checking', until: this.#state.until }
    const context = this.#context
    const principal = await context.identify(this.#upgradeToken, hello.token)
    // The peer may be gone, or out of time, when the answer comes.
    if ((this.#state as State).kind !== 'checking') return
    this.#upgradeToken = undefined
    if (!principal.ok) {
      this.#error(principal.error, principal.reason)
      return this.close(principal.close)
    }
    const { subject } = principal.principal.subscriber
    const counted = await this.#lease.identify(subject)
    if ((this.#state as State).kind !== 'checking') return
    if (!counted) return this.close(Close.TooManyConnections)
    this.#open(principal.principal, version)
  }

  #open(principal: Principal, version: number): void {
    const context = this.#context
    const policyClass = context.policy().classOf(principal.subscriber)
    if (policyClass === undefined) {
      this.#error(ErrorCode.TooManyClasses, ErrorCode.TooManyClasses.text)
      return this.close(Close.Overloaded)
    }
    const subscriber = context.delivery.subscribe(this.outlet, 'json', policyClass, principal.clusters)
    this.#state = { kind: 'open', principal, subscriber }
    context.opened()
    const { limits } = context
    // Welcome and the answers to what waited leave in one write.
    this.outlet.wire.cork()
    this.#send({
      type: 'welcome',
      version,
      session: this.id,
      heartbeatMs: limits.heartbeatMs,
      limits: {
        maxInboundBytes: limits.maxInboundBytes,
        maxFrameBytes: limits.maxFrameBytes,
        maxWatches: limits.maxWatches,
        maxClusters: 64,
      },
      clusters: context.delivery.clusters(subscriber),
      ...(principal.dev ? { dev: true as const } : {}),
    })
    this.#sleep()
    const backlog = this.#backlog
    this.#backlog = undefined
    for (const text of backlog ?? []) if (this.#state.kind === 'open') this.#read(text)
    this.outlet.wire.uncork()
  }

  #act(frame: ClientFrame, subscriber: Subscriber, principal: Principal): void {
    switch (frame.type) {
      case 'hello':
        this.#error(ErrorCode.BadFrame, 'hello was said; a connection says it once')
        return
      case 'ping':
        this.#send({ type: 'pong' })
        return
      case 'auth':
        void this.#refresh(frame.token, principal, subscriber)
        return
      case 'unwatch': {
        const ch = this.#context.delivery.unwatch(subscriber, frame.id)
        if (ch === undefined) this.#error(ErrorCode.UnknownWatch, `no watch has the id ${frame.id}`, frame.id)
        else this.#send({ type: 'unwatched', id: frame.id, ch })
        return
      }
      case 'watch': {
        if (subscriber.watches.size >= this.#context.limits.maxWatches) {
          const message = `the connection holds ${subscriber.watches.size} watches already; unwatch one first`
          this.#error(ErrorCode.TooManyWatches, message, frame.id)
          return
        }
        const wanted = toWatch(frame, principal.clusters)
        const refusal = wanted.ok ? this.#context.delivery.open(subscriber, wanted.spec, wanted.request) : wanted
        if (refusal !== undefined) this.#error(refusal.code, refusal.message, frame.id)
        return
      }
      default: {
        const unknown: never = frame
        return unknown
      }
    }
  }

  /** In-band refresh: the same subject, judged anew under the current policy. */
  async #refresh(token: string, held: Principal, subscriber: Subscriber): Promise<void> {
    const context = this.#context
    const outcome = await context.authenticator.authenticate(token)
    if (this.#state.kind !== 'open' || this.#state.subscriber !== subscriber) return
    if (!outcome.ok) {
      // The old token is still good until it expires.
      this.#error(outcome.error, outcome.reason)
      return
    }
    const { principal } = outcome
    if (principal.subscriber.subject !== held.subscriber.subject) {
      this.#error(ErrorCode.SubjectMismatch, ErrorCode.SubjectMismatch.text)
      return
    }
    // Another set of clusters is another session: the client comes back with its cursor and the new token.
    if (JSON.stringify(principal.clusters) !== JSON.stringify(held.clusters)) return this.close(Close.ClassChanged)
    this.#state = { kind: 'open', principal, subscriber }
    const { expiresAt } = principal
    this.#send(
      expiresAt === undefined ? { type: 'authed' } : { type: 'authed', expiresAt: new Date(expiresAt).toISOString() },
    )
    this.reclass(new Map())
    this.#sleep()
  }

  #error(code: Code, message: string, id?: string): void {
    const frame: ErrorFrame = { type: 'error', code: errorLabel(code), message, temporary: isTemporary(code) }
    this.#context.countError(code)
    this.#send(id === undefined ? frame : { ...frame, id })
  }

  #send(frame: Parameters<Subscriber['send']>[0]): void {
    const bytes = this.#context.delivery.encoder('json').frame(frame)
    if (bytes !== undefined) this.outlet.force(bytes)
  }

  #finish(): void {
    const { subscriber } = this
    if (subscriber !== undefined) this.#context.delivery.end(subscriber)
    this.#state = { kind: 'over' }
    this.#backlog = undefined
    this.outlet.closed()
    this.#lease[Symbol.dispose]()
    this.#context.wheel.remove(this)
    this.#context.ended(this)
  }
}

/** Asked of refused frames only. */
function isObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
  } catch {
    return false
  }
}
