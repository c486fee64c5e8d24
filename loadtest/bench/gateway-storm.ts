// A reconnect storm: every socket dropped at once, each coming back with its cursor while the source keeps writing.
// Owns: the herd, in this process, and the judgement: all live again, nothing lost, nothing repeated, no snapshot.
// The gateway has no way to etcd at all, so no storm costs it a read.

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { decodeCursor } from '#protocol/cursor.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import { cpuSeconds, forkServer, round, sleep } from './gateway-processes.ts'

const CLUSTER = 'sz-edge-1'

/** One subscriber: its newest revision is its whole state. */
type Seat = { socket: Socket; text: string; cursor: string | undefined; last: number; live: boolean }

let tally = { lost: 0, repeated: 0, snapshots: 0, resyncs: 0, errors: 0, retries: 0 }

function frame(payload: string): Buffer {
  const body = Buffer.from(payload)
  const head = body.length < 126 ? [0x81, 0x80 | body.length] : [0x81, 0xfe, body.length >> 8, body.length & 255]
  return Buffer.concat([Buffer.from(head), Buffer.alloc(4), body])
}

function open(seat: Seat, port: number): void {
  seat.live = false
  seat.text = ''
  // This client keeps bookmarks only: it goes back to the position of its cursor and expects to be told again from there.
  const known = seat.cursor === undefined ? undefined : decodeCursor(seat.cursor)
  if (known?.ok === true) seat.last = Number(known.cursor.positions.get(CLUSTER as ClusterId)?.revision ?? 0)
  const socket = connect({ host: '127.0.0.1', port, noDelay: true })
  seat.socket = socket
  socket.setEncoding('latin1')
  socket.on('error', () => undefined)
  socket.on('data', (chunk: string) => hear(seat, chunk))
  // What a client does: whoever is cut off before it is live comes back.
  socket.on('close', () => {
    if (seat.socket !== socket || seat.live) return
    tally.retries++
    setTimeout(() => open(seat, port), 100)
  })
  socket.write(
    `GET /v1/watch HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: deltawatch.v1.json\r\n\r\n`,
  )
  socket.write(frame(JSON.stringify({ type: 'hello', client: 'storm', versions: [1] })))
  const start = seat.cursor ?? 'now'
  socket.write(frame(JSON.stringify({ type: 'watch', id: 'w', prefix: '/microservices/', start })))
}

/** Frames are found by their JSON; headers between them are noise to this reader. */
function hear(seat: Seat, chunk: string): void {
  const text = seat.text + chunk
  let at = 0
  for (;;) {
    const start = text.indexOf('{"type":"', at)
    // The next frame's beginning or the end of what is here: a frame is judged once its head is complete.
    if (start < 0 || text.length - start < 400) {
      const rest = start < 0 ? text.slice(-16) : text.slice(start)
      const whole = start >= 0 && rest.endsWith('}')
      if (whole) judge(seat, rest)
      seat.text = whole ? '' : rest
      return
    }
    judge(seat, text.slice(start, start + 400))
    at = start + 9
  }
}

function judge(seat: Seat, head: string): void {
  const type = head.slice(9, head.indexOf('"', 9))
  if (type === 'watching') seat.live = true
  else if (type === 'snapshot') tally.snapshots++
  else if (type === 'resync') tally.resyncs++
  else if (type === 'error') tally.errors++
  else if (type === 'bookmark') seat.cursor = /"cursor":"([^"]+)"/.exec(head)?.[1] ?? seat.cursor
  if (type !== 'events' || !head.includes(`"cluster":"${CLUSTER}"`)) return
  const revision = Number(/"revision":"(\d+)"/.exec(head)?.[1])
  // Every revision of the source is visible here, so each must follow the one before, also across the drop.
  if (seat.last > 0 && revision > seat.last + 1) tally.lost++
  if (revision <= seat.last) tally.repeated++
  seat.last = Math.max(seat.last, revision)
}

export type Storm = typeof tally & {
  readonly sockets: number
  readonly seconds: number
  readonly serverCpuSeconds: number
  readonly clientCpuSeconds: number
  /** Subscribers without the newest revision at the end. */
  readonly behind: number
  readonly clean: boolean
}

/** `rate`: events per second that go on being written all the while. */
export async function storm(sockets: number, rate: number): Promise<Storm> {
  tally = { lost: 0, repeated: 0, snapshots: 0, resyncs: 0, errors: 0, retries: 0 }
  await using server = await forkServer('deltawatch', { bytes: 300, keys: 100 })
  const seats: Seat[] = []
  for (let i = 0; i < sockets; i++) {
    const seat = { text: '', cursor: undefined, last: 0, live: false } as unknown as Seat
    seats.push(seat)
    open(seat, server.port)
    if (i % 100 === 99) await once(seat.socket, 'connect')
  }
  const PATIENCE_MS = 60_000
  const until = async (what: string, done: (seat: Seat) => boolean): Promise<void> => {
    const end = performance.now() + PATIENCE_MS
    while (!seats.every(done)) {
      if (performance.now() > end)
        throw new Error(
          `${seats.filter((seat) => !done(seat)).length} seats are not ${what} after ${PATIENCE_MS / 1000} s`,
        )
      await sleep(20)
    }
  }
  const allLive = (): Promise<void> => until('live', (seat) => seat.live)
  await allLive()
  server.start(rate)
  // Every seat needs a cursor before the storm.
  await until('bookmarked', (seat) => seat.cursor !== undefined)
  const cpu = await cpuSeconds(server.pid)
  const herd = process.cpuUsage()
  const began = performance.now()
  for (const seat of seats) seat.socket.destroy()
  for (const [i, seat] of seats.entries()) {
    open(seat, server.port)
    if (i % 500 === 499) await sleep(0)
  }
  await allLive()
  const seconds = round((performance.now() - began) / 1000)
  const serverCpuSeconds = round((await cpuSeconds(server.pid)) - cpu)
  const used = process.cpuUsage(herd)
  await sleep(3_000)
  server.stop()
  await sleep(1_000)
  const newest = Math.max(...seats.map((seat) => seat.last))
  const behind = seats.filter((seat) => seat.last < newest).length
  for (const seat of seats) seat.socket.destroy()
  const { lost, repeated, snapshots, resyncs, errors } = tally
  const clean = lost + repeated + snapshots + resyncs + errors + behind === 0
  const clientCpuSeconds = round((used.user + used.system) / 1e6)
  return { sockets, seconds, serverCpuSeconds, clientCpuSeconds, behind, ...tally, clean }
}
