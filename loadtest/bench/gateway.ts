// The gateway's benchmarks, one command: every case bounded in time, figures as tables or JSON lines.
// Owns: the cases, their floors, and which run. Refuses: how each is measured (gateway-*.ts, catchup.ts).
// The machine is shared by server, generator and peers: ratios of one run travel, absolute figures do not.
//
//   npm run bench:gateway [-- --only fanout,wide,interest,latency,isolation,stalled,storm,idle,catchup] [--seconds 5] [--peers deltawatch,ws,nats]

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { optionsOf } from '#deploy/command-line.ts'
import wsPackage from 'ws/package.json' with { type: 'json' }
import { resolveTool } from '#deploy/toolchain/resolve.ts'
import { fanout, PEERS, ratio } from './gateway-fanout.ts'
import { idle } from './gateway-idle.ts'
import { isolation } from './gateway-isolation.ts'
import { addedLatency } from './gateway-latency.ts'
import { openFiles, round } from './gateway-processes.ts'
import { stalledReaders } from './gateway-stalled.ts'
import { storm } from './gateway-storm.ts'
import { chosen, openReport, within } from './report.ts'

const args = optionsOf(
  {
    use: 'npm run bench:gateway --',
    about: 'Compares the gateway with its peers on this machine, as ratios in one run.',
  },
  {
    only: { type: 'string', about: 'cases to run, by name, separated by commas' },
    peers: { type: 'string', about: 'who to compare with, separated by commas' },
    seconds: { type: 'string', default: '5', about: 'length of one measurement' },
    bytes: { type: 'string', default: '300', about: 'size of one value' },
    sockets: { type: 'string', default: '10000', about: 'of the storm and of the idle connections' },
    events: { type: 'string', default: '1000000', about: 'of the catch-up' },
  },
)
const CASES = ['fanout', 'wide', 'interest', 'latency', 'isolation', 'stalled', 'storm', 'idle', 'catchup'] as const
const CASE_MS = 180_000
const FLOOR = { natsRatio: 1.5, stormSeconds: 10, idleKib: 12, addedP50: 2, addedP99: 6, isolationMs: 10 }
/** What a process opens besides its sockets, generously. */
const FILES_BESIDE = 200
const seconds = Number(args.seconds)
const bytes = Number(args.bytes)
const sockets = Number(args.sockets)
const peers = chosen(PEERS, args.peers)

async function spread(name: string, herd: number, rates: readonly number[]): Promise<void> {
  const rows = await fanout({ sockets: herd, rates, seconds, bytes, interest: false }, peers)
  const told = rows.map((row) => ({ ...row, vsWs: ratio(rows, row, 'ws'), vsNats: ratio(rows, row, 'nats') }))
  const low = told.filter(({ server, vsNats }) => server === 'deltawatch' && (vsNats ?? Infinity) < FLOOR.natsRatio)
  const misses = low.map(({ rate, vsNats }) => `${rate}/s: ${vsNats}x of NATS, floor ${FLOOR.natsRatio}x`)
  report.add(name, told, misses)
}

/** The same events once with few subscribers and once with many, each on its own prefix: cost must follow matches. */
async function interest(): Promise<void> {
  const few = await fanout({ sockets: 500, rates: [2_000], seconds, bytes, interest: true }, ['deltawatch'])
  const many = await fanout({ sockets: 5_000, rates: [2_000], seconds, bytes, interest: true }, ['deltawatch'])
  const rows = [...few, ...many]
  const costs = rows.map((row) => ({ ...row, usPerEvent: round((row.cpu / row.rate) * 1e6) }))
  report.add('interest: one prefix per socket, 2,000 events/s', costs)
}

async function latency(): Promise<void> {
  const { rows, added } = await addedLatency({ rate: 1_000, seconds, bytes })
  const high = added.p50 > FLOOR.addedP50 || added.p99 > FLOOR.addedP99
  const miss = `added ${added.p50} / ${added.p99} ms, floor ${FLOOR.addedP50} / ${FLOOR.addedP99} ms`
  report.add('latency at 1,000 events/s, write begun to seen', rows, high ? [miss] : [])
}

async function isolated(): Promise<void> {
  const { rows, addedP99 } = await isolation({ rate: 50, flood: 10, sockets: 100, seconds, bytes })
  const miss = `the others' p99 rose by ${addedP99} ms, floor ${FLOOR.isolationMs} ms`
  report.add('isolation: one of three clusters flooded 10x', rows, addedP99 > FLOOR.isolationMs ? [miss] : [])
}

async function stalls(): Promise<void> {
  const { row, misses } = await stalledReaders(200, 5_000, 20)
  report.add('stalled readers: 200 during 5,000 events/s, 20 that read', [row], misses)
}

async function storms(): Promise<void> {
  const row = await storm(sockets, 2)
  const misses: string[] = []
  if (row.seconds > FLOOR.stormSeconds) misses.push(`all live after ${row.seconds} s, floor ${FLOOR.stormSeconds} s`)
  if (!row.clean) misses.push('something was lost, repeated or sent anew')
  report.add('reconnect storm: all sockets dropped at once', [row], misses)
}

async function idles(): Promise<void> {
  const row = await idle(sockets)
  const { kibPerConnection: kib } = row
  report.add('idle connections', [row], kib > FLOOR.idleKib ? [`${kib} KiB each, floor ${FLOOR.idleKib} KiB`] : [])
}

/** A program of its own: it measures its own process. */
async function catchUp(): Promise<void> {
  const child = fork(fileURLToPath(new URL('catchup.ts', import.meta.url)), ['--events', args.events])
  const [code] = (await once(child, 'exit')) as [number | null]
  if (code !== 0) process.exitCode = 1
}

const RUN: Readonly<Record<(typeof CASES)[number], () => Promise<void>>> = {
  fanout: () => spread('fan-out: 1,000 sockets', 1_000, [50, 100, 400]),
  wide: () => spread('fan-out: 5,000 sockets', 5_000, [20]),
  interest,
  latency,
  isolation: isolated,
  stalled: stalls,
  storm: storms,
  idle: idles,
  catchup: catchUp,
}

/** Said before anything runs: a socket is a file on both sides, and the server and the storm are one process each. */
function refuseTooManySockets(cases: readonly string[]): void {
  const allowed = openFiles()
  const needed = sockets + FILES_BESIDE
  const name = cases.find((one) => one === 'idle' || one === 'storm')
  if (name === undefined || needed <= allowed) return
  process.stderr.write(
    `${name} with ${sockets} sockets needs ${needed} open files in one process, ${allowed} are allowed here: ` +
      `raise the limit (ulimit -n ${needed}; LimitNOFILE, or --ulimit nofile of a container) or give --sockets ${allowed - FILES_BESIDE}\n`,
  )
  process.exit(2)
}

const cases = chosen(CASES, args.only)
refuseTooManySockets(cases)
const [nats, etcd] = await Promise.all([resolveTool('nats-server'), resolveTool('etcd')])
const report = openReport('gateway', { ws: wsPackage.version, 'nats-server': nats.version, etcd: etcd.version })
for (const name of cases) await within(name, CASE_MS, RUN[name])
if (report.misses.length > 0) process.exitCode = 1
