// Attaching to one etcd member: connect, learn who it is, prove the lineage, and only then let anything new through.
// Owns: the order of those steps and the verdict they lead to.
// Refuses: choosing endpoints and waiting (lead.ts), the digests' meaning (lineage/), the watch's (watch/).

import type { Clock } from '#kit/clock.ts'
import { type Lineage, type LineageProof } from '#protocol/log/entry.ts'
import { addRevision, compareRevisions, REVISION_ZERO, type Revision } from '#protocol/revision.ts'
import type { DigestRing } from './lineage/digest.ts'
import { judgeLineage, type NewEpochReason, provable } from './lineage/judge.ts'
import type { LineageKeys } from './lineage/key.ts'
import { LineageReplay, type Reproduced } from './lineage/replay.ts'
import { StateSum } from './lineage/state-sum.ts'
import type { Trail } from './lineage/trail.ts'
import { readState } from './watch/read-state.ts'
import { EtcdFailure, type EtcdMember, type KeyRange, type MemberStatus } from './watch/etcd.ts'
import { Feed, type FeedEnd } from './watch/feed.ts'
import type { Framing } from './watch/framing.ts'
import type { LivenessOptions } from './watch/liveness.ts'
import type { Header } from './watch/message.ts'
import type { WatchOutput } from './watch/state.ts'
import { parseVersion, trustsManualProgress, type Version } from './watch/versions.ts'

export type MemberFacts = {
  readonly status: MemberStatus
  readonly version: Version | undefined
  /** Of a linearizable read: the member has applied everything up to here. */
  readonly head: Header
}

export type AttachOptions = {
  readonly range: KeyRange
  readonly prevValues: boolean
  readonly maxRevisionBytes: number
  readonly liveness: LivenessOptions
  readonly framing: Framing
  readonly keys: LineageKeys
  /** A replay that comes to no verdict within this time says nothing, and the next endpoint is tried. */
  readonly replayTimeoutMs: number
}

export type AttachDeps = {
  readonly clock: Clock
  /** Called before the first output: what follows stands on the evidence handed over here. */
  readonly onAttached: (attached: Attached) => void
  readonly onOutputs: (outputs: readonly WatchOutput[]) => void
  readonly probeHead: () => Promise<Revision>
}

/** Where a continuation starts and what must be reproduced before it. */
export type Continuation = { readonly lineage: Lineage | undefined; readonly position: Revision }

export type Attached = {
  readonly feed: Feed
  readonly reproduced: readonly Reproduced[]
  /** Proved by reading the state: nothing changed up to here, and the feed starts behind it. */
  readonly unchangedTo: Revision
  /** Digest of that state under the current key, when it is known. */
  readonly state: Uint8Array | undefined
}

export type AttachVerdict =
  | { readonly kind: 'attached'; readonly feed: Feed }
  | { readonly kind: 'new-epoch'; readonly reason: NewEpochReason }
  | { readonly kind: 'failed'; readonly end: FeedEnd }

/** What a member must reproduce for a session that goes on: what was sent, and what was heard behind it. */
export function lineageOf(trail: Trail, heard: DigestRing): Lineage {
  // The state's proof speaks for the position only if nothing was offered after it.
  const { state } = trail
  const holds = state !== undefined && compareRevisions(heard.newest ?? REVISION_ZERO, state.revision) <= 0
  return { ...trail.evidence(), proofs: [...heard.proofs(), ...(holds ? [state] : [])] }
}

/** A response holds more than keys and values, and often more than one revision. */
const RESPONSE_ROOM = 2

export async function learn(member: EtcdMember, range: KeyRange): Promise<MemberFacts> {
  const status = await member.status()
  if (status.isLearner) throw new EtcdFailure('learner', `${member.endpoint} is a learner: it serves no watches yet`)
  const head = await member.head(range)
  // A proxy coalesces watches, forgets progress and hides reconnects; it gives itself away by having no ids.
  if (head.clusterId === '0' || status.header.clusterId === '0') {
    throw new EtcdFailure('other', `${member.endpoint} is a grpc-proxy: give the members' own endpoints`)
  }
  return { status, version: parseVersion(status.version), head }
}

/** Opens, asks and closes a connection beside the one in use. Rejects when it would not serve, or serves another cluster. */
export async function tryOut(
  connect: (endpoint: string) => EtcdMember,
  endpoint: string,
  range: KeyRange,
  clusterId: string,
): Promise<void> {
  using member = connect(endpoint)
  const { head } = await learn(member, range)
  if (head.clusterId === clusterId) return
  const why = `${endpoint} is of etcd cluster ${head.clusterId}, this log of ${clusterId}`
  throw new EtcdFailure('other', `${why}: name its own members, or restart the agent to start over on another cluster`)
}

/** Proves that `member` has the history the continuation stands on, then hands over a feed running from its position. */
export async function attach(
  member: EtcdMember,
  facts: MemberFacts,
  from: Continuation,
  options: AttachOptions,
  deps: AttachDeps,
): Promise<AttachVerdict> {
  const { clusterId, raftTerm, revision: head } = facts.head
  const judgement = judgeLineage(
    { lineage: from.lineage, position: from.position },
    { clusterId, raftTerm, head },
    new Set(options.keys.byId.keys()),
  )
  if (judgement.kind === 'new-epoch') return judgement
  let proofs = judgement.proofs
  while (proofs.length > 0) {
    const outcome = await replay(member, facts, from, proofs, options, deps)
    if (outcome.kind !== 'compacted') return outcome
    proofs = provable(proofs, outcome.compactRevision)
  }
  if (judgement.state === undefined) return { kind: 'new-epoch', reason: 'no-evidence' }
  const proved = await proveState(member, from, judgement.state, options)
  if (proved === undefined) return { kind: 'new-epoch', reason: 'no-evidence' }
  const feed = openFeed(member, facts, addRevision(proved, 1), options, deps, deps.onOutputs)
  const current = from.lineage?.keyId === options.keys.current.id
  const state = current ? judgement.state.digest : undefined
  deps.onAttached({ feed, reproduced: [], unchangedTo: proved, state })
  void feed.start()
  return { kind: 'attached', feed }
}

const failed = (kind: EtcdFailure['kind'], message: string): AttachVerdict & { kind: 'failed' } => ({
  kind: 'failed',
  end: { kind: 'failed', failure: new EtcdFailure(kind, message) },
})

/** The revision up to which the state is what it was at the position; undefined when that cannot be shown. */
async function proveState(
  member: EtcdMember,
  from: Continuation,
  proof: LineageProof,
  options: AttachOptions,
): Promise<Revision | undefined> {
  const key = options.keys.byId.get(from.lineage?.keyId ?? '') ?? options.keys.current
  for (const revision of [from.position, undefined]) {
    try {
      const sum = new StateSum(key.secret)
      const at = await readState(member, options.range, revision, (held) => sum.add(held))
      if (equalBytes(sum.digest(), proof.digest)) return at
    } catch (e) {
      // The position itself may be compacted; if nothing changed since, the newest state still shows the same digest.
      if (!(e instanceof EtcdFailure) || e.kind !== 'compacted') throw e
    }
  }
  return undefined
}

const equalBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, i) => byte === b[i])

/** A feed from the revision after `position`, with nothing to prove: straight after a checkpoint on the same member. */
export function feedAfter(
  member: EtcdMember,
  facts: MemberFacts,
  position: Revision,
  options: AttachOptions,
  deps: AttachDeps,
): Feed {
  return openFeed(member, facts, addRevision(position, 1), options, deps, deps.onOutputs)
}

type ReplayOutcome = AttachVerdict | { readonly kind: 'compacted'; readonly compactRevision: Revision }

async function replay(
  member: EtcdMember,
  facts: MemberFacts,
  from: Continuation,
  proofs: readonly LineageProof[],
  options: AttachOptions,
  deps: AttachDeps,
): Promise<ReplayOutcome> {
  // `attach` only replays a non-empty list made under a key that is held.
  const first = proofs[0] as LineageProof
  const key = options.keys.byId.get(from.lineage?.keyId ?? '') ?? options.keys.current
  const check = new LineageReplay({
    proofs,
    position: from.position,
    digest: key.digest,
    seed: options.keys.current.digest,
  })
  const { promise, resolve } = Promise.withResolvers<ReplayOutcome>()
  let handedOver = false

  const judge = (outputs: readonly WatchOutput[]): void => {
    const fresh: WatchOutput[] = []
    for (const output of outputs) {
      if (output.kind === 'revision') {
        const verdict = check.revision(output.revision)
        if (verdict === 'diverged') return diverged()
        if (compareRevisions(output.revision.revision, from.position) > 0) fresh.push(output)
      } else if (output.kind === 'proved') {
        if (check.provedUpTo(output.revision) === 'diverged') return diverged()
        fresh.push(output)
      } else {
        fresh.push(output)
      }
    }
    if (check.verdict !== 'proved') return
    if (!handedOver) {
      handedOver = true
      deps.onAttached({ feed, reproduced: check.reproduced, unchangedTo: from.position, state: undefined })
      resolve({ kind: 'attached', feed })
    }
    deps.onOutputs(fresh)
  }
  const diverged = (): void => {
    resolve({ kind: 'new-epoch', reason: 'diverged' })
    feed.stop({ kind: 'diverged' })
  }

  const feed = openFeed(member, facts, first.revision, options, deps, judge)
  void feed.ended.then((end) => {
    if (end.kind === 'compacted') resolve({ kind: 'compacted', compactRevision: end.compactRevision })
    // History that cannot be taken in cannot be reproduced, here or elsewhere.
    else if (end.kind === 'oversize') resolve({ kind: 'new-epoch', reason: 'no-evidence' })
    else resolve({ kind: 'failed', end })
  })
  using _deadline = deps.clock.setTimeout(() => {
    resolve(failed('timeout', `${member.endpoint} did not reproduce the log's history in time`))
    feed.stop({ kind: 'stale' })
  }, options.replayTimeoutMs)
  void feed.start()
  const outcome = await promise
  if (outcome.kind !== 'attached') feed.stop()
  return outcome
}

function openFeed(
  member: EtcdMember,
  facts: MemberFacts,
  startRevision: Revision,
  options: AttachOptions,
  deps: AttachDeps,
  onOutputs: (outputs: readonly WatchOutput[]) => void,
): Feed {
  const { range, prevValues, maxRevisionBytes, liveness, framing } = options
  const maxResponseBytes = RESPONSE_ROOM * maxRevisionBytes
  const trusts = trustsManualProgress(facts.version)
  const beyond = compareRevisions(startRevision, facts.head.revision) > 0
  const requestFrom = beyond ? addRevision(startRevision, -1) : startRevision
  return new Feed(
    {
      range,
      prevValues,
      maxRevisionBytes,
      maxResponseBytes,
      liveness,
      framing,
      startRevision,
      requestFrom,
      trustsManualProgress: trusts,
    },
    { member, clock: deps.clock, probeHead: deps.probeHead, onOutputs },
  )
}
