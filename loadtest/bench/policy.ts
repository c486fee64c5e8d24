// What a policy decision costs: CPU time per event x class on one core, in this process, with nothing around it.
// Owns: the measured cases and the printing (a table on a terminal, a JSON line per figure on a pipe). Refuses: judging; floors are printed beside figures.
// Each case runs in rounds over the same prepared events; the best of the rounds is reported beside the median, because the machine is shared.

import { cpus } from 'node:os'
import { optionsOf } from '#deploy/command-line.ts'
import { keyFromBytes } from '../../protocol/bytes.ts'
import type { Key } from '../../protocol/bytes.ts'
import { classify } from '../../policies/engine/classes.ts'
import { compileBundle } from '../../policies/engine/compile.ts'
import { deliver } from '../../policies/engine/deliver.ts'
import { parsePolicy } from '../../policies/engine/document.ts'
import type { DeliverDecider, PolicyEvent } from '../../policies/engine/types.ts'
import { testDeps } from '../../policies/node/hashing.ts'

const args = optionsOf(
  { use: 'npm run bench:policy --', about: 'Measures what a policy decision costs in CPU time.' },
  { table: { type: 'boolean', default: false, about: 'a table, also into a pipe' } },
)
const NOW = Date.parse('2026-11-22T00:00:00Z')
const ROUNDS = 11
/** Long enough for the coarse clock of thread CPU time. */
const ROUND_MICROS = 80_000
const EVENTS = 4096

type Case = {
  readonly name: string
  readonly floorUs: number | undefined
  readonly decider: DeliverDecider
  readonly events: readonly PolicyEvent[]
}
type Row = {
  readonly name: string
  readonly bestUs: number
  readonly medianUs: number
  readonly floorUs: number | undefined
}

const encoder = new TextEncoder()
const bytes = (value: unknown): Uint8Array => encoder.encode(JSON.stringify(value))

/** A value of about 300 bytes with one field worth masking. */
const order = (i: number): Uint8Array =>
  bytes({
    state: 'paid',
    class: 'normal',
    sku: 'tea-tieguanyin',
    idNumber: '11010519491231002X',
    count: 1 + (i % 9),
    at: '2026-11-22T08:15:30.123Z',
    history: [
      { state: 'created', by: 'order-7f3c' },
      { state: 'reserved', by: 'inventory-19aa' },
      { state: 'paid', by: 'payment-02be' },
    ],
    total: { amount: '128.00', currency: 'CNY', tax: '7.24' },
    sample: true,
  })

function decider(rules: readonly unknown[]): DeliverDecider {
  const raw = {
    apiVersion: 'watch-policy/v1',
    kind: 'RegionPolicy',
    metadata: { name: 'bench', owner: 'bench' },
    spec: { source: { region: 'sz', regime: 'PIPL' }, mode: 'enforce', rules },
  }
  const policy = parsePolicy(raw, 'bench')
  if (!policy.ok) throw new Error(JSON.stringify(policy.error[0]))
  const bundle = compileBundle(
    [{ kind: 'policy', path: 'bench.yaml', digest: '0'.repeat(64), policy: policy.value }],
    testDeps(),
  )
  if (!bundle.ok) throw new Error(JSON.stringify(bundle.error[0]))
  const cls = classify(bundle.value, { subject: 's', region: 'sz', audiences: [], scopes: [], anonymous: true })
  if ('refused' in cls) throw new Error(cls.refused)
  return deliver(bundle.value, 'sz', cls)
}

const to = { regions: ['sz'] }
const allow = (id: string, keys: readonly string[], more: object = {}): unknown => ({
  id,
  effect: 'allow',
  match: { keys, to },
  ...more,
})

function rulesOf(count: number): unknown[] {
  return Array.from({ length: count }, (_, i) =>
    i % 10 === 9
      ? { id: `deny-${i}`, effect: 'deny', match: { keys: [`/app-${i - 1}/*/secret`] } }
      : allow(`allow-${i}`, [`/app-${i}/**`]),
  )
}

/** Keys spread over all rules, so that a large bundle is really walked. `fresh`: strings that were never seen, as decoding makes them. */
function keysFor(count: number): Key[] {
  return Array.from(
    { length: EVENTS },
    (_, i) => `/app-${(i * 7919) % count}/instance-${i % 97}/${i % 13 === 0 ? 'secret' : 'state'}` as Key,
  )
}

const plain = (keys: readonly Key[]): PolicyEvent[] =>
  keys.map((key) => ({ op: 'put', key, value: bytes({ on: true }), prevKnown: true }))
const orders = (): PolicyEvent[] =>
  Array.from({ length: EVENTS }, (_, i) => ({
    op: 'put',
    key: `/orders/${i}/status` as Key,
    value: order(i),
    prevKnown: true,
  }))

function cases(): Case[] {
  const detect = ['cn-id', 'hkid', 'mo-id', 'phone', 'email', 'bank-card']
  return [
    { name: '10 rules, allow or deny', floorUs: 1, decider: decider(rulesOf(10)), events: plain(keysFor(10)) },
    {
      name: '10,000 rules, allow or deny',
      floorUs: undefined,
      decider: decider(rulesOf(10_000)),
      events: plain(keysFor(10_000)),
    },
    {
      name: 'one condition on the value',
      floorUs: undefined,
      decider: decider([allow('a', ['/orders/*/status'], { when: 'value.class != "sensitive"' })]),
      events: orders(),
    },
    {
      name: 'one field masked',
      floorUs: 5,
      decider: decider([allow('a', ['/orders/*/status'], { transform: [{ field: '/idNumber', action: 'mask' }] })]),
      events: orders(),
    },
    {
      name: 'one field, keepLast 4',
      floorUs: 5,
      decider: decider([
        allow('a', ['/orders/*/status'], { transform: [{ field: '/idNumber', action: 'keepLast', n: 4 }] }),
      ]),
      events: orders(),
    },
    {
      name: 'one field, hmac',
      floorUs: undefined,
      decider: decider([
        allow('a', ['/orders/*/status'], { transform: [{ field: '/idNumber', action: 'hmac', key: 'k' }] }),
      ]),
      events: orders(),
    },
    {
      name: 'all detectors',
      floorUs: undefined,
      decider: decider([allow('a', ['/orders/*/status'], { transform: [{ detect, action: 'mask' }] })]),
      events: orders(),
    },
  ]
}

/** CPU time of this thread: what other processes of a shared machine take is not ours. */
function cpuMicros(): number {
  const { user, system } = process.threadCpuUsage()
  return user + system
}

function measure({ name, floorUs, decider: subject, events }: Case): Row {
  let kept = 0
  const round = (count: number): number => {
    const start = cpuMicros()
    for (let i = 0; i < count; i++)
      if (subject.decide(events[i % events.length] as PolicyEvent, NOW).effect !== 'deny') kept++
    return (cpuMicros() - start) / count
  }
  // The first rounds warm the compiler up and say how long a round must be.
  for (let warm = 0; warm < 5; warm++) round(20_000)
  const count = Math.min(2_000_000, Math.max(20_000, Math.round(ROUND_MICROS / Math.max(round(50_000), 0.05))))
  const times = Array.from({ length: ROUNDS }, () => round(count)).sort((a, b) => a - b)
  if (kept === 0) throw new Error(`${name}: nothing was allowed, so nothing was measured`)
  return { name, floorUs, bestUs: times[0] as number, medianUs: times[times.length >> 1] as number }
}

/** The first decision on a key pays for the walk through the index; later ones are remembered. */
function measureUnseen(rules: number): Row {
  const subject = decider(rulesOf(rules))
  const times: number[] = []
  let serial = 0
  for (let round = 0; round < 8; round++) {
    // Flat strings, as decoding a log entry makes them.
    const events = plain(
      Array.from({ length: 60_000 }, () =>
        keyFromBytes(encoder.encode(`/app-${(serial * 7919) % rules}/instance-${serial++}/state`)),
      ),
    )
    const start = cpuMicros()
    for (const event of events) subject.decide(event, NOW)
    if (round >= 2) times.push((cpuMicros() - start) / events.length)
  }
  times.sort((a, b) => a - b)
  return {
    name: `${rules.toLocaleString('en')} rules, keys never seen before`,
    floorUs: rules === 10 ? 1 : undefined,
    bestUs: times[0] as number,
    medianUs: times[times.length >> 1] as number,
  }
}

const rows = [...cases().map(measure), measureUnseen(10), measureUnseen(10_000)]
const ratio = (a: string, b: string): number =>
  (rows.find((r) => r.name === a)?.medianUs ?? 0) / (rows.find((r) => r.name === b)?.medianUs ?? 1)
const ratios = {
  'known keys: 10,000 rules / 10 rules': ratio('10,000 rules, allow or deny', '10 rules, allow or deny'),
  'unseen keys: 10,000 rules / 10 rules': ratio(
    '10,000 rules, keys never seen before',
    '10 rules, keys never seen before',
  ),
}
const about = {
  node: process.version,
  v8: process.versions.v8,
  cpu: cpus()[0]?.model ?? 'unknown',
  cores: cpus().length,
  at: new Date().toISOString(),
}

if (process.stdout.isTTY || args.table) {
  const lines = [
    `policy decisions, microseconds of CPU per event x class (node ${about.node}, ${about.cpu}, ${about.cores} cores)`,
    '',
    `${'case'.padEnd(42)}${'median'.padStart(9)}${'best'.padStart(9)}${'floor'.padStart(9)}`,
    ...rows.map(
      (r) =>
        `${r.name.padEnd(42)}${r.medianUs.toFixed(3).padStart(9)}${r.bestUs.toFixed(3).padStart(9)}${(r.floorUs === undefined ? '' : r.floorUs.toFixed(1)).padStart(9)}`,
    ),
    '',
    ...Object.entries(ratios).map(([name, value]) => `${name}: ${value.toFixed(2)} (floor 2)`),
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
} else {
  const unit = 'us of CPU'
  for (const row of rows) process.stdout.write(`${JSON.stringify({ bench: 'policy', ...about, unit, ...row })}\n`)
  for (const [name, value] of Object.entries(ratios))
    process.stdout.write(`${JSON.stringify({ bench: 'policy', ...about, unit: 'ratio', name, value, floor: 2 })}\n`)
}
