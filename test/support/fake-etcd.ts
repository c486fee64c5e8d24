// A gRPC server that speaks etcd's protocol and does on demand what a real etcd will not.
// Owns: an honest Status, Range and Watch over a small store, and the places where a test takes over: each watch stream, the
// answers of reads, and their very bytes. Behind a TCP proxy, so that connections can be counted and cut in mid-message.
// Refuses: writes, leases, auth: the agent uses none of them against the watched etcd.

import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import {
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServiceDefinition,
  type sendUnaryData,
  type ServerUnaryCall,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { FakeStore, type FakeRevision } from './fake-etcd-store.ts'
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts'

export type FakeIdentity = {
  readonly clusterId: string
  readonly memberId: string
  readonly raftTerm: string
  readonly version: string
}
/** A response as proto-loader takes it, or its bytes on the wire. */
export type Reply = object | Uint8Array

export interface FakeWatch {
  /** What the client asked for, as it came. */
  readonly startRevision: string
  readonly prevValues: boolean
  /** Number of this watch since the server started. */
  readonly n: number
  readonly closed: boolean
  header(revision?: bigint): object
  /** A watch response: these fields over a valid header and watch id. */
  say(fields: object): void
  /** Bytes of one gRPC message. */
  bytes(message: Uint8Array): void
  created(fields?: object): void
  events(revisions: readonly FakeRevision[], fields?: object): void
  /** Everything an honest server would do from here on; the reply to the creation included. */
  honest(): void
  /** An orderly end of the stream. */
  end(): void
  /** Ends it with a gRPC status. */
  fail(code: number, message: string): void
}

export type FakeScript = {
  /** Takes over a watch; default: {@link FakeWatch.honest}. */
  watch?: (watch: FakeWatch) => void
  /** Asked for progress on a watch it took over; default: silence there, the head on honest ones. */
  progress?: (watch: FakeWatch) => void
  /** Replaces the honest answer of a read. */
  status?: (honest: object) => Reply
  range?: (honest: object) => Reply
}

export interface FakeEtcd extends AsyncDisposable {
  readonly url: string
  readonly store: FakeStore
  readonly proxy: TcpProxy
  readonly script: FakeScript
  identity: FakeIdentity
  readonly watches: readonly FakeWatch[]
  /** Connections ever accepted. */
  readonly connections: number
}

const protos = join(dirname(createRequire(import.meta.url).resolve('etcd3/package.json')), 'proto')
const definitions = loadSync(join(protos, 'rpc.proto'), {
  keepCase: true,
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
  includeDirs: [protos],
})

/** Replies that are bytes already travel as they are. */
function service(name: string): ServiceDefinition {
  const definition = definitions[`etcdserverpb.${name}`] as ServiceDefinition
  const loosened = Object.entries(definition).map(([method, one]: [string, MethodDefinition<object, object>]) => {
    const { responseSerialize: honest } = one
    const responseSerialize = (reply: Reply): Buffer =>
      reply instanceof Uint8Array ? Buffer.from(reply) : honest(reply)
    return [method, { ...one, responseSerialize }]
  })
  return Object.fromEntries(loosened) as ServiceDefinition
}

type WatchCall = ServerDuplexStream<WatchAsk, Reply>
type WatchAsk = {
  readonly create_request?: { readonly start_revision: string; readonly prev_kv: boolean } | null
  readonly progress_request?: object | null
}
type RangeAsk = {
  readonly key: Buffer
  readonly range_end: Buffer
  readonly revision: string
  readonly limit: string
  readonly count_only: boolean
  readonly keys_only: boolean
}

export async function startFakeEtcd(options: { readonly before?: bigint } = {}): Promise<FakeEtcd> {
  const store = new FakeStore(options.before ?? 1n)
  const script: FakeScript = {}
  const watches: FakeWatch[] = []
  const fake = {
    identity: { clusterId: '14841639068965178418', memberId: '10276657743932975437', raftTerm: '2', version: '3.6.4' },
  }
  const header = (revision = store.head): object => ({
    cluster_id: fake.identity.clusterId,
    member_id: fake.identity.memberId,
    raft_term: fake.identity.raftTerm,
    revision: String(revision),
  })
  const server = new Server({ 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 })
  server.addService(
    service('Maintenance'),
    only({
      Status: unary(
        () => status(),
        (honest) => script.status?.(honest),
      ),
    }),
  )
  server.addService(
    service('KV'),
    only({
      Range: unary(
        (ask: RangeAsk) => range(ask),
        (honest) => script.range?.(honest),
      ),
    }),
  )
  server.addService(service('Watch'), only({ Watch: (call: WatchCall) => watch(call) }))

  const status = (): object => ({
    header: header(),
    version: fake.identity.version,
    dbSize: '1',
    leader: fake.identity.memberId,
    raftIndex: '10',
    raftTerm: fake.identity.raftTerm,
    errors: [],
    isLearner: false,
  })
  const range = (ask: RangeAsk): object => {
    const [from, to] = [ask.key, ask.range_end].map((key) => key.toString('latin1')) as [string, string]
    const within = (key: string): boolean => (to === '' ? key === from : key >= from && (to === '\0' || key < to))
    const at = ask.revision === '0' || ask.revision === '' ? store.head : BigInt(ask.revision)
    const held = [...store.state(at).values()]
      .filter((kv) => within(kv.key.toString('latin1')))
      .sort((a, b) => Buffer.compare(a.key, b.key))
    const limit = Number(ask.limit)
    const page = ask.count_only ? [] : limit > 0 ? held.slice(0, limit) : held
    const kvs = ask.keys_only ? page.map((kv) => ({ ...kv, value: Buffer.alloc(0) })) : page
    return { header: header(), kvs, more: limit > 0 && held.length > limit, count: String(held.length) }
  }
  const watch = (call: WatchCall): void => {
    let current: FakeWatch | undefined
    call.on('error', () => undefined)
    call.on('end', () => call.end())
    call.on('data', (ask: WatchAsk) => {
      if (isThere(ask.create_request)) {
        current = openWatch(call, ask.create_request, { n: watches.length, header, store })
        watches.push(current)
        if (script.watch === undefined) current.honest()
        else script.watch(current)
      } else if (isThere(ask.progress_request) && current !== undefined) {
        if (script.progress !== undefined) script.progress(current)
        else if (script.watch === undefined) current.say({ watch_id: '-1' })
      }
    })
  }

  await using stack = new AsyncDisposableStack()
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    )
  })
  stack.defer(() => server.forceShutdown())
  const proxy = stack.use(await startTcpProxy({ port }))
  const owned = stack.move()
  return {
    url: `http://127.0.0.1:${proxy.port}`,
    store,
    proxy,
    script,
    watches,
    get identity() {
      return fake.identity
    },
    set identity(identity) {
      fake.identity = identity
    },
    get connections() {
      return proxy.stats().accepted
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

const isThere = <T>(field: T | null | undefined): field is T => field !== undefined && field !== null

const only = (methods: object): UntypedServiceImplementation => methods as UntypedServiceImplementation

const unary =
  <Ask>(honest: (ask: Ask) => object, replace: (honest: object) => Reply | undefined) =>
  (call: ServerUnaryCall<Ask, Reply>, reply: sendUnaryData<Reply>): void => {
    const answer = honest(call.request)
    reply(null, replace(answer) ?? answer)
  }

function openWatch(
  call: WatchCall,
  { start_revision: startRevision, prev_kv: prevValues }: { start_revision: string; prev_kv: boolean },
  { n, header, store }: { n: number; header: FakeWatch['header']; store: FakeStore },
): FakeWatch {
  let closed = false
  const publishing: Disposable[] = []
  const close = (): void => {
    closed = true
    for (const one of publishing.splice(0)) one[Symbol.dispose]()
  }
  call.on('cancelled', close)
  call.on('close', close)
  const write = (reply: Reply): void => {
    if (!closed) call.write(reply)
  }
  const say = (fields: object): void => write({ header: header(), watch_id: '0', events: [], ...fields })
  const events = (revisions: readonly FakeRevision[], fields: object = {}): void => {
    const flat = revisions.flatMap((one) => one.events)
    say({ events: flat.map(({ type, kv }) => ({ type, kv })), ...fields })
  }
  return {
    startRevision,
    prevValues,
    n,
    get closed() {
      return closed
    },
    header,
    say,
    bytes: write,
    created: (fields = {}) => say({ created: true, ...fields }),
    events,
    honest: () => {
      say({ created: true })
      const backlog = store.since(BigInt(startRevision))
      if (backlog.length > 0) events(backlog)
      publishing.push(store.onPublish((revision) => events([revision])))
    },
    end: () => {
      close()
      call.end()
    },
    fail: (code, message) => {
      close()
      call.emit('error', { code, details: message })
    },
  }
}
