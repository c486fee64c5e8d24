// From revisions to entries and back: session and tail, over a simulated hub.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { GENESIS } from '#protocol/log/entry.ts'
import { chainStart, readTail } from '#agent/uplink/tail.ts'
import { rev } from './fixtures.ts'
import { begin, entriesOf, EPOCH, id, openSession, outgoing, read, turn } from './log-fixtures.ts'
import { SimulatedHub, SimulatedStream } from './simulated-hub.ts'

describe('a session', () => {
  it('an acknowledged run reads back as one valid chain', async () => {
    const hub = new SimulatedHub(new SimulatedStream())
    const { session } = await openSession(hub)
    await begin(session)
    for (let n = 2; n <= 40; n++) {
      session.offer(outgoing(n))
      session.flush()
    }
    await session.settled()
    const { state, revisions, voids } = read(hub.stream)
    assert.deepEqual(
      revisions,
      Array.from({ length: 39 }, (_, i) => String(i + 2)),
    )
    assert.deepEqual([state.revision, voids], ['40', 0])
  })

  it('what is offered together travels together', async () => {
    const hub = new SimulatedHub(new SimulatedStream())
    const { session } = await openSession(hub)
    await begin(session)
    for (let n = 2; n <= 20; n++) session.offer(outgoing(n))
    session.flush()
    await session.settled()
    assert.equal(hub.stream.lastSeq, 3)
  })

  it('what arrives in one turn of the event loop travels together, however many responses it came in', async () => {
    const hub = new SimulatedHub(new SimulatedStream())
    const turns: (() => void)[] = []
    const { session } = await openSession(hub, { soon: (fn) => void turns.push(fn) })
    await begin(session)
    for (let n = 2; n <= 20; n++) {
      session.offer(outgoing(n))
      session.flush()
    }
    assert.equal(turns.length, 1)
    turns.shift()?.()
    session.offer(outgoing(21))
    session.flush()
    turns.shift()?.()
    await session.settled()
    assert.deepEqual([hub.stream.lastSeq, read(hub.stream).revisions.length], [4, 20])
  })

  it('is settled when only hidden revisions waited for the turn to end', async () => {
    const turns: (() => void)[] = []
    const hub = new SimulatedHub(new SimulatedStream())
    const { session } = await openSession(hub, { soon: (fn) => void turns.push(fn) })
    await begin(session)
    await session.settled()
    session.offer({ ...outgoing(2), record: undefined })
    session.flush()
    let settled = false
    const waiting = session.settled().then(() => {
      settled = true
    })
    await turn()
    assert.equal(settled, false)
    turns.shift()?.()
    await waiting
    assert.equal(session.proven, '2')
  })

  it('hidden revisions that leave the queue ease the watch, although nothing is acknowledged', async () => {
    const turns: (() => void)[] = []
    let held: number | undefined
    const hub = new SimulatedHub(new SimulatedStream(), { immediate: true })
    const { session } = await openSession(hub, {
      soon: (fn) => void turns.push(fn),
      onEased: () => {
        held = session.bytesHeld
      },
    })
    await begin(session)
    await session.settled()
    for (let n = 2; n <= 4; n++) session.offer({ ...outgoing(n, 700_000), record: undefined })
    session.flush()
    assert.ok(session.bytesHeld > 2_000_000)
    held = undefined
    turns.shift()?.()
    assert.equal(held, 0)
  })

  it('L11: a revision larger than an entry arrives whole, in slices', async () => {
    const hub = new SimulatedHub(new SimulatedStream())
    const { session } = await openSession(hub, { maxEntryBytes: 64 * 1024 })
    await begin(session)
    session.offer(outgoing(2, 300_000))
    session.offer(outgoing(3))
    session.flush()
    await session.settled()
    assert.deepEqual(read(hub.stream).revisions, ['2', '3'])
    assert.ok(entriesOf(hub.stream).filter((e) => e.kind === 'chunk').length >= 5)
  })

  it('ends at the first refusal and sends nothing afterwards', async () => {
    const hub = new SimulatedHub(new SimulatedStream(), { immediate: true })
    const { session } = await openSession(hub)
    await begin(session)
    await session.settled()
    hub.immediate = false
    for (const n of [2, 3, 4]) {
      session.offer(outgoing(n))
      session.flush()
    }
    hub.stream.lastSeq++ // somebody else took the place
    hub.arrive()
    assert.deepEqual(await session.ended, { kind: 'refused' })
    session.offer(outgoing(5))
    session.flush()
    assert.equal(hub.inFlight.length, 2, 'only what was already on its way')
  })

  it('abandons everything at once when the connection goes, without waiting for time-outs', async () => {
    const hub = new SimulatedHub(new SimulatedStream())
    const { session } = await openSession(hub)
    await begin(session)
    await session.settled()
    hub.immediate = false
    session.offer(outgoing(2))
    session.flush()
    hub.cut()
    assert.deepEqual(await session.ended, { kind: 'lost', reason: 'disconnected' })
    await assert.rejects(session.settled())
    await assert.rejects(
      session.append({ kind: 'snapshot-begin', checkpointId: 'x', revision: rev(1), reason: 'routine' }),
    )
  })

  it('an append nobody answers is lost after its time', async () => {
    const hub = new SimulatedHub(new SimulatedStream())
    const { session, clock } = await openSession(hub)
    await begin(session)
    await session.settled()
    hub.immediate = false
    session.offer(outgoing(2))
    session.flush()
    await clock.advance(9_999)
    session.tick()
    assert.equal(hub.inFlight.length, 1)
    await clock.advance(1)
    session.tick()
    assert.deepEqual(await session.ended, { kind: 'lost', reason: 'no acknowledgement' })
  })

  it('B3: PROGRESS follows when proof runs 1,000 revisions or 30 s ahead, and not before', async () => {
    const hub = new SimulatedHub(new SimulatedStream())
    const { session, clock } = await openSession(hub)
    await begin(session)
    await session.settled()
    session.proved(rev(1_001))
    session.tick()
    assert.equal(hub.stream.lastSeq, 2, 'exactly 1,000 ahead is allowed')
    session.proved(rev(1_002))
    session.tick()
    await turn()
    assert.equal(session.acked.revision, '1002')
    session.proved(rev(1_003))
    await clock.advance(29_999)
    session.tick()
    assert.equal(hub.stream.lastSeq, 3)
    await clock.advance(1)
    session.tick()
    await turn()
    assert.equal(session.acked.revision, '1003')
  })

  it('B3: PROGRESS never overtakes a revision that still waits for room', async () => {
    const hub = new SimulatedHub(new SimulatedStream())
    const { session } = await openSession(hub, { maxEntryBytes: 5 * 1024 * 1024 })
    await begin(session)
    await session.settled()
    hub.immediate = false
    // The second has no room beside the first in a window of 4 MiB; a PROGRESS entry would have.
    for (const n of [2, 3]) {
      session.offer(outgoing(n, 4 * 1024 * 1024 - 10_000))
      session.flush()
    }
    assert.equal(hub.inFlight.length, 1)
    session.proved(rev(5_000))
    session.tick()
    assert.equal(hub.inFlight.length, 1, 'nothing goes before it')
    hub.immediate = true
    hub.arrive()
    await session.settled()
    assert.deepEqual(read(hub.stream).revisions, ['2', '3'])
    assert.equal(session.acked.revision, '5000')
  })

  it('a bookmark never proves what is still on its way', async () => {
    const hub = new SimulatedHub(new SimulatedStream())
    const { session } = await openSession(hub)
    await begin(session)
    await session.settled()
    hub.immediate = false
    session.offer(outgoing(2))
    session.proved(rev(9))
    session.flush()
    assert.equal(session.mark('live', 0)?.provenRevision, '1')
    hub.arrive()
    await turn()
    assert.deepEqual([session.mark('live', 0)?.provenRevision, session.mark('live', 0)?.seq], ['9', 3])
  })

  it('nothing live stands in the log before a pending checkpoint is complete', async () => {
    const hub = new SimulatedHub(new SimulatedStream())
    const { session } = await openSession(hub)
    session.prepare('epoch', EPOCH)
    await session.append({ kind: 'snapshot-begin', checkpointId: 'cp', revision: rev(1), reason: 'epoch' })
    session.offer(outgoing(2))
    session.flush()
    await turn()
    assert.deepEqual(
      entriesOf(hub.stream).map((e) => e.kind),
      ['snapshot-begin'],
    )
  })
})

describe('the tail', () => {
  const grown = async (length: number) => {
    const hub = new SimulatedHub(new SimulatedStream())
    const { session } = await openSession(hub)
    await begin(session)
    for (let n = 2; n < 2 + length; n++) {
      session.offer(outgoing(n))
      session.flush()
    }
    await session.settled()
    return hub
  }

  it('I4: gives the position of the last valid entry', async () => {
    const tail = await readTail(await grown(20))
    assert.ok(tail.kind === 'known')
    assert.deepEqual([tail.revision, tail.epoch, tail.base.seq, tail.voids], ['21', EPOCH, tail.info.lastSeq, 0])
  })

  it('an empty stream is unknown, and a chain may start there', async () => {
    const tail = await readTail(new SimulatedHub(new SimulatedStream()))
    assert.ok(tail.kind === 'unknown' && tail.reason === 'empty')
    const genesis = { seq: 0, entryId: GENESIS, revision: '0' }
    assert.deepEqual(chainStart(tail), { lastSeq: 0, head: genesis, base: genesis })
  })

  it('L10: an absent, foreign or truncated message on the way makes the position unknown', async () => {
    for (const [spoil, reason] of [
      [(m: Map<number, Uint8Array>, at: number) => m.delete(at), 'absent'],
      [(m: Map<number, Uint8Array>, at: number) => m.set(at, new Uint8Array([1, 2, 3])), 'undecodable'],
    ] as const) {
      const hub = await grown(5)
      spoil(hub.stream.messages, hub.stream.lastSeq)
      const tail = await readTail(hub)
      assert.ok(tail.kind === 'unknown')
      assert.equal(tail.reason, reason)
    }
  })

  it('C1: void entries at the tail are skipped, and the next append continues before them at their end', async () => {
    const hub = await grown(5)
    const stranger = entriesOf(hub.stream).at(-1)
    assert.ok(stranger !== undefined)
    const { encodeEntry } = await import('#protocol/log/encode.ts')
    hub.stream.store(encodeEntry({ ...stranger, entryId: id(0xabc), prevEntryId: id(0xdef) }), hub.stream.lastSeq)
    const tail = await readTail(hub)
    assert.ok(tail.kind === 'known')
    assert.deepEqual([tail.voids, tail.base.seq, chainStart(tail).lastSeq, tail.revision], [1, 7, 8, '6'])
  })

  it('C4: a tail inside a chunk group stands before that revision', async () => {
    const hub = await grown(3)
    const { session } = await openSession(hub, { maxEntryBytes: 64 * 1024 })
    hub.immediate = false
    session.offer(outgoing(9, 300_000))
    session.flush()
    hub.arrive()
    hub.arrive()
    const tail = await readTail(hub)
    assert.ok(tail.kind === 'known')
    assert.equal(tail.revision, '4')
    assert.ok(tail.head.seq > tail.base.seq, 'appends continue the slice, readers start before the group')
  })

  it('C4: an agent that continues an abandoned group leaves a tail that every reader understands', async () => {
    const hub = await grown(3)
    const { session: first } = await openSession(hub, { maxEntryBytes: 64 * 1024, seed: 2 })
    hub.immediate = false
    first.offer(outgoing(9, 300_000))
    first.flush()
    hub.arrive()
    const { session: second } = await openSession(hub, { seed: 3 })
    second.offer(outgoing(9))
    // The rest of the abandoned group still arrives before the second agent's entry, which is void then.
    for (let i = 0; i < 3; i++) hub.arrive(false)
    second.flush()
    while (hub.inFlight.length > 0) hub.arrive(false)
    assert.equal((await readTail(hub)).kind, 'known')
  })
})
