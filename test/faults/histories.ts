// Faults of etcd's history itself: compaction beyond the position, and data replaced by an older copy.
// Owns: doing these to a real etcd. A copied data directory put back is what a restore without a revision bump amounts to:
// same cluster id, same member id, another history.

import { cp, rm } from 'node:fs/promises'
import type { World } from './world.ts'

const agentOf = (world: World) => {
  const { agent } = world.cluster
  if (agent === undefined) throw new Error('no agent')
  return agent
}

/** Acknowledgements cover what is compacted; the leased deletes among it are learnt before. */
export async function compactionAtTheCursor(world: World): Promise<void> {
  await world.writes(50)
  await world.killAgent()
  await world.writes(100 + world.roll(200))
  await world.judged.writer.stop()
  const head = await world.judged.learn()
  await world.judged.http.compact(head - world.roll(5))
  world.judged.writer.start()
  await agentOf(world).restart()
  await world.writes(50)
}

async function restore(world: World, writesAfter: number): Promise<void> {
  const { etcd } = world.cluster
  await world.writes(80)
  await world.judged.writer.stop()
  await etcd.stop()
  const backup = `${etcd.dataDir}.backup`
  await cp(etcd.dataDir, backup, { recursive: true })
  await etcd.restart()
  world.judged.writer.start()
  await world.writes(60)
  await world.settle()
  const lost = world.recorder.position(world.cluster.cluster)
  await world.killAgent()
  await etcd.stop()
  await rm(etcd.dataDir, { recursive: true, force: true })
  await cp(backup, etcd.dataDir, { recursive: true })
  await rm(backup, { recursive: true, force: true })
  await etcd.restart()
  await world.newLineage()
  if (writesAfter > 0) {
    await world.judged.writer.write(writesAfter)
    const head = await world.judged.http.head()
    if (head <= lost) throw new Error(`the new history ends at ${head}, not past ${lost}`)
  }
  await agentOf(world).restart()
  world.judged.writer.start()
  await world.writes(50)
}

export const restoreBehind = (world: World): Promise<void> => restore(world, 0)
export const restorePast = (world: World): Promise<void> => restore(world, 150)
