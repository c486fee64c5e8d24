// A session over a simulated hub, and a reader of what it wrote that knows the chain rule.
// Owns: believable sessions, revisions on their way out, decoding. Refuses: judging beyond the chain rule.

import assert from 'node:assert/strict'
import { advance, CHAIN_START, type ChainState } from '#protocol/log/chain.ts'
import { decodeEntry } from '#protocol/log/decode.ts'
import type { EntryId, Epoch, LogEntry } from '#protocol/log/entry.ts'
import { seededRandom } from '#kit/random.ts'
import type { Outgoing } from '#agent/uplink/ports.ts'
import { encodedBound } from '#agent/uplink/queue.ts'
import { LogSession } from '#agent/uplink/session.ts'
import { chainStart, readTail } from '#agent/uplink/tail.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { changed, key, rev } from './fixtures.ts'
import type { SimulatedHub, SimulatedStream } from './simulated-hub.ts'

export const EPOCH = '00000000000000e1' as Epoch
export const id = (n: number): EntryId => n.toString(16).padStart(32, '0') as EntryId

export function outgoing(n: number, size = 10, hidden = false): Outgoing {
  const event = {
    op: 'put' as const,
    key: key(`/k${n}`),
    value: new Uint8Array(size).fill(n & 0xff),
    createRevision: rev(n),
    version: '1',
    lease: '0',
  }
  const record = hidden ? undefined : { revision: rev(n), events: [event] }
  const evidence = { revision: rev(n), source: changed(n), digest: undefined }
  const encodedBytes = record === undefined ? 0 : encodedBound(record)
  return { revision: rev(n), record, evidence, bytes: size, arrivedAt: 0, encodedBytes }
}

export const TRAIL = {
  include: () => undefined,
  evidence: () => ({ clusterId: '7', raftTerm: '2', keyId: 'k', proofs: [] }),
}

/** A session behind a complete, empty checkpoint at revision 1. */
export async function openSession(
  hub: SimulatedHub,
  more: {
    maxEntryBytes?: number
    window?: number
    seed?: number
    soon?: (fn: () => void) => void
    onEased?: () => void
  } = {},
) {
  const clock = new ManualClock()
  const tail = await readTail(hub)
  const session = new LogSession(
    {
      start: chainStart(tail),
      identity: { agentId: 'a/1', configHash: 'c', policyRevision: 'p' },
      epoch: tail.kind === 'known' ? tail.epoch : EPOCH,
      newestCompleteBeginSeq: 0,
      window: { maxInFlight: more.window ?? 16, maxBytes: 4 * 1024 * 1024 },
      maxEntryBytes: more.maxEntryBytes ?? 256 * 1024,
      ackTimeoutMs: 10_000,
      progress: { maxRevisions: 1_000, maxMs: 30_000 },
    },
    {
      hub,
      trail: TRAIL,
      clock,
      random: seededRandom(more.seed ?? 1),
      onEased: more.onEased ?? (() => undefined),
      soon: more.soon ?? ((fn) => fn()),
      onAppended: () => undefined,
    },
  )
  return { session, clock }
}

export async function begin(session: LogSession, at = 1): Promise<void> {
  session.prepare('epoch', EPOCH)
  await session.append({ kind: 'snapshot-begin', checkpointId: 'cp', revision: rev(at), reason: 'epoch' })
  await session.append({
    kind: 'snapshot-end',
    checkpointId: 'cp',
    revision: rev(at),
    itemCount: 0,
    digest: new Uint8Array(32),
  })
}

export function entriesOf(stream: SimulatedStream): LogEntry[] {
  return [...stream.messages.values()].map((message) => {
    const decoded = decodeEntry(message)
    assert.ok(decoded.ok)
    return decoded.value
  })
}

/** What a reader that knows the chain rule makes of the stream. */
export function read(stream: SimulatedStream): {
  readonly state: ChainState
  readonly revisions: string[]
  readonly voids: number
} {
  let state = CHAIN_START
  const revisions: string[] = []
  let voids = 0
  for (const [i, entry] of entriesOf(stream).entries()) {
    const verdict = advance(state, i + 1, entry)
    assert.notEqual(verdict.kind, 'broken', JSON.stringify(verdict))
    if (verdict.kind === 'broken') continue
    if (verdict.kind === 'void') {
      voids++
      continue
    }
    ;({ state } = verdict)
    if (entry.kind === 'events') revisions.push(...entry.revisions.map((record) => record.revision))
    if (verdict.completed !== undefined) revisions.push(verdict.completed.revision)
  }
  return { state, revisions, voids }
}

export const turn = () => new Promise((resolve) => setImmediate(resolve))
