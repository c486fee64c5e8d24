// One WebSocket and the watches on it.
// Owns: performing what core/link-state.ts decides, routing frames to watches, and keeping the token fresh.
// Refuses: continuity (each watch has its own fold) and the choice of connection (lanes.ts).
// Input that is not understood never throws out of here: it ends this socket, and the next attempt begins with a pause.

import type { ClusterFrame, ServerFrame, WelcomeFrame } from '../protocol/frames.ts'
import { SUBPROTOCOL, SUPPORTED_VERSIONS } from '../protocol/version.ts'
import type { Context } from './context.ts'
import { type Ended, type LinkInput, type LinkState, stepLink, wakeAt } from './core/link-state.ts'
import { closedFor, type Notice } from './errors.ts'
import { listen, type SocketEvents, type SocketLike, type Source } from './ports.ts'
import type { Outgoing, Subscription, Wire } from './subscription.ts'
import { TokenKeeper } from './token-keeper.ts'

export type LinkHost = {
  readonly context: Context
  changed(link: Link): void
  /** Notes what a frame says of the fleet; of a cluster frame, returns the cluster's region where it is known. */
  fleet(frame: WelcomeFrame | ClusterFrame): string | undefined
}

const OPEN = 1

export class Link implements Wire {
  readonly #host: LinkHost
  readonly #context: Context
  readonly #token: TokenKeeper
  readonly #subscriptions = new Set<Subscription>()
  readonly #ids = new Map<string, Subscription>()
  readonly #channels = new Map<number, Subscription>()
  #state: LinkState = { phase: 'idle' }
  #socket: SocketLike | undefined
  /** Answers of hooks and sockets that belong to an earlier dial are ignored by this number. */
  #dial = 0
  #cancelWake: (() => void) | undefined
  #unlisten: (() => void) | undefined

  constructor(host: LinkHost) {
    this.#host = host
    this.#context = host.context
    this.#token = new TokenKeeper(host.context, (token) => this.send({ type: 'auth', token }))
  }

  get state(): LinkState {
    return this.#state
  }
  /** Why it is closed for good; undefined while it is not, and when this client closed it. */
  get ended(): Ended | undefined {
    return this.#state.phase === 'closed' ? this.#state.ended : undefined
  }
  get subscriptions(): ReadonlySet<Subscription> {
    return this.#subscriptions
  }

  start(): void {
    this.#input({ kind: 'start' })
  }

  attach(subscription: Subscription): void {
    this.#subscriptions.add(subscription)
    this.start()
    if (this.#state.phase === 'open') subscription.opened(this)
  }

  detach(subscription: Subscription): void {
    this.#subscriptions.delete(subscription)
    this.unbind(subscription)
  }

  stop(): void {
    this.#input({ kind: 'stop' })
  }

  // ---- Wire, for subscriptions

  send(frame: Outgoing): void {
    if (this.#socket?.readyState === OPEN) this.#socket.send(JSON.stringify(frame))
  }

  bind(subscription: Subscription, id: string, ch: number | undefined): void {
    this.unbind(subscription)
    this.#ids.set(id, subscription)
    if (ch !== undefined) this.#channels.set(ch, subscription)
  }

  unbind(subscription: Subscription): void {
    for (const [id, other] of this.#ids) if (other === subscription) this.#ids.delete(id)
    for (const [ch, other] of this.#channels) if (other === subscription) this.#channels.delete(ch)
  }

  // ---- the machine

  #input(input: LinkInput): void {
    const { clock, random } = this.#context
    const before = this.#state
    const { state, effects } = stepLink(before, input, clock.now(), random(), this.#context)
    this.#state = state
    // Every data frame passes here; only a new phase concerns anybody else.
    if (state.phase !== before.phase) this.#phaseChanged(before, state)
    for (const effect of effects) {
      if (effect === 'dial') this.#dialNow()
      else if (effect === 'ping') this.send({ type: 'ping' })
      else this.#abandon()
    }
    this.#arm(input.kind === 'frame')
  }

  #phaseChanged(before: LinkState, state: LinkState): void {
    // Browsers and their workers tell when there is a network again; elsewhere nothing does.
    if (before.phase === 'idle')
      this.#unlisten = listen(globalThis as Source, 'online', () => this.#input({ kind: 'online' }))
    if (state.phase === 'closed') this.#unlisten?.()
    if (before.phase === 'open') {
      this.#token.stop()
      this.#ids.clear()
      this.#channels.clear()
      for (const subscription of this.#subscriptions) subscription.lost()
    }
    if (state.phase === 'closed' && state.ended !== undefined) {
      const error = closedFor(state.ended)
      for (const subscription of this.#subscriptions) subscription.end(error)
    }
    if (state.phase === 'waiting' && state.looping) {
      const { code, reason } = state.ended
      const message = `${state.attempt} connections in a row ended early: ${code} ${reason}`
      this.#context.notice({ code: 'fast-loop', message })
    }
    this.#host.changed(this)
    if (state.phase === 'open') for (const subscription of this.#subscriptions) subscription.opened(this)
  }

  #arm(quietly: boolean): void {
    const due = wakeAt(this.#state)
    // While frames arrive the deadline only moves away; the timer that is set finds out by itself.
    if (quietly && this.#cancelWake !== undefined) return
    this.#cancelWake?.()
    this.#cancelWake = undefined
    if (due === undefined) return
    this.#cancelWake = this.#context.clock.after(due - this.#context.clock.now(), () => {
      this.#cancelWake = undefined
      this.#input({ kind: 'tick' })
    })
  }

  #dialNow(): void {
    this.#dial += 1
    const dial = this.#dial
    void this.#token.current().then(
      (token) => {
        if (dial === this.#dial && this.#state.phase === 'dialing') this.#connect(token)
      },
      (cause: unknown) => {
        if (dial === this.#dial) this.#giveUp('token-failed', 'the token hook failed', cause)
      },
    )
  }

  #connect(token: string | undefined): void {
    let socket: SocketLike
    try {
      socket = new this.#context.WebSocket(this.#context.url, [SUBPROTOCOL])
    } catch (cause) {
      return this.#giveUp('gateway-error', 'no socket', cause)
    }
    this.#socket = socket
    // Whatever a socket says after it was let go of is not heard any more.
    const on = <K extends keyof SocketEvents>(type: K, hear: (event: SocketEvents[K]) => void): void =>
      socket.addEventListener(type, (event) => {
        if (this.#socket === socket) hear(event)
      })
    on('open', () => {
      this.#input({ kind: 'opened' })
      this.send({ type: 'hello', client: this.#context.client, versions: SUPPORTED_VERSIONS, token })
    })
    on('message', (event) => this.#receive(event.data))
    on('close', ({ code, reason }) => {
      this.#socket = undefined
      this.#input({ kind: 'ended', ended: { code, reason } })
    })
    // A close always follows and says more; without a listener some platforms would throw.
    on('error', () => undefined)
  }

  /** Lets go of the socket at once: a half-open peer would keep a closing one for minutes. */
  #abandon(): void {
    const socket = this.#socket
    this.#dial += 1
    this.#socket = undefined
    try {
      socket?.close(1000)
    } catch {
      // Some platforms throw for a socket that is still connecting; it is forgotten either way.
    }
  }

  #receive(data: unknown): void {
    this.#input({ kind: 'frame' })
    try {
      const text = data as string
      this.#dispatch(JSON.parse(text) as ServerFrame, text.length)
    } catch (error) {
      this.#giveUp('violation', error instanceof Error ? error.message : 'unreadable frame', error)
    }
  }

  #giveUp(code: Notice['code'], reason: string, cause: unknown): void {
    this.#context.notice({ code, message: `${reason}; connecting again`, cause })
    this.#abandon()
    this.#input({ kind: 'ended', ended: { code: 0, reason } })
  }

  #dispatch(frame: ServerFrame, size: number): void {
    switch (frame.type) {
      case 'events':
      case 'snapshot':
      case 'state':
      case 'bookmark':
      case 'resync':
      case 'scope':
        // Frames of a channel that was just left may still be on the way.
        this.#channels.get(frame.ch)?.frame(frame, size)
        return
      case 'watching':
        this.#ids.get(frame.id)?.frame(frame, size)
        return
      case 'unwatched':
        this.#ids.get(frame.id)?.unwatched()
        return
      case 'cluster': {
        const region = this.#host.fleet(frame)
        for (const subscription of this.#subscriptions) {
          if (subscription.follows(frame.cluster, region)) subscription.frame(frame, size)
        }
        return
      }
      case 'welcome': {
        const { session, heartbeatMs, dev } = frame
        this.#host.fleet(frame)
        this.#token.plan()
        this.#input({ kind: 'welcomed', open: { session, heartbeatMs, dev: dev === true } })
        return
      }
      case 'error': {
        const subscription = this.#ids.get(frame.id ?? '')
        if (subscription !== undefined) subscription.refused(frame)
        else this.#context.notice({ code: 'gateway-error', message: `${frame.code}: ${frame.message}` })
        return
      }
      case 'goodbye': {
        const { code, reason, retryAfterMs } = frame
        this.#input({ kind: 'goodbye', ended: { code, reason, retryAfterMs } })
        return
      }
      case 'authed':
        this.#token.accepted(frame.expiresAt)
        return
      case 'heartbeat':
      case 'pong':
        return
      default:
        // A newer gateway may send frames this version does not know.
        frame satisfies never
    }
  }
}
