// One term over a simulated hub and a member that says what the test wants: what interrupts and what holds a checkpoint.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Key } from '#protocol/bytes.ts'
import type { CheckpointReason } from '#protocol/log/entry.ts'
import { Hooks } from '#agent/hooks/hooks.ts'
import { DigestRing } from '#agent/lineage/digest.ts'
import { lineageKeys } from '#agent/lineage/key.ts'
import { RelayStatus } from '#agent/relay-status.ts'
import { Term } from '#agent/term.ts'
import { LogSession } from '#agent/uplink/session.ts'
import { chainStart, readTail } from '#agent/uplink/tail.ts'
import { Endpoints } from '#agent/watch/endpoints.ts'
import { EtcdFailure, type EtcdMember, type WatchSink } from '#agent/watch/etcd.ts'
import { WatchMachine } from '#agent/watch/state.ts'
import { systemClock } from '#kit/clock.ts'
import { createLogger } from '#kit/logger.ts'
import { systemRandom } from '#kit/random.ts'
import { created, del, header, put, response, rev } from './fixtures.ts'
import { entriesOf, EPOCH, TRAIL } from './log-fixtures.ts'
import { SimulatedHub, SimulatedStream } from './simulated-hub.ts'

const RANGE = { from: '/' as Key, to: '0' as Key }
const KEYS = lineageKeys(undefined)
const RELAYED = response({ header: header(6), events: [put('/k0', 5)] })
const WINDOW = { maxInFlight: 16, maxBytes: 4 * 1024 * 1024 }
const PROGRESS = { maxRevisions: 1_000, maxMs: 30_000 }
const clock = systemClock()
const random = systemRandom()
const logger = createLogger({ service: 'test', level: 'silent' })
/** Counters that nobody reads. */
const counters = new Proxy({}, { get: () => () => undefined }) as ConstructorParameters<typeof Term>[1]['counters']

/** A log behind a complete checkpoint at 5, written under configuration "c"; `pending` was announced after it. */
async function logAtFive(hub: SimulatedHub, pending?: CheckpointReason) {
  const machine = new WatchMachine({
    startRevision: rev(5),
    trustsManualProgress: false,
    maxRevisionBytes: 1024 * 1024,
  })
  machine.receive(created(6), 0)
  const behind = response({ header: header(7), events: [put('/k1', 7)] })
  const outputs = [...machine.receive(RELAYED, 0), ...machine.receive(behind, 0)]
  const source = outputs.flatMap((o) => (o.kind === 'revision' ? [o.revision] : []))[0]
  const ring = new DigestRing(KEYS.current.digest)
  ring.push({ revision: rev(5), source, digest: undefined })
  const { cluster_id: clusterId } = header(0)
  const lineage = { clusterId, raftTerm: '2', keyId: KEYS.current.id, proofs: ring.proofs() }
  const session = new LogSession(
    {
      start: chainStart(await readTail(hub)),
      identity: { agentId: 'a/1', configHash: 'c', policyRevision: 'p' },
      epoch: EPOCH,
      newestCompleteBeginSeq: 0,
      window: WINDOW,
      maxEntryBytes: 256 * 1024,
      ackTimeoutMs: 10_000,
      progress: PROGRESS,
    },
    {
      hub,
      trail: { ...TRAIL, evidence: () => lineage },
      clock,
      random,
      onEased: () => undefined,
      onAppended: () => undefined,
      soon: (fn) => fn(),
    },
  )
  const at = { checkpointId: 'cp', revision: rev(5) }
  session.prepare('epoch', EPOCH)
  await session.append({ kind: 'snapshot-begin', ...at, reason: 'epoch' })
  await session.append({ kind: 'snapshot-end', ...at, itemCount: 0, digest: new Uint8Array(32) })
  await session.settled()
  if (pending !== undefined) {
    session.prepare(pending, EPOCH)
    await session.append((revision) => ({ kind: 'snapshot-begin', checkpointId: 'g', revision, reason: pending }))
    await session.settled()
  }
  session.close()
}

type MemberPlan = {
  /** What the watch brings when it is opened for the nth time, from 1 on. */
  readonly brings: (watch: number) => readonly unknown[]
  /** Called before the nth page is answered, from 1 on. */
  readonly page?: (page: number) => void
}

function memberOf({ brings, page }: MemberPlan): EtcdMember {
  const { cluster_id: clusterId, member_id: memberId } = header(0)
  const head = { clusterId, memberId, raftTerm: '2', revision: rev(6) }
  let pages = 0
  let watches = 0
  return {
    endpoint: 'http://e',
    [Symbol.dispose]: () => undefined,
    status: () => Promise.resolve({ header: head, version: '3.5.21', raftIndex: '1', isLearner: false, alarms: [] }),
    head: () => Promise.resolve(head),
    page: async () => {
      page?.(++pages)
      return { header: head, items: [], more: false, count: 0 }
    },
    watch: (_, sink: WatchSink) => {
      const messages = brings(++watches)
      setImmediate(() => {
        for (const message of [created(6), ...messages]) sink.message(message)
      })
      return Promise.resolve({
        pause: () => undefined,
        resume: () => undefined,
        requestProgress: () => undefined,
        close: () => undefined,
      })
    },
  }
}

async function termOn(hub: SimulatedHub, configHash: string, plan: MemberPlan) {
  const status = new RelayStatus(clock.monotonic())
  const relaxed = { maxKeys: 0, action: 'annotate' } as const
  const hooks = new Hooks(
    {
      range: RANGE,
      window: 100,
      onCreate: { ...relaxed, preCheck: false },
      onUpdate: { ...relaxed, hotKey: 0 },
      onDelete: { maxKeys: 10, action: 'hold' },
      holdMs: 0,
      delayMs: 0,
    },
    { clock, logger, counters, head: () => status.head },
  )
  const decider = {
    needsPrevValue: false,
    configHash: () => configHash,
    nextExpiry: () => undefined,
    visible: () => 'visible',
    decide: ({ key, value }: { key: Key; value: Uint8Array }) => ({
      effect: 'allow',
      key,
      value,
      transforms: [],
      rules: [],
    }),
  } as unknown as ConstructorParameters<typeof Term>[3]['decider']
  const far = 60_000
  const member = memberOf(plan)
  const term = new Term(
    {
      attach: {
        range: RANGE,
        keys: KEYS,
        maxRevisionBytes: 1024 * 1024,
        replayTimeoutMs: 2_000,
        liveness: { progressEveryMs: far, deafAfterMs: far, probeEveryMs: far, staleAfterMs: far },
      },
      range: RANGE,
      prefixes: [],
      agentId: 'b/2',
      configHash,
      window: WINDOW,
      ackTimeoutMs: 10_000,
      progress: PROGRESS,
      markEveryMs: 500,
      maxHeldBytes: 8 * 1024 * 1024,
      continuityKeys: 0,
      resyncEveryMs: 0,
      maxStateKeys: 1_000,
      routine: { maxAgeMs: 0, maxRevisions: 0 },
      quietMs: far,
      deviationEveryMs: far,
      logLookEveryMs: far,
    } as unknown as ConstructorParameters<typeof Term>[0],
    {
      clock,
      random,
      logger,
      hub,
      endpoints: new Endpoints(['http://e'], { baseMs: 10, capMs: 20, stableMs: 1_000 }),
      connect: () => member,
      hooks,
      status,
      counters,
    },
    await readTail(hub),
    { decider, revision: 'p' },
  )
  return { term, hooks, status }
}

const told = (stream: SimulatedStream, from: number): readonly string[] =>
  entriesOf(stream)
    .slice(from)
    .map((entry) => (entry.kind === 'snapshot-begin' ? `${entry.kind} ${entry.reason}` : entry.kind))

function running(term: Term): AsyncDisposable {
  const stop = new AbortController()
  const over = term.run(stop.signal)
  return {
    [Symbol.asyncDispose]: async () => {
      stop.abort()
      await over
    },
  }
}

async function until(what: () => boolean): Promise<void> {
  const deadline = clock.monotonic() + 10_000
  while (!what() && clock.monotonic() < deadline) await clock.sleep(5)
  assert.ok(what(), 'it did not come to that')
}

describe('a term', () => {
  it('K4: a policy checkpoint that etcd interrupts is written after all, and what came meanwhile follows it', async () => {
    const stream = new SimulatedStream()
    const hub = new SimulatedHub(stream)
    await logAtFive(hub)
    const before = entriesOf(stream).length
    const fresh = response({ header: header(6), events: [put('/new', 6)] })
    const { term } = await termOn(hub, 'another', {
      brings: (watch) => (watch === 1 ? [RELAYED] : [RELAYED, fresh]),
      // The first page estimates the size, the second is the checkpoint's.
      page: (n) => {
        if (n === 2) throw new EtcdFailure('unavailable', 'the member restarts')
      },
    })
    await using _ = running(term)
    await until(() => told(stream, before).includes('events'))
    assert.deepEqual(told(stream, before), ['snapshot-begin policy', 'snapshot-begin policy', 'snapshot-end', 'events'])
  })

  for (const [name, configHash] of [
    ['a gap alone', 'c'],
    ['a gap and a change of policy', 'another'],
  ] as const) {
    it(`K6: a hook that holds while attaching keeps ${name} from being answered, which would show what it holds`, async () => {
      const stream = new SimulatedStream()
      const hub = new SimulatedHub(stream)
      await logAtFive(hub, 'gap')
      const before = entriesOf(stream).length
      const mass = response({ header: header(6), events: Array.from({ length: 20 }, (_, i) => del(`/d${i}`, 6)) })
      const { term, hooks, status } = await termOn(hub, configHash, { brings: () => [RELAYED, mass] })
      await using _ = running(term)
      await until(() => hooks.hold !== undefined && status.phase === 'held')
      assert.deepEqual(told(stream, before), [])
    })
  }
})
