// A watch that has much to catch up with: more than one response holds, in pieces, over a link that breaks in between.
// Owns: making the backlog while the agent is away, and breaking the link at the moment that matters.

import { setTimeout as wait } from 'node:timers/promises'
import type { WriteOp } from '../judge/etcd-http.ts'
import type { World } from './world.ts'

/** etcd answers a watch that is behind with at most this many revisions at a time, under a header that names its head. */
const PER_RESPONSE = 1_000
/** More than the replies to connecting and reading take: events are on their way. */
const EVENTS_FLOW_BYTES = 40_000

/** Several responses' worth of revisions, written while the agent is dead. */
export async function backlog(world: World): Promise<void> {
  const { writer } = world.judged
  await world.writes(80)
  await world.killAgent()
  await writer.stop()
  await writer.write(2 * PER_RESPONSE + 200 + world.roll(300))
  await world.cluster.agent?.restart()
  writer.start()
  await world.writes(20)
}

/** The link breaks after the watch was answered and before its events are through. */
export async function brokenCatchUp(world: World): Promise<void> {
  const { writer } = world.judged
  const { etcd: link } = world.links
  await world.writes(80)
  await writer.stop()
  await link.refuse()
  link.cut('reset')
  const value = Buffer.alloc(4 * 1024, 'v')
  const burst = Array.from({ length: 300 }, (_, i): WriteOp => ({ op: 'put', key: `/burst/${i % 50}`, value }))
  await Promise.all(burst.map((op) => writer.put([op])))
  link.throttle(250_000, 'toClient')
  const before = link.stats().toClient
  await link.accept()
  const deadline = performance.now() + 20_000
  while (link.stats().toClient - before < EVENTS_FLOW_BYTES && performance.now() < deadline) await wait(5)
  link.cut('reset')
  await link.heal()
  writer.start()
  await world.writes(30)
}

/** Responses above etcd's message size come in pieces, cut inside revisions. */
export async function fragments(world: World): Promise<void> {
  const { writer } = world.judged
  await world.writes(30)
  await world.killAgent()
  for (let n = 0; n < 60; n++) {
    const ops = Array.from(
      { length: 7 },
      (_, i): WriteOp => ({
        op: 'put',
        key: `/fragment/${i}`,
        value: Buffer.alloc(20_000 + world.roll(10_000), String(n)),
      }),
    )
    await writer.put(ops)
  }
  await world.cluster.agent?.restart()
  await world.writes(20)
}
