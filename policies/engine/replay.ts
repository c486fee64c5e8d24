// Recorded events through two bundles: what would change if the candidate went live.
// Owns: walking each event the whole way under both, and counting the differences. Does not own: reading recordings.

import { classify } from './classes.ts'
import { deliver } from './deliver.ts'
import { egress } from './egress.ts'
import { DifferenceTally } from './shadow.ts'
import type { DifferenceCount } from './shadow.ts'
import type { Decision, EgressDecider, PolicyBundle, PolicyEvent, Subscriber } from './types.ts'

export type RecordedEvent = {
  readonly source: string
  /** Ms since 1970. */
  readonly at: number
  readonly event: PolicyEvent
  /** Absent: only what leaves the source is compared. */
  readonly subscriber?: Subscriber
}

export type Replay = { readonly events: number; readonly differences: readonly DifferenceCount[] }

/** `name` labels an event in the examples; it is shown to whoever made the recording. */
export function replay(
  events: Iterable<RecordedEvent>,
  before: PolicyBundle,
  after: PolicyBundle,
  hub: string,
  name: (event: RecordedEvent) => string,
): Replay {
  const tally = new DifferenceTally()
  for (const recorded of events)
    tally.add(outcome(recorded, before, hub), outcome(recorded, after, hub), () => name(recorded))
  return { events: tally.decisions, differences: tally.list() }
}

/** What the subscriber gets in the end, or what leaves when there is none. */
export function outcome({ source, at, event, subscriber }: RecordedEvent, bundle: PolicyBundle, hub: string): Decision {
  const agent = egress(bundle, source, hub)
  const left = agent.decide(event, at)
  if (subscriber === undefined || left.effect === 'deny') return left
  const cls = classify(bundle, subscriber)
  if ('refused' in cls) return { effect: 'deny', reason: 'error' }
  const logged: PolicyEvent = {
    op: event.op,
    key: left.key,
    applied: left.transforms,
    prevKnown: event.prevKnown,
    ...(left.effect === 'withhold' ? { withheld: left.rule } : { value: left.value }),
    ...(event.op === 'delete' ? previousAsLogged(agent, event, at) : {}),
  }
  return deliver(bundle, source, cls).decide(logged, at)
}

/** What the gateway held of the key when it went: the previous value as egress had let it out, and how. */
export function previousAsLogged(
  agent: EgressDecider,
  { key, prevValue }: PolicyEvent,
  at: number,
): Pick<PolicyEvent, 'prevValue' | 'withheld' | 'applied'> {
  if (prevValue === undefined) return {}
  const before = agent.decide({ op: 'put', key, value: prevValue, prevKnown: true }, at)
  if (before.effect === 'deny') return {}
  if (before.effect === 'withhold') return { withheld: before.rule, applied: before.transforms }
  return { prevValue: before.value, applied: before.transforms }
}
