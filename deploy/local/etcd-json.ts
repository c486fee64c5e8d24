// The few etcd calls the local stack makes itself, over etcd's JSON gateway.
// Owns: put, delete, transactions and leases as plain HTTP, each bounded in time.
// Does not own: watching. Only the agents watch, and not through this gateway.

import { isRecord } from '../toolchain/narrow.ts'

const TIMEOUT_MS = 5_000

export interface Change {
  readonly puts: readonly { readonly key: string; readonly value: string }[]
  readonly deletes?: readonly string[]
}

export interface EtcdJson {
  /** One transaction; resolves to its revision, a decimal string. */
  write(change: Change, lease?: string): Promise<string>
  /** Resolves to the lease's id, a decimal string. */
  grant(ttlSeconds: number): Promise<string>
  /** Resolves to the remaining seconds; 0 when the lease is gone. */
  keepAlive(lease: string): Promise<number>
  revoke(lease: string): Promise<void>
}

/** Every call rejects when the server is away, after at most five seconds; the caller decides what to do then. */
export function createEtcdJson(url: string, signal?: AbortSignal): EtcdJson {
  const call = async (path: string, body: object): Promise<Record<string, unknown>> => {
    const limit = AbortSignal.timeout(TIMEOUT_MS)
    const response = await fetch(new URL(path, url), {
      method: 'POST',
      body: JSON.stringify(body),
      signal: signal === undefined ? limit : AbortSignal.any([signal, limit]),
    })
    const answer: unknown = await response.json()
    if (!response.ok || !isRecord(answer)) throw new Error(`etcd: ${path} answered HTTP ${response.status}`)
    return answer
  }
  return {
    write: async (change, lease) => {
      const success = [
        ...change.puts.map(({ key, value }) => ({
          requestPut: { key: base64(key), value: base64(value), ...(lease === undefined ? {} : { lease }) },
        })),
        ...(change.deletes ?? []).map((key) => ({ requestDeleteRange: { key: base64(key) } })),
      ]
      const { header } = await call('/v3/kv/txn', { success })
      const revision = isRecord(header) ? header['revision'] : undefined
      if (typeof revision !== 'string') throw new TypeError('etcd: a transaction was answered without a revision')
      return revision
    },
    grant: async (ttlSeconds) => {
      const { ID } = await call('/v3/lease/grant', { TTL: ttlSeconds })
      if (typeof ID !== 'string') throw new TypeError('etcd: a lease was granted without an id')
      return ID
    },
    keepAlive: async (lease) => {
      const { result } = await call('/v3/lease/keepalive', { ID: lease })
      return isRecord(result) ? Number(result['TTL'] ?? 0) : 0
    },
    revoke: async (lease) => {
      await call('/v3/lease/revoke', { ID: lease })
    },
  }
}

const base64 = (text: string): string => Buffer.from(text, 'utf8').toString('base64')
