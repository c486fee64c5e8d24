// Etcd as a load generator speaks it: puts and one watch over bare HTTP/2, so that what measures does not weigh on what is
// measured. A put through a full client costs three times the CPU.
// Owns: the few bytes of gRPC framing and protobuf these two calls need. Refuses: decoding answers, retries, TLS.

import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2'

const { HTTP2_HEADER_METHOD, HTTP2_HEADER_PATH, HTTP2_HEADER_CONTENT_TYPE, HTTP2_HEADER_TE } = constants
/** Above everything a watch may have to say at once. */
const WINDOW_BYTES = 16 * 1024 * 1024

export class LeanEtcd implements Disposable {
  readonly #session: ClientHttp2Session

  constructor(url: string) {
    this.#session = connect(url, { settings: { initialWindowSize: WINDOW_BYTES } })
    this.#session.once('connect', () => this.#session.setLocalWindowSize(WINDOW_BYTES))
  }

  /** Resolves once etcd has acknowledged the write; rejects with the call's status. */
  put(key: Buffer, value: Buffer): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const call = this.#call('/etcdserverpb.KV/Put')
    let status: unknown
    call.on('trailers', (trailers) => {
      status = trailers['grpc-status']
    })
    call.on('error', reject)
    call.on('close', () =>
      status === '0' ? resolve() : reject(new Error(`a put ended with status ${String(status)}`)),
    )
    call.resume()
    call.end(message(bytesField(1, key), bytesField(2, value)))
    return promise
  }

  /** Watches keys in [from, to) from now on; `take` gets raw pieces of the stream, `created` the first of them. */
  watch(from: Buffer, to: Buffer, take: (piece: Buffer) => void, ended: (error: Error) => void): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const call = this.#call('/etcdserverpb.Watch/Watch')
    call.on('data', (piece: Buffer) => {
      resolve()
      take(piece)
    })
    call.on('error', ended)
    call.on('close', () => ended(new Error('etcd ended the watch')))
    call.write(message(bytesField(1, Buffer.concat([bytesField(1, from), bytesField(2, to)]))))
    return promise
  }

  [Symbol.dispose](): void {
    this.#session.destroy()
  }

  #call(path: string): ClientHttp2Stream {
    return this.#session.request({
      [HTTP2_HEADER_METHOD]: 'POST',
      [HTTP2_HEADER_PATH]: path,
      [HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
      [HTTP2_HEADER_TE]: 'trailers',
    })
  }
}

/** One gRPC message: not compressed, its length, its fields. */
function message(...fields: readonly Buffer[]): Buffer {
  const length = fields.reduce((sum, field) => sum + field.length, 0)
  const head = Buffer.alloc(5)
  head.writeUInt32BE(length, 1)
  return Buffer.concat([head, ...fields])
}

/** A length-delimited protobuf field. */
function bytesField(number: number, bytes: Buffer): Buffer {
  const head = [(number << 3) | 2]
  let rest = bytes.length
  for (; rest > 0x7f; rest >>>= 7) head.push((rest & 0x7f) | 0x80)
  head.push(rest)
  return Buffer.concat([Buffer.from(head), bytes])
}
