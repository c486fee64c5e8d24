// The log as it lies in JetStream: raw messages, read by sequence, decoded by protobufjs from log.proto.
// Owns: fetching and an independent reading of the chain rule and of checkpoints.
// Refuses: protocol/log's codec and chain, consumers and their bookkeeping: a message is what STREAM.MSG.GET returns.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import protobuf from 'protobufjs'

const proto = readFileSync(fileURLToPath(new URL('../../protocol/log/log.proto', import.meta.url)), 'utf8')
const root = protobuf.parse(proto, { keepCase: true }).root
const EntryType = root.lookupType('deltawatch.v1.LogEntry')
const RevisionType = root.lookupType('deltawatch.v1.Revision')
const PLAIN = { longs: String, enums: String, bytes: Buffer, defaults: true, arrays: true } as const

export type RawMessage = {
  readonly seq: number
  readonly data: Uint8Array
  readonly headers: Readonly<Record<string, string>>
}
export type RawEvent = {
  readonly op: string
  readonly key: Buffer
  readonly value: Buffer
  readonly create_revision: string
  readonly version: string
  readonly lease: string
  readonly withheld: string
  readonly mod_revision: string
}
export type RawRevision = { readonly revision: string; readonly events: readonly RawEvent[] }
export type RawEntry = {
  readonly entry_id: Buffer
  readonly prev_entry_id: Buffer
  readonly kind: string
  readonly epoch: Buffer
  readonly agent_id: string
  readonly newest_complete_begin_seq: string
  readonly pending: string
  readonly base: { readonly seq: string; readonly entry_id: Buffer; readonly revision: string }
  readonly prev_revision: string
  readonly revision: string
  readonly revisions: readonly RawRevision[]
  readonly chunk: {
    readonly revision: string
    readonly group_id: string
    readonly index: number
    readonly count: number
    readonly data: Buffer
  } | null
  readonly checkpoint_id: string
  readonly reason: string
  readonly index: number
  readonly items: readonly RawEvent[]
  readonly item_count: string
  readonly digest: Buffer
}

export function decodeRaw(data: Uint8Array): RawEntry {
  return EntryType.toObject(EntryType.decode(asBuffer(data)), PLAIN) as RawEntry
}
export function decodeRawRevision(data: Uint8Array): RawRevision {
  return RevisionType.toObject(RevisionType.decode(asBuffer(data)), PLAIN) as RawRevision
}
// protobufjs hands out bytes of the kind it was given, and the types above promise Buffers.
const asBuffer = (data: Uint8Array): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength)

/** The bytes of an entry that its checkpoint's digest covers: every `items` field, tag and length included. */
export function itemsOnTheWire(data: Uint8Array): Buffer {
  const reader = protobuf.Reader.create(data)
  const fields: Uint8Array[] = []
  while (reader.pos < reader.len) {
    const start = reader.pos
    const tag = reader.uint32()
    reader.skipType(tag & 7)
    if (tag >>> 3 === ITEMS_FIELD) fields.push(data.subarray(start, reader.pos))
  }
  return Buffer.concat(fields)
}
const ITEMS_FIELD = EntryType.fields.items?.id

/** Everything the stream of `cluster` holds, oldest first. Missing sequences inside it are an error. */
export async function readLog(natsUrl: string, cluster: string, from = 1): Promise<RawMessage[]> {
  const connection = await connect({ servers: natsUrl, reconnect: false, timeout: 5_000 })
  try {
    const manager = await jetstreamManager(connection)
    const stream = `DW_${cluster}`
    const { state } = await manager.streams.info(stream)
    const messages: RawMessage[] = []
    const first = Math.max(from, state.first_seq)
    for (let next = first; next <= state.last_seq; next += WINDOW) {
      const wanted = Array.from({ length: Math.min(WINDOW, state.last_seq - next + 1) }, (_, i) => next + i)
      const batch = await Promise.all(wanted.map((seq) => manager.streams.getMessage(stream, { seq })))
      for (const [i, message] of batch.entries()) {
        if (message === null) throw new Error(`sequence ${wanted[i]} of ${stream} is missing`)
        const headers: Record<string, string> = {}
        for (const name of message.header?.keys() ?? []) headers[name] = message.header.get(name)
        messages.push({ seq: message.seq, data: message.data, headers })
      }
    }
    return messages
  } finally {
    await connection.close()
  }
}
const WINDOW = 64
