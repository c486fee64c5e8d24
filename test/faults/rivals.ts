// Several agents on one log: the leader stops and wakes, loses its link, or dies, while another one stands by.
// Owns: forcing both to believe that they lead, and leaving one healthy agent at the end.

import { setTimeout as wait } from 'node:timers/promises'
import type { Server } from '../support/server.ts'
import type { World } from './world.ts'

const TAKEOVER_MS = 4_500

/** SIGSTOP outlasts the takeover, then the old leader wakes with its appends in hand. */
export async function sleepingLeader(world: World): Promise<void> {
  const { agent } = world.cluster
  await using rival = await world.stack.startRival(world.cluster, `rival-${world.roll(1e6)}`)
  await world.writes(40)
  agent?.pause()
  await wait(TAKEOVER_MS + world.roll(1_500))
  agent?.resume()
  await world.writes(100)
  rival.pause()
  await wait(TAKEOVER_MS + world.roll(1_500))
  rival.resume()
  await world.writes(40)
}

/** Both are killed and started again and again, and the first one's link to the hub flaps on top. */
export async function quarrel(world: World): Promise<void> {
  const { agent } = world.cluster
  await using rival = await world.stack.startRival(world.cluster, `rival-${world.roll(1e6)}`)
  await using flapping = world.links.hub.flap({ upMs: 400, downMs: 150, cycles: 12, random: world.random })
  for (let n = 0; n < 3; n++) {
    const victim: Server | undefined = world.random() < 0.5 ? agent : rival
    await world.writes(20 + world.roll(60))
    await victim?.kill()
    await world.writes(1 + world.roll(20))
    await victim?.restart()
  }
  await flapping.done
  await world.writes(40)
}

/** Both lead for as long as they live: what one appends, the other finds at its place. */
export async function twoLeaders(world: World): Promise<void> {
  await using _rival = await world.stack.startRival(world.cluster, `rival-${world.roll(1e6)}`)
  await world.writes(200 + world.roll(100))
}
