// The operator's view of this process.
// Owns: reading live objects into plain data, and the two actions (disconnect, revoke).
// Refuses: HTTP and other processes.

import { encodeCursor } from '#protocol/cursor.ts'
import { revisionDistance } from '#protocol/revision.ts'
import { Close } from '#protocol/codes.ts'
import type { Clock } from '#kit/clock.ts'
import { type Revocation, Revocations } from '../auth/revocations.ts'
import type { Principal } from '../auth/principal.ts'
import type { Delivery } from '../delivery/delivery.ts'
import type { Subscriber } from '../delivery/subscriber.ts'
import type { Watch } from '../delivery/watch.ts'
import type { Follower, Sessions } from '../session/sessions.ts'
import type { Session } from '../session/session.ts'
import type { AdminTarget, ClusterInfo, SessionFilter, SessionInfo, TraceLine, WatchInfo } from './target.ts'
import { traceOf } from './trace.ts'

export type LocalTargetDeps = {
  readonly sessions: Sessions
  readonly delivery: Delivery
  readonly clock: Clock
  readonly worker: number
  /** Undefined: no list is configured, so a revocation lives as long as this process. */
  readonly revocations: Revocations | undefined
}

export class LocalTarget implements AdminTarget {
  readonly #deps: LocalTargetDeps

  constructor(deps: LocalTargetDeps) {
    this.#deps = deps
  }

  async sessions(filter: SessionFilter): Promise<readonly SessionInfo[]> {
    const found: SessionInfo[] = []
    for (const one of this.#all()) {
      if (found.length >= filter.limit) break
      if (filter.id !== undefined && one.id !== filter.id) continue
      if (filter.subject !== undefined && one.principal?.subscriber.subject !== filter.subject) continue
      const info = this.#describe(one)
      if (info !== undefined) found.push(info)
    }
    return found
  }

  async clusters(): Promise<readonly ClusterInfo[]> {
    const { delivery, clock, worker } = this.#deps
    return [...delivery.hubs.values()].map(({ source, feeds }) => {
      const { state, epoch, revision, provenAt } = source.status
      const ageMs = provenAt === undefined ? undefined : Math.round(clock.monotonic() - provenAt)
      const readers = [...feeds].reduce((sum, feed) => sum + feed.readers.size, 0)
      return {
        worker,
        cluster: source.cluster,
        region: source.region,
        state,
        epoch,
        revision,
        ageMs,
        channels: feeds.size,
        readers,
      }
    })
  }

  async disconnect({ id, subject }: { readonly id?: string; readonly subject?: string }): Promise<number> {
    let ended = 0
    for (const one of Array.from(this.#all())) {
      const named =
        id !== undefined ? one.id === id : subject !== undefined && one.principal?.subscriber.subject === subject
      if (!named) continue
      one.close(Close.Draining)
      ended++
    }
    return ended
  }

  async revoke(revocation: Revocation): Promise<number> {
    const { sessions, revocations, clock } = this.#deps
    revocations?.add(revocation)
    const only = new Revocations(clock)
    only.replace([revocation])
    let ended = 0
    sessions.revoke((principal: Principal) => {
      const hit = only.revoked(principal)
      if (hit) ended++
      return hit
    })
    return ended
  }

  trace(subject: string, onLine: (line: TraceLine) => void, signal: AbortSignal): Promise<void> {
    return traceOf(this.#deps.sessions, subject, onLine, this.#deps.clock, signal)
  }

  *#all(): Generator<Session | Follower> {
    yield* this.#deps.sessions
    yield* this.#deps.sessions.followers
  }

  #describe(one: Session | Follower): SessionInfo | undefined {
    const { clock, worker } = this.#deps
    const { principal, subscriber } = one
    if (principal === undefined || subscriber === undefined) return undefined
    const { expiresAt } = principal
    return {
      id: one.id,
      worker,
      kind: 'client' in one ? 'session' : 'follower',
      subject: principal.subscriber.subject,
      region: principal.subscriber.region,
      class: subscriber.policyClass.id,
      address: one.address,
      client: 'client' in one ? one.client : subscriber.encoder.format,
      ageMs: Math.round(clock.monotonic() - one.startedAt),
      expiresInMs: expiresAt === undefined ? undefined : Math.round(expiresAt - clock.now()),
      written: subscriber.outlet.written,
      inFlight: subscriber.outlet.inFlight,
      watches: describeWatches(subscriber),
    }
  }
}

/** The same target, whose revocations are also written where every gateway reads them. */
export function persisting(target: AdminTarget, persist: (revocation: Revocation) => Promise<void>): AdminTarget {
  return {
    sessions: (filter) => target.sessions(filter),
    clusters: () => target.clusters(),
    disconnect: (filter) => target.disconnect(filter),
    trace: (subject, onLine, signal) => target.trace(subject, onLine, signal),
    revoke: async (revocation) => {
      await persist(revocation)
      return target.revoke(revocation)
    },
  }
}

const describeWatches = (subscriber: Subscriber): WatchInfo[] => [...subscriber.watches.values()].map(describeWatch)

function describeWatch(watch: Watch): WatchInfo {
  const { channel } = watch
  const positions = watch.positions()
  return {
    id: watch.id,
    ch: channel.ch,
    format: channel.spec.format,
    mode: channel.spec.mode,
    cursor: positions.size === 0 ? undefined : encodeCursor({ viewTag: channel.viewTag, positions }),
    clusters: [...watch.readers].map(([cluster, reader]) => {
      const at = positions.get(cluster)
      const { revision } = reader.feed.source.status
      return {
        cluster,
        state: reader.state.kind,
        epoch: at?.epoch,
        revision: at?.revision,
        lag: at === undefined ? undefined : Math.max(0, revisionDistance(revision, at.revision)),
      }
    }),
  }
}
