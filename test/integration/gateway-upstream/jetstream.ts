// A real nats-server, a writer of log entries on it, and sources following them.
// Owns: set-up and the few waits the upstream tests share. Refuses: assertions.

import { jetstream, jetstreamManager, type JetStreamClient, type JetStreamManager } from '@nats-io/jetstream'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { systemClock } from '#kit/clock.ts'
import { createLogger, silentLogger } from '#kit/logger.ts'
import { createMetrics, type Metrics } from '#kit/metrics.ts'
import { type NatsLink, openNats } from '#kit/nats.ts'
import { systemRandom } from '#kit/random.ts'
import type { Mark } from '#protocol/log/entry.ts'
import { streamConfig } from '#protocol/log/stream.ts'
import { type ClusterId, logSubject, markSubject, type Region, streamName } from '#protocol/subjects.ts'
import type { ClusterSource, SourceEvent } from '#gateway/delivery/ports.ts'
import { LogSources, type SourcesOptions } from '#gateway/upstream/sources.ts'
import { type Nats, startNats } from '#test/support/nats.ts'
import { LogWriter, type LogWriterOptions } from '../../unit/gateway-upstream/log-writer.ts'

export const cluster = (id: string): ClusterId => id as ClusterId
export const region = (id: string): Region => id as unknown as Region

/** A writer whose entries are published in order; `flush` waits until the hub has stored them. */
export class HubWriter extends LogWriter {
  readonly #js: JetStreamClient
  readonly #cluster: ClusterId
  readonly #queue: { readonly data: Uint8Array; readonly seq: number }[]

  constructor(js: JetStreamClient, id: ClusterId, options: Omit<LogWriterOptions, 'sink'> = {}) {
    const queue: { data: Uint8Array; seq: number }[] = []
    super({ ...options, sink: (seq, data) => queue.push({ seq, data }) })
    this.#js = js
    this.#cluster = id
    this.#queue = queue
    this.nowMs = () => Date.now()
  }

  /** Bytes of any kind at the next place, as no agent would write them. */
  raw(data: Uint8Array): void {
    this.seq++
    this.#queue.push({ seq: this.seq, data })
  }

  async flush(): Promise<void> {
    const batch = this.#queue.splice(0)
    for (const { data, seq } of batch) {
      const ack = await this.#js.publish(logSubject(this.#cluster), data, { expect: { lastSequence: seq - 1 } })
      if (ack.seq !== seq) throw new Error(`stored at ${ack.seq}, expected ${seq}`)
    }
  }
}

export interface Hub extends AsyncDisposable {
  readonly nats: Nats
  readonly nc: NatsConnection
  readonly js: JetStreamClient
  readonly jsm: JetStreamManager
  createStream(id: ClusterId, maxBytes?: number): Promise<void>
  writer(id: ClusterId, options?: Omit<LogWriterOptions, 'sink'>): HubWriter
  mark(id: ClusterId, mark: Mark): Promise<void>
  sources(options?: Partial<SourcesOptions>): Promise<Followed>
}
export interface Followed extends AsyncDisposable {
  readonly link: NatsLink
  readonly sources: LogSources
  readonly metrics: Metrics
}

export async function startHub(options: Parameters<typeof startNats>[0] = {}): Promise<Hub> {
  await using stack = new AsyncDisposableStack()
  const nats = stack.use(await startNats(options))
  const nc = stack.adopt(
    await connect({ servers: nats.directUrl, maxReconnectAttempts: -1, reconnectTimeWait: 50 }),
    (nc) => nc.close(),
  )
  const js = jetstream(nc)
  const jsm = await jetstreamManager(nc)
  const owned = stack.move()
  return {
    nats,
    nc,
    js,
    jsm,
    createStream: async (id, maxBytes = 64 * 1024 * 1024) => {
      const config = streamConfig({ cluster: id, maxBytes, maxMessageBytes: 1024 * 1024, replicas: 1 })
      await jsm.streams.add(config as unknown as Parameters<typeof jsm.streams.add>[0])
    },
    writer: (id, writerOptions) => new HubWriter(js, id, writerOptions),
    mark: async (id, mark) => {
      nc.publish(markSubject(id), JSON.stringify(mark))
      await nc.flush()
    },
    sources: (sourceOptions) => follow(nats.clientUrl, sourceOptions),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

const loud = process.env.DELTAWATCH_TEST_LOG === '1'

async function follow(servers: string, options: Partial<SourcesOptions> = {}): Promise<Followed> {
  await using stack = new AsyncDisposableStack()
  const logger = loud ? createLogger({ service: 'test', level: 'debug', format: 'pretty' }) : silentLogger()
  const clock = systemClock()
  const random = systemRandom()
  const metrics = createMetrics()
  const inboxPrefix = '_INBOX_gw'
  const backoff = { baseMs: 20, capMs: 200 }
  const link = stack.use(
    openNats({ servers: [servers], name: 'gateway', inboxPrefix, backoff, pingIntervalMs: 1_000 }, { logger }),
  )
  const times = { identityMs: 250, aheadMs: 1_500, tickMs: 100, backoff: { baseMs: 20, capMs: 200 }, blockedMs: 500 }
  const sources = stack.use(new LogSources({ link, inboxPrefix, clock, random, logger, metrics, times, ...options }))
  const owned = stack.move()
  return { link, sources, metrics, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

export const dropStream = (hub: Hub, id: ClusterId): Promise<boolean> => hub.jsm.streams.delete(streamName(id))

/** Resolves when `test` holds, looking after every event of the source; rejects with its status after the time. */
export async function until(
  source: ClusterSource,
  test: () => boolean,
  what: string,
  timeoutMs = 10_000,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const look = (): void => {
    if (test()) resolve()
  }
  using _listening = source.listen(look)
  const poll = setInterval(look, 20)
  const timer = setTimeout(
    () => reject(new Error(`${what}: not within ${timeoutMs} ms; ${JSON.stringify(source.status)}`)),
    timeoutMs,
  )
  look()
  try {
    await promise
  } finally {
    clearInterval(poll)
    clearTimeout(timer)
  }
}

/** Everything a source says from now on. */
export function record(source: ClusterSource): Disposable & { readonly events: SourceEvent[] } {
  const events: SourceEvent[] = []
  const listening = source.listen((event) => events.push(event))
  return { events, [Symbol.dispose]: () => listening[Symbol.dispose]() }
}
