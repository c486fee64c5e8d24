// What arrives, and how late: at a watch straight on etcd, at a reader of the hub's log and at a gateway's subscriber,
// side by side on one clock.
// Owns: the subscriptions and the latencies they see. Refuses: decoding: a value is found by the time it carries.
//
//   forked with <etcd url> <nats url> <cluster> [gateway url]; {from, to} in microseconds is answered with percentiles of that window.

import { once } from 'node:events'
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { WebSocket } from 'ws'
import { connectEtcd } from '#agent/watch/etcd.ts'
import { keyFromText } from '#protocol/bytes.ts'
import { decodeEntry } from '#protocol/log/decode.ts'
import type { Revision } from '#protocol/revision.ts'
import { type ClusterId, streamName } from '#protocol/subjects.ts'

export type Window = { readonly from: number; readonly to: number }
export type Seen = { readonly events: number; readonly p50: number; readonly p99: number; readonly max: number }
export type Observed = { readonly direct: Seen; readonly hub: Seen; readonly gateway: Seen }

const [etcdUrl = '', natsUrl = '', cluster = '', gatewayUrl] = process.argv.slice(2)
const TIME = Buffer.from('{"t":"')
const nowUs = (): number => Number(process.hrtime.bigint() / 1000n)

/** When an event was seen and how long after its write began, both in microseconds. */
class Track {
  readonly #at: number[] = []
  readonly #late: number[] = []

  take(bytes: Buffer): void {
    const now = nowUs()
    for (let at = bytes.indexOf(TIME); at >= 0; at = bytes.indexOf(TIME, at + 22)) {
      this.#at.push(now)
      this.#late.push(now - Number(bytes.toString('latin1', at + 6, at + 22)))
    }
  }

  within({ from, to }: Window): Seen {
    // By the moment of the write: an event written in the window belongs to it however late it came.
    const late = this.#late.filter((late, i) => {
      const written = (this.#at[i] as number) - late
      return written >= from && written < to
    })
    late.sort((a, b) => a - b)
    const share = (part: number): number => (late[Math.floor(late.length * part)] ?? Number.NaN) / 1000
    return { events: late.length, p50: share(0.5), p99: share(0.99), max: (late.at(-1) ?? Number.NaN) / 1000 }
  }
}

const direct = new Track()
const hub = new Track()
const gateway = new Track()

const member = connectEtcd({
  endpoint: etcdUrl,
  credentials: {},
  keepaliveMs: 5_000,
  keepaliveTimeoutMs: 5_000,
  callTimeoutMs: 10_000,
  now: () => Date.now(),
})
const range = { from: keyFromText('/bench/churn/'), to: keyFromText('/bench/churn0') }
const { revision } = await member.head(range)
await member.watch(
  {
    range,
    startRevision: String(BigInt(revision) + 1n) as Revision,
    prevValues: false,
    pieces: true,
    maxResponseBytes: 256 * 1024 * 1024,
  },
  {
    message: (raw) => {
      const { events = [] } = raw as { events?: readonly { readonly kv: { readonly value: Buffer } }[] }
      for (const { kv } of events) direct.take(kv.value)
    },
    closed: (failure) => process.send?.({ error: failure.message }),
  },
)

const nc = await connect({ servers: natsUrl })
const stream = streamName(cluster as ClusterId)
const { state } = await (await jetstreamManager(nc)).streams.info(stream)
const consumer = await jetstream(nc).consumers.get(stream, { opt_start_seq: state.last_seq + 1 })
await consumer.consume({
  callback: (message) => {
    const { data } = message
    const entry = decodeEntry(data)
    // Checkpoint items carry values again that were seen before.
    if (entry.ok && (entry.value.kind === 'events' || entry.value.kind === 'chunk')) {
      hub.take(Buffer.from(data.buffer, data.byteOffset, data.byteLength))
    }
  },
})

if (gatewayUrl !== undefined) {
  const socket = new WebSocket(gatewayUrl, ['deltawatch.v1.json'], { perMessageDeflate: false })
  await once(socket, 'open')
  const watching = Promise.withResolvers<void>()
  socket.on('message', (data: Buffer) => {
    gateway.take(data)
    if (data.subarray(0, 20).includes('"watching"')) watching.resolve()
  })
  socket.on('close', () => process.send?.({ error: 'the gateway closed the connection' }))
  socket.send(JSON.stringify({ type: 'hello', client: 'bench', versions: [1] }))
  socket.send(JSON.stringify({ type: 'watch', id: 'w', prefix: '/bench/churn/', start: 'now' }))
  await watching.promise
}

process.on('message', (window) => {
  const wanted = window as Window
  process.send?.({
    direct: direct.within(wanted),
    hub: hub.within(wanted),
    gateway: gateway.within(wanted),
  } satisfies Observed)
})
process.on('disconnect', () => process.exit())
process.send?.({ ready: true })
