// A faultless log, written with protobufjs: what the planted faults of the log's judge are planted into.
// Owns: entries of every kind over the sample history. Refuses: the product's codec.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import protobuf from 'protobufjs'
import { itemsOnTheWire, type RawMessage } from '../../judge/log-reader.ts'
import type { Held, History } from '../../judge/truth.ts'
import { everything, Walk } from '../../judge/view.ts'
import { EPOCH } from './script.ts'

const proto = readFileSync(new URL('../../../protocol/log/log.proto', import.meta.url), 'utf8')
const root = protobuf.parse(proto, { keepCase: true }).root
const EntryType = root.lookupType('deltawatch.v1.LogEntry')
const RevisionType = root.lookupType('deltawatch.v1.Revision')

export type Fields = Record<string, unknown>
export const encode = (fields: Fields): Uint8Array => EntryType.encode(EntryType.fromObject(fields)).finish()
export const idOf = (n: number): Buffer => Buffer.from(n.toString(16).padStart(32, '0'), 'hex')

const heldFields = (key: string, held: Held): Fields => ({
  key: Buffer.from(key, 'latin1'),
  value: Buffer.from(held.value.slice(2), 'latin1'),
  create_revision: held.create,
  version: held.version,
  lease: held.lease,
})
export function revisionFields(history: History, revision: number): Fields {
  const [found] = [...new Walk(history, everything, revision - 1).to(revision)]
  const events = (found?.events ?? []).map((event) =>
    event.op === 'put'
      ? { op: 'PUT', ...heldFields(event.key, event) }
      : { op: event.op.toUpperCase(), key: Buffer.from(event.key, 'latin1') },
  )
  return { revision, events }
}
export const revisionBytes = (fields: Fields): Uint8Array =>
  RevisionType.encode(RevisionType.fromObject(fields)).finish()

/** Writes messages the way an agent does: each entry continues the last one. */
export class LogScript {
  readonly messages: RawMessage[] = []
  readonly history: History
  #n = 1
  #last = idOf(0)
  #lastSeq = 0
  newest = 0
  epoch = EPOCH

  constructor(history: History) {
    this.history = history
  }

  get seq(): number {
    return this.messages.length
  }

  /** An entry that continues the chain, or with `stray` one that does not. */
  add(fields: Fields, stray = false, headers: Record<string, string> = {}): void {
    const entry_id = idOf(this.#n++)
    const base = { seq: this.#lastSeq, entry_id: this.#last, revision: 0 }
    const head = {
      entry_id,
      prev_entry_id: stray ? idOf(0xdead) : this.#last,
      epoch: Buffer.from(this.epoch, 'hex'),
      agent_id: 'a',
      newest_complete_begin_seq: this.newest,
      base: stray ? { seq: 0 } : base,
    }
    this.raw(encode({ ...head, ...fields }), headers)
    if (stray) return
    this.#last = entry_id
    this.#lastSeq = this.seq
  }

  raw(data: Uint8Array, headers: Record<string, string> = {}): void {
    const expected = { 'Nats-Expected-Last-Sequence': String(this.seq) }
    this.messages.push({ seq: this.seq + 1, data, headers: { ...expected, ...headers } })
  }

  /** A whole checkpoint at `revision` in two batches of items; `change` may spoil the fields of its entries. */
  checkpoint(revision: number, reason = 'EPOCH', change: (fields: Fields) => Fields = (fields) => fields): void {
    const checkpoint_id = `c${revision}`
    const items = [...this.history.stateAt(revision)].map(([key, held]) => ({
      ...heldFields(key, held),
      op: 'PUT',
      mod_revision: held.mod,
    }))
    const half = Math.ceil(items.length / 2)
    this.add(change({ kind: 'SNAPSHOT_BEGIN', checkpoint_id, revision, reason: `REASON_${reason}` }))
    const begin = this.seq
    const hash = createHash('sha256')
    for (const [index, part] of [items.slice(0, half), items.slice(half)].entries()) {
      const fields = { kind: 'SNAPSHOT_ITEMS', checkpoint_id, index, items: part }
      hash.update(itemsOnTheWire(encode(fields)))
      this.add(change(fields))
    }
    this.add(change({ kind: 'SNAPSHOT_END', checkpoint_id, revision, item_count: items.length, digest: hash.digest() }))
    this.newest = begin
  }

  events(prev: number, through: number, change: (revisions: Fields[]) => Fields[] = (revisions) => revisions): void {
    const revisions = Array.from({ length: through - prev }, (_, i) => revisionFields(this.history, prev + 1 + i))
    this.add({ kind: 'EVENTS', prev_revision: prev, revision: through, revisions: change(revisions) })
  }

  chunks(revision: number, count: number, places = Array.from({ length: count }, (_, i) => i)): void {
    const bytes = revisionBytes(revisionFields(this.history, revision))
    const size = Math.ceil(bytes.length / count)
    for (const index of places) {
      const data = bytes.subarray(index * size, (index + 1) * size)
      const chunk = { revision, group_id: `g${revision}`, index, count, data }
      this.add({ kind: 'CHUNK', prev_revision: revision - 1, chunk })
    }
  }
}

/** Checkpoint at 7, events with a void run between, a chunked revision, a routine checkpoint, progress to the end. */
export function faultlessLog(history: History): LogScript {
  const log = new LogScript(history)
  log.checkpoint(7)
  log.events(7, 10)
  log.add({ kind: 'EVENTS', prev_revision: 10, revision: 11, revisions: [revisionFields(history, 11)] }, true)
  log.add({ kind: 'PROGRESS', prev_revision: 10, revision: 99 }, true)
  log.chunks(11, 3)
  log.events(11, 14)
  log.checkpoint(14, 'ROUTINE')
  log.events(14, 17)
  return log
}
