// Large things: one revision of 10,000 deletes, and values larger than a message of the hub.
// Owns: writing them, with a kill in the middle for good measure.

import type { WriteOp } from '../judge/etcd-http.ts'
import type { World } from './world.ts'

const KEYS = 10_000
const PER_TRANSACTION = 100

export async function rangeDelete(world: World): Promise<void> {
  const { writer } = world.judged
  const prefix = `/range/${world.roll(1e9)}/`
  for (let from = 0; from < KEYS; from += PER_TRANSACTION) {
    const ops = Array.from(
      { length: PER_TRANSACTION },
      (_, i): WriteOp => ({ op: 'put', key: `${prefix}${from + i}`, value: Buffer.from(`value ${from + i}`) }),
    )
    await writer.put(ops)
  }
  await writer.put([{ op: 'delete', key: prefix, rangeEnd: `${prefix.slice(0, -1)}0` }])
  await world.writes(20)
}

export async function largeValues(world: World): Promise<void> {
  const { writer } = world.judged
  const { agent } = world.cluster
  const puts = Array.from({ length: 8 }, async (_, i) => {
    const value = Buffer.alloc(1024 * 1024, String.fromCharCode(world.roll(256)), 'latin1')
    await writer.put([{ op: 'put', key: `/large/${i}`, value }])
    if (i === 3) await world.killAgent()
  })
  await Promise.all(puts)
  await agent?.restart()
  await world.writes(20)
  await writer.put([{ op: 'delete', key: '/large/', rangeEnd: '/large0' }])
}
