// Checkpoints between live entries as a model: several agents that all believe they lead, routine checkpoints begun by any of
// them, cut off anywhere. Whichever checkpoint counts as complete is the state at its revision, and reading on from it ends
// where reading everything ends.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { HeldKey } from '#agent/egress/change.ts'
import { writeCheckpoint } from '#agent/uplink/checkpoint.ts'
import type { LogSession } from '#agent/uplink/session.ts'
import { readTail } from '#agent/uplink/tail.ts'
import { advance, CHAIN_START, type ChainState } from '#protocol/log/chain.ts'
import { decodeEntry } from '#protocol/log/decode.ts'
import { itemsBytes } from '#protocol/log/digest.ts'
import type { LogEntry } from '#protocol/log/entry.ts'
import { key, rev } from '../../unit/agent/fixtures.ts'
import { begin, EPOCH, openSession, outgoing, turn } from '../../unit/agent/log-fixtures.ts'
import { SimulatedHub, SimulatedStream } from '../../unit/agent/simulated-hub.ts'

const HEAD = 40
/** Entries of checkpoints carry one or two items, so that they have many places to be cut at. */
const ENTRY_BYTES = 3_000
const VALUE_BYTES = 700

/** Every revision puts a key of its own and nothing else: the state at S is the keys 2 to S. */
const stateAt = (revision: number): string[] =>
  Array.from({ length: Math.max(0, revision - 1) }, (_, i) => key(`/k${i + 2}`)).sort()

function held(n: string, revision: number): HeldKey {
  const own = Number(n.slice(2))
  assert.ok(own <= revision)
  return {
    key: key(n),
    value: new Uint8Array(VALUE_BYTES).fill(own),
    modRevision: rev(own),
    createRevision: rev(own),
    version: '1',
    lease: '0',
  }
}

class Agent {
  readonly hub: SimulatedHub
  session: LogSession | undefined
  /** Ids are drawn per session and per checkpoint, as by real ones. */
  #seed: number
  #next = 0
  #ended = true
  #writing = false

  constructor(stream: SimulatedStream, seed: number) {
    this.#seed = seed
    this.hub = new SimulatedHub(stream, { immediate: false })
  }

  async lead(): Promise<void> {
    if (!this.#ended) return
    if (!this.hub.connected) this.hub.reconnect()
    const tail = await readTail(this.hub)
    if (tail.kind !== 'known') return assert.fail(`the position is lost: ${tail.reason}`)
    this.#next = Number(tail.revision) + 1
    const { session } = await openSession(this.hub, { maxEntryBytes: 24 * 1024, window: 4, seed: this.#seed++ })
    this.session = session
    this.#ended = false
    this.#writing = false
    void session.ended.then(() => {
      if (this.session === session) this.#ended = true
    })
  }

  relay(count: number): void {
    if (this.session === undefined || this.#ended) return
    for (let i = 0; i < count && this.#next <= HEAD; i++) this.session.offer(outgoing(this.#next++, VALUE_BYTES))
    this.session.flush()
  }

  /** Begins a routine checkpoint; it goes on by itself as far as the session lives. */
  checkpoint(): void {
    const { session } = this
    if (session === undefined || this.#ended || this.#writing) return
    this.#writing = true
    const page = async (revision: string, after: string | undefined, limit: number) => {
      const keys = stateAt(Number(revision)).filter((one) => after === undefined || one > after)
      return { items: keys.slice(0, limit).map((one) => held(one, Number(revision))), more: keys.length > limit }
    }
    const source = {
      page,
      item: (one: HeldKey) => one,
      rests: () => false,
      onHeld: () => undefined,
      onRead: () => undefined,
    }
    const plan = {
      reason: 'routine' as const,
      epoch: EPOCH,
      checkpointId: `c${this.#seed++}`,
      pinned: 'position' as const,
      maxEntryBytes: ENTRY_BYTES,
      signal: new AbortController().signal,
    }
    const done = (): void => {
      if (this.session === session) this.#writing = false
    }
    void writeCheckpoint(session, source, plan)
      .catch(() => undefined)
      .finally(done)
  }
}

type Step = { readonly agent: number; readonly kind: 'lead' | 'cut' | 'lose' | 'arrive' | 'relay' | 'checkpoint' }
const step = (kind: Step['kind'], weight: number) => ({
  weight,
  arbitrary: fc.record({ kind: fc.constant(kind), agent: fc.nat(2) }),
})
const steps = fc.array(
  fc.oneof(
    step('lead', 2),
    step('cut', 1),
    step('lose', 1),
    step('arrive', 12),
    step('relay', 4),
    step('checkpoint', 3),
  ),
  { minLength: 30, maxLength: 160 },
)

async function run(list: readonly Step[]): Promise<SimulatedStream> {
  const stream = new SimulatedStream()
  const { session } = await openSession(new SimulatedHub(stream))
  await begin(session)
  await session.settled()
  session.close()
  const agents = [new Agent(stream, 1_000), new Agent(stream, 2_000), new Agent(stream, 3_000)] as const
  for (const agent of agents) await agent.lead()
  for (const { kind, agent: n } of list) {
    const agent = agents[n] as Agent
    if (kind === 'lead') await agent.lead()
    else if (kind === 'cut') agent.hub.cut()
    else if (kind === 'relay') agent.relay(3)
    else if (kind === 'checkpoint') agent.checkpoint()
    else agent.hub.arrive(kind === 'arrive')
    await turn()
  }
  for (let any = true; any; ) any = agents.map((agent) => agent.hub.arrive(false) !== undefined).includes(true)
  const [last] = agents
  last.hub.cut()
  await turn()
  for (let i = 0; i < 30; i++) {
    await last.lead()
    last.relay(HEAD)
    if (i === 0) last.checkpoint()
    for (let sent = true; sent; await turn()) sent = last.hub.arrive() !== undefined
  }
  return stream
}

type Complete = { readonly seq: number; readonly revision: number; readonly keys: readonly string[] }
type Reading = { readonly complete: Complete[]; readonly revisions: number[]; readonly named: number[]; voids: number }

/** A reader of its own: the chain rule is the product's, checkpoints are put together here. */
function read(stream: SimulatedStream): Reading {
  const out: Reading = { complete: [], revisions: [], named: [], voids: 0 }
  let state: ChainState = CHAIN_START
  let open: { id: string; seq: number; revision: number; keys: string[]; next: number } | undefined
  let hash = createHash('sha256')
  for (const [i, message] of [...stream.messages.values()].entries()) {
    const seq = i + 1
    const decoded = decodeEntry(message)
    assert.ok(decoded.ok)
    const entry: LogEntry = decoded.value
    const verdict = advance(state, seq, entry)
    if (verdict.kind === 'void') out.voids += 1
    if (verdict.kind !== 'valid') {
      assert.equal(verdict.kind, 'void')
      continue
    }
    ;({ state } = verdict)
    if (entry.newestCompleteBeginSeq > 0) out.named.push(entry.newestCompleteBeginSeq)
    if (entry.kind === 'events') out.revisions.push(...entry.revisions.map((one) => Number(one.revision)))
    else if (entry.kind === 'snapshot-begin') {
      open = { id: entry.checkpointId, seq, revision: Number(entry.revision), keys: [], next: 0 }
      hash = createHash('sha256')
    } else if (entry.kind === 'snapshot-items' && entry.checkpointId === open?.id) {
      assert.equal(entry.index, open.next++)
      open.keys.push(...entry.items.map((one) => one.key))
      hash.update(itemsBytes(message))
    } else if (entry.kind === 'snapshot-end' && entry.checkpointId === open?.id) {
      assert.equal(entry.itemCount, open.keys.length)
      if (open.keys.length > 0) assert.deepEqual(Buffer.from(entry.digest), hash.digest())
      out.complete.push(open)
      open = undefined
    }
  }
  return out
}

describe('checkpoints of several agents in one stream', () => {
  it('I5: whichever is complete is the state at its revision, and only complete ones are ever named', async () => {
    let complete = 0
    let voids = 0
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        const reading = read(await run(list))
        assert.deepEqual(
          reading.revisions,
          Array.from({ length: HEAD - 1 }, (_, i) => i + 2),
        )
        for (const { revision, keys } of reading.complete) assert.deepEqual([...keys].sort(), stateAt(revision))
        const begins = new Set(reading.complete.map(({ seq }) => seq))
        for (const seq of reading.named) assert.ok(begins.has(seq), `${seq} is named and not complete`)
        complete += reading.complete.length - 1
        voids += reading.voids
      }),
      { numRuns: 120 },
    )
    assert.ok(complete > 120 && voids > 120, `${complete} checkpoints, ${voids} void entries: the model shows nothing`)
  })
})
