// Three of a kind: members of etcd and servers of the hub, killed and stopped one at a time.
// Owns: the replicated stream, finding its leader, and leaving all of them running.

import { setTimeout as wait } from 'node:timers/promises'
import { jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { streamConfig } from '#protocol/log/stream.ts'
import { parseClusterId } from '#protocol/subjects.ts'
import type { Stack } from '../e2e/stack.ts'
import type { World } from './world.ts'

type Managed = Awaited<ReturnType<typeof jetstreamManager>>

export async function manage<T>(stack: Stack, act: (manager: Managed) => Promise<T>): Promise<T> {
  const servers = stack.nats.servers.map(({ directUrl }) => directUrl)
  const connection = await connect({ servers, maxReconnectAttempts: 20, reconnectTimeWait: 200, timeout: 5_000 })
  try {
    return await act(await jetstreamManager(connection))
  } finally {
    await connection.close()
  }
}

/** The stream as an operator would create it. `maxBytes` -1: bounded by its account alone. */
export async function createStream(stack: Stack, replicas: 1 | 3, maxBytes = 256 * 1024 * 1024): Promise<void> {
  const cluster = parseClusterId(stack.first.cluster)
  if (cluster === undefined) throw new Error(`${stack.first.cluster} is no cluster id`)
  const config = streamConfig({ cluster, maxBytes, maxMessageBytes: 1024 * 1024, replicas })
  await manage(stack, (manager) => manager.streams.add({ ...config, subjects: [...config.subjects] }))
}

export const replicated = (stack: Stack): Promise<void> => createStream(stack, 3)

/** Kills and stops members in turn; the first one too, which the writer uses. */
export async function threeMembers(world: World): Promise<void> {
  const { members } = world.cluster.etcd
  for (let n = 0; n < 3; n++) {
    await world.writes(20 + world.roll(40))
    const member = world.pick(members)
    if (world.random() < 0.5) {
      await member.kill()
      if (member !== members[0]) await world.writes(10 + world.roll(40))
      await member.restart()
    } else {
      member.pause()
      await wait(1_000 + world.roll(4_000))
      member.resume()
    }
  }
  await world.writes(40)
}

const LEADER_TRIES = 40

/** Number of the server that leads the stream; while there is an election nobody answers. */
async function leaderOf(world: World): Promise<number> {
  let last: unknown
  for (let n = 0; n < LEADER_TRIES; n++) {
    try {
      const info = await manage(world.stack, (manager) => manager.streams.info(`DW_${world.cluster.cluster}`))
      const leader = Number(info.cluster?.leader?.slice(1))
      if (leader > 0) return leader
    } catch (error) {
      last = error
    }
    await wait(250)
  }
  throw new Error('the stream found no leader', { cause: last })
}

/** Kills whichever server leads the stream, and waits for nothing but writes. */
export async function hubLeader(world: World): Promise<void> {
  const { servers } = world.stack.nats
  for (let n = 0; n < 2; n++) {
    await world.writes(30 + world.roll(60))
    const leader = servers[(await leaderOf(world)) - 1]
    if (leader === undefined) throw new Error('the stream has a leader that is none of its servers')
    if (world.random() < 0.7) {
      await leader.kill()
      await world.writes(30 + world.roll(60))
      await leader.restart()
    } else {
      leader.pause()
      await world.writes(30 + world.roll(200))
      leader.resume()
    }
  }
  await world.writes(50)
}
