// A real nats-server, a writer of log entries on it, and sources following them.
// Owns: set-up and the few waits the upstream tests share. Refuses: assertions.

import { jetstream, jetstreamManager, type JetStreamClient, type JetStreamManager } from '@nats-io/jetstream'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { systemClock } from '#kit/clock.ts'
import { createLogger, silentLogger } from '#kit/logger.ts'
import { createMetrics, type Metrics } from '#kit/metrics.ts'
import { type NatsLink, openNats } from '#kit/nats.ts'
import { systemRandom } from '#kit/random.ts'
import type { Key } from '#protocol/bytes.ts'
import { GENESIS, type Mark } from '#protocol/log/entry.ts'
import { streamConfig } from '#protocol/log/stream.ts'
import { type ClusterId, logSubject, markSubject, type Region, streamName } from '#protocol/subjects.ts'
import type { ClusterSource, SourceEvent } from '#gateway/delivery/ports.ts'
import { LogSources, type SourcesOptions } from '#gateway/upstream/sources.ts'
import { type Nats, startNats } from '#test/support/nats.ts'
import { LogWriter, type LogWriterOptions } from '../../unit/gateway-upstream/log-writer.ts'

const ALL = { from: '' as Key, to: undefined }
const show = (key: string, value: Uint8Array, modRevision: string): string =>
  `${key}=${Buffer.from(value).toString('latin1')}@${modRevision}`

/** What the source serves, as `key=value@revision`. */
export const served = (source: ClusterSource): string[] =>
  (source.scan(ALL, undefined, 1_000_000) ?? []).map((entry) => show(entry.key, entry.value, entry.modRevision))
/** What it ought to serve. */
export const truth = (writer: LogWriter): string[] =>
  [...writer.state.values()]
    .toSorted((a, b) => (a.key < b.key ? -1 : 1))
    .map((item) => show(item.key, item.value, item.modRevision))
/** Resolves when the source serves what the writer wrote. */
export const caughtUp = (source: ClusterSource, writer: LogWriter, timeoutMs?: number): Promise<void> =>
  until(
    source,
    () =>
      source.ready &&
      source.status.epoch === writer.epoch &&
      source.status.revision === String(writer.position) &&
      String(served(source)) === String(truth(writer)),
    `caught up with ${writer.position} of ${writer.epoch}`,
    timeoutMs,
  )

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

  /** A new lineage at the end of a log whose position nobody can tell. */
  restartChain(lastSeq: number): void {
    this.#queue.splice(0)
    this.seq = lastSeq
    this.lastId = GENESIS
    this.knownFrom(lastSeq)
  }

  /** Bytes of any kind at the next place, as no agent would write them. */
  raw(data: Uint8Array): void {
    this.seq++
    this.#queue.push({ seq: this.seq, data })
  }

  /** {@link flush}, through elections and reconnects: what was stored is known from the stream alone. */
  async persist(): Promise<void> {
    for (let tries = 0; this.#queue.length > 0; tries++) {
      if (tries > 200) throw new Error('the hub takes nothing')
      try {
        const { state } = await (await this.#js.jetstreamManager(false)).streams.info(streamName(this.#cluster))
        while (this.#queue[0] !== undefined && this.#queue[0].seq <= state.last_seq) this.#queue.shift()
        const next = this.#queue[0]
        if (next === undefined) return
        const expect = { lastSequence: next.seq - 1 }
        await this.#js.publish(logSubject(this.#cluster), next.data, { expect, timeout: 1_000 })
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    }
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
  createStream(id: ClusterId, maxBytes?: number, replicas?: 1 | 3): Promise<void>
  writer(id: ClusterId, options?: Omit<LogWriterOptions, 'sink'>): HubWriter
  mark(id: ClusterId, mark: Mark): Promise<void>
  /** Ends the server, does what is to be done while it is down, and resolves when the writer's connection is back. */
  bounce(how: 'SIGKILL' | 'SIGTERM', meanwhile?: () => Promise<void>): Promise<void>
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
    await connect({
      servers: nats.servers.map((server) => server.directUrl),
      maxReconnectAttempts: -1,
      reconnectTimeWait: 50,
    }),
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
    createStream: async (id, maxBytes = 64 * 1024 * 1024, replicas = 1) => {
      const config = streamConfig({ cluster: id, maxBytes, maxMessageBytes: 1024 * 1024, replicas })
      await jsm.streams.add(config as unknown as Parameters<typeof jsm.streams.add>[0])
    },
    writer: (id, writerOptions) => new HubWriter(js, id, writerOptions),
    mark: async (id, mark) => {
      nc.publish(markSubject(id), JSON.stringify(mark))
      await nc.flush()
    },
    bounce: async (how, meanwhile) => {
      const back = Promise.withResolvers<void>()
      void (async () => {
        for await (const { type } of nc.status()) if (type === 'reconnect') return back.resolve()
      })()
      await nats.kill(how)
      await meanwhile?.()
      await nats.restart()
      await back.promise
    },
    sources: (sourceOptions) => follow(nats.clientUrls, sourceOptions),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

const loud = process.env.DELTAWATCH_TEST_LOG === '1'

async function follow(servers: readonly string[], options: Partial<SourcesOptions> = {}): Promise<Followed> {
  await using stack = new AsyncDisposableStack()
  const logger = loud ? createLogger({ service: 'test', level: 'debug', format: 'pretty' }) : silentLogger()
  const clock = systemClock()
  const random = systemRandom()
  const metrics = createMetrics()
  const inboxPrefix = '_INBOX_gw'
  const backoff = { baseMs: 20, capMs: 200 }
  const link = stack.use(
    openNats({ servers, name: 'gateway', inboxPrefix, backoff, pingIntervalMs: 1_000 }, { logger }),
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
  const listening = source.listen(look)
  const poll = setInterval(look, 20)
  const timer = setTimeout(
    () => reject(new Error(`${what}: not within ${timeoutMs} ms; ${JSON.stringify(source.status)}`)),
    timeoutMs,
  )
  look()
  try {
    await promise
  } finally {
    listening[Symbol.dispose]()
    clearInterval(poll)
    clearTimeout(timer)
  }
}

export interface Recording extends Disposable {
  readonly events: SourceEvent[]
  /** `epoch revision` of everything delivered as a ring revision. */
  readonly delivered: string[]
  readonly resets: string[]
  readonly states: string[]
}

/** Everything a source says from now on. */
export function record(source: ClusterSource): Recording {
  const events: SourceEvent[] = []
  const delivered: string[] = []
  const resets: string[] = []
  const states: string[] = [source.status.state]
  const listening = source.listen((event) => {
    events.push(event)
    if (event.kind === 'status') states.push(source.status.state)
    if (event.kind === 'reset') resets.push(event.reason)
    if (event.kind !== 'revisions') return
    for (let i = event.first; i <= event.last; i++) delivered.push(`${source.at(i)?.epoch} ${source.at(i)?.revision}`)
  })
  return { events, delivered, resets, states, [Symbol.dispose]: () => listening[Symbol.dispose]() }
}

/** `epoch revision` for `from`..`to`. */
export const revisions = (writer: LogWriter, from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, i) => `${writer.epoch} ${from + i}`)
