// `deltawatch policy explain`: one change, the whole way, with the verdict of every rule whose keys match.

import { keyFromText, keyToText } from '#protocol/bytes.ts'
import { classify } from '#policies/engine/classes.ts'
import { deliver } from '#policies/engine/deliver.ts'
import { egress } from '#policies/engine/egress.ts'
import { explainRules } from '#policies/engine/explain.ts'
import type { RuleExplanation } from '#policies/engine/explain.ts'
import { previousAsLogged } from '#policies/engine/replay.ts'
import type { Scope } from '#policies/engine/scope.ts'
import type { Decision, PolicyBundle, PolicyEvent, Subscriber } from '#policies/engine/types.ts'
import { CliError, Exit, type ExitCode } from '../failure.ts'
import { printable } from '../printable.ts'
import { table } from '../table.ts'
import { note, painter, type Terminal } from '../terminal.ts'
import { instant, openForCommand, readOption } from './bundle-input.ts'

export type ExplainOptions = {
  readonly source: string
  readonly hub: string
  readonly key: string
  readonly op: 'put' | 'delete'
  readonly value?: string
  readonly valueFile?: string
  readonly prev?: string
  readonly prevUnknown?: boolean
  readonly to?: string
  readonly org?: string
  readonly audience?: readonly string[]
  readonly scope?: readonly string[]
  readonly label?: readonly string[]
  readonly anonymous?: boolean
  readonly keys?: string
  readonly at?: string
  readonly json?: boolean
}

type Stage = {
  readonly stage: 'egress' | 'deliver'
  readonly to: string
  readonly decision: Decision
  readonly rules: readonly RuleExplanation[]
}

export async function explain(path: string, options: ExplainOptions, io: Terminal): Promise<ExitCode> {
  const now = instant(options.at, Date.now())
  const { bundle } = await openForCommand(path, options, io)
  const event = eventOf(options, io)
  if (!bundle.regions.includes(options.source))
    await note(io, `no document speaks for ${options.source}, only for ${bundle.regions.join(', ')}`)
  const stages = [atAgent(bundle, options, event, now)]
  const left = stages[0]?.decision
  if (options.to !== undefined && left !== undefined && left.effect !== 'deny')
    stages.push(atGateway(bundle, options, event, left, options.to, now))
  if (options.json === true) {
    const shown = stages.map((stage) => ({ ...stage, decision: { ...stage.decision, ...valueOf(stage.decision) } }))
    await io.out.write(
      `${JSON.stringify({ revision: bundle.revision, at: new Date(now).toISOString(), stages: shown })}\n`,
    )
  } else for (const stage of stages) await io.out.write(stageText(stage, options.source, now, io))
  return Exit.Ok
}

function eventOf(options: ExplainOptions, io: Terminal): PolicyEvent {
  const text = options.valueFile === undefined ? options.value : readOption(io, '--value-file', options.valueFile)
  if (options.op === 'put' && text === undefined)
    throw new CliError(Exit.Usage, 'a put has a value', 'add --value or --value-file')
  const encoder = new TextEncoder()
  return {
    op: options.op,
    key: keyFromText(options.key),
    ...(options.op === 'put' && text !== undefined ? { value: encoder.encode(text) } : {}),
    ...(options.prev === undefined ? {} : { prevValue: encoder.encode(options.prev) }),
    prevKnown: options.prevUnknown !== true,
  }
}

function atAgent(bundle: PolicyBundle, { source, hub }: ExplainOptions, event: PolicyEvent, now: number): Stage {
  const decision = egress(bundle, source, hub).decide(event, now)
  return {
    stage: 'egress',
    to: hub,
    decision,
    rules: explainRules(bundle, source, { stage: 'egress', hub }, event, now),
  }
}

function atGateway(
  bundle: PolicyBundle,
  options: ExplainOptions,
  event: PolicyEvent,
  left: Exclude<Decision, { effect: 'deny' }>,
  to: string,
  now: number,
): Stage {
  const cls = classify(bundle, subscriberOf(options, to))
  if ('refused' in cls) throw new CliError(Exit.Found, 'the bundle distinguishes too many classes')
  const logged: PolicyEvent = {
    ...event,
    key: left.key,
    applied: left.transforms,
    ...(left.effect === 'withhold' ? { withheld: left.rule, value: undefined } : { value: left.value }),
    ...(event.op === 'delete'
      ? { prevValue: undefined, ...previousAsLogged(egress(bundle, options.source, options.hub), event, now) }
      : {}),
  }
  const scope: Scope = { stage: 'deliver', cls }
  return {
    stage: 'deliver',
    to,
    decision: deliver(bundle, options.source, cls).decide(logged, now),
    rules: explainRules(bundle, options.source, scope, logged, now),
  }
}

function subscriberOf(options: ExplainOptions, region: string): Subscriber {
  const labels = (options.label ?? []).map((text): [string, string] => {
    const at = text.indexOf('=')
    if (at < 1) throw new CliError(Exit.Usage, `--label: ${JSON.stringify(text)} is no name=value`)
    return [text.slice(0, at), text.slice(at + 1)]
  })
  return {
    subject: 'explain',
    region,
    org: options.org,
    audiences: options.audience ?? [],
    scopes: options.scope ?? [],
    anonymous: options.anonymous === true,
    labels: Object.fromEntries(labels),
  }
}

function valueOf(decision: Decision): { value?: string } {
  return decision.effect === 'allow' && decision.value !== undefined
    ? { value: new TextDecoder().decode(decision.value) }
    : {}
}

function stageText({ stage, to, decision, rules }: Stage, source: string, now: number, io: Terminal): string {
  const paint = painter(io.colour)
  const way = stage === 'egress' ? `leaving ${source} for the hub in ${to}` : `delivered to a subscriber in ${to}`
  const colour = decision.effect === 'allow' ? 'green' : decision.effect === 'deny' ? 'red' : 'yellow'
  const because =
    decision.effect === 'allow'
      ? decision.rules.join(', ')
      : decision.effect === 'deny'
        ? [decision.reason, decision.rule].filter(Boolean).join(', ')
        : `${decision.reason}, ${decision.rule}`
  const lines = [
    `${stage}: ${way} at ${new Date(now).toISOString()}: ${paint(colour, decision.effect)} (${printable(because)})\n`,
  ]
  if (decision.effect !== 'deny') {
    lines.push(`  key        ${printable(keyToText(decision.key) ?? 'bytes that are no text')}\n`)
    if (decision.transforms.length > 0) lines.push(`  transforms ${printable(decision.transforms.join(' '))}\n`)
    const { value } = valueOf(decision)
    if (value !== undefined) lines.push(`  value      ${printable(value)}\n`)
  }
  const rows = rules.map(({ rule, effect, verdict, file }) => [`  ${rule}`, effect, verdict, file])
  lines.push(
    rows.length === 0
      ? '  no rule names this key\n'
      : table([{ title: '  rule' }, { title: 'effect' }, { title: 'verdict' }, { title: 'file' }], rows),
  )
  return `${lines.join('')}\n`
}
