// Writes to etcd for loadtest/bench/agent.ts, in a process of its own so that its CPU is its own.
// Owns: two ways of writing: as fast as etcd answers, or at a pace. Every value carries the moment its write began.
// Refuses: measuring, and retrying: a write that fails ends the run.
//
//   forked with <etcd url>; messages: {fill}, {rush}, {pace}, 'stop'; each is answered with what was written.

import { Etcd3 } from 'etcd3'
import { LeanEtcd } from './lean-etcd.ts'

export type Load =
  /** `keys` keys once, in transactions of `ops`. */
  | { readonly kind: 'fill'; readonly keys: number; readonly ops: number; readonly bytes: number }
  /** Transactions of `ops` puts, `inFlight` at once, for `seconds` or until `events`. */
  | {
      readonly kind: 'rush'
      readonly ops: number
      readonly inFlight: number
      readonly seconds: number
      readonly events?: number
      readonly bytes: number
    }
  /** Single puts, open loop. */
  | { readonly kind: 'pace'; readonly perSecond: number; readonly seconds: number; readonly bytes: number }

export type Written = { readonly events: number; readonly seconds: number; readonly cpuSeconds: number }

const [url] = process.argv.slice(2)
if (url === undefined) throw new RangeError('give the etcd url')
const KEYS = 10_000
const etcd = new Etcd3({ hosts: url, grpcOptions: { 'grpc.enable_http_proxy': 0 } })
const lean = new LeanEtcd(url)
let stopped = false
let next = 0

const nowUs = (): string => String(process.hrtime.bigint() / 1000n).padStart(16, '0')
function valueOf(bytes: number): Buffer {
  const head = `{"t":"${nowUs()}","service":"orders","zone":"sz-b","meta":"`
  return Buffer.from(`${head}${'x'.repeat(Math.max(0, bytes - head.length - 2))}"}`)
}

const put = (key: string, value: Buffer) => ({ request_put: { key: Buffer.from(key), value } })

async function transaction(count: number, bytes: number, name: (n: number) => string): Promise<void> {
  const value = valueOf(bytes)
  const success = Array.from({ length: count }, () => put(name(next++), value))
  await etcd.kv.txn({ compare: [], success, failure: [] })
}

const churned = (n: number): string => `/bench/churn/${n % KEYS}`

async function fill({ keys, ops, bytes }: Extract<Load, { kind: 'fill' }>): Promise<number> {
  next = 0
  const worker = async (): Promise<void> => {
    while (next < keys) {
      const count = Math.min(ops, keys - next)
      await transaction(count, bytes, (n) => `/bench/fill/${String(n).padStart(8, '0')}`)
    }
  }
  await Promise.all(Array.from({ length: 4 }, worker))
  return keys
}

async function rush({ ops, inFlight, seconds, events, bytes }: Extract<Load, { kind: 'rush' }>): Promise<number> {
  const end = performance.now() + seconds * 1000
  let written = 0
  const worker = async (): Promise<void> => {
    while (!stopped && performance.now() < end && (events === undefined || written < events)) {
      written += ops
      if (ops === 1) await etcd.kv.put({ key: Buffer.from(churned(next++)), value: valueOf(bytes) })
      else await transaction(ops, bytes, churned)
    }
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
  return written
}

async function pace({ perSecond, seconds, bytes }: Extract<Load, { kind: 'pace' }>): Promise<number> {
  const started = performance.now()
  let sent = 0
  let answered = 0
  const failed = Promise.withResolvers<never>()
  const loop = new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const passed = (performance.now() - started) / 1000
      const due = Math.floor(Math.min(passed, seconds) * perSecond)
      for (; sent < due; sent++) {
        lean.put(Buffer.from(churned(next++)), valueOf(bytes)).then(() => void answered++, failed.reject)
      }
      if (!stopped && (passed < seconds || answered < sent)) return
      clearInterval(timer)
      resolve()
    }, 1)
  })
  await Promise.race([loop, failed.promise])
  return sent
}

async function run(load: Load): Promise<Written> {
  stopped = false
  const cpu = process.cpuUsage()
  const began = performance.now()
  const events = await (load.kind === 'fill' ? fill(load) : load.kind === 'rush' ? rush(load) : pace(load))
  const used = process.cpuUsage(cpu)
  return { events, seconds: (performance.now() - began) / 1000, cpuSeconds: (used.user + used.system) / 1e6 }
}

process.on('message', (message) => {
  if (message === 'stop') stopped = true
  else {
    run(message as Load).then(
      (written) => process.send?.(written),
      (error: unknown) => process.send?.({ error: String(error) }),
    )
  }
})
process.on('disconnect', () => process.exit())
process.send?.({ ready: true })
