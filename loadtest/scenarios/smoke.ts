// Smoke: does every change written in every region reach every subscriber once, in order, and how fast?
// Owns: an open-loop writer per region and N subscribers in one process, so that both ends share one clock.
// Refuses: capacity claims; this is a check with a stopwatch. Ends non-zero on a gap, a repeat or a dropped iteration.
//
// The writer's stamp has millisecond resolution, so a latency below 1 ms only says "about zero".

import encoding from 'k6/encoding'
import exec from 'k6/execution'
import http from 'k6/http'
import { Counter, Rate, Trend } from 'k6/metrics'
import { setTimeout } from 'k6/timers'
import type { Finding } from '../lib/ledger.ts'
import { abort, readSettings } from '../lib/settings.ts'
import { Subscriber } from '../lib/subscriber.ts'

const settings = readSettings()
const prefix = `/microservices/loadtest-${settings.run}/`
/** Enough that a stall of half a second is ridden out: an open model with too few writers measures the generator. */
const WRITERS = 30
/** Sockets are up before the first write, and stay until the last one had time to arrive. */
const LEAD_S = 3
const TAIL_S = 5

const delivery = new Trend('watch_delivery', true)
const written = new Counter('watch_written_total')
const delivered = new Counter('watch_delivered_total')
const gaps = new Counter('watch_gap_total')
const duplicates = new Counter('watch_dup_total')
const disorder = new Counter('watch_order_total')
const bookmarks = new Counter('watch_bookmark_total')
const resumed = new Rate('resume_ok')
const failures = new Counter('watch_failure_total')

export const options = {
  scenarios: {
    subscribers: {
      executor: 'per-vu-iterations',
      exec: 'subscribe',
      vus: 1,
      iterations: 1,
      maxDuration: `${settings.seconds + LEAD_S + TAIL_S + 20}s`,
    },
    writers: {
      executor: 'constant-arrival-rate',
      exec: 'write',
      rate: settings.ratePerSecond,
      timeUnit: '1s',
      duration: `${settings.seconds}s`,
      startTime: `${LEAD_S}s`,
      preAllocatedVUs: WRITERS,
      maxVUs: WRITERS,
    },
  },
  thresholds: {
    watch_gap_total: ['count==0'],
    watch_dup_total: ['count==0'],
    watch_order_total: ['count==0'],
    watch_failure_total: ['count==0'],
    watch_bookmark_total: ['count>0'],
    watch_delivered_total: ['count>0'],
    resume_ok: ['rate==1'],
    dropped_iterations: ['count==0'],
  },
  summaryTrendStats: ['min', 'med', 'p(90)', 'p(99)', 'max'],
}

const found = (finding: Finding): void => {
  const counter = finding === 'gap' ? gaps : finding === 'duplicate' ? duplicates : disorder
  counter.add(1)
}

export function subscribe(): void {
  const sockets = Array.from(
    { length: settings.sockets },
    () =>
      new Subscriber(settings.gateway, prefix, {
        delivered: (cluster, latencyMs) => {
          delivered.add(1)
          delivery.add(latencyMs, { cluster })
        },
        found,
        outcome: (ok) => resumed.add(ok),
        bookmark: () => bookmarks.add(1),
        failed: (what) => {
          failures.add(1)
          console.error(what)
        },
      }),
  )
  for (const socket of sockets) socket.open('snapshot')
  // Half of them lose their connection in the middle of the writing and resume from their cursors.
  const middle = (LEAD_S + settings.seconds / 2) * 1_000
  setTimeout(() => {
    for (const [i, socket] of sockets.entries()) if (i % 2 === 0) socket.reconnect()
  }, middle)
  setTimeout(
    () => {
      for (const socket of sockets) socket.close()
    },
    (LEAD_S + settings.seconds + TAIL_S) * 1_000,
  )
}

const headers = { 'content-type': 'application/json' }
/** Next number per cluster of this writer; a writer is one VU, which runs one iteration at a time. */
const numbers = new Map<string, number>()

export function write(): void {
  const site = settings.sites[exec.scenario.iterationInTest % settings.sites.length]
  if (site === undefined) return
  const n = (numbers.get(site.cluster) ?? 0) + 1
  const key = encoding.b64encode(`${prefix}writer-${exec.vu.idInTest}`)
  const value = encoding.b64encode(JSON.stringify({ n, at: Date.now(), note: 'x'.repeat(200) }))
  const reply = http.post(`${site.etcd}/v3/kv/put`, JSON.stringify({ key, value }), { headers })
  // A put of unknown outcome would make every later number ambiguous.
  if (reply.status !== 200) abort(`a write to ${site.cluster} answered ${reply.status}`)
  numbers.set(site.cluster, n)
  written.add(1)
}

export function handleSummary(data: unknown): Record<string, string> {
  return { [settings.summary]: JSON.stringify(data) }
}
