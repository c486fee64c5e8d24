// Trouble inside the servers: etcd out of space, defragmenting, compacting all the time; the hub slow, or full.
// Owns: bringing each about on the real thing, and ending it.

import { setTimeout as wait } from 'node:timers/promises'
import { connect } from '@nats-io/transport-node'
import type { StackOptions } from '../e2e/stack.ts'
import { createStream, manage } from './groups.ts'
import type { World } from './world.ts'

const put = (key: string, value: string) => ({ op: 'put' as const, key, value: Buffer.from(value) })

/** Puts are refused, deletes, reads and watches go on; the agent dies and comes back meanwhile. */
export async function noSpace(world: World): Promise<void> {
  const { writer, http } = world.judged
  const { header } = (await http.call('maintenance/status', {})) as { header: { member_id: string } }
  const alarm = (action: string): Promise<unknown> =>
    http.call('maintenance/alarm', { action, memberID: header.member_id, alarm: 'NOSPACE' })
  await world.writes(50)
  await writer.stop()
  for (let n = 0; n < 30; n++) await writer.put([put(`/full/${n}`, `${n}`)])
  await alarm('ACTIVATE')
  const refused = await writer.put([put('/full/more', '1')]).then(
    () => false,
    (error: unknown) => /space exceeded/i.test(String(error)),
  )
  if (!refused) throw new Error('etcd took a write in spite of its alarm')
  for (let n = 0; n < 30; n++) {
    await writer.put([{ op: 'delete', key: `/full/${n}` }])
    if (n === 10) await world.killAgent()
    if (n === 20) await world.cluster.agent?.restart()
  }
  // What goes on under the alarm is delivered under the alarm.
  await world.settle()
  await alarm('DEACTIVATE')
  writer.start()
  await world.writes(50)
}

/** A member that defragments answers nobody while it does. */
export async function defragment(world: World): Promise<void> {
  for (let n = 0; n < 4; n++) {
    await world.writes(30 + world.roll(50))
    await world.judged.http.call('maintenance/defragment', {})
    if (n === 1) {
      await world.killAgent()
      await world.cluster.agent?.restart()
    }
  }
  await world.writes(30)
}

/** Compaction close behind the head, again and again, while links are cut and the agent dies. */
export async function compactionStorm(world: World): Promise<void> {
  for (let n = 0; n < 10; n++) {
    // Long enough for an agent that came back to be level again, most of the time.
    await world.writes(60 + world.roll(150))
    const head = await world.judged.learn()
    // Somebody else's newer compaction does not happen here; one that came to nothing is no fault.
    await world.judged.http.compact(head - world.roll(10)).catch(() => undefined)
    if (n % 4 === 1) world.links.etcd.cut(world.pick(['reset', 'end'] as const))
    if (n % 4 === 3) {
      await world.killAgent()
      await world.cluster.agent?.restart()
    }
  }
  await world.writes(30)
}

/** Stopped in its tracks for longer than the agent's patience with an append, then late by as much as a continent. */
export async function hubSlow(world: World): Promise<void> {
  await world.writes(50)
  world.stack.nats.pause()
  await wait(1_000 + world.roll(5_000))
  world.stack.nats.resume()
  await world.writes(50)
  world.links.hub.delay(80 + world.roll(120))
  await world.writes(150)
}

/** One account whose storage is soon used up; everybody without a name is in it. */
export const CRAMPED: StackOptions = {
  nats: {
    config: 'accounts { A { jetstream: { max_file: 24MB }, users: [ { user: a, password: a } ] } }\nno_auth_user: a',
  },
}
export const unbounded = (world: World['stack']): Promise<void> => createStream(world, 1, -1)

/** Another stream takes all the room there is, and gives it back. */
export async function hubFull(world: World): Promise<void> {
  await world.writes(50)
  await manage(world.stack, (manager) => manager.streams.add({ name: 'HOG', subjects: ['hog'], storage: 'file' }))
  await world.said(/"phase":"hub-full"/, async () => {
    await fill(world)
    await world.writes(150)
  })
  await wait(500 + world.roll(1_000))
  await manage(world.stack, (manager) => manager.streams.delete('HOG'))
  await world.writes(50)
}

async function fill(world: World): Promise<void> {
  const connection = await connect({ servers: world.stack.nats.directUrl, timeout: 5_000 })
  try {
    let full = false
    for (let bytes = 512 * 1024; bytes >= 128; bytes = full ? bytes / 4 : bytes) {
      const answer = await connection.request('hog', new Uint8Array(Math.floor(bytes)), { timeout: 5_000 })
      full = 'error' in answer.json<object>()
    }
  } finally {
    await connection.close()
  }
}
