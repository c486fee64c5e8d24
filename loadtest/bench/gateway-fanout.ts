// Fan-out and interest: deliveries per CPU-second of the server, and latency, beside its peers in the same run.
// Owns: the peers (a plain `ws` broadcast, nats-server's WebSocket, Centrifugo where there is one), the runs, the ratios.
// Refuses: floors. The generator's CPU is shown: where it is near one core, latency is the generator's.

import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectNats } from '@nats-io/transport-node'
import { resolveTool } from '#deploy/toolchain/resolve.ts'
import { reservePort } from '#test/support/ports.ts'
import {
  cpuSeconds,
  endChild,
  forkHere,
  forkServer,
  nextMessage,
  round,
  rssBytes,
  type Server,
  sleep,
} from './gateway-processes.ts'

export type Fanout = {
  readonly sockets: number
  readonly rates: readonly number[]
  readonly seconds: number
  readonly bytes: number
  /** Every socket its own prefix: an event matches one of them. */
  readonly interest: boolean
}

export type FanoutRow = {
  readonly server: string
  readonly sockets: number
  readonly rate: number
  readonly delivered: number
  readonly expected: number
  readonly perCpuSecond: number
  readonly cpu: number
  readonly p50: number
  readonly p99: number
  readonly clientCpu: number
  readonly rssMiB: number
}
type Report = {
  readonly events: number
  readonly closed: number
  readonly cpuSeconds: number
  readonly p50: number
  readonly p99: number
}

async function natsServer({ bytes }: Fanout): Promise<Server> {
  const tool = await resolveTool('nats-server')
  const directory = await mkdtemp(join(tmpdir(), 'bench-nats-'))
  const tcp = await reservePort()
  const ws = await reservePort()
  const config = join(directory, 'nats.conf')
  await writeFile(config, `listen: 127.0.0.1:${tcp.port}\nwebsocket { listen: "127.0.0.1:${ws.port}", no_tls: true }\n`)
  const child = spawn(tool.path, ['-c', config], { stdio: 'ignore' })
  const nc = await connectNats({ servers: `127.0.0.1:${tcp.port}`, waitOnFirstConnect: true, reconnectTimeWait: 100 })
  let timer: NodeJS.Timeout | undefined
  return {
    name: 'nats',
    pid: child.pid as number,
    port: ws.port,
    start(rate) {
      const started = performance.now()
      let sent = 0
      const body = 'x'.repeat(Math.max(0, bytes - 30))
      timer = setInterval(() => {
        const due = Math.floor(((performance.now() - started) / 1000) * rate)
        for (; sent < due; sent++)
          nc.publish('bench.a', `{"t":"${String(process.hrtime.bigint() / 1000n).padStart(16, '0')}","m":"${body}"}`)
      }, 1)
    },
    stop: () => clearInterval(timer),
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await nc.close()
      await endChild(child)
      await rm(directory, { recursive: true, force: true })
      await tcp[Symbol.asyncDispose]()
      await ws[Symbol.asyncDispose]()
    },
  }
}

async function measure(server: Server, { sockets, rates, seconds, interest }: Fanout): Promise<FanoutRow[]> {
  const prefix = interest ? '/microservices/%/' : '/microservices/'
  const client = forkHere('gateway-client.ts', [server.name, String(server.port), String(sockets), prefix])
  const rows: FanoutRow[] = []
  try {
    await nextMessage(client)
    for (const rate of rates) {
      server.start(rate)
      await sleep(1_000)
      client.send('reset')
      const before = await cpuSeconds(server.pid)
      const began = performance.now()
      await sleep(seconds * 1000)
      const cpu = (await cpuSeconds(server.pid)) - before
      const took = (performance.now() - began) / 1000
      client.send('report')
      const report = (await nextMessage(client)) as Report
      server.stop()
      await sleep(300)
      rows.push({
        server: server.name,
        sockets,
        rate,
        delivered: report.events,
        expected: Math.round(rate * took * (interest ? 1 : sockets)),
        perCpuSecond: Math.round(report.events / cpu),
        cpu: round(cpu / took),
        p50: round(report.p50),
        p99: round(report.p99),
        clientCpu: round(report.cpuSeconds / took),
        rssMiB: Math.round((await rssBytes(server.pid)) / 1048576),
      })
    }
  } finally {
    await endChild(client)
  }
  return rows
}

export const PEERS = ['deltawatch', 'ws', 'nats'] as const
export type Peer = (typeof PEERS)[number]

/** Every server through every rate, one server at a time. */
export async function fanout(wanted: Fanout, peers: readonly Peer[]): Promise<FanoutRow[]> {
  const load = { bytes: wanted.bytes, keys: wanted.interest ? wanted.sockets : 100 }
  const rows: FanoutRow[] = []
  for (const peer of peers) {
    await using server = await (peer === 'nats' ? natsServer(wanted) : forkServer(peer, load))
    rows.push(...(await measure(server, wanted)))
  }
  return rows
}

/** Deliveries per CPU-second against a peer's at the same rate; undefined without such a row. */
export function ratio(rows: readonly FanoutRow[], row: FanoutRow, peer: Peer): number | undefined {
  const other = rows.find((one) => one.server === peer && one.rate === row.rate && one.sockets === row.sockets)
  return other === undefined || other === row ? undefined : round(row.perCpuSecond / other.perCpuSecond)
}
