// A compare-and-append stream and agents that write to it with windows, driven by a list of choices.
// Owns: the hub's one rule (an append is accepted iff its expected last sequence is the last one), links that keep each
// agent's appends in order but interleave agents freely, lost acks and cuts.
// Refuses: time and randomness: every run is a function of its choices, so that fast-check can shrink it.

import { advance, CHAIN_START, type ChainState } from '#protocol/log/chain.ts'
import type { EntryBody, EntryHead, EntryId, Epoch, LogEntry } from '#protocol/log/entry.ts'
import { addRevision, REVISION_ZERO, type Revision } from '#protocol/revision.ts'

export const EPOCH = '1122334455667788' as Epoch
export const idOf = (n: number): EntryId => n.toString(16).padStart(32, '0') as EntryId

export const head = (entryId: EntryId, prevEntryId: EntryId, agentId: string, epoch: Epoch = EPOCH): EntryHead => ({
  entryId,
  prevEntryId,
  epoch,
  agentId,
  configHash: '',
  policyRevision: '',
  newestCompleteBeginSeq: 0,
  pending: 'none',
  base: { seq: 0, entryId: prevEntryId, revision: REVISION_ZERO },
  residenceUs: 0,
  atMs: 0,
})

const put = (revision: Revision) => ({
  revision,
  events: [
    { op: 'put', key: 'k' as never, value: new Uint8Array(0), createRevision: revision, version: '1', lease: '0' },
  ] as const,
})
export const eventsBody = (prev: Revision, count: number): EntryBody & { readonly kind: 'events' } => {
  const revisions = Array.from({ length: count }, (_, i) => put(addRevision(prev, i + 1)))
  return { kind: 'events', prevRevision: prev, revisions, throughRevision: addRevision(prev, count) }
}

type Flight = { readonly expected: number; readonly entry: LogEntry }
type Agent = {
  readonly name: string
  /** What this agent believes the log ends with; undefined: it must read the tail first. */
  belief: { readonly seq: number; readonly entryId: EntryId; readonly revision: Revision } | undefined
  flights: Flight[]
  acked: number
}

export type SimulationOptions = {
  readonly agents: number
  readonly window: number
  readonly revisions: number
  /** Each number picks one step; see {@link Simulation.step}. */
  readonly choices: readonly number[]
}

/** One run of several agents over one log. */
export class Simulation {
  readonly log: LogEntry[] = []
  conflicts = 0
  #ids = 1
  readonly #agents: Agent[]
  readonly #options: SimulationOptions

  constructor(options: SimulationOptions) {
    this.#options = options
    this.#agents = Array.from({ length: options.agents }, (_, n) => ({
      name: `agent-${n}`,
      belief: undefined,
      flights: [],
      acked: 0,
    }))
    const begin: LogEntry = {
      ...head(idOf(this.#ids++), CHAIN_START.entryId, 'agent-0'),
      kind: 'snapshot-begin',
      checkpointId: 'c',
      revision: REVISION_ZERO,
      reason: 'epoch',
    }
    this.log.push(begin)
  }

  run(): this {
    for (const choice of this.#options.choices) this.step(choice)
    this.#finish()
    return this
  }

  /** The choice picks an agent and what happens to it: append, deliver one in flight, lose its acks, or read the tail. */
  step(choice: number): void {
    const agent = this.#agents[choice % this.#agents.length] as Agent
    const action = Math.floor(choice / this.#agents.length) % 12
    if (action < 4) this.#append(agent, 1 + (action % 3))
    else if (action < 9) this.#deliver(agent)
    else if (action === 9) this.#cut(agent)
    else if (action === 10) this.#readTail(agent)
    else while (agent.flights.length > 0) this.#deliver(agent)
  }

  /** Position by the chain rule over the whole log, as every agent reads it. */
  tail(): ChainState {
    let state = CHAIN_START
    for (const [index, entry] of this.log.entries()) {
      const verdict = advance(state, index + 1, entry)
      if (verdict.kind === 'valid') state = verdict.state
      if (verdict.kind === 'broken') throw new Error(`the log broke at ${index + 1}: ${verdict.reason}`)
    }
    return state
  }

  #readTail(agent: Agent): void {
    const { entryId, revision } = this.tail()
    // What is in flight was abandoned, not recalled: it may still arrive.
    agent.belief = { seq: this.log.length, entryId, revision }
    agent.acked = 0
  }

  #append(agent: Agent, count: number): void {
    if (agent.belief === undefined) return this.#readTail(agent)
    const { revision } = agent.belief
    const left = this.#options.revisions - Number(revision)
    if (agent.flights.length >= this.#options.window || left <= 0) return
    const body = eventsBody(revision, Math.min(count, left))
    const entry: LogEntry = { ...head(idOf(this.#ids++), agent.belief.entryId, agent.name), ...body }
    agent.flights.push({ expected: agent.belief.seq, entry })
    agent.belief = { seq: agent.belief.seq + 1, entryId: entry.entryId, revision: body.throughRevision }
  }

  #deliver(agent: Agent): void {
    const flight = agent.flights.shift()
    if (flight === undefined) return
    if (flight.expected === this.log.length) {
      this.log.push(flight.entry)
      agent.acked += 1
    } else {
      this.conflicts += 1
      agent.belief = undefined
    }
  }

  /** The connection is lost: acks with it, and by luck the appends not yet delivered, or not. */
  #cut(agent: Agent): void {
    if (agent.acked % 2 === 0) agent.flights = []
    agent.belief = undefined
  }

  /** Everything still in flight arrives, then the first agent writes what is missing. */
  #finish(): void {
    for (const agent of this.#agents) while (agent.flights.length > 0) this.#deliver(agent)
    const [last] = this.#agents
    if (last === undefined) return
    for (let guard = 0; guard < this.#options.revisions + 2; guard++) {
      this.#readTail(last)
      this.#append(last, 3)
      this.#deliver(last)
    }
  }
}

/** Revisions in the order a chain reader applies them. */
export function chainReader(log: readonly LogEntry[]): { readonly applied: Revision[]; readonly voids: number } {
  const applied: Revision[] = []
  let voids = 0
  let state = CHAIN_START
  for (const [index, entry] of log.entries()) {
    const verdict = advance(state, index + 1, entry)
    if (verdict.kind === 'broken') throw new Error(`broken at ${index + 1}: ${verdict.reason}`)
    if (verdict.kind === 'void') {
      voids += 1
      continue
    }
    state = verdict.state
    if (entry.kind === 'events') applied.push(...entry.revisions.map((record) => record.revision))
    if (verdict.completed !== undefined) applied.push(verdict.completed.revision)
  }
  return { applied, voids }
}

/** What a reader without the chain rule would apply: everything above its high-water mark. */
export function naiveReader(log: readonly LogEntry[]): Revision[] {
  const applied: Revision[] = []
  let high = 0n
  for (const entry of log) {
    if (entry.kind !== 'events') continue
    for (const { revision } of entry.revisions) {
      if (BigInt(revision) <= high) continue
      high = BigInt(revision)
      applied.push(revision)
    }
  }
  return applied
}
