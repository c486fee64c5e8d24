// Append, tail and checkpoint as a model: up to three agents that all believe they lead, over one stream.
// Whatever order appends arrive in, whichever answers are lost and whenever connections break, a reader that knows the
// chain rule sees every revision once and in order. A reader that does not is fooled: the model is not blind.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { LogSession } from '#agent/uplink/session.ts'
import { readTail } from '#agent/uplink/tail.ts'
import { begin, entriesOf, openSession, outgoing, read, turn } from '../../unit/agent/log-fixtures.ts'
import { SimulatedHub, SimulatedStream } from '../../unit/agent/simulated-hub.ts'

/** One agent: reads the tail, appends what etcd has after it, and starts over when its session ends. */
class Agent {
  readonly hub: SimulatedHub
  session: LogSession | undefined
  #next = 0
  #ended = false
  /** Every session draws ids of its own, as real ones do. */
  #seed: number

  constructor(stream: SimulatedStream, seed: number) {
    this.#seed = seed
    this.hub = new SimulatedHub(stream, { immediate: false })
  }

  async lead(): Promise<void> {
    if (this.session !== undefined && !this.#ended) return
    if (!this.hub.connected) this.hub.reconnect()
    const tail = await readTail(this.hub)
    assert.equal(tail.kind, 'known', 'the position is never lost in this model')
    if (tail.kind !== 'known') return
    this.#next = Number(tail.revision) + 1
    const { session } = await openSession(this.hub, { maxEntryBytes: 24 * 1024, window: 4, seed: this.#seed++ })
    this.session = session
    this.#ended = false
    void session.ended.then(() => {
      this.#ended = true
    })
  }

  /** Relays up to `count` revisions of etcd's history; one in nine is hidden, one in seven needs slices. */
  relay(count: number, head: number): void {
    if (this.session === undefined || this.#ended) return
    for (let i = 0; i < count && this.#next <= head; i++, this.#next++) {
      const n = this.#next
      this.session.offer(outgoing(n, n % 7 === 0 ? 50_000 : 100, n % 9 === 0))
    }
    this.session.flush()
  }
}

type Step =
  | { readonly kind: 'lead' | 'cut' | 'arrive' | 'arrive-unanswered'; readonly agent: number }
  | { readonly kind: 'relay'; readonly agent: number; readonly count: number }

const HEAD = 60
const steps = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constantFrom('lead' as const, 'cut' as const, 'arrive-unanswered' as const),
      agent: fc.nat(2),
    }),
    { weight: 5, arbitrary: fc.record({ kind: fc.constant('arrive' as const), agent: fc.nat(2) }) },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant('relay' as const),
        agent: fc.nat(2),
        count: fc.integer({ min: 1, max: 6 }),
      }),
    },
  ),
  { minLength: 20, maxLength: 120 },
)

async function run(list: readonly Step[]): Promise<SimulatedStream> {
  const stream = new SimulatedStream()
  const founder = new SimulatedHub(stream)
  const { session } = await openSession(founder)
  await begin(session)
  await session.settled()
  session.close()
  const agents = [new Agent(stream, 1_000), new Agent(stream, 2_000), new Agent(stream, 3_000)]
  for (const agent of agents) await agent.lead()
  for (const step of list) {
    const agent = agents[step.agent]
    if (agent === undefined) continue
    if (step.kind === 'lead') await agent.lead()
    else if (step.kind === 'cut') agent.hub.cut()
    else if (step.kind === 'relay') agent.relay(step.count, HEAD)
    else agent.hub.arrive(step.kind === 'arrive')
    await turn()
  }
  // What is still on its way arrives late, unanswered and interleaved; then one agent finishes alone.
  for (let any = true; any; ) any = agents.map((agent) => agent.hub.arrive(false) !== undefined).includes(true)
  const [last] = agents
  last?.hub.cut()
  await turn()
  for (let i = 0; i < 20 && last !== undefined; i++) {
    await last.lead()
    last.relay(HEAD, HEAD)
    for (let sent = true; sent; await turn()) sent = last.hub.arrive() !== undefined
  }
  return stream
}

const expected = Array.from({ length: HEAD - 1 }, (_, i) => i + 2).filter((n) => n % 9 !== 0)

/** A reader without the chain rule: takes every entry, drops what it has already seen. */
function blind(stream: SimulatedStream): number[] {
  const seen: number[] = []
  let position = 1
  for (const entry of entriesOf(stream)) {
    if (entry.kind !== 'events') continue
    for (const record of entry.revisions) {
      if (Number(record.revision) <= position) continue
      position = Number(record.revision)
      seen.push(position)
    }
  }
  return seen
}

describe('several agents and one stream', () => {
  it('I5: every revision once, in order, whatever arrives, is lost or breaks', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        const { revisions, state } = read(await run(list))
        assert.deepEqual(revisions.map(Number), expected)
        assert.equal(state.group, undefined)
      }),
      { numRuns: 75 },
    )
  })

  it('C6: a reader without the chain rule loses revisions in some of these runs', async () => {
    const small = expected.filter((n) => n % 7 !== 0)
    let fooled = 0
    const sample = fc.sample(steps, { numRuns: 75, seed: 7 })
    for (const list of sample) {
      const whole = new Set(blind(await run(list)))
      if (small.some((n) => !whole.has(n))) fooled++
    }
    assert.ok(fooled > 0, 'no run ever needed the rule')
  })
})
