// The log of one cluster on JetStream.
// Owns: the API calls, ephemeral consumers, the subscription to bookmarks.
// Refuses: judging what is read, and direct gets (a lagging replica may answer those).

import {
  AckPolicy,
  type ConsumerConfig,
  DeliverPolicy,
  JetStreamApiError,
  type JetStreamManager,
  jetstreamManager,
  ReplayPolicy,
  type StreamConfig,
} from '@nats-io/jetstream'
import type { NatsConnection, Subscription } from '@nats-io/transport-node'
import type { Clock } from '#kit/clock.ts'
import { DeltawatchError, errorMessage } from '#kit/errors.ts'
import { configFor, type LogStreamConfig, streamDifferences } from '#protocol/log/stream.ts'
import { type ClusterId, markSubject, streamName } from '#protocol/subjects.ts'
import type { LinkWatch } from './link-watch.ts'
import type { LogStream, ReadingResult, Sink, StoredMessage } from './log-stream.ts'
import { DEFAULT_PULL_BOUNDS, type PullBounds, PullReading, plainView } from './pull-reading.ts'

export class LogError extends DeltawatchError {}

export type JetStreamLogOptions = {
  readonly watch: LinkWatch
  readonly inboxPrefix: string
  readonly cluster: ClusterId
  readonly clock: Clock
  /** How to create the stream when it is missing; undefined: it is the operator's matter. */
  readonly create: LogStreamConfig | undefined
  /** Told the version of a server that cannot keep all of `create`; the rest was asked for. */
  readonly onOldServer?: ((version: string) => void) | undefined
  readonly bounds?: PullBounds
  /** Entries are handed on with their trace context. */
  readonly traced?: boolean
}

const STREAM_NOT_FOUND = 10059
/** A request sent to a leader that just died is answered by nobody. */
const API_TIMEOUT_MS = 2_000
/** Of one batch; above the usual max_payload, so that hardly any entry needs a request of its own. */
const BATCH_BYTES = 1100 * 1024
/** An abandoned consumer disappears after this long. */
const INACTIVE_MS = 30_000

export function jetStreamLog(options: JetStreamLogOptions): LogStream {
  const { watch, inboxPrefix, cluster, clock } = options
  const stream = streamName(cluster)
  const bounds = options.bounds ?? DEFAULT_PULL_BOUNDS
  let managed: { readonly nc: NatsConnection; readonly manager: Promise<JetStreamManager> } | undefined

  const api = (nc: NatsConnection): Promise<JetStreamManager> => {
    // One manager per client object: a replaced connection needs a new one.
    if (managed?.nc !== nc)
      managed = { nc, manager: jetstreamManager(nc, { checkAPI: false, timeout: API_TIMEOUT_MS }) }
    return managed.manager
  }
  const call = async <T>(
    what: string,
    run: (jsm: JetStreamManager) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> => {
    const nc = watch.connection()
    try {
      return await watch.whileUp(api(nc).then(run), signal)
    } catch (cause) {
      if (cause instanceof DeltawatchError || isCode(cause, STREAM_NOT_FOUND) || signal?.aborted === true) throw cause
      throw new LogError('DW_LOG_API', `${what} on ${stream} failed: ${errorMessage(cause)}`, { cause })
    }
  }

  const openConsumer = async (fromSeq: number, signal: AbortSignal): Promise<{ nc: NatsConnection; name: string }> => {
    const nc = watch.connection()
    const config: Partial<ConsumerConfig> = {
      ack_policy: AckPolicy.None,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: Math.max(1, fromSeq),
      replay_policy: ReplayPolicy.Instant,
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: INACTIVE_MS * 1e6,
      max_waiting: 16,
    }
    // When the signal aborts in between, an orphan is left that disappears by itself.
    const { name } = await call('creating a consumer', (jsm) => jsm.consumers.add(stream, config), signal)
    return { nc, name }
  }
  const dropConsumer = (name: string): void => {
    if (watch.link.state().kind !== 'connected') return
    void call('deleting a consumer', (jsm) => jsm.consumers.delete(stream, name)).catch(() => undefined)
  }

  const follow = async (fromSeq: number, sink: Sink, signal: AbortSignal): Promise<ReadingResult> => {
    signal.throwIfAborted()
    const { nc, name } = await openConsumer(fromSeq, signal)
    const reading = new PullReading({
      nc,
      inboxPrefix,
      stream,
      consumer: name,
      sink,
      bounds,
      clock,
      traced: options.traced,
    })
    const listening = watch.onDown(() => reading.end({ end: 'disconnected' }))
    const stop = (): void => reading.end({ end: 'stopped' })
    signal.addEventListener('abort', stop, { once: true })
    try {
      return await reading.done
    } finally {
      signal.removeEventListener('abort', stop)
      listening[Symbol.dispose]()
      dropConsumer(name)
    }
  }

  async function* batches(fromSeq: number, signal: AbortSignal): AsyncGenerator<readonly StoredMessage[]> {
    signal.throwIfAborted()
    const { nc, name } = await openConsumer(fromSeq, signal)
    try {
      for (let delivered = 0; ; ) {
        const batch: StoredMessage[] = []
        let pending = 0
        const sink: Sink = (message) => {
          batch.push({ ...message, data: message.data.slice() })
          pending = message.pending
          return signal.aborted
        }
        const once = { delivered }
        const roomy = { ...bounds, requestBytes: Math.max(bounds.requestBytes, BATCH_BYTES) }
        const reading = new PullReading({ nc, inboxPrefix, stream, consumer: name, sink, bounds: roomy, clock, once })
        const listening = watch.onDown(() => reading.end({ end: 'disconnected' }))
        const { end, error } = await reading.done
        listening[Symbol.dispose]()
        delivered = reading.delivered
        signal.throwIfAborted()
        if (batch.length > 0) yield batch
        if (end !== 'stopped') throw new LogError('DW_LOG_READ', `reading ${stream} ended: ${end}`, { cause: error })
        if (batch.length === 0 || pending === 0) return
      }
    } finally {
      dropConsumer(name)
    }
  }

  return {
    reachable: async (signal) => void (await watch.link.connected(signal)),
    async facts(signal) {
      try {
        const { created, state, config } = await call('reading the state', (jsm) => jsm.streams.info(stream), signal)
        const { first_seq: firstSeq, last_seq: lastSeq, bytes } = state
        return { created, firstSeq, lastSeq, bytes, maxBytes: config.max_bytes }
      } catch (error) {
        if (isCode(error, STREAM_NOT_FOUND)) return undefined
        throw error
      }
    },
    async get(seq, signal) {
      const found = await call('reading one entry', (jsm) => jsm.streams.getMessage(stream, { seq }), signal)
      return found === null ? undefined : { seq: found.seq, data: plainView(found.data) }
    },
    follow,
    batches,
    marks: (listener) => markSubscription(watch, markSubject(cluster), listener),
    async create(signal) {
      if (options.create === undefined) return false
      const version = watch.connection().info?.version ?? 'of unknown version'
      const config = configFor(version, options.create)
      // The API takes the very names and values that protocol/log/stream.ts lists.
      const wanted = config as unknown as StreamConfig & { name: string }
      const made = await call('creating the stream', (jsm) => jsm.streams.add(wanted), signal)
      const differences = streamDifferences(config, { ...made.config })
      if (differences.length > 0) {
        throw new LogError('DW_LOG_CONFIG', `${stream} differs in ${differences.join(', ')}; run deltawatch hub apply`)
      }
      if (config !== options.create) options.onOldServer?.(version)
      return true
    },
  }
}

const isCode = (error: unknown, code: number): boolean => error instanceof JetStreamApiError && error.code === code

/** A subscription that is made again whenever the client object was replaced. */
const markSubscription = (watch: LinkWatch, subject: string, listener: (data: Uint8Array) => void): Disposable => {
  let held: { readonly nc: NatsConnection; readonly subscription: Subscription } | undefined
  const clients = watch.onClient((nc) => {
    const callback = (error: Error | null, message: { readonly data: Uint8Array }): void => {
      if (error === null) listener(message.data)
    }
    held = { nc, subscription: nc.subscribe(subject, { callback }) }
  })
  return {
    [Symbol.dispose]: () => {
      clients[Symbol.dispose]()
      if (held !== undefined && !held.nc.isClosed()) held.subscription.unsubscribe()
    },
  }
}
