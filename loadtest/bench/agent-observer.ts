// What arrives, and how late: at a watch straight on etcd beside a gateway's subscriber or, where no gateway is named, a
// reader of the hub's log, on one clock. Not all three: every reader costs CPU that the road would have.
// Owns: the subscriptions and the latencies they see. Refuses: decoding: a value is found by the time it carries.
//
//   forked with <etcd url> <nats url> <cluster> [gateway url]; {from, to} in microseconds is answered with percentiles of that window.

import { once } from 'node:events'
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { WebSocket } from 'ws'
import { decodeEntry } from '#protocol/log/decode.ts'
import { type ClusterId, streamName } from '#protocol/subjects.ts'
import { LeanEtcd } from './lean-etcd.ts'

export type Window = { readonly from: number; readonly to: number }
export type Seen = { readonly events: number; readonly p50: number; readonly p99: number; readonly max: number }
/** `road`: at the gateway's subscriber, or at the hub's log. */
export type Observed = { readonly direct: Seen; readonly road: Seen }

const [etcdUrl = '', natsUrl = '', cluster = '', gatewayUrl] = process.argv.slice(2)
const TIME = Buffer.from('{"t":"')
/** The mark and sixteen digits. */
const TIME_BYTES = 22
const nowUs = (): number => Number(process.hrtime.bigint() / 1000n)

/** When an event was seen and how long after its write began, both in microseconds. */
class Track {
  readonly #at: number[] = []
  readonly #late: number[] = []

  take(bytes: Buffer): void {
    const now = nowUs()
    const last = bytes.length - TIME_BYTES
    for (let at = bytes.indexOf(TIME); at >= 0 && at <= last; at = bytes.indexOf(TIME, at + TIME_BYTES)) {
      this.#at.push(now)
      this.#late.push(now - Number(bytes.toString('latin1', at + TIME.length, at + TIME_BYTES)))
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

/** Times found in pieces of a stream, however it is cut. */
function takeStream(track: Track): (piece: Buffer) => void {
  let rest = Buffer.alloc(0)
  return (piece) => {
    const whole = Buffer.concat([rest, piece])
    track.take(whole)
    // Shorter than a time with its mark: what was found is not found again.
    rest = whole.subarray(Math.max(0, whole.length - TIME_BYTES + 1))
  }
}

const direct = new Track()
const road = new Track()
const failed = (message: string): void => void process.send?.({ error: message })

const etcd = new LeanEtcd(etcdUrl)
await etcd.watch(Buffer.from('/bench/churn/'), Buffer.from('/bench/churn0'), takeStream(direct), (e) =>
  failed(e.message),
)
await (gatewayUrl === undefined ? readHub() : subscribe(gatewayUrl))

async function readHub(): Promise<void> {
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
        road.take(Buffer.from(data.buffer, data.byteOffset, data.byteLength))
      }
    },
  })
}

async function subscribe(url: string): Promise<void> {
  const socket = new WebSocket(url, ['deltawatch.v1.json'], { perMessageDeflate: false })
  await once(socket, 'open')
  const watching = Promise.withResolvers<void>()
  socket.on('message', (data: Buffer) => {
    road.take(data)
    if (data.subarray(0, 20).includes('"watching"')) watching.resolve()
  })
  socket.on('close', () => failed('the gateway closed the connection'))
  socket.send(JSON.stringify({ type: 'hello', client: 'bench', versions: [1] }))
  socket.send(JSON.stringify({ type: 'watch', id: 'w', prefix: '/bench/churn/', start: 'now' }))
  await watching.promise
}

process.on('message', (window) => {
  const wanted = window as Window
  process.send?.({
    direct: direct.within(wanted),
    road: road.within(wanted),
  } satisfies Observed)
})
process.on('disconnect', () => process.exit())
process.send?.({ ready: true })
