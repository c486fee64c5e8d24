// Two hundred subscribers stop reading while 5,000 events per second arrive: what they cost the gateway, the kernel and
// the one herd that reads.
// Owns: the stalled sockets, the samples of RSS, of TCP memory and of bytes in flight, and the verdict.
// Refuses: the server and the herd (gateway-server.ts, gateway-client.ts run as processes of their own), and printing.

import { readFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { DEFAULT_LIMITS } from '#gateway/session/limits.ts'
import { endChild, forkHere, forkServer, nextMessage, round, rssBytes, sleep } from './gateway-processes.ts'

const LOAD = { bytes: 290, keys: 1_000 }
const BASELINE_MS = 10_000
const SAMPLE_MS = 500
const PAGE = 4096
const MIB = 1024 * 1024
/** A stalled reader is reset once its oldest mark is this old; the wheel turns every so often, and marks come late. */
const RESOLVED_MS = DEFAULT_LIMITS.slowReaderMs + DEFAULT_LIMITS.heartbeatMs

type Report = { readonly p50: number; readonly p99: number; readonly events: number }

function frame(payload: object): Buffer {
  const body = Buffer.from(JSON.stringify(payload))
  const head = body.length < 126 ? [0x81, 0x80 | body.length] : [0x81, 0xfe, body.length >> 8, body.length & 255]
  return Buffer.concat([Buffer.from(head), Buffer.alloc(4), body])
}

/** Upgrades, says hello, watches everything and never reads. */
function stall(port: number): Socket {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true })
  socket.on('error', () => undefined)
  socket.pause()
  socket.write(
    `GET /v1/watch HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: deltawatch.v1.json\r\n\r\n`,
  )
  socket.write(frame({ type: 'hello', client: 'stalled', versions: [1] }))
  socket.write(frame({ type: 'watch', id: 'w', prefix: '/microservices/', start: 'now' }))
  return socket
}

/** Of the whole machine: nothing else may use the network much meanwhile. */
async function tcpBytes(): Promise<number> {
  return Number(/TCP: .*mem (\d+)/.exec(await readFile('/proc/net/sockstat', 'utf8'))?.[1] ?? 0) * PAGE
}

async function metric(port: number, pattern: RegExp): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`)
  return Number(pattern.exec(await response.text())?.[1] ?? 0)
}

export type Stalled = {
  readonly stalled: number
  readonly rate: number
  readonly healthy: number
  readonly rssGrowthMiB: number
  readonly tcpMemoryMiB: number
  readonly inFlightMiB: number
  readonly budgetMiB: number
  readonly resolved: number
  readonly resolvedAfterS: number
  readonly p99BeforeMs: number
  readonly p99DuringMs: number
  readonly p99AfterMs: number
  readonly deliveries: number
}

/** The figures, and in words which bounds were passed. */
export async function stalledReaders(
  stalled: number,
  rate: number,
  healthy: number,
): Promise<{ readonly row: Stalled; readonly misses: readonly string[] }> {
  await using server = await forkServer('deltawatch', LOAD)
  const herd = forkHere('gateway-client.ts', ['deltawatch', String(server.port), String(healthy)])
  const sockets: Socket[] = []
  try {
    await nextMessage(herd)
    server.start(rate)
    await sleep(2_000)
    const measure = async (ms: number, during: () => Promise<void> = () => sleep(ms)): Promise<Report> => {
      herd.send('reset')
      await during()
      herd.send('report')
      return (await nextMessage(herd)) as Report
    }
    const before = await measure(BASELINE_MS)
    const rssBefore = await rssBytes(server.pid)
    const tcpBefore = await tcpBytes()
    for (let i = 0; i < stalled; i++) sockets.push(stall(server.port))
    const began = performance.now()
    const most = { rss: 0, tcp: 0, inFlight: 0 }
    const slow = /^deltawatch_disconnect_total\{code="SlowReader"\} (\d+)/m
    let resolved = 0
    let resolvedAfterMs = 0
    const during = await measure(0, async () => {
      while (performance.now() - began < RESOLVED_MS + 5_000) {
        await sleep(SAMPLE_MS)
        most.rss = Math.max(most.rss, (await rssBytes(server.pid)) - rssBefore)
        most.tcp = Math.max(most.tcp, (await tcpBytes()) - tcpBefore)
        most.inFlight = Math.max(most.inFlight, await metric(server.port, /^deltawatch_bytes_in_flight (\d+)/m))
        resolved = await metric(server.port, slow)
        resolvedAfterMs = performance.now() - began
        if (resolved >= stalled) break
      }
    })
    const after = await measure(BASELINE_MS)
    // Counted once each, also ten seconds later.
    resolved = await metric(server.port, slow)
    server.stop()
    const budget = DEFAULT_LIMITS.maxBytesInFlight
    const row: Stalled = {
      stalled,
      rate,
      healthy,
      rssGrowthMiB: round(most.rss / MIB),
      tcpMemoryMiB: round(most.tcp / MIB),
      inFlightMiB: round(most.inFlight / MIB),
      budgetMiB: budget / MIB,
      resolved,
      resolvedAfterS: round(resolvedAfterMs / 1000),
      p99BeforeMs: round(before.p99),
      p99DuringMs: round(during.p99),
      p99AfterMs: round(after.p99),
      deliveries: before.events + during.events + after.events,
    }
    // A millisecond is what a timer may be off on a machine that does other things as well.
    const p99Floor = round(before.p99 * 1.1 + 1)
    const lateAfterS = (RESOLVED_MS + 2 * SAMPLE_MS) / 1000
    const misses = [
      ...(most.rss > budget ? [`RSS grew by ${row.rssGrowthMiB} MiB, floor ${row.budgetMiB} MiB`] : []),
      ...(most.tcp > budget ? [`the kernel held ${row.tcpMemoryMiB} MiB, floor ${row.budgetMiB} MiB`] : []),
      ...(most.inFlight > budget ? [`${row.inFlightMiB} MiB were in flight, floor ${row.budgetMiB} MiB`] : []),
      ...(resolved === stalled ? [] : [`${resolved} of ${stalled} stalled readers were resolved and counted`]),
      ...(row.resolvedAfterS > lateAfterS ? [`resolved after ${row.resolvedAfterS} s, floor ${lateAfterS} s`] : []),
      ...(during.p99 > p99Floor ? [`the healthy p99 was ${row.p99DuringMs} ms, floor ${p99Floor} ms`] : []),
    ]
    return { row, misses }
  } finally {
    for (const socket of sockets) socket.destroy()
    await endChild(herd)
  }
}
