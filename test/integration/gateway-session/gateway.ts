// A gateway's subscriber side on a real loopback port, over in-memory clusters, and clients that talk to it.
// Owns: starting both, and waiting for frames without sleeping. Refuses: judging; each test does.

import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { connect, type Socket } from 'node:net'
import { type ClientOptions, WebSocket } from 'ws'
import type { ServerFrame, WatchFrame } from '#protocol/frames.ts'
import { SUBPROTOCOL } from '#protocol/version.ts'
import { systemClock } from '#kit/clock.ts'
import { createHealth } from '#kit/http/health.ts'
import { silentLogger } from '#kit/logger.ts'
import { createMetrics } from '#kit/metrics.ts'
import { systemRandom } from '#kit/random.ts'
import { devAuthenticator } from '#gateway/auth/dev.ts'
import type { Authenticator } from '#gateway/auth/principal.ts'
import type { PolicySource, PolicyView } from '#gateway/delivery/policy-port.ts'
import type { Sources } from '#gateway/delivery/ports.ts'
import type { OriginRules } from '#gateway/session/origin.ts'
import { DEFAULT_DELIVERY, type Front, openFront } from '#gateway/session/front.ts'
import { DEFAULT_LIMITS, type SessionLimits } from '#gateway/session/limits.ts'
import { policyOf, type Rules } from '../../unit/gateway-session/rig.ts'

export type GatewayOptions = {
  readonly sources: Sources
  readonly limits?: Partial<SessionLimits>
  readonly details?: boolean
  readonly rules?: Rules
  readonly authenticator?: Authenticator
  readonly origin?: Partial<OriginRules>
  readonly proxyProtocol?: boolean
}

export class TestPolicy implements PolicySource {
  current: PolicyView
  readonly #listeners = new Set<() => void>()

  constructor(rules: Rules) {
    this.current = policyOf(rules)
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  replace(rules: Rules): void {
    this.current = policyOf(rules)
    for (const listener of this.#listeners) listener()
  }
}

export class TestGateway implements AsyncDisposable {
  readonly front: Front
  readonly policy: TestPolicy
  readonly metrics: ReturnType<typeof createMetrics>
  readonly clients: Client[] = []

  constructor(front: Front, policy: TestPolicy, metrics: ReturnType<typeof createMetrics>) {
    this.front = front
    this.policy = policy
    this.metrics = metrics
  }

  get port(): number {
    return this.front.address.port
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}/v1/watch`
  }

  /** A client that has been welcomed, unless `hello` is false. */
  async client(
    options: ClientOptions & {
      readonly hello?: boolean
      readonly token?: string
      readonly protocol?: string
      readonly path?: string
    } = {},
  ): Promise<Client> {
    const { hello = true, token, protocol = SUBPROTOCOL, path = '', ...rest } = options
    const client = new Client(new WebSocket(this.url + path, [protocol], { perMessageDeflate: false, ...rest }))
    this.clients.push(client)
    await client.opened
    if (hello) {
      client.send({ type: 'hello', client: 'test', versions: [1], ...(token === undefined ? {} : { token }) })
      await client.next('welcome')
    }
    return client
  }

  /** The sum of a metric's series whose labels contain all of `labels`. */
  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const text = await this.metrics.expose()
    let sum = 0
    for (const line of text.split('\n')) {
      const match = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line)
      if (match?.[1] !== name) continue
      if (Object.entries(labels).every(([key, value]) => match[2]?.includes(`${key}="${value}"`)))
        sum += Number(match[3])
    }
    return sum
  }

  async get(path: string, headers: Readonly<Record<string, string>> = {}, method = 'GET'): Promise<HttpAnswer> {
    return fetchRaw(this.port, path, headers, method)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.clients) client.ws.terminate()
    await this.front[Symbol.asyncDispose]()
  }
}

export async function startGateway(options: GatewayOptions): Promise<TestGateway> {
  const policy = new TestPolicy(options.rules ?? {})
  const metrics = createMetrics()
  const front = await openFront(
    {
      listen: { host: '127.0.0.1', port: 0 },
      limits: { ...DEFAULT_LIMITS, ...options.limits },
      delivery: DEFAULT_DELIVERY,
      origin: { allowedOrigins: [], allowedHosts: [], dev: true, ...options.origin },
      drainMs: 50,
      details: options.details ?? true,
      proxyProtocol: options.proxyProtocol ?? false,
    },
    {
      sources: options.sources,
      policy,
      authenticator: options.authenticator ?? devAuthenticator('sz'),
      clock: systemClock(),
      random: systemRandom(),
      logger: silentLogger(),
      metrics,
      health: createHealth(),
    },
  )
  return new TestGateway(front, policy, metrics)
}

type FrameOf<T extends ServerFrame['type']> = Extract<ServerFrame, { type: T }>
const PATIENCE_MS = 5_000

export class Client {
  readonly ws: WebSocket
  readonly opened: Promise<void>
  /** Resolves with code and reason. */
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>
  /** Frames that nobody has waited for yet. */
  readonly frames: ServerFrame[] = []
  #wanted: (() => void) | undefined
  #over = false

  constructor(ws: WebSocket) {
    this.ws = ws
    this.opened = once(ws, 'open').then(() => undefined)
    this.closed = new Promise((resolve) => {
      ws.on('close', (code, reason) => {
        this.#over = true
        resolve({ code, reason: reason.toString() })
        this.#wanted?.()
      })
    })
    ws.on('error', () => undefined)
    ws.on('message', (data: Buffer) => {
      this.frames.push(JSON.parse(data.toString()) as ServerFrame)
      this.#wanted?.()
    })
  }

  send(frame: object | string): void {
    this.ws.send(typeof frame === 'string' ? frame : JSON.stringify(frame))
  }

  watch(watch: Partial<WatchFrame> & { readonly id: string }): void {
    this.send({ type: 'watch', start: 'snapshot', ...watch })
  }

  /** The next frame of a type (and matching); frames before it that are not wanted are dropped. */
  async next<T extends ServerFrame['type']>(
    type: T,
    where: (frame: FrameOf<T>) => boolean = () => true,
  ): Promise<FrameOf<T>> {
    const until = Date.now() + PATIENCE_MS
    for (;;) {
      for (let frame = this.frames.shift(); frame !== undefined; frame = this.frames.shift()) {
        if (frame.type === type && where(frame as FrameOf<T>)) return frame as FrameOf<T>
      }
      if (this.#over) throw new Error(`closed while waiting for ${type}`)
      const left = until - Date.now()
      if (left <= 0) throw new Error(`no ${type} within ${PATIENCE_MS} ms`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        this.#wanted = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  /** The next frame of any type. */
  async any(): Promise<ServerFrame> {
    const until = Date.now() + PATIENCE_MS
    for (;;) {
      const frame = this.frames.shift()
      if (frame !== undefined) return frame
      if (this.#over) throw new Error('closed while waiting for a frame')
      const left = until - Date.now()
      if (left <= 0) throw new Error(`no frame within ${PATIENCE_MS} ms`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        this.#wanted = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  /** Watches and waits for the end of its snapshot on `cluster`. */
  async snapshot(
    watch: Partial<WatchFrame> & { readonly id: string },
    cluster = 'sz-edge-1',
  ): Promise<{ readonly ch: number; readonly items: readonly object[]; readonly revision: string }> {
    this.watch(watch)
    const { ch } = await this.next('watching')
    const items: object[] = []
    for (;;) {
      const frame = await this.next('snapshot', (f) => f.cluster === cluster)
      if (frame.phase === 'items') items.push(...frame.items)
      if (frame.phase === 'end') return { ch, items, revision: frame.revision }
    }
  }
}

export type HttpAnswer = {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

export function fetchRaw(
  port: number,
  path: string,
  headers: Readonly<Record<string, string>>,
  method: string,
): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: '127.0.0.1', port, path, method, headers, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        body += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }))
    })
    request.on('error', reject)
    request.end()
  })
}

/** A bare socket with the upgrade done by hand, for peers that no library would be. */
export async function rawUpgrade(port: number, headers = ''): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true })
  socket.on('error', () => undefined)
  socket.write(
    `GET /v1/watch HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n` +
      `Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: ${SUBPROTOCOL}\r\n${headers}\r\n`,
  )
  const [first] = (await once(socket, 'data')) as [Buffer]
  if (!first.toString('latin1').startsWith('HTTP/1.1 101')) throw new Error(first.toString('latin1').slice(0, 80))
  return socket
}

/** A client frame with a zero mask. */
export function clientFrame(
  opcode: number,
  payload: Buffer,
  { fin = true, announce }: { readonly fin?: boolean; readonly announce?: number } = {},
): Buffer {
  const length = announce ?? payload.length
  const first = (fin ? 0x80 : 0) | opcode
  const head =
    length < 126
      ? Buffer.from([first, 0x80 | length])
      : length < 65_536
        ? Buffer.from([first, 0xfe, length >> 8, length & 255])
        : Buffer.concat([
            Buffer.from([first, 0xff, 0, 0, 0, 0]),
            Buffer.from([(length >>> 24) & 255, (length >>> 16) & 255, (length >>> 8) & 255, length & 255]),
          ])
  return Buffer.concat([head, Buffer.alloc(4), payload])
}
