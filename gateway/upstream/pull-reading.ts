// One ephemeral pull consumer, driven by hand: exact order, checkable gaps, bounded bytes in flight.
// Owns: the requests outstanding, the delivery count, the liveness deadline.
// Refuses: recovery. Whatever is wrong ends the reading with a name; the follower opens the next one where this one ended.
//
// The client library's ordered consumer repairs itself silently, also across a trimmed, rolled back or recreated stream;
// here nothing may pass unseen.

import { createInbox, type Msg, type NatsConnection, type Subscription } from '@nats-io/transport-node'
import type { Clock } from '#kit/clock.ts'
import { DeltawatchError } from '#kit/errors.ts'
import { extractTrace } from '#kit/tracing.ts'
import type { ReadingResult, Sink } from './log-stream.ts'

export class ReadingError extends DeltawatchError {}

export type PullBounds = {
  /** Bytes per request, or twice the largest message seen; two are outstanding, so a backlog delays others by little. */
  readonly requestBytes: number
  readonly requestMessages: number
  readonly heartbeatMs: number
}
export const DEFAULT_PULL_BOUNDS: PullBounds = { requestBytes: 256 * 1024, requestMessages: 4096, heartbeatMs: 2_000 }

const EXPIRES_MS = 30_000
const OUTSTANDING = 2

/** One request at the hub, and what it has left there. The hub says nothing when either is used up exactly. */
type Request = { readonly id: number; messages: number; bytes: number; delivered: number }

/**
 * A place for one request after another, with an inbox of its own: only so is it known whose request a message used up.
 * The hub serves the requests it holds in turn.
 */
type Slot = {
  readonly inbox: string
  readonly subscription: Subscription
  request: Request | undefined
  /** A message above the byte bound is next here: it is asked for alone and without one. */
  big: boolean
}

export type ReadingOptions = {
  readonly nc: NatsConnection
  readonly inboxPrefix: string
  readonly stream: string
  readonly consumer: string
  readonly sink: Sink
  readonly bounds: PullBounds
  readonly clock: Clock
  /** Looks for the trace context in each message's headers. */
  readonly traced?: boolean | undefined
  /** One request for what is there now, then the reading is over; `delivered` counts on from the reading before. */
  readonly once?: { readonly delivered: number }
}

export class PullReading {
  readonly done: Promise<ReadingResult>
  readonly #options: ReadingOptions
  readonly #slots: readonly Slot[]
  readonly #finish: (result: ReadingResult) => void
  #nextRequest = 1
  #delivered = 0
  #largest = 0
  #ended = false
  #heardAt: number
  #watchdog: Disposable | undefined

  constructor(options: ReadingOptions) {
    this.#options = options
    const { promise, resolve } = Promise.withResolvers<ReadingResult>()
    this.done = promise
    this.#finish = resolve
    this.#heardAt = options.clock.monotonic()
    this.#delivered = options.once?.delivered ?? 0
    const inbox = createInbox(options.inboxPrefix)
    const slots = options.once === undefined ? OUTSTANDING : 1
    this.#slots = Array.from({ length: slots }, (_, i) => this.#open(`${inbox}.${i}`))
    this.#requestAll()
    this.#watch()
  }

  end(result: ReadingResult): void {
    if (this.#ended) return
    this.#ended = true
    this.#watchdog?.[Symbol.dispose]()
    if (!this.#options.nc.isClosed()) for (const { subscription } of this.#slots) subscription.unsubscribe()
    this.#finish(result)
  }

  /** Messages the consumer has sent so far. */
  get delivered(): number {
    return this.#delivered
  }

  #open(inbox: string): Slot {
    const subscription = this.#options.nc.subscribe(`${inbox}.*`, {
      callback: (error, message) => {
        if (error === null) this.#onMessage(slot, message)
        else
          this.end({ end: 'dropped', error: new ReadingError('DW_LOG_SUBSCRIPTION', error.message, { cause: error }) })
      },
    })
    const slot: Slot = { inbox, subscription, request: undefined, big: false }
    return slot
  }

  #requestAll(): void {
    for (const slot of this.#slots) this.#request(slot)
  }

  #request(slot: Slot): void {
    const { nc, stream, consumer, bounds, once } = this.#options
    if (this.#ended || slot.request !== undefined) return
    const { big } = slot
    slot.big = false
    if (once !== undefined && !big && this.#nextRequest > 1) return this.end({ end: 'stopped' })
    const batch = big ? 1 : bounds.requestMessages
    const bytes = big ? Number.POSITIVE_INFINITY : Math.max(bounds.requestBytes, 2 * this.#largest)
    const id = this.#nextRequest++
    slot.request = { id, messages: batch, bytes, delivered: 0 }
    const body = {
      batch,
      ...(big ? {} : { max_bytes: bytes }),
      ...(once === undefined
        ? { expires: EXPIRES_MS * 1e6, idle_heartbeat: bounds.heartbeatMs * 1e6 }
        : { no_wait: true }),
    }
    const subject = `$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`
    nc.publish(subject, JSON.stringify(body), { reply: `${slot.inbox}.${id}` })
  }

  #onMessage(slot: Slot, message: Msg): void {
    if (this.#ended) return
    this.#heardAt = this.#options.clock.monotonic()
    const { reply } = message
    if (reply === undefined || reply === '') return this.#onStatus(slot, message)
    const place = parseDelivery(reply)
    if (place === undefined) {
      const text = `the hub's delivery subject has ${reply.split('.').length} tokens`
      return this.end({ end: 'dropped', error: new ReadingError('DW_LOG_DELIVERY', text) })
    }
    if (place.delivered !== ++this.#delivered) return this.end({ end: 'gap' })
    // The hub counts subjects and headers too.
    this.#largest = Math.max(this.#largest, message.data.length + 512)
    const { request } = slot
    if (request !== undefined) {
      request.delivered++
      request.messages--
      request.bytes -= sizeAtHub(message)
      if (request.messages <= 0 || request.bytes <= 0) slot.request = undefined
    }
    const { seq, storedAtMs, pending } = place
    const trace =
      this.#options.traced === true && message.headers !== undefined ? extractTrace(message.headers) : undefined
    if (this.#options.sink({ seq, data: plainView(message.data), storedAtMs, pending, trace })) {
      return this.end({ end: 'stopped' })
    }
    this.#request(slot)
  }

  /** Heartbeats (100) carry nothing; every other status ends the request whose inbox it names, or the reading. */
  #onStatus(slot: Slot, message: Msg): void {
    const code = message.headers?.code ?? 0
    if (code === 100) return
    const text = message.headers?.description ?? ''
    if (code === 404 || code === 408 || (code === 409 && /batch completed|maxbytes|pending/i.test(text))) {
      const { request } = slot
      if (request?.id !== Number(message.subject.slice(slot.inbox.length + 1))) return
      slot.request = undefined
      slot.big = /maxbytes/i.test(text) && request.delivered === 0
      return this.#request(slot)
    }
    const error = new ReadingError('DW_LOG_CONSUMER', `the hub ended the reading: ${code} ${text}`)
    this.end({ end: 'dropped', error })
  }

  #watch(): void {
    const { clock, bounds } = this.#options
    const deadline = bounds.heartbeatMs * 2 + 500
    this.#watchdog = clock.setTimeout(() => {
      const silent = clock.monotonic() - this.#heardAt
      if (silent > deadline) return this.end({ end: 'stalled' })
      // A hub that holds a request sends heartbeats. Silence may mean that it considers ours used up: ask anew.
      if (silent > bounds.heartbeatMs && this.#options.once === undefined) {
        for (const slot of this.#slots) slot.request = undefined
        this.#requestAll()
      }
      this.#watch()
    }, bounds.heartbeatMs)
  }
}

type Delivery = {
  readonly seq: number
  readonly delivered: number
  readonly storedAtMs: number
  readonly pending: number
}

/** `$JS.ACK.<stream>.<consumer>.<tries>.<stream seq>.<consumer seq>.<ns>.<pending>`, or with domain and account before. */
export function parseDelivery(reply: string): Delivery | undefined {
  const tokens = reply.split('.')
  const at = tokens.length === 9 ? 5 : tokens.length >= 11 ? 7 : -1
  if (at < 0 || tokens[0] !== '$JS') return undefined
  const seq = Number(tokens[at])
  const delivered = Number(tokens[at + 1])
  const storedAtMs = Number(tokens[at + 2]) / 1e6
  const pending = Number(tokens[at + 3])
  return Number.isSafeInteger(seq) && Number.isSafeInteger(delivered)
    ? { seq, delivered, storedAtMs, pending }
    : undefined
}

/**
 * What the hub takes off a request's `max_bytes` for a message: subjects, headers and data. The client library counts the
 * same for its own consumers (`size` is not in its interface); without that the headers are missed, and a request that is
 * used up to the byte is only found by the watchdog.
 */
function sizeAtHub(message: Msg & { readonly size?: () => number }): number {
  return message.size?.() ?? message.subject.length + (message.reply?.length ?? 0) + message.data.length
}

/** Buffer's own `subarray` costs several times that of a plain view, and decoding makes one view per value. */
export const plainView = (data: Uint8Array): Uint8Array =>
  data.constructor === Uint8Array ? data : new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
