// What the whole road adds to a watch straight on etcd: etcd, agent, hub and gateway as processes, one subscriber.
// Owns: the stack, and the stages' figures side by side. Refuses: floors.

import { sleep, round } from './gateway-processes.ts'
import { Stack } from '#test/e2e/stack.ts'
import { nowUs, Observer, Writer } from './agent-world.ts'
import type { Seen } from './agent-observer.ts'
import type { Row } from './report.ts'

export type Latency = { readonly rate: number; readonly seconds: number; readonly bytes: number }
export type Added = { readonly rows: readonly Row[]; readonly added: { readonly p50: number; readonly p99: number } }

/** Services run for weeks: what is measured is compiled code. */
const WARM_SECONDS = 10
const SETTLE_MS = 500

export async function addedLatency({ rate, seconds, bytes }: Latency): Promise<Added> {
  await using stack = await Stack.start()
  const { etcd } = stack.first
  await using writer = await Writer.start({ etcd })
  // The log's stream is made by whoever comes first.
  await sleep(2_000)
  await using observer = await Observer.start({ etcd, nats: stack.nats }, stack.url)
  await writer.write({ kind: 'pace', perSecond: rate, seconds: WARM_SECONDS, bytes })
  const from = nowUs()
  const written = await writer.write({ kind: 'pace', perSecond: rate, seconds, bytes })
  const to = nowUs()
  await sleep(SETTLE_MS)
  const { direct, road } = await observer.observed({ from, to })
  const row = (at: string, seen: Seen): Row => ({
    at,
    written: written.events,
    seen: seen.events,
    p50Ms: round(seen.p50),
    p99Ms: round(seen.p99),
  })
  const added = { p50: round(road.p50 - direct.p50), p99: round(road.p99 - direct.p99) }
  const rows = [
    row('etcd watch', direct),
    row('gateway subscriber', road),
    { at: 'added by all of it', p50Ms: added.p50, p99Ms: added.p99 },
  ]
  return { rows, added }
}
