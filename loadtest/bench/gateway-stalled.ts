// Two hundred subscribers stop reading while 5,000 events per second arrive: what they cost the gateway, the kernel and
// the one herd that reads.
// Owns: the stalled sockets, the samples of RSS, of TCP memory and of bytes in flight, and the verdict.
// Refuses: the server and the herd (gateway-server.ts, gateway-client.ts run as processes of their own).
//
//   node loadtest/bench/gateway-stalled.ts [stalled=200] [rate=5000] [healthy=20]      about a minute; exits 1 when a bound is passed

import { readFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { DEFAULT_LIMITS } from '#gateway/session/limits.ts'
import { endChild, forkHere, forkServer, nextMessage, round, rssBytes, sleep } from './gateway-processes.ts'

const [stalled = 200, rate = 5_000, healthy = 20] = process.argv.slice(2).map(Number)
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

await using server = await forkServer('deltawatch', LOAD)
const herd = forkHere('gateway-client.ts', ['deltawatch', String(server.port), String(healthy)])
let failures: readonly string[] = []
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
  const sockets = Array.from({ length: stalled }, () => stall(server.port))
  const began = performance.now()
  const most = { rss: 0, tcp: 0, inFlight: 0 }
  let resolved = 0
  let resolvedAfterMs = 0
  const during = await measure(0, async () => {
    while (performance.now() - began < RESOLVED_MS + 5_000) {
      await sleep(SAMPLE_MS)
      most.rss = Math.max(most.rss, (await rssBytes(server.pid)) - rssBefore)
      most.tcp = Math.max(most.tcp, (await tcpBytes()) - tcpBefore)
      most.inFlight = Math.max(most.inFlight, await metric(server.port, /^deltawatch_bytes_in_flight (\d+)/m))
      resolved = await metric(server.port, /^deltawatch_disconnect_total\{code="SlowReader"\} (\d+)/m)
      resolvedAfterMs = performance.now() - began
      if (resolved >= stalled) break
    }
  })
  const after = await measure(BASELINE_MS)
  server.stop()
  for (const socket of sockets) socket.destroy()
  const budget = DEFAULT_LIMITS.maxBytesInFlight
  const row = {
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
  process.stdout.write(`${JSON.stringify(row)}\n`)
  failures = [
    ...(most.rss > budget ? ['RSS grew beyond the budget'] : []),
    ...(most.tcp > budget ? ['the kernel held more than the budget'] : []),
    ...(most.inFlight > budget ? ['more was in flight than the budget allows'] : []),
    ...(resolved === stalled ? [] : [`${resolved} of ${stalled} stalled readers were resolved and counted`]),
    ...(resolvedAfterMs > RESOLVED_MS + 2 * SAMPLE_MS ? ['stalled readers were resolved too late'] : []),
    // A millisecond is what a timer may be off on a machine that does other things as well.
    ...(during.p99 > before.p99 * 1.1 + 1 ? ['the healthy p99 rose by more than a tenth'] : []),
  ]
} finally {
  await endChild(herd)
}
for (const failure of failures) process.stderr.write(`${failure}\n`)
process.exitCode = failures.length === 0 ? 0 : 1
