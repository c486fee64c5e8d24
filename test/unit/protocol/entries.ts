// Arbitrary log entries: every kind, every optional field, and the values where codecs break.
// Owns: the fast-check generators that the codec, chain and schema tests share.
// Refuses: meaning; these entries are well formed one by one, but do not continue each other (see simulation.ts).

import fc from 'fast-check'
import { type Key, keyFromBytes } from '#protocol/bytes.ts'
import type {
  EntryBody,
  EntryHead,
  EntryId,
  Epoch,
  Lineage,
  LogEntry,
  LogEvent,
  RevisionRecord,
  SnapshotRecord,
} from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'

const MAX_INT64 = 2n ** 63n - 1n
const MAX_UINT64 = 2n ** 64n - 1n

/** Integers in [0, max] crowded around the places where number formats change. */
const decimal = (max: bigint): fc.Arbitrary<string> =>
  fc
    .oneof(
      fc.bigInt(0n, max),
      fc.constantFrom(0n, 1n, 127n, 128n, 2n ** 31n, 2n ** 32n, 2n ** 49n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 56n, max),
      fc.bigInt(0n, 300n),
    )
    .map((n) => (n > max ? max : n).toString())

export const revisionArb = decimal(MAX_INT64) as fc.Arbitrary<Revision>
export const positiveRevisionArb = revisionArb.map((r) => (r === '0' ? '1' : r) as Revision)
export const uint64Arb = decimal(MAX_UINT64)
/** Whole numbers a JavaScript number keeps exactly: sequences, counts, durations. */
export const countArb = fc.oneof(fc.nat(300), fc.maxSafeNat(), fc.constantFrom(0, 2 ** 31, 2 ** 32, 2 ** 53 - 1))

export const bytesArb = fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.constant(new Uint8Array(0)))
export const keyArb: fc.Arbitrary<Key> = fc
  .uint8Array({ minLength: 0, maxLength: 60 })
  .map((bytes) => keyFromBytes(bytes))
const hexArb = (bytes: number): fc.Arbitrary<string> =>
  fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((b) => Buffer.from(b).toString('hex'))
export const entryIdArb = hexArb(16) as fc.Arbitrary<EntryId>
export const epochArb = hexArb(8) as fc.Arbitrary<Epoch>
/** Well-formed text only: a lone surrogate has no UTF-8. */
export const textArb = fc.string({ unit: 'grapheme', maxLength: 20 }).filter((text) => text.isWellFormed())

const held = {
  key: keyArb,
  value: bytesArb,
  createRevision: revisionArb,
  version: uint64Arb,
  lease: uint64Arb,
}
const optional = {
  withheld: textArb,
  transforms: fc.array(textArb, { minLength: 1, maxLength: 3 }),
}
const HELD_KEYS = ['key', 'value', 'createRevision', 'version', 'lease'] as const

export const eventArb: fc.Arbitrary<LogEvent> = fc.record(
  { op: fc.constantFrom('put', 'delete', 'leave'), ...held, ...optional },
  { requiredKeys: ['op', ...HELD_KEYS], noNullPrototype: true },
)
export const snapshotRecordArb: fc.Arbitrary<SnapshotRecord> = fc.record(
  { modRevision: revisionArb, ...held, ...optional },
  { requiredKeys: ['modRevision', ...HELD_KEYS], noNullPrototype: true },
)
export const revisionRecordArb: fc.Arbitrary<RevisionRecord> = fc.record(
  { revision: positiveRevisionArb, events: fc.array(eventArb, { minLength: 1, maxLength: 5 }) },
  { noNullPrototype: true },
)

const lineageArb: fc.Arbitrary<Lineage> = fc.record(
  {
    clusterId: uint64Arb,
    raftTerm: uint64Arb,
    keyId: textArb,
    proofs: fc.array(fc.record({ revision: revisionArb, digest: bytesArb }, { noNullPrototype: true }), {
      maxLength: 3,
    }),
  },
  { noNullPrototype: true },
)
const headArb: fc.Arbitrary<EntryHead> = fc.record(
  {
    entryId: entryIdArb,
    prevEntryId: entryIdArb,
    epoch: epochArb,
    agentId: textArb,
    configHash: textArb,
    policyRevision: textArb,
    newestCompleteBeginSeq: countArb,
    pending: fc.constantFrom('none', 'epoch', 'gap', 'policy'),
    base: fc.record({ seq: countArb, entryId: entryIdArb, revision: revisionArb }, { noNullPrototype: true }),
    residenceUs: countArb,
    atMs: countArb,
    lineage: lineageArb,
  },
  {
    requiredKeys: [
      'entryId',
      'prevEntryId',
      'epoch',
      'agentId',
      'configHash',
      'policyRevision',
      'newestCompleteBeginSeq',
      'pending',
      'base',
      'residenceUs',
      'atMs',
    ],
    noNullPrototype: true,
  },
)

const as = <T extends EntryBody>(model: { readonly [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<EntryBody> =>
  fc.record(model, { noNullPrototype: true }) as unknown as fc.Arbitrary<EntryBody>
type Body<K extends EntryBody['kind']> = Extract<EntryBody, { readonly kind: K }>

export const bodyArb: fc.Arbitrary<EntryBody> = fc.oneof(
  as<Body<'events'>>({
    kind: fc.constant('events'),
    prevRevision: revisionArb,
    revisions: fc.array(revisionRecordArb, { minLength: 1, maxLength: 4 }),
    throughRevision: revisionArb,
  }),
  fc
    .record({
      prevRevision: revisionArb,
      revision: revisionArb,
      groupId: textArb.filter((text) => text !== ''),
      count: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
      place: fc.nat(),
      data: bytesArb,
    })
    .map(({ place, ...chunk }) => ({ kind: 'chunk', ...chunk, index: place % chunk.count }) as const),
  as<Body<'progress'>>({ kind: fc.constant('progress'), prevRevision: revisionArb, revision: revisionArb }),
  as<Body<'snapshot-begin'>>({
    kind: fc.constant('snapshot-begin'),
    checkpointId: textArb,
    revision: revisionArb,
    reason: fc.constantFrom('epoch', 'gap', 'policy', 'routine'),
  }),
  as<Body<'snapshot-items'>>({
    kind: fc.constant('snapshot-items'),
    checkpointId: textArb,
    index: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    items: fc.array(snapshotRecordArb, { maxLength: 4 }),
  }),
  as<Body<'snapshot-end'>>({
    kind: fc.constant('snapshot-end'),
    checkpointId: textArb,
    revision: revisionArb,
    itemCount: countArb,
    digest: bytesArb,
  }),
)

export const entryArb: fc.Arbitrary<LogEntry> = fc.tuple(headArb, bodyArb).map(([head, body]) => ({ ...head, ...body }))
