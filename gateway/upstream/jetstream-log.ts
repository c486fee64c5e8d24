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
import type { NatsLink } from '#kit/nats.ts'
import { type LogStreamConfig, streamDifferences } from '#protocol/log/stream.ts'
import { type ClusterId, markSubject, streamName } from '#protocol/subjects.ts'
import type { LogStream, ReadingResult, Sink, StoredMessage, StreamFacts } from './log-stream.ts'
import { DEFAULT_PULL_BOUNDS, type PullBounds, PullReading, plainView } from './pull-reading.ts'

export class LogError extends DeltawatchError {}

export type JetStreamLogOptions = {
  readonly link: NatsLink
  readonly inboxPrefix: string
  readonly cluster: ClusterId
  readonly clock: Clock
  /** How to create the stream when it is missing; undefined: it is the operator's matter. */
  readonly create: LogStreamConfig | undefined
  readonly bounds?: PullBounds
}

const STREAM_NOT_FOUND = 10059
/** An abandoned consumer disappears after this long. */
const INACTIVE_MS = 30_000

export function jetStreamLog(options: JetStreamLogOptions): LogStream {
  const { link, cluster, clock } = options
  const stream = streamName(cluster)
  const bounds = options.bounds ?? DEFAULT_PULL_BOUNDS
  let managed: { readonly nc: NatsConnection; readonly manager: Promise<JetStreamManager> } | undefined

  const connection = (): NatsConnection => {
    const nc = link.connection()
    if (nc === undefined || link.state().kind !== 'connected') {
      throw new LogError('DW_LOG_DISCONNECTED', `the hub is not connected; the log of ${cluster} waits for it`)
    }
    return nc
  }
  const api = (nc: NatsConnection): Promise<JetStreamManager> => {
    // One manager per client object: a replaced connection needs a new one.
    if (managed?.nc !== nc) managed = { nc, manager: jetstreamManager(nc, { checkAPI: false }) }
    return managed.manager
  }
  const call = async <T>(what: string, run: (jsm: JetStreamManager) => Promise<T>): Promise<T> => {
    try {
      return await run(await api(connection()))
    } catch (cause) {
      if (cause instanceof DeltawatchError || isCode(cause, STREAM_NOT_FOUND)) throw cause
      throw new LogError('DW_LOG_API', `${what} on ${stream} failed: ${errorMessage(cause)}`, { cause })
    }
  }

  const openConsumer = async (fromSeq: number): Promise<{ nc: NatsConnection; name: string }> => {
    const nc = connection()
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
    const { name } = await call('creating a consumer', (jsm) => jsm.consumers.add(stream, config))
    return { nc, name }
  }
  const dropConsumer = (name: string): void => {
    // Best effort: an orphan disappears by itself.
    void call('deleting a consumer', (jsm) => jsm.consumers.delete(stream, name)).catch(() => undefined)
  }

  const follow = async (fromSeq: number, sink: Sink, signal: AbortSignal): Promise<ReadingResult> => {
    signal.throwIfAborted()
    const { nc, name } = await openConsumer(fromSeq)
    if (signal.aborted) {
      dropConsumer(name)
      return { end: 'stopped' }
    }
    const { inboxPrefix } = options
    const reading = new PullReading({ nc, inboxPrefix, stream, consumer: name, sink, bounds, clock })
    const stop = (): void => reading.end({ end: 'stopped' })
    signal.addEventListener('abort', stop, { once: true })
    const over = new AbortController()
    void watchLink(link, over.signal, () => reading.end({ end: 'disconnected' }))
    try {
      return await reading.done
    } finally {
      over.abort()
      signal.removeEventListener('abort', stop)
      if (link.state().kind === 'connected') dropConsumer(name)
    }
  }

  async function* batches(fromSeq: number, signal: AbortSignal): AsyncGenerator<readonly StoredMessage[]> {
    signal.throwIfAborted()
    const { nc, name } = await openConsumer(fromSeq)
    try {
      for (let delivered = 0; ; ) {
        const batch: StoredMessage[] = []
        let pending = 0
        const sink: Sink = (message) => {
          batch.push({ ...message, data: message.data.slice() })
          pending = message.pending
          return signal.aborted
        }
        const { inboxPrefix } = options
        const once = { delivered }
        const reading = new PullReading({ nc, inboxPrefix, stream, consumer: name, sink, bounds, clock, once })
        const { end, error } = await reading.done
        delivered = reading.delivered
        signal.throwIfAborted()
        if (batch.length > 0) yield batch
        if (end !== 'stopped') throw new LogError('DW_LOG_READ', `reading ${stream} ended: ${end}`, { cause: error })
        if (batch.length === 0 || pending === 0) return
      }
    } finally {
      if (link.state().kind === 'connected') dropConsumer(name)
    }
  }

  const readFacts = async (signal: AbortSignal): Promise<StreamFacts | undefined> => {
    signal.throwIfAborted()
    try {
      const { created, state, config } = await call('reading the state', (jsm) => jsm.streams.info(stream))
      return {
        created,
        firstSeq: state.first_seq,
        lastSeq: state.last_seq,
        bytes: state.bytes,
        maxBytes: config.max_bytes,
      }
    } catch (error) {
      if (isCode(error, STREAM_NOT_FOUND)) return undefined
      throw error
    }
  }

  return {
    reachable: async (signal) => void (await link.connected(signal)),
    facts: readFacts,
    async get(seq, signal) {
      signal.throwIfAborted()
      const found = await call('reading one entry', (jsm) => jsm.streams.getMessage(stream, { seq }))
      return found === null ? undefined : { seq: found.seq, data: plainView(found.data) }
    },
    follow,
    batches,
    marks: (listener) => markSubscription(link, markSubject(cluster), listener),
    async create(signal) {
      signal.throwIfAborted()
      const config = options.create
      if (config === undefined) return false
      // The API takes the very names and values that protocol/log/stream.ts lists.
      const wanted = config as unknown as StreamConfig & { name: string }
      const made = await call('creating the stream', (jsm) => jsm.streams.add(wanted))
      const differences = streamDifferences(config, { ...made.config })
      if (differences.length > 0) {
        throw new LogError('DW_LOG_CONFIG', `${stream} differs in ${differences.join(', ')}; run deltawatch hub apply`)
      }
      return true
    },
  }
}

const isCode = (error: unknown, code: number): boolean => error instanceof JetStreamApiError && error.code === code

const watchLink = async (link: NatsLink, signal: AbortSignal, onDown: () => void): Promise<void> => {
  for await (const state of link.status(signal)) if (state.kind !== 'connected') return onDown()
}

/** A subscription that is made again whenever the client object was replaced. */
const markSubscription = (link: NatsLink, subject: string, listener: (data: Uint8Array) => void): Disposable => {
  const over = new AbortController()
  let held: { readonly nc: NatsConnection; readonly subscription: Subscription } | undefined
  const run = async (): Promise<void> => {
    for await (const state of link.status(over.signal)) {
      const nc = link.connection()
      if (state.kind !== 'connected' || nc === undefined || nc === held?.nc) continue
      const callback = (error: Error | null, message: { readonly data: Uint8Array }): void => {
        if (error === null) listener(message.data)
      }
      held = { nc, subscription: nc.subscribe(subject, { callback }) }
    }
  }
  void run()
  return {
    [Symbol.dispose]: () => {
      over.abort()
      if (held !== undefined && !held.nc.isClosed()) held.subscription.unsubscribe()
    },
  }
}
