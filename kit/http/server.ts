// A node:http server around a router, with every limit set.
// Owns: listening, header, request and idle time-outs, size limits, error replies, and a stop that ends keep-alive sockets.
// Does not own: routes, authentication, or upgraded sockets (the upgrade handler's owner closes those).
// Overflow rules: bodies above `maxBodyBytes` get 413; headers above 16 KiB get 431; connections above `maxConnections`
// are closed at once by node:http.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { DeltawatchError, errorCode } from '../errors.ts'
import type { Logger } from '../logger.ts'
import type { HttpReply, HttpRequest, Router } from './router.ts'

export class HttpError extends DeltawatchError {
  readonly status: number

  constructor(status: number, code: string, message: string, options?: ErrorOptions) {
    super(code, message, options)
    this.status = status
  }
}

export interface HttpServerOptions {
  /** Port 0 takes any free port; read it back from `address`. */
  readonly listen: { readonly host: string; readonly port: number }
  readonly router: Router
  readonly logger: Logger
  /** Takes over sockets that ask for an upgrade; without it they are closed. */
  readonly onUpgrade?: (message: IncomingMessage, socket: Duplex, head: Buffer) => void
  /** Sees every connection before HTTP does, for a header that comes first; it calls `serve` or destroys the socket. */
  readonly accept?: (socket: Socket, serve: (socket: Socket) => void) => void
  /** Who the peer is, where that is not who the connection comes from. */
  readonly addressOf?: (socket: Socket) => string
  /** Told the status of every request that was refused before it was one: 400, 408 (too slow) or 431 (headers too large). */
  readonly onBadRequest?: (status: number) => void
  readonly maxBodyBytes?: number
  readonly maxConnections?: number
  readonly headersTimeoutMs?: number
  readonly requestTimeoutMs?: number
  readonly keepAliveTimeoutMs?: number
}

export interface HttpServer extends AsyncDisposable {
  readonly address: { readonly host: string; readonly port: number }
  /** Stops accepting and closes idle sockets; running replies may end. Upgraded sockets are left alone. */
  close(): Promise<void>
}

const DEFAULTS = {
  maxBodyBytes: 64 * 1024,
  maxConnections: 100_000,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  keepAliveTimeoutMs: 30_000,
} as const
const MAX_HEADER_BYTES = 16 * 1024
/** Connections the kernel keeps until they are accepted; it allows no more than net.core.somaxconn. */
const BACKLOG = 4_096

export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const stopping = new AbortController()
  const server = createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: options.headersTimeoutMs ?? DEFAULTS.headersTimeoutMs,
    requestTimeout: options.requestTimeoutMs ?? DEFAULTS.requestTimeoutMs,
    keepAliveTimeout: options.keepAliveTimeoutMs ?? DEFAULTS.keepAliveTimeoutMs,
    connectionsCheckingInterval: 1_000,
    noDelay: true,
  })
  const { accept } = options
  if (accept !== undefined) {
    const serve = server.listeners('connection') as ((socket: Socket) => void)[]
    server.removeAllListeners('connection')
    server.on('connection', (socket: Socket) =>
      accept(socket, (accepted) => {
        for (const listener of serve) listener.call(server, accepted)
      }),
    )
  }
  server.maxConnections = options.maxConnections ?? DEFAULTS.maxConnections
  server.on('request', (message, response) => void answer(options, stopping.signal, message, response))
  const { onBadRequest } = options
  if (onBadRequest !== undefined) {
    server.on('clientError', (error, socket) => refuseBroken(errorCode(error), socket as Socket, onBadRequest))
  }
  server.on('upgrade', (message: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy())
    if (options.onUpgrade === undefined || stopping.signal.aborted) socket.destroy()
    else options.onUpgrade(message, socket, head)
  })

  await listen(server, options.listen)
  server.on('error', (err) => options.logger.error('http server error', { err }))
  const { address, port } = server.address() as AddressInfo
  options.logger.debug('listening', { host: address, port })

  const close = async (): Promise<void> => {
    if (stopping.signal.aborted) return
    stopping.abort()
    // Also ends the sockets that are kept alive and idle.
    await new Promise<void>((resolve) => server.close(() => resolve()))
  }
  return { address: { host: address, port }, close, [Symbol.asyncDispose]: close }
}

const BROKEN: Readonly<Record<string, readonly [number, string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout'],
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large'],
}

/** What node:http answers by itself, and telling of it. */
function refuseBroken(code: string, socket: Socket, tell: (status: number) => void): void {
  if (code === 'ECONNRESET') return void socket.destroy()
  const [status, text] = BROKEN[code] ?? [400, 'Bad Request']
  tell(status)
  // Behind bytes of an answer under way another answer would be read as part of it.
  if (socket.bytesWritten > 0 || !socket.writable) return void socket.destroy()
  socket.write(`HTTP/1.1 ${status} ${text}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`)
  socket.destroySoon()
}

function listen(server: ReturnType<typeof createServer>, at: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      const busy = errorCode(cause) === 'EADDRINUSE'
      const hint = busy ? 'another process uses this port; stop it or choose another port' : errorCode(cause)
      reject(new DeltawatchError('DW_LISTEN', `cannot listen on ${at.host}:${at.port}: ${hint}`, { cause }))
    })
    // Node's 511 overflows when thousands come back at once, and each overflow costs a peer a reset or a second.
    server.listen({ port: at.port, host: at.host, backlog: BACKLOG }, () => {
      server.removeAllListeners('error')
      resolve()
    })
  })
}

async function answer(
  options: HttpServerOptions,
  stopping: AbortSignal,
  message: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  response.on('error', () => gone.abort())
  try {
    const url = parseTarget(message.url ?? '/')
    const match = options.router.match(message.method ?? 'GET', url.pathname)
    const request = toRequest(options, message, url, AbortSignal.any([gone.signal, stopping]))
    switch (match.kind) {
      case 'handler':
        return send(response, stopping, await match.handler({ ...request, params: match.params }))
      case 'raw':
        return await match.handler({ ...request, params: match.params }, response, message)
      case 'wrong-method':
        return send(response, stopping, { status: 405, headers: { allow: match.allow }, body: 'method not allowed\n' })
      case 'not-found':
        return send(response, stopping, { status: 404, body: `nothing at ${url.pathname}\n` })
      default: {
        const unknown: never = match
        return unknown
      }
    }
  } catch (e) {
    fail(options.logger, response, stopping, e)
  }
}

function fail(logger: Logger, response: ServerResponse, stopping: AbortSignal, e: unknown): void {
  if (response.headersSent || response.destroyed) {
    // Too late for a status: cutting the connection is the only honest sign of an incomplete body.
    response.destroy()
    return
  }
  if (e instanceof HttpError) {
    send(response, stopping, { status: e.status, body: `${e.code}: ${e.message}\n`, headers: { connection: 'close' } })
    return
  }
  logger.error('http handler failed', { err: e })
  send(response, stopping, { status: 500, body: `${errorCode(e)}: see the service's log\n` })
}

function send(response: ServerResponse, stopping: AbortSignal, reply: HttpReply): void {
  const body = reply.body ?? ''
  const headers = {
    'content-type': 'text/plain; charset=utf-8',
    'content-length': String(typeof body === 'string' ? Buffer.byteLength(body) : body.byteLength),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    // A kept-alive socket would hold the stop up until its idle time-out.
    ...(stopping.aborted ? { connection: 'close' } : {}),
    ...reply.headers,
  }
  response.writeHead(reply.status, headers).end(body)
}

function parseTarget(target: string): URL {
  try {
    // Only origin-form targets are served; the base merely satisfies the parser, `//host` paths included.
    return new URL(`http://origin${target.startsWith('/') ? target : `/${target}`}`)
  } catch (cause) {
    throw new HttpError(400, 'DW_BAD_TARGET', 'the request target is not a valid path', { cause })
  }
}

function toRequest(options: HttpServerOptions, message: IncomingMessage, url: URL, signal: AbortSignal): HttpRequest {
  return {
    method: message.method ?? 'GET',
    path: url.pathname,
    query: url.searchParams,
    params: {},
    headers: message.headers,
    remoteAddress: options.addressOf?.(message.socket) ?? message.socket.remoteAddress ?? '',
    signal,
    body: () => readBody(message, options.maxBodyBytes ?? DEFAULTS.maxBodyBytes),
  }
}

async function readBody(message: IncomingMessage, limit: number): Promise<Uint8Array> {
  const tooLarge = (): HttpError => new HttpError(413, 'DW_BODY_TOO_LARGE', `the body is larger than ${limit} bytes`)
  if (Number(message.headers['content-length'] ?? 0) > limit) throw tooLarge()
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of message as AsyncIterable<Buffer>) {
    size += chunk.byteLength
    if (size > limit) throw tooLarge()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, size)
}
