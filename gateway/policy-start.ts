// What runs beside delivery about policy: the decision log, the comparison with the shadow bundle, the look at the agents' bundles.
// Owns: starting these three and stopping them. Refuses: the bundles themselves (policies.ts).

import type { Clock } from '#kit/clock.ts'
import type { Logger } from '#kit/logger.ts'
import type { Metrics } from '#kit/metrics.ts'
import type { NatsLink } from '#kit/nats.ts'
import type { Random } from '#kit/random.ts'
import type { PolicyClass } from '#policies/engine/types.ts'
import { DecisionLog, type DecisionLogOptions } from '#policies/node/decision-log.ts'
import { ShadowTally } from '#policies/node/shadow-tally.ts'
import type { EnginePolicy } from './delivery/engine-policy.ts'
import type { Sources } from './delivery/ports.ts'
import { PolicyRecorder } from './policy-record.ts'
import { PolicySkew } from './policy-skew.ts'

export type PolicyRecordsDeps = {
  readonly sources: Sources
  readonly policy: EnginePolicy
  readonly classes: () => Iterable<PolicyClass>
  readonly link: NatsLink
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly metrics: Metrics
}

export interface PolicyRecords extends AsyncDisposable {
  readonly skew: PolicySkew
}

export async function openPolicyRecords(
  options: { readonly decisions: DecisionLogOptions; readonly skewAfterMs: number },
  deps: PolicyRecordsDeps,
): Promise<PolicyRecords> {
  await using stack = new AsyncDisposableStack()
  const { sources, policy, classes, link, clock, random, logger, metrics } = deps
  const publish = (subject: string, data: string): boolean => {
    const nc = link.state().kind === 'connected' ? link.connection() : undefined
    if (nc === undefined) return false
    nc.publish(subject, data)
    return true
  }
  const log = stack.use(await DecisionLog.open(options.decisions, { clock, random, logger, metrics, publish }))
  const shadow = new ShadowTally({ stage: 'deliver', logger, clock, metrics, keyHash: log.keyHash })
  const soon = (fn: () => void): void => void setImmediate(fn)
  stack.use(new PolicyRecorder({ sources, policy, classes, log, shadow, clock, metrics, soon }))
  const skew = new PolicySkew(options.skewAfterMs, {
    link,
    clusters: () => sources.list().map((source) => source.cluster),
    revision: () => policy.bundle.revision,
    logger,
    clock,
    metrics,
  })
  const stop = new AbortController()
  const looking = skew.run(stop.signal)
  stack.defer(async () => {
    stop.abort()
    await looking
  })
  const whole = stack.move()
  return { skew, [Symbol.asyncDispose]: () => whole.disposeAsync() }
}
