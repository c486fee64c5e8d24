// `deltawatch policy diff`: rules that change, and what that means for recorded events and decisions.

import { keyFromText } from '#protocol/bytes.ts'
import { affectedDecisions, parseRecord, ruleChanges } from '#policies/engine/diff.ts'
import type { RuleChange } from '#policies/engine/diff.ts'
import type { DecisionRecord } from '#policies/engine/record.ts'
import { replay } from '#policies/engine/replay.ts'
import type { RecordedEvent, Replay } from '#policies/engine/replay.ts'
import type { Subscriber } from '#policies/engine/types.ts'
import * as z from 'zod'
import { CliError, Exit, type ExitCode } from '../failure.ts'
import { printable } from '../printable.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'
import { openForCommand, readOption } from './bundle-input.ts'

export type DiffOptions = {
  readonly events?: string
  readonly decisions?: string
  readonly hub?: string
  readonly json?: boolean
}

export async function diff(before: string, after: string, options: DiffOptions, io: Terminal): Promise<ExitCode> {
  const [{ bundle: old }, { bundle: candidate }] = [
    await openForCommand(before, {}, io),
    await openForCommand(after, {}, io),
  ]
  const changes = ruleChanges(old, candidate)
  let replayed: Replay | undefined
  if (options.events !== undefined) {
    if (options.hub === undefined)
      throw new CliError(Exit.Usage, '--events needs --hub', 'say in which region the hub stands')
    replayed = replay(
      recordedEvents(readOption(io, '--events', options.events), options.events, Date.now()),
      old,
      candidate,
      options.hub,
      ({ event }) => printable(event.key),
    )
  }
  const resting =
    options.decisions === undefined
      ? undefined
      : affectedDecisions(decisions(readOption(io, '--decisions', options.decisions), options.decisions), changes)
  if (options.json === true)
    await io.out.write(
      `${JSON.stringify({ before: old.revision, after: candidate.revision, rules: resting ?? changes, replay: replayed })}\n`,
    )
  else await report(resting ?? changes, replayed, io)
  return changes.length === 0 && (replayed === undefined || replayed.differences.length === 0) ? Exit.Ok : Exit.Found
}

async function report(
  changes: readonly (RuleChange & { readonly decisions?: number })[],
  replayed: Replay | undefined,
  io: Terminal,
): Promise<void> {
  if (changes.length === 0) await io.out.write('no rule changes\n')
  else {
    const rows = changes.map(({ region, rule, change, effect, decisions: count }) => [
      region,
      change,
      effect,
      rule,
      count === undefined ? '' : `${count} recorded decisions`,
    ])
    await io.out.write(
      table([{ title: 'source' }, { title: 'change' }, { title: 'effect' }, { title: 'rule' }, { title: '' }], rows),
    )
  }
  if (replayed === undefined) return
  const differing = replayed.differences.reduce((n, d) => n + d.count, 0)
  await io.out.write(`${differing} of ${replayed.events} recorded events come out differently\n`)
  const rows = replayed.differences.map((d) => [
    String(d.count),
    `${d.live} -> ${d.shadow}${d.what === 'effect' ? '' : ` (${d.what})`}`,
    d.rule,
    d.examples.slice(0, 2).join(' '),
  ])
  if (rows.length > 0)
    await io.out.write(
      table([{ title: 'events', align: 'right' }, { title: 'what' }, { title: 'rule' }, { title: 'such as' }], rows),
    )
}

const text = z.string().max(4096)
const content = { value: z.json().optional(), text: z.string().optional(), base64: z.string().optional() }
const recorded = z.strictObject({
  source: text,
  op: z.enum(['put', 'delete']),
  key: text,
  at: z.iso.datetime({ offset: true }).optional(),
  ...content,
  prev: z.strictObject({ ...content, unknown: z.literal(true).optional() }).optional(),
  subscriber: z
    .strictObject({
      region: text,
      subject: text.optional(),
      org: text.optional(),
      audiences: z.array(text).optional(),
      scopes: z.array(text).optional(),
      anonymous: z.boolean().optional(),
      labels: z.record(text, text).optional(),
    })
    .optional(),
})

function* recordedEvents(lines: string, file: string, now: number): Iterable<RecordedEvent> {
  for (const [i, line] of lines.split('\n').entries()) {
    if (line.trim() === '') continue
    const parsed = recorded.safeParse(jsonOf(line, file, i))
    if (!parsed.success)
      throw new CliError(
        Exit.Config,
        `${file} line ${i + 1}: ${parsed.error.issues[0]?.message ?? 'is no recorded event'} (${parsed.error.issues[0]?.path.join('.') ?? ''})`,
      )
    const { source, op, key, at, prev, subscriber, ...own } = parsed.data
    const value = bytesOf(own)
    if (op === 'put' && value === undefined)
      throw new CliError(Exit.Config, `${file} line ${i + 1}: a put needs value, text or base64`)
    yield {
      source,
      at: at === undefined ? now : Date.parse(at),
      event: {
        op,
        key: keyFromText(key),
        value,
        prevValue: prev === undefined ? undefined : bytesOf(prev),
        prevKnown: prev?.unknown !== true,
      },
      ...(subscriber === undefined ? {} : { subscriber: subscriberOf(subscriber) }),
    }
  }
}

function subscriberOf(given: NonNullable<z.infer<typeof recorded>['subscriber']>): Subscriber {
  const { region, subject, org, audiences, scopes, anonymous, labels } = given
  return {
    region,
    subject: subject ?? 'recorded',
    org,
    audiences: audiences ?? [],
    scopes: scopes ?? [],
    anonymous: anonymous ?? false,
    labels,
  }
}

function bytesOf(given: {
  value?: unknown
  text?: string | undefined
  base64?: string | undefined
}): Uint8Array | undefined {
  if (given.text !== undefined) return Buffer.from(given.text)
  if (given.base64 !== undefined) return Buffer.from(given.base64, 'base64')
  return given.value === undefined ? undefined : Buffer.from(JSON.stringify(given.value))
}

function* decisions(lines: string, file: string): Iterable<DecisionRecord> {
  for (const [i, line] of lines.split('\n').entries()) {
    if (line.trim() === '') continue
    const record = parseRecord(line)
    if (!record.ok)
      throw new CliError(
        Exit.Config,
        `${file} line ${i + 1} ${record.error}`,
        'the file must hold one decision per line',
      )
    yield record.value
  }
}

function jsonOf(line: string, file: string, index: number): unknown {
  try {
    return JSON.parse(line) as unknown
  } catch {
    throw new CliError(Exit.Config, `${file} line ${index + 1} is no JSON`)
  }
}
