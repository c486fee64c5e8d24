// Whether agents enforce the bundle that this gateway enforces: they say theirs in every bookmark.
// Owns: listening, the patience before a difference is an alarm (a rollout reaches one place before another), the gauge and the log line.
// Refuses: acting on it. Deliver can only narrow what egress let out, so a difference is a question for people.

import type { Clock } from '#kit/clock.ts'
import type { Logger } from '#kit/logger.ts'
import type { BoundGauge, Family, Metrics } from '#kit/metrics.ts'
import type { NatsLink } from '#kit/nats.ts'
import { type ClusterId, markSubject } from '#protocol/subjects.ts'
import { declareSkew } from './policy-metrics.ts'
import { decodeMark } from './upstream/marks.ts'

export type SkewDeps = {
  readonly link: NatsLink
  readonly clusters: () => readonly ClusterId[]
  /** Revision of the stable bundle. */
  readonly revision: () => string
  readonly logger: Logger
  readonly clock: Clock
  readonly metrics: Metrics
}

type Heard = { readonly revision: string; readonly at: number }

const LOOK_MS = 500
/** Silence for this long says nothing about what an agent enforces. */
const FORGET_MS = 10_000

export class PolicySkew {
  readonly #deps: SkewDeps
  readonly #afterMs: number
  readonly #heard = new Map<ClusterId, Heard>()
  readonly #since = new Map<ClusterId, number>()
  readonly #alarmed = new Set<ClusterId>()
  readonly #gauge: Family<'cluster', BoundGauge>

  constructor(afterMs: number, deps: SkewDeps) {
    this.#afterMs = afterMs
    this.#deps = deps
    this.#gauge = declareSkew(deps.metrics)
  }

  /** One line per cluster whose agent enforces another bundle; empty when none does. */
  get problem(): string {
    const told = [...this.#alarmed].map(
      (cluster) => `${cluster} enforces ${this.#heard.get(cluster)?.revision.slice(0, 12) ?? '?'}`,
    )
    return told.join(', ')
  }

  hear(cluster: ClusterId, revision: string): void {
    this.#heard.set(cluster, { revision, at: this.#deps.clock.monotonic() })
    this.look()
  }

  /** Judges what was heard; call it now and then. */
  look(): void {
    const { clock, clusters, revision, logger } = this.#deps
    const now = clock.monotonic()
    const own = revision()
    for (const cluster of clusters()) {
      const heard = this.#heard.get(cluster)
      const differs = heard !== undefined && now - heard.at <= FORGET_MS && heard.revision !== own
      if (!differs) {
        this.#since.delete(cluster)
        if (this.#alarmed.delete(cluster)) logger.info('policy bundles agree again', { cluster })
      } else {
        const since = this.#since.get(cluster) ?? now
        this.#since.set(cluster, since)
        if (now - since >= this.#afterMs && !this.#alarmed.has(cluster)) {
          this.#alarmed.add(cluster)
          logger.warn('policy bundles differ', {
            cluster,
            agent: heard.revision,
            gateway: own,
            forMs: Math.round(now - since),
          })
        }
      }
      this.#gauge.with({ cluster }).set(this.#alarmed.has(cluster) ? 1 : 0)
    }
  }

  /** Listens until the signal aborts; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps
    const listening = this.#listen(signal)
    try {
      for (;;) {
        await clock.sleep(LOOK_MS, signal)
        this.look()
      }
    } catch {
      await listening
    }
  }

  /** Subscriptions outlive a reconnect of the same client; another client needs them anew, and so does another cluster. */
  async #listen(signal: AbortSignal): Promise<void> {
    const { link, clusters, clock } = this.#deps
    let generation = -1
    let following = new Set<ClusterId>()
    while (!signal.aborted) {
      const state = link.state()
      const nc = link.connection()
      if (state.kind === 'connected' && nc !== undefined) {
        if (state.generation !== generation) following = new Set()
        ;({ generation } = state)
        for (const cluster of clusters()) {
          if (following.has(cluster)) continue
          following.add(cluster)
          nc.subscribe(markSubject(cluster), {
            callback: (error, message) => {
              if (error !== null || signal.aborted) return
              const revision = decodeMark(message.data)?.policyRevision
              if (revision !== undefined) this.hear(cluster, revision)
            },
          })
        }
      }
      await clock.sleep(LOOK_MS, signal).catch(() => undefined)
    }
  }
}
