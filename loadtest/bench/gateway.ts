// Fan-out of the gateway's subscriber side: deliveries per CPU-second of the server, and latency, beside two peers.
// Owns: the cases, the runs and the printing (a table on a terminal, JSON on a pipe). Refuses: judging; floors stand beside figures.
// Peers in the same run on the same machine: a plain `ws` broadcast and nats-server's WebSocket. The generator's CPU is shown:
// where it is near one core, latency is the generator's.
//
//   npm run bench:gateway [-- --sockets 1000 --seconds 5 --rates 50,100,400 --only deltawatch,ws,nats --bytes 300]

import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { connect as connectNats } from '@nats-io/transport-node'
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

const { values: args } = parseArgs({
  options: {
    sockets: { type: 'string', default: '1000' },
    seconds: { type: 'string', default: '5' },
    rates: { type: 'string', default: '50,100,400' },
    bytes: { type: 'string', default: '300' },
    only: { type: 'string', default: 'deltawatch,ws,nats' },
    nats: { type: 'string', default: '.deltawatch/toolchain/bin/nats-server' },
    /** One prefix per subscriber instead of one for all. */
    interest: { type: 'boolean', default: false },
  },
})
const sockets = Number(args.sockets)
const seconds = Number(args.seconds)
const bytes = Number(args.bytes)
const rates = args.rates.split(',').map(Number)
const load = { bytes, keys: args.interest ? sockets : 100 }

type Row = {
  readonly server: string
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

async function natsServer(): Promise<Server> {
  const directory = await mkdtemp(join(tmpdir(), 'bench-nats-'))
  const tcp = await reservePort()
  const ws = await reservePort()
  const config = join(directory, 'nats.conf')
  await writeFile(config, `listen: 127.0.0.1:${tcp.port}\nwebsocket { listen: "127.0.0.1:${ws.port}", no_tls: true }\n`)
  const child = spawn(args.nats, ['-c', config], { stdio: 'ignore' })
  const nc = await connectNats({ servers: `127.0.0.1:${tcp.port}`, waitOnFirstConnect: true, reconnectTimeWait: 100 })
  let timer: NodeJS.Timeout | undefined
  return {
    name: 'nats-ws',
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

async function measure(server: Server): Promise<Row[]> {
  const kind = server.name === 'nats-ws' ? 'nats' : server.name
  const prefix = args.interest ? '/microservices/%/' : '/microservices/'
  const client = forkHere('gateway-client.ts', [kind, String(server.port), String(sockets), prefix])
  const rows: Row[] = []
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
        rate,
        delivered: report.events,
        expected: Math.round(rate * took * (args.interest ? 1 : sockets)),
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

const makers: Record<string, () => Promise<Server>> = {
  deltawatch: () => forkServer('deltawatch', load),
  ws: () => forkServer('ws', load),
  nats: natsServer,
}
const rows: Row[] = []
for (const name of args.only.split(',')) {
  const make = makers[name]
  if (make === undefined) throw new Error(`--only: ${name} is none of ${Object.keys(makers).join(', ')}`)
  await using server = await make()
  rows.push(...(await measure(server)))
}

const ratio = (row: Row, peer: string): string => {
  const other = rows.find((r) => r.server === peer && r.rate === row.rate)
  return other === undefined || row.server !== 'deltawatch'
    ? ''
    : `${(row.perCpuSecond / other.perCpuSecond).toFixed(2)}x`
}
if (process.stdout.isTTY) {
  process.stdout.write(
    `${sockets} sockets, ${bytes} B values, ${seconds} s each; ${cpus()[0]?.model} x${cpus().length}, node ${process.versions.node}\n`,
  )
  // oxlint-disable-next-line no-console -- a table on a terminal is what this program is for
  console.table(rows.map((row) => ({ ...row, 'vs ws': ratio(row, 'ws'), 'vs nats': ratio(row, 'nats-ws') })))
} else {
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, node: process.versions.node }
  process.stdout.write(`${JSON.stringify({ sockets, bytes, seconds, machine, rows }, null, 2)}\n`)
}
