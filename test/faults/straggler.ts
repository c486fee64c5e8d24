// An append of an abandoned pipeline that lands late, where another entry is expected.
// Owns: making one that compare-and-append lets through and the chain rule alone voids.

import { randomBytes } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import { jetstreamManager } from '@nats-io/jetstream'
import { connect, headers } from '@nats-io/transport-node'
import { toHex } from '#protocol/bytes.ts'
import { decodeEntry } from '#protocol/log/decode.ts'
import { encodeEntry } from '#protocol/log/encode.ts'
import type { EntryId } from '#protocol/log/entry.ts'
import { addRevision } from '#protocol/revision.ts'
import type { World } from './world.ts'

const TRIES = 40
/** How far ahead the straggler claims to stand. */
const AHEAD = 20

/** Three stragglers in a row, each at the tail of a log that is being written. */
export async function straggler(world: World): Promise<void> {
  for (let n = 0; n < 3; n++) {
    await world.writes(20 + world.roll(40))
    await plant(world)
  }
  await world.writes(60)
}

async function plant(world: World): Promise<void> {
  const { cluster } = world.cluster
  const connection = await connect({ servers: world.stack.nats.directUrl, reconnect: false, timeout: 5_000 })
  try {
    const manager = await jetstreamManager(connection)
    for (let n = 0; n < TRIES; n++) {
      const { state } = await manager.streams.info(`DW_${cluster}`)
      const found = await manager.streams.getMessage(`DW_${cluster}`, { seq: state.last_seq })
      const tail = decodeEntry(found?.data ?? new Uint8Array(0))
      if (tail.ok && 'throughRevision' in tail.value) {
        const { value: last } = tail
        const entry = encodeEntry({
          ...last,
          kind: 'progress',
          entryId: randomId(),
          // What it continues was refused; the place behind it was free all the same.
          prevEntryId: randomId(),
          prevRevision: last.throughRevision,
          revision: addRevision(last.throughRevision, AHEAD),
          // Its writer knew no newer one; the tail itself may be void.
          base: last.base,
        })
        const expectation = headers()
        expectation.set('Nats-Expected-Last-Sequence', String(state.last_seq))
        const answer = await connection.request(`dw.log.${cluster}`, entry, { headers: expectation, timeout: 2_000 })
        if (!('error' in answer.json<object>())) return
      }
      await wait(5)
    }
    throw new Error(`no straggler found its place in ${TRIES} tries`)
  } finally {
    await connection.close()
  }
}

const randomId = (): EntryId => toHex(randomBytes(16)) as EntryId
