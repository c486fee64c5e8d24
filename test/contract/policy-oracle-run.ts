// Holds the engine against the oracle for a number of random cases, and says exactly where they part.
// Owns: building bundles, walking each event through agent and gateway on both sides, comparing. Used by the test and by the soak.

import { seededRandom } from '#kit/random.ts'
import { keyFromBytes } from '#protocol/bytes.ts'
import { classify } from '#policies/engine/classes.ts'
import { compileBundle } from '#policies/engine/compile.ts'
import { deliver } from '#policies/engine/deliver.ts'
import { parsePolicy } from '#policies/engine/document.ts'
import { egress } from '#policies/engine/egress.ts'
import { ABSENT, transition } from '#policies/engine/transition.ts'
import type {
  Decision,
  DeliverDecider,
  EgressDecider,
  ParsedDocument,
  PolicyBundle,
  PolicyDeps,
  PolicyEvent,
} from '#policies/engine/types.ts'
import { sha256 } from '#policies/node/hashing.ts'
import { createHmac } from 'node:crypto'
import {
  documentsOf,
  Draw,
  drawKey,
  drawSubscriber,
  drawValue,
  drawWorld,
  SCHEMA,
  TIMES,
} from './policy-oracle-cases.ts'
import { KNOWN_KEYS, secretOf } from './policy-oracle-model.ts'
import { judge } from './policy-oracle.ts'
import type { OAnswer, OEvent, OSubscriber, OWorld } from './policy-oracle-model.ts'

export type Tally = {
  cases: number
  bundles: number
  refused: number
  allow: number
  withhold: number
  deny: number
  reasons: Map<string, number>
}

const deps: PolicyDeps = {
  sha256,
  hmac: (id, bytes) =>
    KNOWN_KEYS.includes(id) ? new Uint8Array(createHmac('sha256', secretOf(id)).update(bytes).digest()) : undefined,
  keyFingerprint: (id) => (KNOWN_KEYS.includes(id) ? id : undefined),
}
const EVENTS_PER_BUNDLE = 12
const encoder = new TextEncoder()
const bytesOf = (text: string | undefined): Uint8Array | undefined =>
  text === undefined ? undefined : encoder.encode(text)

/** Runs until `cases` decisions were compared. Throws with the seed and everything needed to repeat it at the first difference. */
export function runOracle(seed: number, cases: number): Tally {
  const d = new Draw(seededRandom(seed))
  const tally: Tally = { cases: 0, bundles: 0, refused: 0, allow: 0, withhold: 0, deny: 0, reasons: new Map() }
  while (tally.cases < cases) {
    const world = drawWorld(d)
    const bundle = compileWorld(world, d)
    if (bundle === undefined) {
      tally.refused++
      continue
    }
    tally.bundles++
    const agent = egress(bundle, 'sz', world.hub)
    const subscribers = Array.from({ length: 3 }, () => drawSubscriber(d))
    const gateways = subscribers.map((who) => deliverTo(bundle, who))
    for (let i = 0; i < EVENTS_PER_BUNDLE && tally.cases < cases; i++)
      walk(world, agent, subscribers, gateways, d, tally, seed)
  }
  return tally
}

function compileWorld(world: OWorld, d: Draw): PolicyBundle | undefined {
  const documents: ParsedDocument[] = documentsOf(world, d).map((raw, i) => {
    const policy = parsePolicy(raw, `p${i}`)
    if (!policy.ok) throw new Error(`the generator wrote a bad document: ${JSON.stringify(policy.error)}`)
    return { kind: 'policy', path: `p${i}.yaml`, digest: '0'.repeat(64), policy: policy.value }
  })
  const bundle = compileBundle(
    [...documents, { kind: 'schema', path: 'c.json', digest: '1'.repeat(64), schema: SCHEMA }],
    deps,
  )
  if (bundle.ok) return bundle.value
  if (bundle.error.every((issue) => issue.code === 'blinded-by-key-transform')) return undefined
  throw new Error(`the generator wrote a bad bundle: ${JSON.stringify(bundle.error)}`)
}

function deliverTo(bundle: PolicyBundle, who: OSubscriber): DeliverDecider {
  const cls = classify(bundle, { subject: 'oracle', ...who })
  if ('refused' in cls) throw new Error('too many classes for three subscribers')
  return deliver(bundle, 'sz', cls)
}

function walk(
  world: OWorld,
  agent: EgressDecider,
  subscribers: readonly OSubscriber[],
  gateways: readonly DeliverDecider[],
  d: Draw,
  tally: Tally,
  seed: number,
): void {
  const now = d.of(TIMES)
  const op = d.maybe(0.7) ? 'put' : 'delete'
  const prevKnown = d.maybe(0.75)
  const event: OEvent = {
    op,
    key: drawKey(d, world),
    value: op === 'put' ? drawValue(d) : undefined,
    prev: prevKnown && d.maybe(0.9) ? drawValue(d) : undefined,
    prevKnown,
    withheld: undefined,
    applied: [],
  }
  const expected = judge(world, event, now, { at: 'egress' })
  const asked: PolicyEvent = {
    op,
    key: keyFromBytes(Buffer.from(event.key, 'latin1')),
    value: bytesOf(event.value),
    prevValue: bytesOf(event.prev),
    prevKnown,
  }
  const given = agent.decide(asked, now)
  hold({ world, event, now, stage: 'egress' }, expected, given, agent.visible(asked, now), tally, seed)
  holdTransition({ world, event, now, stage: 'egress' }, expected, given, agent, asked, tally, seed)
  if (given.effect === 'deny' || expected.effect === 'deny') return
  // What the log says is what the gateway reads: the engine's own output on its side, the oracle's transforms on the other.
  const logged: OEvent = {
    ...event,
    key: expected.key,
    value: given.effect === 'allow' && given.value !== undefined ? new TextDecoder().decode(given.value) : undefined,
    withheld: given.effect === 'withhold' ? given.rule : undefined,
    applied: expected.transforms,
    prev: event.prev,
  }
  const heard: PolicyEvent = {
    op,
    key: given.key,
    value: given.effect === 'allow' ? given.value : undefined,
    withheld: logged.withheld,
    applied: given.transforms,
    prevValue: asked.prevValue,
    prevKnown,
  }
  for (const [i, gateway] of gateways.entries()) {
    const who = subscribers[i] as OSubscriber
    const wanted = judge(world, logged, now, { at: 'deliver', who })
    hold(
      { world, event: logged, now, stage: who },
      wanted,
      gateway.decide(heard, now),
      gateway.visible(heard, now),
      tally,
      seed,
    )
  }
}

/** What a change means for whoever held the key: LEAVE, nothing, or a checkpoint, from what held before. */
function holdTransition(
  where: Where,
  expected: OAnswer,
  given: Decision,
  decider: EgressDecider | DeliverDecider,
  asked: PolicyEvent,
  tally: Tally,
  seed: number,
): void {
  const { world, event, now } = where
  const stage = where.stage === 'egress' ? ({ at: 'egress' } as const) : ({ at: 'deliver', who: where.stage } as const)
  const held = event.prev !== undefined
  const earlier: OEvent = { ...event, op: 'put', value: event.prev, prev: undefined, prevKnown: true }
  let wanted: string = event.op
  if (expected.effect === 'deny') {
    if (expected.causes.every((cause) => cause.startsWith('prev-unknown'))) wanted = 'unknown-needs-checkpoint'
    else if (!event.prevKnown) wanted = 'unknown-needs-checkpoint'
    else wanted = held && judge(world, earlier, now, stage).effect !== 'deny' ? 'leave' : 'nothing'
  }
  const before = !event.prevKnown
    ? undefined
    : held
      ? decider.visible({ op: 'put', key: asked.key, value: asked.prevValue, prevKnown: true }, now)
      : ABSENT
  const came = transition(before, given, event.op)
  tally.reasons.set(`change: ${came}`, (tally.reasons.get(`change: ${came}`) ?? 0) + 1)
  if (came !== wanted)
    throw new Error(
      `seed ${seed}: the change is ${came}, expected ${wanted}\nwhere: ${JSON.stringify(where, undefined, 1)}`,
    )
}

type Where = { world: OWorld; event: OEvent; now: number; stage: 'egress' | OSubscriber }

function hold(where: Where, expected: OAnswer, given: Decision, visible: string, tally: Tally, seed: number): void {
  tally.cases++
  tally[given.effect]++
  const reason = given.effect === 'allow' ? 'allowed' : `${given.effect}: ${given.reason}`
  tally.reasons.set(reason, (tally.reasons.get(reason) ?? 0) + 1)
  const trouble = differs(expected, given, visible)
  if (trouble === undefined) return
  const shown =
    given.effect === 'allow' && given.value !== undefined
      ? { ...given, value: new TextDecoder().decode(given.value) }
      : given
  throw new Error(
    `seed ${seed}, case ${tally.cases}: ${trouble}\noracle: ${JSON.stringify(expected)}\nengine: ${JSON.stringify(shown)}\nwhere: ${JSON.stringify(where, undefined, 1)}`,
  )
}

function differs(expected: OAnswer, given: Decision, visible: string): string | undefined {
  if (expected.effect !== given.effect) return `effect ${given.effect}, expected ${expected.effect}`
  const sight = given.effect !== 'deny' ? 'visible' : given.reason === 'prev-unknown' ? 'unknown' : 'hidden'
  if (visible !== sight) return `visible() says ${visible}, decide() means ${sight}`
  if (given.effect === 'deny') {
    const cause = `${given.reason} ${given.rule ?? ''}`
    return expected.effect === 'deny' && expected.causes.includes(cause)
      ? undefined
      : `cause ${JSON.stringify(cause)} is none of the possible ones`
  }
  if (expected.effect === 'deny') return 'unreachable'
  if (given.key !== expected.key) return 'another key'
  if (given.rules.join(' ') !== expected.rules.join(' ')) return 'other rules'
  if (given.effect === 'withhold') {
    const cause = `${given.reason} ${given.rule}`
    return expected.effect === 'withhold' && expected.causes.includes(cause)
      ? undefined
      : `cause ${JSON.stringify(cause)} is none of the possible ones`
  }
  if (expected.effect !== 'allow') return 'unreachable'
  if (given.value === undefined)
    return expected.value === undefined && expected.raw === undefined ? undefined : 'no value'
  const text = new TextDecoder().decode(given.value)
  if (expected.raw !== undefined) return text === expected.raw ? undefined : 'another text'
  return JSON.stringify(JSON.parse(text)) === JSON.stringify(expected.value) ? undefined : 'another value'
}
