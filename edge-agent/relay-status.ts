// What one log's relay is doing, for everyone who asks: marks, metrics, /debug/status, the log file.
// Owns: the phases and facts, and the mapping to the states the protocol knows.
// Refuses: deciding anything by them.

import type { AgentState, Epoch } from '#protocol/log/entry.ts'
import type { MemberFacts } from './attach.ts'
import { knownWatchBugs } from './watch/versions.ts'
import { maxRevision, REVISION_ZERO, type Revision, revisionDistance } from '#protocol/revision.ts'

export type Phase =
  | 'starting'
  | 'hub-unreachable'
  | 'stream-missing'
  | 'hub-denied'
  | 'hub-full'
  | 'hub-too-small'
  | 'hub-region-unknown'
  | 'hub-region-mismatch'
  | 'reading-tail'
  | 'standby'
  | 'config-mismatch'
  | 'etcd-unreachable'
  | 'range-denied'
  | 'refused'
  | 'proving'
  | 'checkpoint'
  | 'held'
  | 'live'
  | 'stopped'

/** What the log held when it was looked at last, and the BEGIN of its newest change of policy; 0: none is known. */
export type Retention = {
  /** `retained-wider`: entries from before that change are still there, and may say more than policy allows since. */
  readonly state: 'retained-wider' | 'nothing-wider'
  readonly firstSeq: number
  readonly policyBeginSeq: number
}

export class RelayStatus {
  phase: Phase = 'starting'
  /** Why, in one line, when the phase is not a good one. */
  reason = ''
  phaseSince: number
  epoch: Epoch | undefined
  position: Revision = REVISION_ZERO
  seq = 0
  head: Revision = REVISION_ZERO
  endpoint = ''
  memberId = ''
  clusterId = ''
  raftTerm = ''
  raftIndex = ''
  etcdVersion = ''
  knownBugs: readonly string[] = []
  leader = ''
  configHash = ''
  policyRevision = ''
  newestCompleteBeginSeq = 0
  /** Of the leader; undefined before its first look. */
  retention: Retention | undefined
  checkpointReason = ''
  /** Monotonic ms of the last event relayed and of the last proof of progress. */
  lastEventAt = Number.NEGATIVE_INFINITY
  lastProofAt = Number.NEGATIVE_INFINITY

  /** Revisions of the range that arrived, and times a checkpoint took the place of some: for the deviation alarm. */
  revisionsSeen = 0
  skips = 0
  deviation = 0
  deviationAlarm = false
  /** Monotonic ms of the last moment without lag. */
  levelAt: number
  /** Monotonic ms at which the hook that holds now began to; undefined while none does. */
  heldSince: number | undefined
  /** It has been where it belongs at least once: only then is the agent ready. */
  settled = false

  constructor(now: number) {
    this.levelAt = now
    this.phaseSince = now
  }

  enter(phase: Phase, now: number, reason = ''): boolean {
    const changed = phase !== this.phase || reason !== this.reason
    if (phase !== this.phase) this.phaseSince = now
    this.phase = phase
    if (phase === 'live' || phase === 'standby' || phase === 'held') this.settled = true
    this.reason = reason
    return changed
  }

  /** Takes down who answers at `endpoint`; the known bugs of its version when that is news. */
  meet(endpoint: string, { status, version, head }: MemberFacts): readonly string[] {
    const news = status.version !== this.etcdVersion
    this.knownBugs = knownWatchBugs(version)
    this.endpoint = endpoint
    this.memberId = status.header.memberId
    this.clusterId = head.clusterId
    this.raftTerm = head.raftTerm
    this.raftIndex = status.raftIndex
    this.etcdVersion = status.version
    this.head = head.revision
    return news ? this.knownBugs : []
  }

  /** What a hook holds, if anything: etcd is at least there, and what was relayed grows old from then on. */
  holding(hold: { readonly since: number; readonly revision: Revision } | undefined): void {
    this.heldSince = hold?.since
    if (hold !== undefined) this.head = maxRevision(this.head, hold.revision)
  }

  /** For how long nothing was relayed because a hook holds, whole ms; 0 while none does. */
  heldMs(now: number): number {
    return this.phase === 'held' && this.heldSince !== undefined ? Math.round(now - this.heldSince) : 0
  }

  /** Revisions etcd is known to be ahead of the log. */
  lag(proven: Revision): number {
    return Math.max(0, revisionDistance(this.head, proven))
  }

  /** For how long it has lagged, ms; 0 while level. */
  lagMs(now: number, proven: Revision): number {
    if (this.lag(proven) === 0) this.levelAt = now
    return now - this.levelAt
  }

  agentState(now: number, proven: Revision): AgentState {
    switch (this.phase) {
      case 'live':
        if (this.lag(proven) > LAGGING_REVISIONS) return 'lagging'
        return now - this.lastEventAt > IDLE_MS && now - this.lastProofAt <= IDLE_MS ? 'idle-proved' : 'live'
      case 'held':
        return 'lagging'
      case 'checkpoint':
        return 'resyncing'
      case 'hub-too-small':
      case 'hub-full':
        return 'hub-too-small'
      case 'standby':
      case 'config-mismatch':
        return 'standby'
      case 'refused':
      case 'range-denied':
      case 'hub-denied':
      case 'hub-region-unknown':
      case 'hub-region-mismatch':
        return 'refused'
      case 'starting':
      case 'hub-unreachable':
      case 'stream-missing':
      case 'reading-tail':
      case 'etcd-unreachable':
      case 'proving':
      case 'stopped':
        return 'unreachable'
      default: {
        const never: never = this.phase
        return never
      }
    }
  }
}

const LAGGING_REVISIONS = 1_000
/** Without an event for this long, but with proof: idle, and known to be. */
const IDLE_MS = 5_000
