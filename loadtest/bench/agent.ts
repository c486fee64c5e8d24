// What an agent can carry and what it costs, on a real etcd and a real hub, with a line of a given round trip between them.
// Owns: the cases and their figures. Refuses: judging content (tests do); rates are of this machine, ratios travel.
//
//   npm run bench:agent [-- --only start,throughput,puts,latency,memory,checkpoint] [--seconds 8] [--rtt 60] [--keys 1000000]
// Start and memory are the executable's (npm run build) where there is one, and the source's, which also compiles itself.

import { existsSync } from 'node:fs'
import { optionsOf } from '#deploy/command-line.ts'
import { anonymousBytes, nowUs, Observer, type RunningAgent, World, Writer } from './agent-world.ts'
import { cpuSeconds, round, sleep } from './gateway-processes.ts'
import { chosen, openReport, type Row, within } from './report.ts'

const args = optionsOf(
  { use: 'npm run bench:agent --', about: 'Measures one agent between a real etcd and a real hub.' },
  {
    only: { type: 'string', about: 'cases to run, by name, separated by commas' },
    seconds: { type: 'string', default: '8', about: 'length of one measurement' },
    rtt: { type: 'string', default: '60', about: 'milliseconds of delay to the hub' },
    keys: { type: 'string', default: '1000000', about: 'keys of the checkpoint case' },
    bytes: { type: 'string', default: '300', about: 'size of one value' },
    rate: { type: 'string', default: '1000', about: 'events per second of the latency case' },
    executable: {
      type: 'string',
      default: 'dist/deltawatch-agent',
      about: 'single executable to measure beside the sources',
    },
  },
)
const CASES = ['start', 'throughput', 'puts', 'latency', 'memory', 'checkpoint'] as const
const CASE_MS = 280_000
const FLOOR = { eventsPerSecond: 20_000, memoryMib: 80, readyMs: 500, addedP50: 2, addedP99: 6, checkpointRatio: 3 }
const seconds = Number(args.seconds)
const rtt = Number(args.rtt)
const bytes = Number(args.bytes)
const rate = Number(args.rate)
const MIB = 1024 * 1024
/** Services run for weeks: what is measured is compiled code. */
const WARM_SECONDS = 10
/** As fast as etcd answers: enough code is compiled soon, and a longer one leaves a backlog in the measurement. */
const RUSH_WARM_SECONDS = 2

const KINDS = existsSync(args.executable) ? [args.executable, undefined] : [undefined]
const kindOf = (executable: string | undefined): string => executable ?? 'source'

async function start(): Promise<void> {
  await using world = await World.start()
  const rows: (Row & { readonly medianMs: number })[] = []
  for (const executable of KINDS) {
    const times: number[] = []
    for (let n = 0; n < 6; n++) {
      await using agent = await world.agent(0, executable)
      times.push(agent.readyMs)
    }
    // The first one also warms the system's caches.
    const [first = Number.NaN, ...again] = times
    again.sort((a, b) => a - b)
    const medianMs = round(again[Math.floor(again.length / 2)] ?? Number.NaN)
    rows.push({
      agent: kindOf(executable),
      firstMs: round(first),
      medianMs,
      worstMs: round(again.at(-1) ?? Number.NaN),
    })
  }
  const median = rows[0]?.medianMs ?? Number.NaN
  const misses = median > FLOOR.readyMs ? [`ready after ${median} ms, floor ${FLOOR.readyMs} ms`] : []
  report.add('start: process to ready', rows, misses)
}

/** The same writing without an agent, with one beside its hub, and with one a round trip away. */
async function flow(name: string, ops: number, inFlight: number, floor: number): Promise<void> {
  await using world = await World.start()
  await using writer = await Writer.start(world)
  const load = { kind: 'rush', ops, inFlight, bytes, seconds } as const
  await writer.write({ ...load, seconds: RUSH_WARM_SECONDS })
  const alone = await writer.write(load)
  const rows: Row[] = [{ agent: 'none', written: Math.round(alone.events / alone.seconds) }]
  const misses: string[] = []
  for (const rttMs of [0, rtt]) {
    await using agent = await world.agent(rttMs)
    await agent.settled()
    await writer.write({ ...load, seconds: RUSH_WARM_SECONDS })
    await agent.settled()
    const row = await carried(agent, writer, load)
    rows.push({ agent: `${rttMs} ms`, ...row })
    if (rttMs === rtt && row.relayed < floor) misses.push(`${row.relayed} events/s at ${rttMs} ms, floor ${floor}`)
  }
  report.add(name, rows, misses)
}

async function carried(agent: RunningAgent, writer: Writer, load: Parameters<Writer['write']>[0]) {
  const { pid } = agent.process
  const cpu = await cpuSeconds(pid)
  const relayed = await agent.metric('deltawatch_agent_events_relayed_total')
  const began = performance.now()
  const written = await writer.write(load)
  await agent.settled()
  const took = (performance.now() - began) / 1000
  const events = (await agent.metric('deltawatch_agent_events_relayed_total')) - relayed
  const used = (await cpuSeconds(pid)) - cpu
  return {
    written: Math.round(written.events / written.seconds),
    relayed: Math.round(events / took),
    behindSeconds: round(took - written.seconds),
    agentCores: round(used / took),
    agentUsPerEvent: round((used / events) * 1e6),
    writerCores: round(written.cpuSeconds / written.seconds),
  }
}

async function latency(): Promise<void> {
  await using world = await World.start()
  await using writer = await Writer.start(world)
  await using agent = await world.agent(0)
  await using observer = await Observer.start(world)
  await writer.write({ kind: 'pace', perSecond: rate, seconds: WARM_SECONDS, bytes })
  const cpu = await cpuSeconds(agent.process.pid)
  const from = nowUs()
  await writer.write({ kind: 'pace', perSecond: rate, seconds, bytes })
  const to = nowUs()
  await sleep(500)
  const used = (await cpuSeconds(agent.process.pid)) - cpu
  const { direct, road: hub } = await observer.observed({ from, to })
  const added = { p50: hub.p50 - direct.p50, p99: hub.p99 - direct.p99 }
  const rows = [
    { at: 'etcd watch', events: direct.events, p50Ms: round(direct.p50), p99Ms: round(direct.p99) },
    { at: 'hub log', events: hub.events, p50Ms: round(hub.p50), p99Ms: round(hub.p99) },
    {
      at: 'added',
      p50Ms: round(added.p50),
      p99Ms: round(added.p99),
      agentUsPerEvent: round((used / hub.events) * 1e6),
    },
  ]
  const high = added.p50 > FLOOR.addedP50 || added.p99 > FLOOR.addedP99
  const miss = `added ${round(added.p50)} / ${round(added.p99)} ms, floor ${FLOOR.addedP50} / ${FLOOR.addedP99} ms`
  report.add(`latency at ${rate} events/s, write begun to seen`, rows, high ? [miss] : [])
}

async function memory(): Promise<void> {
  const rows: Row[] = []
  for (const executable of KINDS) {
    await using world = await World.start()
    await using writer = await Writer.start(world)
    await using agent = await world.agent(0, executable)
    const mib = async (): Promise<number> => round((await anonymousBytes(agent.process.pid)) / MIB)
    const fresh = await mib()
    const after: number[] = []
    for (let n = 1; n <= 2; n++) {
      await writer.write({ kind: 'rush', ops: 10, inFlight: 4, seconds: 60, events: 100_000, bytes })
      await agent.settled()
      await sleep(3_000)
      after.push(await mib())
    }
    rows.push({ agent: kindOf(executable), startMib: fresh, after100kMib: after[0], after200kMib: after[1] })
  }
  const last = Number(rows[0]?.after200kMib)
  const misses = last > FLOOR.memoryMib ? [`${last} MiB, floor ${FLOOR.memoryMib} MiB`] : []
  report.add('anonymous memory', rows, misses)
}

/** What one line of the agent's log says of a checkpoint. */
type Checkpoint = { readonly reason: string; readonly seconds: number; readonly bytes: number; readonly items: number }
async function nextCheckpoint(agent: RunningAgent, since: number, timeoutMs: number): Promise<Checkpoint> {
  const [line] = await agent.process.waitForLine(/.*"checkpoint written".*/, { since, timeoutMs })
  return JSON.parse(line) as Checkpoint
}

/** Live events beside a checkpoint of everything, against live events alone. */
async function checkpoint(): Promise<void> {
  const keys = Number(args.keys)
  await using world = await World.start()
  await using writer = await Writer.start(world)
  await writer.write({ kind: 'fill', keys, ops: 128, bytes })
  const first = await (async () => {
    await using agent = await world.agent(0)
    return await nextCheckpoint(agent, 0, 200_000)
  })()
  // As small as the agent accepts, which estimates generously: a routine checkpoint is due once the log has outgrown half of
  // what the stream leaves beside two checkpoints.
  await world.stream(Math.ceil(4.2 * 1.25 * first.bytes))
  await using agent = await world.agent(rtt)
  await agent.settled()
  await using observer = await Observer.start(world)
  const live = { kind: 'pace', perSecond: rate, bytes } as const
  await writer.write({ ...live, seconds: WARM_SECONDS })
  const calm = nowUs()
  await writer.write({ ...live, seconds })
  const alone = await observer.observed({ from: calm, to: nowUs() })
  const since = agent.process.lineCount()
  const begun = (): Promise<number> => agent.metric('deltawatch_agent_entries_total', '"snapshot-begin"')
  const before = await begun()
  while ((await begun()) === before) {
    await writer.write({ kind: 'rush', ops: 100, inFlight: 4, seconds: 5, events: 5_000, bytes })
  }
  const running = writer.write({ ...live, seconds: 100 })
  // What made it due drains first.
  await sleep(500)
  const from = nowUs()
  const routine = await nextCheckpoint(agent, since, 110_000)
  const to = nowUs()
  await sleep(1_000)
  writer.stop()
  await running
  const beside = await observer.observed({ from, to })
  const ratio = beside.road.p99 / alone.road.p99
  const row = (at: string, seen: typeof alone): Row => ({
    at,
    events: seen.road.events,
    p50Ms: round(seen.road.p50),
    p99Ms: round(seen.road.p99),
    etcdWatchP99Ms: round(seen.direct.p99),
  })
  const facts = {
    keys: routine.items,
    mib: round(routine.bytes / MIB),
    seconds: routine.seconds,
    p99Ratio: round(ratio),
  }
  report.add(
    `checkpoint beside ${rate} events/s at ${rtt} ms, write begun to seen at the hub`,
    [row('alone', alone), row('beside a checkpoint', beside), { at: 'checkpoint', ...facts }],
    ratio > FLOOR.checkpointRatio ? [`p99 ${round(ratio)}x, floor ${FLOOR.checkpointRatio}x`] : [],
  )
}

const RUN: Readonly<Record<(typeof CASES)[number], () => Promise<void>>> = {
  start,
  throughput: () => flow('throughput: transactions of 100 puts', 100, 8, FLOOR.eventsPerSecond),
  puts: () => flow('throughput: single puts', 1, 64, 0),
  latency,
  memory,
  checkpoint,
}

const report = await (async () => {
  await using world = await World.start()
  return openReport('agent', { etcd: world.etcd.version, 'nats-server': world.nats.version })
})()
for (const name of chosen(CASES, args.only)) await within(name, CASE_MS, RUN[name])
process.exitCode = report.misses.length === 0 ? 0 : 1
