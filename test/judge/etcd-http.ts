// etcd over its HTTP/JSON gateway: enough to write, and to read history back by revision.
// Owns: the few calls the judge and its writer need, with its own decoding.
// Refuses: etcd3, the product's code, and /v3/watch: truth is never another watcher.
// Keys are byte strings (one char code per byte); revisions are numbers, because a judged cluster is young: anything
// beyond 2^53 is refused, not rounded.

import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'

export type Kv = {
  readonly key: string
  readonly value: Uint8Array
  readonly mod: number
  readonly create: number
  readonly version: number
  readonly lease: string
}
export type RangeRequest = {
  readonly key: string
  readonly rangeEnd?: string
  readonly revision?: number
  readonly keysOnly?: boolean
  readonly countOnly?: boolean
  readonly limit?: number
  /** Only keys last written at exactly this revision. */
  readonly writtenAt?: number
}
export type WriteOp =
  | { readonly op: 'put'; readonly key: string; readonly value: Uint8Array; readonly lease?: string }
  | { readonly op: 'delete'; readonly key: string; readonly rangeEnd?: string }
export type Written = {
  readonly revision: number
  /** Per operation: the keys a delete removed, in order; empty for puts. */
  readonly deleted: readonly (readonly string[])[]
}

/** How to be let in: by name, over TLS, or both. Certificates and keys are PEM. */
export type EtcdAccess = {
  readonly login?: { readonly name: string; readonly password: string }
  readonly tls?: { readonly ca: Uint8Array; readonly cert: Uint8Array; readonly key: Uint8Array }
}

/** The whole key space, as etcd spells it. */
export const ALL_KEYS = { key: '\0', rangeEnd: '\0' } as const

export class EtcdHttpError extends Error {
  override readonly name = 'EtcdHttpError'
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
  get compacted(): boolean {
    return /compacted/.test(this.message)
  }
}

const base64 = (key: string): string => Buffer.from(key, 'latin1').toString('base64')
const fromBase64 = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64')
const buffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes)
const count = (text: string | undefined): number => {
  const n = Number(text ?? '0')
  if (!Number.isSafeInteger(n)) throw new RangeError(`etcd answered ${text}, beyond what the judge counts with`)
  return n
}

type RawKv = {
  readonly key: string
  readonly value?: string
  readonly mod_revision?: string
  readonly create_revision?: string
  readonly version?: string
  readonly lease?: string
}
const kvOf = (raw: RawKv): Kv => ({
  key: fromBase64(raw.key).toString('latin1'),
  value: fromBase64(raw.value),
  mod: count(raw.mod_revision),
  create: count(raw.create_revision),
  version: count(raw.version),
  lease: raw.lease ?? '0',
})
type Header = { readonly header: { readonly revision?: string } }

export class EtcdHttp implements Disposable {
  readonly #url: URL
  readonly #agent: HttpAgent
  readonly #request: typeof httpRequest
  readonly #timeoutMs: number
  readonly #login: EtcdAccess['login']
  #token: string | undefined

  constructor(url: string, timeoutMs = 10_000, { login, tls }: EtcdAccess = {}) {
    this.#url = new URL(url)
    this.#timeoutMs = timeoutMs
    this.#login = login
    const pool = { keepAlive: true, maxSockets: 64 }
    const pem = tls === undefined ? {} : { ca: buffer(tls.ca), cert: buffer(tls.cert), key: buffer(tls.key) }
    this.#agent = this.#url.protocol === 'https:' ? new HttpsAgent({ ...pool, ...pem }) : new HttpAgent(pool)
    this.#request = this.#url.protocol === 'https:' ? httpsRequest : httpRequest
  }

  [Symbol.dispose](): void {
    this.#agent.destroy()
  }

  /** For a store with authentication on; simple tokens live 300 s. */
  async login(name: string, password: string): Promise<void> {
    this.#token = undefined
    this.#token = ((await this.#once('auth/authenticate', { name, password })) as { token: string }).token
  }

  /** Any other call of the gateway, such as `maintenance/alarm` or `auth/role/revoke`. */
  call(path: string, body: object): Promise<unknown> {
    return this.#call(path, body)
  }

  async range(
    wanted: RangeRequest,
  ): Promise<{ readonly revision: number; readonly kvs: Kv[]; readonly count: number }> {
    const body = {
      key: base64(wanted.key),
      ...(wanted.rangeEnd === undefined ? {} : { range_end: base64(wanted.rangeEnd) }),
      ...(wanted.revision === undefined ? {} : { revision: String(wanted.revision) }),
      ...(wanted.limit === undefined ? {} : { limit: String(wanted.limit) }),
      ...(wanted.keysOnly === true ? { keys_only: true } : {}),
      ...(wanted.countOnly === true ? { count_only: true } : {}),
      ...(wanted.writtenAt === undefined
        ? {}
        : { min_mod_revision: String(wanted.writtenAt), max_mod_revision: String(wanted.writtenAt) }),
    }
    const answer = (await this.#call('kv/range', body)) as Header & { kvs?: RawKv[]; count?: string }
    return {
      revision: count(answer.header.revision),
      kvs: (answer.kvs ?? []).map(kvOf),
      count: count(answer.count),
    }
  }

  /** All operations in one transaction, that is one revision. */
  async write(ops: readonly WriteOp[]): Promise<Written> {
    const success = ops.map((op) =>
      op.op === 'put'
        ? {
            request_put: {
              key: base64(op.key),
              value: Buffer.from(op.value).toString('base64'),
              lease: op.lease ?? '0',
            },
          }
        : {
            request_delete_range: {
              key: base64(op.key),
              ...(op.rangeEnd === undefined ? {} : { range_end: base64(op.rangeEnd) }),
              prev_kv: true,
            },
          },
    )
    const answer = (await this.#call('kv/txn', { success })) as Header & {
      responses?: { response_delete_range?: { prev_kvs?: RawKv[] } }[]
    }
    const deleted = ops.map((_, i) =>
      (answer.responses?.[i]?.response_delete_range?.prev_kvs ?? []).map((kv) => kvOf(kv).key),
    )
    return { revision: count(answer.header.revision), deleted }
  }

  async grant(ttlSeconds: number): Promise<string> {
    const answer = (await this.#call('lease/grant', { TTL: String(ttlSeconds) })) as { ID: string }
    return answer.ID
  }

  async revoke(lease: string): Promise<void> {
    await this.#call('lease/revoke', { ID: lease })
  }

  /** Ids of every lease there is. */
  async leases(): Promise<readonly string[]> {
    const answer = (await this.#call('lease/leases', {})) as { leases?: { ID: string }[] }
    return (answer.leases ?? []).map((lease) => lease.ID)
  }

  async compact(revision: number): Promise<void> {
    await this.#call('kv/compaction', { revision: String(revision), physical: true })
  }

  /** Revision of the store's head, read linearizably. */
  async head(): Promise<number> {
    return (await this.range({ key: '\0', countOnly: true })).revision
  }

  async #call(path: string, body: unknown): Promise<unknown> {
    if (this.#login === undefined) return this.#once(path, body)
    if (this.#token === undefined) await this.login(this.#login.name, this.#login.password)
    try {
      return await this.#once(path, body)
    } catch (error) {
      // A refused call changed nothing, so asking again cannot write twice.
      if (!(error instanceof EtcdHttpError) || !/invalid auth token|auth store is old/.test(error.message)) throw error
      await this.login(this.#login.name, this.#login.password)
      return this.#once(path, body)
    }
  }

  async #once(path: string, body: unknown): Promise<unknown> {
    const { status, text } = await this.#post(`/v3/${path}`, JSON.stringify(body))
    if (status !== 200) throw new EtcdHttpError(status, `etcd ${path}: ${text.slice(0, 300)}`)
    return JSON.parse(text)
  }

  #post(path: string, body: string): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const { hostname, port } = this.#url
      const headers = {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        ...(this.#token === undefined ? {} : { authorization: this.#token }),
      }
      const options = { method: 'POST', agent: this.#agent, headers, hostname, port, path, timeout: this.#timeoutMs }
      const req = this.#request(options, (res) => {
        const chunks: Buffer[] = []
        res.on('data', (chunk: Buffer) => chunks.push(chunk))
        res.on('error', reject)
        res.on('end', () => resolve({ status: res.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }))
      })
      req.on('timeout', () => req.destroy(new Error(`etcd ${path}: no answer in ${this.#timeoutMs} ms`)))
      req.on('error', reject)
      req.end(body)
    })
  }
}
