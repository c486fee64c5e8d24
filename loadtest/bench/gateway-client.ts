// A lean subscriber herd for loadtest/bench/gateway.ts: raw sockets, frame headers parsed in place, nothing kept.
// Owns: the handshake of each kind of server, counting, sampled latency, its own CPU. Refuses: JSON, `ws`, and pity.
//
//   node loadtest/bench/gateway-client.ts <deltawatch|ws|nats> <port> <connections> <prefix|prefix-%> [from] [clusters]
// `from`: the local address to connect from; `clusters`: comma-separated, default all.
// Forked by the bench: 'reset' starts a measurement, 'report' ends it.

import { connect, type Socket } from 'node:net'
import { once } from 'node:events'

type Kind = 'deltawatch' | 'ws' | 'nats'
const [kind, port, count, prefix = '/microservices/', from = '127.0.0.1', clusters] = process.argv.slice(2) as [
  Kind,
  string,
  string,
  string?,
  string?,
  string?,
]
const SAMPLE_EVERY = 37
const TIME = Buffer.from('"t":"')

let events = 0
let bytes = 0
let sampled = 0
let latencies: number[] = []
let cpu = process.cpuUsage()
let live = 0
let closed = 0

type Conn = {
  readonly socket: Socket
  /** Payload bytes of the current frame still to come. */
  skip: number
  /** Beginning of a header that was cut. */
  carry: Buffer | undefined
  upgraded: boolean
  /** NATS: body bytes still to skip, and the piece of a control line so far. */
  body: number
  line: string
}

const nowUs = (): number => Number(process.hrtime.bigint() / 1000n)

function onData(conn: Conn, chunk: Buffer): void {
  let at = 0
  if (conn.carry !== undefined) {
    chunk = Buffer.concat([conn.carry, chunk])
    conn.carry = undefined
  }
  if (!conn.upgraded) {
    const end = chunk.indexOf('\r\n\r\n')
    if (end < 0) {
      conn.carry = chunk
      return
    }
    if (!chunk.subarray(0, 12).toString().endsWith('101')) throw new Error(chunk.toString().slice(0, 200))
    conn.upgraded = true
    greet(conn)
    at = end + 4
  }
  bytes += chunk.length
  while (at < chunk.length) {
    if (conn.skip > 0) {
      const take = Math.min(conn.skip, chunk.length - at)
      if (kind === 'nats') nats(conn, chunk, at, at + take)
      conn.skip -= take
      at += take
      continue
    }
    const left = chunk.length - at
    const short = left < 2 ? 0 : (chunk[at + 1] as number) & 0x7f
    const head = short === 126 ? 4 : short === 127 ? 10 : 2
    const opcode = (chunk[at] as number) & 0x0f
    // Pings are answered with their payload and events are recognised by their first bytes: both must be at hand.
    const wanted = head + (opcode === 9 ? short : opcode === 1 ? 12 : 0)
    if (left < wanted) {
      conn.carry = Buffer.from(chunk.subarray(at))
      return
    }
    const length = short === 126 ? chunk.readUInt16BE(at + 2) : short === 127 ? chunk.readUIntBE(at + 4, 6) : short
    const start = at + head
    if (opcode === 9) pong(conn, chunk.subarray(start, start + length))
    else if (opcode === 8) closed++
    else if (opcode === 1 && kind !== 'nats') text(chunk, start, Math.min(chunk.length, start + length))
    conn.skip = length
    at = start
  }
}

function text(chunk: Buffer, start: number, end: number): void {
  // {"type":"events" or {"type":"watching"
  const letter = chunk[start + 9]
  if (letter === 0x77 && chunk[start + 10] === 0x61) live++
  if (letter !== 0x65 || chunk[start + 10] !== 0x76) return
  events++
  if (events % SAMPLE_EVERY === 0) sample(chunk, start, end)
}

function sample(chunk: Buffer, start: number, end: number): void {
  const at = chunk.indexOf(TIME, start)
  if (at < 0 || at + 21 > end) return
  sampled++
  latencies.push(nowUs() - Number(chunk.toString('latin1', at + 5, at + 21)))
}

function nats(conn: Conn, chunk: Buffer, start: number, end: number): void {
  let at = start
  while (at < end) {
    if (conn.body > 0) {
      const take = Math.min(conn.body, end - at)
      conn.body -= take
      at += take
      continue
    }
    const stop = chunk.indexOf(10, at)
    if (stop < 0 || stop >= end) {
      conn.line += chunk.toString('latin1', at, end)
      return
    }
    const line = conn.line + chunk.toString('latin1', at, stop)
    conn.line = ''
    at = stop + 1
    if (line.startsWith('MSG ')) {
      events++
      conn.body = Number(line.slice(line.lastIndexOf(' '))) + 2
      if (events % SAMPLE_EVERY === 0) sample(chunk, at, end)
    } else if (line.startsWith('PING')) send(conn, 'PONG\r\n')
    else if (line.startsWith('PONG')) live++
  }
}

function greet(conn: Conn): void {
  if (kind === 'ws') {
    live++
    return
  }
  if (kind === 'nats') {
    send(conn, 'CONNECT {"verbose":false,"pedantic":false,"protocol":1}\r\nSUB bench.> 1\r\nPING\r\n')
    return
  }
  send(conn, JSON.stringify({ type: 'hello', client: 'bench', versions: [1] }))
  const mine = prefix.replace('%', String(conns.indexOf(conn)))
  send(conn, JSON.stringify({ type: 'watch', id: 'w', prefix: mine, start: 'now', clusters: clusters?.split(',') }))
}

/** Masked with zeros: the mask is the identity. */
function send(conn: Conn, payload: string): void {
  const body = Buffer.from(payload)
  const head =
    body.length < 126
      ? Buffer.from([0x81, 0x80 | body.length])
      : Buffer.from([0x81, 0xfe, body.length >> 8, body.length & 255])
  conn.socket.write(Buffer.concat([head, Buffer.alloc(4), body]))
}

function pong(conn: Conn, payload: Buffer): void {
  conn.socket.write(Buffer.concat([Buffer.from([0x8a, 0x80 | payload.length]), Buffer.alloc(4), payload]))
}

const path = kind === 'nats' ? '/' : '/v1/watch'
const protocol = kind === 'nats' ? '' : 'Sec-WebSocket-Protocol: deltawatch.v1.json\r\n'
const request =
  `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
  `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n${protocol}\r\n`
const conns: Conn[] = []

for (let i = 0; i < Number(count); i++) {
  const socket = connect({ host: '127.0.0.1', port: Number(port), localAddress: from, noDelay: true })
  const conn: Conn = { socket, skip: 0, carry: undefined, upgraded: false, body: 0, line: '' }
  conns.push(conn)
  socket.on('data', (chunk: Buffer) => onData(conn, chunk))
  socket.on('close', () => closed++)
  socket.on('error', (e) => process.send?.({ error: e.message }))
  socket.write(request)
  // A hundred handshakes at a time: the herd is measured, not its arrival.
  if (i % 100 === 99) await once(socket, 'connect')
}
const ready = setInterval(() => {
  if (live < Number(count)) return
  clearInterval(ready)
  process.send?.({ ready: true })
}, 20)

process.on('message', (message) => {
  if (message === 'reset') {
    events = 0
    bytes = 0
    latencies = []
    cpu = process.cpuUsage()
    return
  }
  const used = process.cpuUsage(cpu)
  latencies.sort((a, b) => a - b)
  const at = (share: number): number => (latencies[Math.floor(latencies.length * share)] ?? 0) / 1000
  process.send?.({
    events,
    bytes,
    closed,
    cpuSeconds: (used.user + used.system) / 1e6,
    p50: at(0.5),
    p99: at(0.99),
    sampled,
  })
})
process.on('disconnect', () => process.exit())
