// What can go wrong, one scenario each.
// Owns: the list, and what each fault makes legitimate. Every choice comes from the world's seed.
// Refuses: starting and judging (world.ts, run.ts). A scenario leaves everything healed or killed things restarted.

import { setTimeout as wait } from 'node:timers/promises'
import { backlog, brokenCatchUp, fragments } from './catching-up.ts'
import { compactionAtTheCursor, restoreBehind, restorePast } from './histories.ts'
import { largeValues, rangeDelete } from './large.ts'
import { roleRevoked, tlsRotation, tokenExpiry, withCertificates, withUsers } from './access.ts'
import { hubLeader, replicated, threeMembers } from './groups.ts'
import { compactionStorm, CRAMPED, defragment, hubFull, hubSlow, noSpace, unbounded } from './stores.ts'
import { quarrel, sleepingLeader, twoLeaders } from './rivals.ts'
import { straggler } from './straggler.ts'
import type { Stack, StackOptions } from '../e2e/stack.ts'
import type { WriterOptions } from '../judge/writer.ts'
import type { TcpProxy } from '../support/tcp-proxy.ts'
import type { Allowed, Prepared, World } from './world.ts'

export type Scenario = {
  readonly name: string
  readonly about: string
  readonly allowed?: Allowed
  readonly writer?: Partial<WriterOptions>
  readonly stack?: StackOptions
  /** Files and users that must be there before the servers start. */
  readonly prepare?: (owned: AsyncDisposableStack) => Promise<Prepared>
  /** Between the servers' start and the product's. */
  readonly before?: (stack: Stack) => Promise<void>
  /** One round under load; `settle` follows. */
  round(world: World): Promise<void>
}

type Fault = (proxy: TcpProxy, world: World) => Promise<void>
const faults: Readonly<Record<string, Fault>> = {
  cut: async (proxy, world) => {
    for (let n = 0; n < 4; n++) {
      proxy.cut(world.pick(['reset', 'end'] as const))
      await world.writes(10 + world.roll(60))
    }
  },
  flap: async (proxy, world) => {
    await using flapping = proxy.flap({ upMs: 250, downMs: 120, cycles: 6, random: world.random })
    await flapping.done
  },
  blackhole: async (proxy, world) => {
    proxy.blackhole(world.pick(['both', 'toTarget', 'toClient'] as const))
    await wait(500 + world.roll(4000))
    await proxy.heal()
  },
  delay: async (proxy, world) => {
    proxy.delay(20 + world.roll(180))
    await world.writes(200)
    await proxy.heal()
  },
  throttle: async (proxy, world) => {
    proxy.throttle(20_000 + world.roll(60_000))
    await wait(1500)
    await proxy.heal()
  },
}

const links = ['etcd', 'hub', 'gateway'] as const
const linkScenarios = links.flatMap((link) =>
  Object.entries(faults).map(
    ([name, fault]): Scenario => ({
      name: `${name}-${link}`,
      about: `${name} of the link ${link === 'gateway' ? 'gateway to hub' : `agent to ${link}`}`,
      round: async (world) => {
        await world.writes(50)
        await fault(world.links[link], world)
        await world.writes(50)
      },
    }),
  ),
)

const victims = {
  agent: (world: World) => world.cluster.agent,
  gateway: (world: World) => world.stack.gateway,
  hub: (world: World) => world.stack.nats,
  etcd: (world: World) => world.cluster.etcd,
} as const

const killScenarios = Object.entries(victims).map(
  ([name, victim]): Scenario => ({
    name: `kill-${name}`,
    about: `kill -9 of ${name} at a random moment, and restart`,
    round: async (world) => {
      await world.writes(1 + world.roll(150))
      const process = victim(world)
      if (name === 'agent') await world.killAgent()
      else await process?.kill()
      if (name !== 'etcd' && world.random() < 0.5) await world.writes(1 + world.roll(100))
      await process?.restart()
      await world.writes(1 + world.roll(50))
    },
  }),
)

const stopScenarios = Object.entries(victims).map(
  ([name, victim]): Scenario => ({
    name: `stop-${name}`,
    about: `SIGSTOP of ${name} for a while, then SIGCONT`,
    round: async (world) => {
      await world.writes(20 + world.roll(60))
      const process = victim(world)
      process?.pause()
      await wait(500 + world.roll(5_500))
      process?.resume()
      await world.writes(50)
    },
  }),
)

const KILLS = 10
const CLOCK = `--import=${new URL('./jumping-clock.ts', import.meta.url).href}`

export const SCENARIOS: readonly Scenario[] = [
  ...linkScenarios,
  ...killScenarios,
  ...stopScenarios,
  {
    name: 'kill-storm',
    about: `${KILLS} times kill -9 of the agent at random moments, under load`,
    round: async (world) => {
      for (let n = 0; n < KILLS; n++) {
        await world.writes(1 + world.roll(60))
        await world.killAgent()
        if (world.random() < 0.3) await world.writes(1 + world.roll(60))
        await world.cluster.agent?.restart()
        // Sometimes before it has read the tail, sometimes in the middle of the replay, sometimes live.
        await wait(world.roll(800))
      }
      await world.writes(20)
    },
  },
  {
    name: 'clock-jumps',
    about: "the agent's wall clock jumps by hours, days and a year, both ways",
    stack: { node: { agent: [CLOCK] } },
    round: async (world) => {
      for (let n = 0; n < 6; n++) {
        await world.writes(20 + world.roll(30))
        const { agent } = world.cluster
        if (agent !== undefined) process.kill(agent.pid, 'SIGUSR2')
        if (n % 2 === 1) world.links[world.pick(['etcd', 'hub'] as const)].cut('reset')
      }
      await world.writes(30)
    },
  },
  { name: 'no-space', about: 'etcd refuses puts under its NOSPACE alarm, deletes go on', round: noSpace },
  { name: 'defragment', about: 'etcd is defragmented under load', round: defragment },
  {
    name: 'compaction-storm',
    about: 'compaction close behind the head, again and again',
    allowed: { resyncs: ['compacted', 'epoch'], pending: ['gap'], extraEpochs: 40 },
    round: compactionStorm,
  },
  {
    name: 'token-expiry',
    about: "etcd's tokens run out between two connections",
    prepare: withUsers,
    round: tokenExpiry,
  },
  {
    name: 'role-revoked',
    about: 'the role of the agent is revoked and granted again',
    prepare: withUsers,
    round: roleRevoked,
  },
  {
    name: 'tls-rotation',
    about: 'the certificate of the agent runs out and is replaced under it',
    prepare: withCertificates,
    round: tlsRotation,
  },
  {
    name: 'three-members',
    about: 'members of a three-member etcd are killed and stopped in turn',
    stack: { etcd: { members: 3 } },
    round: threeMembers,
  },
  {
    name: 'hub-leader',
    about: 'whichever server leads the replicated stream is killed or stopped',
    stack: { nats: { cluster: 3 } },
    before: replicated,
    round: hubLeader,
  },
  { name: 'hub-slow', about: 'the hub stands still for seconds, then answers late', round: hubSlow },
  {
    name: 'hub-full',
    about: 'the storage of the hub is used up, and freed again',
    stack: CRAMPED,
    before: unbounded,
    round: hubFull,
  },
  {
    name: 'everything',
    about: 'several faults on several links at once, and kills between them',
    round: async (world) => {
      const names = Object.keys(faults)
      const acts = links.map(async (link) => await faults[world.pick(names)]?.(world.links[link], world))
      acts.push(
        (async () => {
          await world.writes(1 + world.roll(50))
          await world.killAgent()
          await world.cluster.agent?.restart()
        })(),
      )
      await Promise.all(acts)
    },
  },
  {
    name: 'compaction',
    about: 'etcd is compacted past the position while the agent is away',
    // With the position its evidence is compacted away, so that a new epoch is as legitimate as a gap.
    allowed: { resyncs: ['compacted', 'epoch'], pending: ['gap'], extraEpochs: 20 },
    round: compactionAtTheCursor,
  },
  {
    name: 'restore-behind',
    about: 'a backup is restored under the same cluster id, below the position',
    allowed: { resyncs: ['epoch'] },
    round: restoreBehind,
  },
  {
    name: 'restore-past',
    about: 'a backup is restored under the same cluster id and already written past the position',
    allowed: { resyncs: ['epoch'] },
    round: restorePast,
  },
  {
    name: 'sleeping-leader',
    about: 'two agents; each is stopped past the takeover and wakes again',
    round: sleepingLeader,
  },
  { name: 'quarrel', about: 'two agents, killed in turn, one of them on a flapping link', round: quarrel },
  {
    name: 'two-leaders',
    about: 'two agents that never stand by append side by side',
    stack: { agentEnv: { DELTAWATCH_UPLINK_SILENCE: '0s', DELTAWATCH_UPLINK_STEP_DOWN: '0s' } },
    round: twoLeaders,
  },
  { name: 'straggler', about: 'an append of an abandoned pipeline lands at the tail', round: straggler },
  { name: 'backlog', about: 'an agent comes back to several responses of changes', round: backlog },
  { name: 'broken-catch-up', about: 'the link breaks while a watch catches up', round: brokenCatchUp },
  { name: 'fragments', about: 'a backlog in pieces cut inside revisions', round: fragments },
  { name: 'range-delete', about: '10,000 keys deleted in one revision', round: rangeDelete },
  { name: 'large-values', about: '8 values of 1 MiB, under a killed agent', round: largeValues },
]
