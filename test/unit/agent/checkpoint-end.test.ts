// How a checkpoint ends, over a hub that is slow to answer.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { writeCheckpoint } from '#agent/uplink/checkpoint.ts'
import { readTail } from '#agent/uplink/tail.ts'
import { key, rev } from './fixtures.ts'
import { begin, EPOCH, openSession, outgoing, turn } from './log-fixtures.ts'
import { SimulatedHub, SimulatedStream } from './simulated-hub.ts'

describe('the end of a checkpoint', () => {
  it('K5: once one for a gap, a policy or an epoch is complete, everything before its BEGIN may go, whatever the hub was slow to answer', async () => {
    for (const reason of ['gap', 'policy', 'epoch'] as const) {
      const hub = new SimulatedHub(new SimulatedStream())
      const { session } = await openSession(hub)
      await begin(session)
      for (let n = 2; n <= 5; n++) session.offer(outgoing(n))
      session.flush()
      await session.settled()
      const before = hub.stream.lastSeq
      hub.immediate = false
      const state = [2, 3].map((n) => ({
        key: key(`/k${n}`),
        value: new Uint8Array(3),
        modRevision: rev(n),
        createRevision: rev(n),
        version: '1',
        lease: '0',
      }))
      let written = false
      const writing = writeCheckpoint(
        session,
        {
          page: () => Promise.resolve({ items: state, more: false }),
          item: (held) => held,
          rests: () => false,
          onHeld: () => undefined,
          onRead: () => undefined,
        },
        {
          reason,
          epoch: EPOCH,
          checkpointId: 'cp2',
          pinned: rev(9),
          maxEntryBytes: 250_000,
          signal: new AbortController().signal,
        },
      ).then(() => (written = true))
      // The hub takes and answers only what was sent before the agent had to wait for it.
      for (let round = 0; round < 10 && !(written && hub.inFlight.length === 0); round++) {
        await turn()
        while (hub.inFlight.length > 0) hub.arrive()
      }
      await writing
      for (let seq = 1; seq <= before; seq++) hub.stream.messages.delete(seq)
      const tail = await readTail(hub)
      assert.equal(tail.kind, 'known', reason)
      assert.ok(tail.kind === 'known' && tail.last.newestCompleteBeginSeq === before + 1)
    }
  })
})
