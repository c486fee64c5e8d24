// A seeded writer: believable and awkward changes, every acknowledgement written down.
// Owns: what is written (puts, transactions, deletes, range deletes, leases, binary keys, empty values), its pace, and the
// book of acknowledgements. Refuses: judging; and retrying: a write whose answer was lost stays a hole that truth.ts reads.

import { setTimeout as wait } from 'node:timers/promises'
import { type EtcdAccess, EtcdHttp, type WriteOp } from './etcd-http.ts'
import { AckBook } from './truth.ts'

/** Small, seedable and good enough to choose operations (mulberry32). */
export function seeded(seed: number): () => number {
  let a = seed >>> 0
  return () => {
    a = (a + 0x6d2b79f5) >>> 0
    let t = a
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

export type WriterOptions = {
  readonly url: string
  readonly seed: number
  /** Keys live below this prefix. Default "/w/". */
  readonly prefix?: string
  /** Different keys written. Default 200. */
  readonly keys?: number
  /** Writes under way at once. Default 4. */
  readonly concurrency?: number
  /** Writes per second at most; default as fast as etcd answers. */
  readonly perSecond?: number
  readonly valueBytes?: number
  /** Most operations of one transaction. Default 5. */
  readonly maxOps?: number
  /** Share of transactions among the writes, 0 to 1. Default 0.23. */
  readonly transactions?: number
  readonly access?: EtcdAccess
}

export class Writer implements AsyncDisposable {
  readonly acks = new AckBook()
  /** Writes that failed or whose answer was lost. */
  unknown = 0
  acknowledged = 0
  readonly #waiting = new Set<() => void>()
  readonly #etcd: EtcdHttp
  readonly #random: () => number
  readonly #options: Required<Omit<WriterOptions, 'perSecond' | 'access'>> & { readonly perSecond: number | undefined }
  #running: Promise<void>[] = []
  #stopped = false
  #due = 0

  constructor(options: WriterOptions) {
    this.#etcd = new EtcdHttp(options.url, 3_000, options.access)
    this.#random = seeded(options.seed)
    const { access: _access, ...own } = options
    const rates = { concurrency: 4, perSecond: undefined, transactions: 0.23 }
    this.#options = { prefix: '/w/', keys: 200, valueBytes: 100, maxOps: 5, ...rates, ...own }
  }

  /** Writes until {@link stop}; a failed write waits a little and goes on with the next. */
  start(): void {
    this.#stopped = false
    this.#due = performance.now()
    this.#running = Array.from({ length: this.#options.concurrency }, () => this.#loop())
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#running)
    this.#running = []
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    this.#etcd[Symbol.dispose]()
  }

  /** Exactly `count` writes, one after another in each lane. */
  async write(count: number): Promise<void> {
    let left = count
    const lane = async (): Promise<void> => {
      while (left-- > 0) await this.#once()
    }
    await Promise.all(Array.from({ length: this.#options.concurrency }, lane))
  }

  /** Writes `ops` as one transaction and records the acknowledgement; rejects when etcd does. */
  async put(ops: readonly WriteOp[]): Promise<number> {
    const written = await this.#etcd.write(ops)
    this.acks.add(ops, written)
    this.acknowledged += 1
    for (const look of this.#waiting) look()
    return written.revision
  }

  /** Resolves when so many writes were acknowledged. */
  reached(acknowledged: number, timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (this.acknowledged < acknowledged) return
        clearTimeout(timer)
        this.#waiting.delete(look)
        resolve()
      }
      const timer = setTimeout(() => {
        this.#waiting.delete(look)
        reject(new Error(`etcd acknowledged ${this.acknowledged} of ${acknowledged} writes in ${timeoutMs} ms`))
      }, timeoutMs)
      this.#waiting.add(look)
      look()
    })
  }

  async #loop(): Promise<void> {
    const { perSecond } = this.#options
    while (!this.#stopped) {
      if (perSecond !== undefined) {
        this.#due = Math.max(this.#due + 1000 / perSecond, performance.now() - 1000)
        const early = this.#due - performance.now()
        if (early > 1) await wait(early)
      }
      await this.#once()
    }
  }

  async #once(): Promise<void> {
    try {
      if (this.#random() < 0.01) await this.#leased()
      else await this.put(this.#ops())
    } catch {
      this.unknown += 1
      await wait(20)
    }
  }

  #key(): string {
    const n = Math.floor(this.#random() * this.#options.keys)
    // One key in sixteen is not UTF-8, one is not ASCII.
    const tail = n % 16 === 3 ? '\xff\x00' : n % 16 === 5 ? '\xc3\xa9' : ''
    return `${this.#options.prefix}${n % 7}/${n}${tail}`
  }

  #value(): Buffer {
    const roll = this.#random()
    if (roll < 0.05) return Buffer.alloc(0)
    if (roll < 0.15) return Buffer.from(Array.from({ length: 20 }, () => Math.floor(this.#random() * 256)))
    const filler = 'x'.repeat(Math.floor(this.#random() * this.#options.valueBytes))
    if (roll < 0.6)
      return Buffer.from(`{"n":${Math.floor(this.#random() * 1e9)},"big":12345678901234567890,"s":"${filler}"}`)
    return Buffer.from(`${filler}${Math.floor(this.#random() * 1e9)}`)
  }

  #ops(): WriteOp[] {
    // Of the writes that are no transactions, 78 in 100 put one key, 19 delete one, 3 delete a range.
    const roll = this.#random() / (1 - this.#options.transactions)
    const put = (key: string): WriteOp => ({ op: 'put', key, value: this.#value() })
    if (roll < 0.78) return [put(this.#key())]
    if (roll < 0.97) return [{ op: 'delete', key: this.#key() }]
    if (roll < 1) {
      const prefix = `${this.#options.prefix}${Math.floor(this.#random() * 7)}/`
      return [{ op: 'delete', key: prefix, rangeEnd: `${prefix.slice(0, -1)}0` }]
    }
    const keys = new Set(
      Array.from({ length: 2 + Math.floor(this.#random() * (this.#options.maxOps - 1)) }, () => this.#key()),
    )
    return [...keys].map((key) => (this.#random() < 0.7 ? put(key) : { op: 'delete', key }))
  }

  /** Two keys on a lease that is revoked: one revision of two deletes that nobody acknowledged as a transaction. */
  async #leased(): Promise<void> {
    const lease = await this.#etcd.grant(60)
    const n = Math.floor(this.#random() * 1e9)
    const keys = [`${this.#options.prefix}lease/${n}a`, `${this.#options.prefix}lease/${n}b`]
    await this.put(keys.map((key) => ({ op: 'put', key, value: this.#value(), lease })))
    await this.#etcd.revoke(lease)
  }
}
