// How fast a fresh gateway takes in a log: 1 M events on a real nats-server, read by one source from nothing.
// Owns: writing the log the way an agent gathers it under load, the measurement, the floor.
// Refuses: judging content (tests do). Rates are of this machine; CPU per event is the figure that travels.
//
//   node loadtest/bench/catchup.ts [--events 1000000] [--value 300] [--keys 100000] [--per-revision 4] [--entry-kib 256]
// Exits 1 below the floor (100,000 events/s; --floor changes it, 0 turns it off).

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { optionsOf } from '#deploy/command-line.ts'
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { systemClock } from '#kit/clock.ts'
import { silentLogger } from '#kit/logger.ts'
import { createMetrics } from '#kit/metrics.ts'
import { openNats } from '#kit/nats.ts'
import { systemRandom } from '#kit/random.ts'
import type { RevisionRecord } from '#protocol/log/entry.ts'
import { streamConfig } from '#protocol/log/stream.ts'
import { type ClusterId, logSubject, type Region } from '#protocol/subjects.ts'
import { LogSources } from '#gateway/upstream/sources.ts'
import { startNats } from '#test/support/nats.ts'
import { round } from './gateway-processes.ts'
import { openReport } from './report.ts'
import { type Change, LogWriter } from '../../test/unit/gateway-upstream/log-writer.ts'

const args = optionsOf(
  { use: 'npm run bench:catchup --', about: 'Measures how fast a gateway reads a log from its beginning.' },
  {
    events: { type: 'string', default: '1000000', about: 'events in the log' },
    value: { type: 'string', default: '300', about: 'bytes of one value' },
    keys: { type: 'string', default: '100000', about: 'different keys' },
    'per-revision': { type: 'string', default: '4', about: 'events of one revision' },
    'entry-kib': { type: 'string', default: '256', about: 'size of one log entry' },
    floor: { type: 'string', default: '100000', about: 'events per second below which the run fails' },
    'write-to': {
      type: 'string',
      about: 'the other half of this program: write the log to this server and say what was written',
    },
  },
)
const total = Number(args.events)
const valueBytes = Number(args.value)
const keys = Number(args.keys)
const perRevision = Number(args['per-revision'])
const entryBytes = Number(args['entry-kib']) * 1024
const floor = Number(args.floor)
const mib = (bytes: number): number => Math.round(bytes / 1024 / 1024)

const cluster = 'bench' as ClusterId
type Written = { readonly entries: number; readonly bytes: number; readonly head: string }

async function writeLog(servers: string): Promise<Written> {
  const nc = await connect({ servers })
  const config = streamConfig({ cluster, maxBytes: 8 * 1024 ** 3, maxMessageBytes: 1024 * 1024, replicas: 1 })
  const jsm = await jetstreamManager(nc)
  await jsm.streams.add(config as unknown as Parameters<typeof jsm.streams.add>[0])
  const js = jetstream(nc)
  const stored: Uint8Array[] = []
  const writer = new LogWriter({ sink: (_, data) => stored.push(data) })
  let entries = 0
  let bytes = 0
  const flush = async (): Promise<void> => {
    const batch = stored.splice(0)
    entries += batch.length
    for (const data of batch) bytes += data.length
    await Promise.all(batch.map((data) => js.publish(logSubject(cluster), data)))
  }
  writer.commit([{ op: 'put', key: '/microservices/start', value: 'x' }])
  writer.checkpoint('epoch')
  const value = new Uint8Array(valueBytes).map((_, i) => 32 + (i % 90))
  let gathered: RevisionRecord[] = []
  let size = 0
  for (let n = 0; n < total; ) {
    const changes: Change[] = []
    for (let i = 0; i < perRevision && n < total; i++, n++) {
      const key = `/microservices/service-${String((n * 7919) % keys).padStart(9, '0')}`
      // One in a hundred is a delete, so that the index sees inserts and deletes all the time.
      changes.push(n % 100 === 99 ? { op: 'delete', key } : { op: 'put', key, value })
    }
    gathered.push(writer.commit(changes))
    size += changes.length * (valueBytes + 60)
    if (size < entryBytes && n < total) continue
    writer.append(writer.eventsBody(gathered))
    gathered = []
    size = 0
    if (stored.length >= 32) await flush()
  }
  await flush()
  await nc.close()
  return { entries, bytes, head: String(writer.position) }
}

/** In a process of its own, so that its heap and its garbage are not measured. */
async function writeApart(servers: string): Promise<Written> {
  const child = spawn(
    process.execPath,
    [fileURLToPath(import.meta.url), ...process.argv.slice(2), '--write-to', servers],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  let out = ''
  child.stdout.on('data', (chunk) => {
    out += String(chunk)
  })
  await once(child, 'close')
  return JSON.parse(out) as Written
}

async function measure(): Promise<void> {
  await using nats = await startNats()
  const log = await writeApart(nats.directUrl)
  const metrics = createMetrics()
  const clock = systemClock()
  const logger = silentLogger()
  await using link = openNats({ servers: [nats.directUrl], name: 'bench', inboxPrefix: '_INBOX_bench' }, { logger })
  await link.connected()
  globalThis.gc?.()
  const before = { rss: process.memoryUsage.rss(), cpu: process.cpuUsage(), at: performance.now() }
  await using sources = new LogSources({
    link,
    inboxPrefix: '_INBOX_bench',
    clock,
    random: systemRandom(),
    logger,
    metrics,
  })
  const source = sources.add(cluster, 'bench' as unknown as Region)
  const { promise, resolve } = Promise.withResolvers<void>()
  const listening = source.listen(() => {
    if (source.status.revision === log.head) resolve()
  })
  await promise
  listening[Symbol.dispose]()
  const seconds = (performance.now() - before.at) / 1000
  const cpu = process.cpuUsage(before.cpu)
  const rate = total / seconds
  const text = await metrics.expose()
  const gauge = (name: string): number => Number(new RegExp(`^${name}\\{[^}]*\\} (\\S+)`, 'm').exec(text)?.[1] ?? 'NaN')
  const report = openReport('catchup', { 'nats-server': nats.version })
  const row = {
    events: total,
    entries: log.entries,
    logMib: mib(log.bytes),
    perRevision,
    keys,
    eventsPerSecond: Math.round(rate),
    usPerEvent: round((cpu.user + cpu.system) / total),
    rssMib: mib(process.memoryUsage.rss()),
    rssBeforeMib: mib(before.rss),
    stateMib: mib(gauge('deltawatch_state_bytes')),
    ringMib: mib(gauge('deltawatch_ring_bytes')),
  }
  const misses = rate < floor ? [`${Math.round(rate)} events/s, floor ${floor}`] : []
  report.add(`catch-up of a fresh gateway, values of ${valueBytes} B`, [row], misses)
  if (misses.length > 0) process.exitCode = 1
}

const writeTo = args['write-to']
if (writeTo === undefined) await measure()
else process.stdout.write(`${JSON.stringify(await writeLog(writeTo))}\n`)
