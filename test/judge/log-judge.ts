// One cluster's log, judged against etcd's history.
// Owns: its own chain rule, reassembly of chunks, checkpoints against the state at their revision, and what every entry
// claims about the log (base, newest complete checkpoint, expected last sequence).
// Refuses: fetching (log-reader.ts) and the product's chain and codec.

import { compareRevision } from './compare.ts'
import { CheckpointJudge, entryOf } from './log-checkpoint.ts'
import {
  decodeRaw,
  decodeRawRevision,
  type RawEntry,
  type RawEvent,
  type RawMessage,
  type RawRevision,
} from './log-reader.ts'
import type { SeenEvent } from './seen.ts'
import type { History } from './truth.ts'
import type { Rule, Verdict } from './verdict.ts'
import { everything, type View, Walk } from './view.ts'

export type LogExpectation = {
  readonly cluster: string
  /** One per lineage, in order. Spurious epochs of one lineage are a violation unless it is listed again. */
  readonly histories: readonly History[]
  /** What egress lets out. Default everything. */
  readonly view?: View
  /** Reasons (`gap`, `policy`, `epoch`) of pending checkpoints that the scenario makes legitimate, beyond the first. */
  readonly pending?: readonly string[]
  readonly complete?: boolean
  /** Entries before the first sequence read cannot be judged: a trimmed log. */
  readonly trimmed?: boolean
}

type Group = { readonly id: string; readonly revision: number; readonly count: number; readonly slices: Buffer[] }

const eventOf = (e: RawEvent): SeenEvent => {
  if (e.op === 'PUT') return { op: 'put', ...entryOf(e) }
  return { op: e.op === 'LEAVE' ? 'leave' : 'delete', key: e.key.toString('latin1') }
}

export class LogJudge {
  readonly #expect: LogExpectation
  readonly #view: View
  readonly #verdict: Verdict
  readonly #epochs: string[] = []
  readonly #ids = new Map<number, string>()
  readonly #complete = new Set<number>()
  #last = '0'.repeat(32)
  #epoch = ''
  /** undefined between an epoch's BEGIN and its END, and while a gap or policy checkpoint is pending. */
  #walk: Walk | undefined
  #position = 0
  #checkpoint: CheckpointJudge | undefined
  #group: Group | undefined
  #newest = 0
  #first = true

  constructor(expect: LogExpectation, verdict: Verdict) {
    this.#expect = expect
    this.#view = expect.view ?? everything
    this.#verdict = verdict
  }

  #fail(rule: Rule, detail: string): void {
    this.#verdict.fail(rule, this.#expect.cluster, detail)
  }

  take(message: RawMessage): void {
    this.#verdict.count('messages')
    let entry: RawEntry
    try {
      entry = decodeRaw(message.data)
    } catch (error) {
      return this.#fail('Garbled', `sequence ${message.seq}: ${error instanceof Error ? error.message : String(error)}`)
    }
    this.#headers(message)
    const previous = entry.prev_entry_id.toString('hex')
    if (this.#first && this.#expect.trimmed === true) this.#last = previous
    if (previous !== this.#last) {
      this.#verdict.count('void entries')
      return
    }
    this.#first = false
    this.#last = entry.entry_id.toString('hex')
    this.#ids.set(message.seq, this.#last)
    this.#verdict.count('entries')
    this.#claims(message.seq, entry)
    this.#apply(message, entry)
  }

  end(): void {
    if (this.#expect.complete === false) return
    const last = this.#expect.histories.at(-1)
    if (last === undefined) return
    if (this.#walk === undefined) return this.#fail('Complete', 'the log ends without a position')
    if (this.#expect.histories[this.#epochs.indexOf(this.#epoch)] !== last) {
      return this.#fail('Complete', `the log ends in lineage ${this.#epoch}, which is not the last`)
    }
    for (const missing of this.#walk.to(last.to))
      this.#fail('Complete', `revision ${missing.revision} is not in the log`)
  }

  #headers({ seq, headers }: RawMessage): void {
    for (const [name, value] of Object.entries(headers)) {
      const lower = name.toLowerCase()
      if (lower === 'nats-msg-id' || lower === 'nats-expected-last-msg-id')
        this.#fail('Chain', `sequence ${seq} carries ${name}`)
      if (lower === 'nats-expected-last-sequence' && Number(value) !== seq - 1) {
        this.#fail('Chain', `sequence ${seq} was appended expecting ${value}`)
      }
    }
    if (!Object.keys(headers).some((name) => name.toLowerCase() === 'nats-expected-last-sequence')) {
      this.#fail('Chain', `sequence ${seq} was appended without an expected last sequence`)
    }
  }

  /** What an entry says about entries before it must be true. */
  #claims(seq: number, { base, newest_complete_begin_seq, kind }: RawEntry): void {
    const baseSeq = Number(base.seq)
    if (baseSeq >= seq) this.#fail('Chain', `sequence ${seq} names a base at ${baseSeq}`)
    const known = this.#ids.get(baseSeq)
    if (baseSeq > 0 && known === undefined && this.#expect.trimmed !== true) {
      this.#fail('Chain', `sequence ${seq} names ${baseSeq} as valid; it is void`)
    }
    if (known !== undefined && known !== base.entry_id.toString('hex')) {
      this.#fail('Chain', `sequence ${seq} names another entry at ${baseSeq}`)
    }
    const newest = Number(newest_complete_begin_seq)
    if (newest !== 0 && !this.#complete.has(newest) && this.#expect.trimmed !== true) {
      const own = kind === 'SNAPSHOT_END' && newest === this.#checkpoint?.seq
      if (!own) this.#fail('Checkpoint', `sequence ${seq} names ${newest} as a complete checkpoint`)
    }
    if (newest < this.#newest)
      this.#fail('Checkpoint', `the newest checkpoint went back from ${this.#newest} to ${newest}`)
    this.#newest = newest
  }

  #apply({ seq, data }: RawMessage, entry: RawEntry): void {
    const epoch = entry.epoch.toString('hex')
    if (entry.kind === 'SNAPSHOT_BEGIN') return this.#begin(seq, epoch, entry)
    if (epoch !== this.#epoch) return this.#fail('Epoch', `sequence ${seq}: epoch ${epoch} without a checkpoint`)
    if (entry.kind !== 'CHUNK') this.#group = undefined
    switch (entry.kind) {
      case 'SNAPSHOT_ITEMS':
        return this.#items(seq, entry, data)
      case 'SNAPSHOT_END':
        return this.#end(seq, entry)
      case 'PROGRESS':
        this.#continues(seq, entry)
        return this.#prove(seq, Number(entry.revision))
      case 'EVENTS':
        this.#continues(seq, entry)
        for (const record of entry.revisions) this.#revision(seq, record)
        return this.#prove(seq, Number(entry.revision))
      case 'CHUNK':
        this.#continues(seq, entry)
        return this.#chunk(seq, entry)
      default:
        return this.#fail('Garbled', `sequence ${seq}: kind ${entry.kind}`)
    }
  }

  #continues(seq: number, entry: RawEntry): void {
    if (Number(entry.prev_revision) !== this.#position) {
      this.#fail(
        'Chain',
        `sequence ${seq} continues revision ${entry.prev_revision}, the log stands at ${this.#position}`,
      )
    }
  }

  #revision(seq: number, record: RawRevision): void {
    const revision = Number(record.revision)
    this.#verdict.count('revisions')
    this.#verdict.count('events', record.events.length)
    const walk = this.#walk
    if (walk === undefined)
      return this.#fail('Chain', `sequence ${seq}: revision ${revision} before a complete checkpoint`)
    if (revision <= walk.at) return this.#fail('Ordered', `sequence ${seq}: revision ${revision} after ${walk.at}`)
    if (walk.beyond(revision))
      return this.#fail('Reliable', `sequence ${seq}: revision ${revision} does not exist in etcd`)
    let matched = false
    for (const expected of walk.to(revision)) {
      if (expected.revision < revision)
        this.#fail('Reliable', `sequence ${seq}: revision ${expected.revision} is missing`)
      else {
        matched = true
        for (const found of compareRevision(expected, record.events.map(eventOf), this.#view)) {
          this.#fail(found.rule, `sequence ${seq}: ${found.detail}`)
        }
      }
    }
    if (!matched) this.#fail('Filter', `sequence ${seq}: revision ${revision} may not leave, or is empty`)
    this.#position = revision
  }

  /** Everything up to `revision` is in the log. */
  #prove(seq: number, revision: number): void {
    if (revision < this.#position)
      this.#fail('Bookmarkable', `sequence ${seq} proves ${revision}, below ${this.#position}`)
    const walk = this.#walk
    if (walk === undefined)
      return this.#fail('Chain', `sequence ${seq} proves ${revision} before a complete checkpoint`)
    if (walk.beyond(revision)) this.#fail('Bookmarkable', `sequence ${seq} proves ${revision}, ahead of etcd`)
    for (const missing of walk.to(revision)) {
      this.#fail('Bookmarkable', `sequence ${seq} proves revision ${missing.revision}, which is not in the log`)
    }
    this.#position = revision
  }

  #chunk(seq: number, { chunk }: RawEntry): void {
    if (chunk === null) return this.#fail('Garbled', `sequence ${seq}: a chunk without content`)
    this.#verdict.count('chunks')
    if (chunk.index === 0) {
      this.#group = { id: chunk.group_id, revision: Number(chunk.revision), count: chunk.count, slices: [] }
    }
    const group = this.#group
    if (group?.id !== chunk.group_id || group.slices.length !== chunk.index || group.count !== chunk.count) {
      this.#group = undefined
      return this.#fail('Chain', `sequence ${seq}: slice ${chunk.index} of ${chunk.group_id} is out of place`)
    }
    group.slices.push(chunk.data)
    if (group.slices.length < group.count) return
    this.#group = undefined
    const record = decodeRawRevision(Buffer.concat(group.slices))
    if (Number(record.revision) !== group.revision) this.#fail('Atomic', `sequence ${seq}: slices of another revision`)
    this.#revision(seq, record)
  }

  #begin(seq: number, epoch: string, entry: RawEntry): void {
    this.#verdict.count('checkpoints begun')
    this.#group = undefined
    const reason = entry.reason.replace('REASON_', '').toLowerCase()
    if (epoch !== this.#epoch) {
      // Where a trimmed log begins, the BEGIN that began its epoch may be gone.
      const cut = this.#expect.trimmed === true && this.#epochs.length === 0
      if (reason !== 'epoch' && !cut) this.#fail('Epoch', `sequence ${seq}: epoch ${epoch} begins for reason ${reason}`)
      if (!this.#epochs.includes(epoch)) this.#epochs.push(epoch)
      if (this.#epochs.length > this.#expect.histories.length) {
        this.#fail(
          'Epoch',
          `sequence ${seq}: ${this.#epochs.length} epochs for ${this.#expect.histories.length} lineages`,
        )
      }
      this.#walk = undefined
      this.#position = 0
      this.#epoch = epoch
    } else if (reason !== 'routine' && reason !== 'epoch' && !(this.#expect.pending ?? []).includes(reason)) {
      this.#fail('Resync', `sequence ${seq}: a checkpoint for reason ${reason} without cause`)
    }
    if (reason !== 'routine') this.#walk = undefined
    this.#checkpoint = new CheckpointJudge(seq, entry, (detail) => this.#fail('Checkpoint', detail), this.#verdict)
  }

  #items(seq: number, entry: RawEntry, data: Uint8Array): void {
    if (this.#checkpoint?.id !== entry.checkpoint_id) this.#verdict.count('foreign items')
    else this.#checkpoint.take(seq, entry, data)
  }

  #end(seq: number, entry: RawEntry): void {
    const open = this.#checkpoint
    if (open?.id !== entry.checkpoint_id)
      return this.#fail('Checkpoint', `sequence ${seq} ends a checkpoint that is not open`)
    this.#checkpoint = undefined
    const history = this.#expect.histories[this.#epochs.indexOf(this.#epoch)]
    if (history === undefined || !open.end(seq, entry, history, this.#view)) return
    this.#complete.add(open.seq)
    if (this.#walk !== undefined) return
    this.#walk = new Walk(history, this.#view, open.at)
    this.#position = open.at
  }
}

export function judgeLog(messages: readonly RawMessage[], expect: LogExpectation, verdict: Verdict): Verdict {
  const judge = new LogJudge(expect, verdict)
  for (const message of messages) judge.take(message)
  judge.end()
  return verdict
}
