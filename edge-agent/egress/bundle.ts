// The policy bundle in force at this agent, as each relay sees it, and what is recorded of its decisions.
// Owns: one decider per log and bundle, the shadow bundle asked beside it, the decision log. Loading and swapping are policies/node's.
// Refuses: starting without a valid bundle: an agent that cannot say what may leave lets nothing leave.

import type { Clock } from '#kit/clock.ts'
import type { Logger } from '#kit/logger.ts'
import type { Metrics } from '#kit/metrics.ts'
import type { NatsLink } from '#kit/nats.ts'
import type { Random } from '#kit/random.ts'
import { egress } from '#policies/engine/egress.ts'
import type { EgressDecider, PolicyBundle } from '#policies/engine/types.ts'
import { DecisionLog, type DecisionLogOptions } from '#policies/node/decision-log.ts'
import { type LiveBundle, openLiveBundle } from '#policies/node/live-bundle.ts'
import { bundleOrigin } from '#policies/node/origin.ts'
import { ShadowTally } from '#policies/node/shadow-tally.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import type { Destination } from './destination.ts'
import type { Observe, PolicyInForce, PolicySource } from './policy.ts'
import { followShadow } from './shadow.ts'

export type BundleOptions = {
  /** A directory, a bundle file, or `kv://bucket/key`. */
  readonly place: string
  readonly shadow?: string | undefined
  readonly keys?: string | undefined
  readonly publicKeyFile?: string | undefined
  readonly pollMs: number
  readonly decisions: DecisionLogOptions
}

export type BundleDeps = {
  readonly link: NatsLink
  readonly logger: Logger
  readonly clock: Clock
  readonly random: Random
  readonly metrics: Metrics
}

export interface BundleHolder extends AsyncDisposable {
  readonly revision: string
  /** Why the newest attempt to load was refused; empty when the newest bundle is in force. */
  readonly problem: string
  sourceFor(cluster: ClusterId, region: string, destination: Destination): PolicySource
  /** Loads again; throws and keeps the old bundle when the new one is bad. */
  reload(): Promise<void>
}

export async function openPolicies(
  options: BundleOptions,
  deps: BundleDeps,
  signal?: AbortSignal,
): Promise<BundleHolder> {
  await using stack = new AsyncDisposableStack()
  const { link, logger, clock, metrics } = deps
  const { keys, publicKeyFile, pollMs } = options
  const open = (role: string, place: string, until?: AbortSignal): Promise<LiveBundle> => {
    const origin = bundleOrigin(place, () => link)
    return openLiveBundle({ origin, keys, publicKeyFile, pollMs, role }, { logger, clock }, until)
  }
  const live = stack.use(await open('live', options.place, signal))
  const { shadow: beside } = options
  const shadow =
    beside === undefined
      ? undefined
      : stack.use(await followShadow(() => open('shadow', beside), { clock, logger, pollMs }))
  const publish = (subject: string, data: string): boolean => {
    const nc = link.state().kind === 'connected' ? link.connection() : undefined
    if (nc === undefined) return false
    nc.publish(subject, data)
    return true
  }
  const log = stack.use(await DecisionLog.open(options.decisions, { ...deps, publish }))
  const tally = new ShadowTally({ stage: 'egress', logger, clock, metrics, keyHash: log.keyHash })
  const besides = (): PolicyBundle | undefined => shadow?.bundle ?? live.bundle.shadow
  const whole = stack.move()

  function observer(cluster: ClusterId, region: string, to: string): Observe {
    let made: { readonly of: PolicyBundle; readonly decider: EgressDecider } | undefined
    return (event, decision, now) => {
      log.decided(cluster, decision, event.key, { bundle: live.bundle.revision, to, mode: 'enforce' })
      const other = besides()
      if (other === undefined) return
      if (made?.of !== other) made = { of: other, decider: egress(other, region, to) }
      const pair = `${live.bundle.revision.slice(0, 12)} ${other.revision.slice(0, 12)}`
      tally.compare(pair, decision, made.decider.decide(event, now), event.key)
    }
  }

  return {
    get revision() {
      return live.bundle.revision
    },
    get problem() {
      return [live, ...(shadow === undefined ? [] : [shadow])].flatMap(({ problem }) => problem || []).join('; ')
    },
    sourceFor: (cluster, region, destination) => {
      let made: { readonly of: PolicyBundle; readonly to: string; readonly inForce: PolicyInForce } | undefined
      return {
        current: () => {
          const { bundle } = live
          const to = destination.region
          if (made?.of !== bundle || made.to !== to) {
            const inForce: PolicyInForce = {
              decider: egress(bundle, region, to),
              get revision() {
                return live.bundle.revision
              },
              observe: observer(cluster, region, to),
            }
            made = { of: bundle, to, inForce }
          }
          return made.inForce
        },
        onChange: (fn) => live.onChange(fn),
      }
    },
    reload: async () => {
      await live.reload()
      await shadow?.reload()
    },
    [Symbol.asyncDispose]: () => whole.disposeAsync(),
  }
}
