// One etcd member, over etcd3's transport: unary reads with deadlines and the raw watch stream.
// Owns: channel options, require-leader metadata, the translation of failures into named ones, and closing everything.
// Refuses: etcd3's Watcher (it loses events on reconnect), etcd3's retries and breakers, every write.
// One client per endpoint: etcd3 picks a random host per call otherwise, and a probe would judge another member.

import { AsyncLocalStorage } from 'node:async_hooks'
import { type IOptions, Etcd3 } from 'etcd3'
import { type Key, keyFromBytes, keyToBytes } from '#protocol/bytes.ts'
import { parseRevision, type Revision } from '#protocol/revision.ts'
import { DeltawatchError, errorMessage } from '#kit/errors.ts'
import type { HeldKey } from '../egress/change.ts'
import { Arrivals } from './arrivals.ts'
import { nameNoAddress } from './tls-by-address.ts'
import { classifyRefusal, type Header, readHeader, readLease } from './message.ts'

/** Keys in [from, to); `to` undefined means to the end of the key space. */
export type KeyRange = { readonly from: Key; readonly to: Key | undefined }

export type EtcdFailureKind =
  | 'compacted'
  | 'future'
  | 'auth'
  | 'denied'
  | 'no-leader'
  | 'unavailable'
  | 'timeout'
  | 'learner'
  /** A response above the limit on what is received. */
  | 'too-large'
  | 'other'

/** A read or a stream that failed; `code` is `DW_ETCD_` and the kind. */
export class EtcdFailure extends DeltawatchError {
  readonly kind: EtcdFailureKind

  constructor(kind: EtcdFailureKind, message: string, options?: ErrorOptions) {
    super(`DW_ETCD_${kind.toUpperCase().replace('-', '_')}`, message, options)
    this.kind = kind
  }
}

export type MemberStatus = {
  readonly header: Header
  readonly version: string
  readonly raftIndex: string
  readonly isLearner: boolean
  readonly alarms: readonly string[]
}

export type Page = {
  readonly header: Header
  readonly items: readonly HeldKey[]
  readonly more: boolean
  readonly count: number
}

export type PageRequest = {
  readonly range: KeyRange
  /** Absent: the newest state, read linearizably. */
  readonly revision?: Revision
  readonly limit: number
  readonly countOnly?: boolean
}

export type WatchRequest = {
  readonly range: KeyRange
  readonly startRevision: Revision
  readonly prevValues: boolean
  /** Large responses come in pieces; otherwise whole, up to the limit on what is received. */
  readonly pieces: boolean
  /** Bytes; a larger response ends the watch as `too-large`, before it is held. */
  readonly maxResponseBytes: number
}

export interface WatchSink {
  /** One decoded response, still unchecked. Must not throw. */
  message(raw: unknown): void
  /** The stream is over; called once, never after `close`. */
  closed(failure: EtcdFailure): void
}

export interface RawWatch {
  pause(): void
  resume(): void
  requestProgress(): void
  /** Bytes that have arrived on the watch's own connection, those of unfinished messages included. */
  readonly arrived?: number
  /** Ends the stream and the server's watcher. The sink hears nothing more. */
  close(): void
}

export interface EtcdMember extends Disposable {
  readonly endpoint: string
  status(): Promise<MemberStatus>
  /** A linearizable read inside the range: etcd's head at this moment, answered by a member that has applied it. */
  head(range: KeyRange): Promise<Header>
  page(request: PageRequest): Promise<Page>
  watch(request: WatchRequest, sink: WatchSink): Promise<RawWatch>
}

export type EtcdCredentials = {
  readonly user?: { readonly username: string; readonly password: string }
  /** PEM. `root` absent: the system's roots. */
  readonly tls?: { readonly root?: Uint8Array; readonly key?: Uint8Array; readonly cert?: Uint8Array }
}

export type EtcdMemberOptions = {
  readonly endpoint: string
  readonly credentials: EtcdCredentials
  readonly keepaliveMs: number
  readonly keepaliveTimeoutMs: number
  readonly callTimeoutMs: number
  /** Wall time in ms: grpc's deadlines are dates. */
  readonly now: () => number
}

export type ConnectEtcd = (options: EtcdMemberOptions) => EtcdMember

/** What grpc-js offers at run time and etcd3's interface does not list. */
type Duplex = {
  on(event: 'data', fn: (raw: unknown) => void): void
  on(event: 'error', fn: (error: Error) => void): void
  on(event: 'end', fn: () => void): void
  write(request: object): unknown
  pause(): void
  resume(): void
  cancel(): void
}
type CallOptions = NonNullable<Parameters<Etcd3['watchClient']['watch']>[0]>
type Interceptor = NonNullable<CallOptions['interceptors']>[number]
type InterceptingCall = ReturnType<Interceptor>

/** etcd3's own retries and breakers would answer for members that were never asked. Async, so that a throw becomes a rejection. */
const NO_POLICY = { execute: async (fn: (context: object) => unknown) => fn({}) }

/** etcd3 asks again with a fresh token for as long as every token is called invalid, without a pause. Once is enough. */
class AskedTwice {
  readonly #context = new AsyncLocalStorage<{ left: number }>()
  readonly #endpoint: string

  constructor(endpoint: string) {
    this.#endpoint = endpoint
  }

  /** One call of etcd3's, however often it sends it. */
  run<T>(call: () => Promise<T>): Promise<T> {
    return this.#context.run({ left: 2 }, call)
  }

  readonly execute = async (fn: (context: object) => unknown): Promise<unknown> => {
    const asked = this.#context.getStore()
    if (asked !== undefined && asked.left-- === 0)
      throw new EtcdFailure('auth', `${this.#endpoint} refused a fresh token as well`)
    return fn({})
  }
}

/** The token's metadata object is cached and shared by etcd3, so a clone is marked. */
const requireLeader: Interceptor = (options, nextCall) => {
  const call = nextCall(options)
  const start = call.start.bind(call)
  call.start = (metadata, listener) => {
    const marked = metadata.clone()
    marked.set('hasleader', 'true')
    start(marked, listener)
  }
  // The type asks for a class of grpc-js; the call that it would wrap is what is needed of it.
  return call as InterceptingCall
}

export const connectEtcd: ConnectEtcd = (options) => {
  const asking = new AskedTwice(options.endpoint)
  const client = openClient(options, UNLIMITED, asking)
  const watches = new Set<RawWatch>()
  let closed = false
  const call = async <T>(what: string, run: () => Promise<T>): Promise<T> => {
    try {
      return await asking.run(run)
    } catch (cause) {
      throw toFailure(`${what} at ${options.endpoint}`, cause)
    }
  }
  return {
    endpoint: options.endpoint,
    status: () =>
      call('status', async () => {
        const raw = await client.maintenance.status()
        return {
          header: headerOf(raw.header, options.endpoint),
          version: raw.version,
          raftIndex: raw.raftIndex,
          isLearner: raw.isLearner,
          alarms: Array.isArray(raw.errors) ? raw.errors.map(String) : [],
        }
      }),
    head: (range) =>
      call('linearizable read', async () => {
        const raw = await client.kv.range({ key: firstKey(range), keys_only: true })
        return headerOf(raw.header, options.endpoint)
      }),
    page: (request) =>
      call('range read', async () => {
        const raw = await client.kv.range({
          key: firstKey(request.range),
          range_end: rangeEnd(request.range),
          limit: String(request.limit),
          ...(request.revision === undefined ? {} : { revision: request.revision }),
          ...(request.countOnly === true ? { count_only: true } : {}),
        })
        const items: HeldKey[] = []
        for (const kv of raw.kvs) items.push(readHeld(kv, options.endpoint))
        return { header: headerOf(raw.header, options.endpoint), items, more: raw.more, count: Number(raw.count) }
      }),
    watch: (request, sink) =>
      call('watch', async () => {
        const watch = await openWatch(options, request, sink, () => watches.delete(watch))
        watches.add(watch)
        return watch
      }),
    [Symbol.dispose]: () => {
      if (closed) return
      closed = true
      for (const watch of [...watches]) watch.close()
      client.close()
    },
  }
}

const UNLIMITED = -1
/** Node's timers may fire a millisecond early; pings a hair below the server's minimum add up to a GOAWAY. */
const PING_MARGIN_MS = 250

function openClient(options: EtcdMemberOptions, maxResponseBytes: number, policy: object = NO_POLICY): Etcd3 {
  const client = new Etcd3(clientOptions(options, maxResponseBytes, policy))
  nameNoAddress(client, options.endpoint)
  return client
}

function clientOptions(options: EtcdMemberOptions, maxResponseBytes: number, global: object): IOptions {
  const { user, tls } = options.credentials
  const secure = options.endpoint.startsWith('https:')
  return {
    hosts: options.endpoint,
    ...(user === undefined ? {} : { auth: user }),
    // etcd3 types the root as required; grpc-js takes null for the system's own roots.
    ...(secure && tls !== undefined
      ? {
          credentials: {
            rootCertificate: (tls.root === undefined ? null : Buffer.from(tls.root)) as Buffer,
            ...(tls.key === undefined ? {} : { privateKey: Buffer.from(tls.key) }),
            ...(tls.cert === undefined ? {} : { certChain: Buffer.from(tls.cert) }),
          },
        }
      : {}),
    grpcOptions: {
      'grpc.max_receive_message_length': maxResponseBytes,
      'grpc.keepalive_time_ms': options.keepaliveMs + PING_MARGIN_MS,
      'grpc.keepalive_timeout_ms': options.keepaliveTimeoutMs,
      // etcd takes every ping of a connection without a call for abuse, and closes it at the third. Such a connection needs
      // none: the next call has a deadline, and begins with the ping that is overdue.
      'grpc.keepalive_permit_without_calls': 0,
      'grpc.enable_retries': 0,
      'grpc.enable_http_proxy': 0,
      // A paused watch must not hold up reads, nor a new certificate meet an old connection: no sharing of connections.
      'grpc.use_local_subchannel_pool': 1,
      'grpc-node.flow_control_window': 1024 * 1024,
    },
    defaultCallOptions: (context) => (context.isStream ? {} : { deadline: options.now() + options.callTimeoutMs }),
    faultHandling: { host: () => NO_POLICY, global } as unknown as NonNullable<IOptions['faultHandling']>,
  }
}

/** On a connection of its own, so that what arrives there is the watch's, and only its responses are limited. */
async function openWatch(
  options: EtcdMemberOptions,
  request: WatchRequest,
  sink: WatchSink,
  onClosed: () => void,
): Promise<RawWatch> {
  const { endpoint } = options
  await using undo = new AsyncDisposableStack()
  const client = openClient(options, request.maxResponseBytes)
  undo.defer(() => client.close())
  const arrivals = undo.use(new Arrivals())
  const opened = await arrivals.during(() => client.watchClient.watch({ interceptors: [requireLeader] }))
  const stream = opened as unknown as Duplex
  let over = false
  const finish = (failure: EtcdFailure): void => {
    if (over) return
    over = true
    sink.closed(failure)
  }
  stream.on('data', (raw) => {
    if (!over) sink.message(raw)
  })
  // Stays attached for good: a cancelled stream still reports its own cancellation.
  stream.on('error', (error) => finish(toFailure(`watch at ${endpoint}`, error)))
  stream.on('end', () => finish(new EtcdFailure('unavailable', `watch at ${endpoint}: the server ended the stream`)))
  stream.write({
    create_request: {
      key: firstKey(request.range),
      range_end: rangeEnd(request.range),
      start_revision: request.startRevision,
      progress_notify: true,
      fragment: request.pieces,
      prev_kv: request.prevValues,
    },
  })
  const owned = undo.move()
  return {
    pause: () => stream.pause(),
    resume: () => stream.resume(),
    requestProgress: () => {
      if (!over) stream.write({ progress_request: {} })
    },
    get arrived() {
      return arrivals.bytes
    },
    close: () => {
      over = true
      stream.cancel()
      void owned.disposeAsync()
      onClosed()
    },
  }
}

const ZERO_BYTE = Buffer.from([0])
/** etcd spells "from the first key" and "to the last key" as one zero byte. */
const firstKey = (range: KeyRange): Buffer => (range.from === '' ? ZERO_BYTE : Buffer.from(keyToBytes(range.from)))
const rangeEnd = (range: KeyRange): Buffer => (range.to === undefined ? ZERO_BYTE : Buffer.from(keyToBytes(range.to)))

function headerOf(raw: unknown, endpoint: string): Header {
  const header = readHeader(raw)
  if (header === undefined) throw new EtcdFailure('other', `${endpoint} answered without a valid header`)
  return header
}

type RawKeyValue = Awaited<ReturnType<Etcd3['kv']['range']>>['kvs'][number]

function readHeld(kv: RawKeyValue, endpoint: string): HeldKey {
  const modRevision = parseRevision(kv.mod_revision)
  const createRevision = parseRevision(kv.create_revision)
  const lease = readLease(kv.lease)
  if (modRevision === undefined || createRevision === undefined || lease === undefined) {
    throw new EtcdFailure('other', `${endpoint} answered a range read with an impossible key-value`)
  }
  return { key: keyFromBytes(kv.key), value: kv.value, modRevision, createRevision, version: kv.version, lease }
}

/** grpc status codes, by number. */
const CANCELLED = 1
const DEADLINE = 4
const PERMISSION_DENIED = 7
const UNAUTHENTICATED = 16
const UNAVAILABLE = 14

export function toFailure(what: string, cause: unknown): EtcdFailure {
  if (cause instanceof EtcdFailure) return cause
  const text = errorMessage(cause)
  return new EtcdFailure(failureKind(cause, text), `${what}: ${text}`, { cause })
}

function failureKind(cause: unknown, text: string): EtcdFailureKind {
  if (/required revision has been compacted/.test(text)) return 'compacted'
  if (/required revision is a future revision/.test(text)) return 'future'
  if (/not supported for learner/.test(text)) return 'learner'
  if (/larger than max/.test(text)) return 'too-large'
  const refusal = classifyRefusal(text)
  if (refusal.kind !== 'unknown') return refusal.kind
  // etcd3 replaces errors of unary calls by classes of its own and drops the code.
  const name = cause instanceof Error ? cause.constructor.name : ''
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  if (code === UNAUTHENTICATED || name === 'GRPCUnauthenticatedError') return 'auth'
  if (name === 'EtcdAuthenticationFailedError' || code === PERMISSION_DENIED) return 'denied'
  if (code === DEADLINE || name === 'GRPCDeadlineExceededError') return 'timeout'
  if (code === UNAVAILABLE || code === CANCELLED || /GRPC(Unavailable|Cancelled|Internal)Error/.test(name)) {
    return 'unavailable'
  }
  return 'other'
}
