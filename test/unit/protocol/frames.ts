// Arbitrary frames of the subscriber's wire, in both directions.
// Owns: the generators that decode, fold and schema tests share.
// Refuses: sequences; a frame here is well formed by itself, not a step of a session.

import fc from 'fast-check'
import { encodeCursor } from '#protocol/cursor.ts'
import type { ClientFrame, ServerFrame, WatchFrame } from '#protocol/frames.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import { epochArb, revisionArb, uint64Arb } from './entries.ts'

export const clusterArb = fc.constantFrom('sz-edge-1', 'gz-edge-1', 'mo-edge-1')
const chArb = fc.integer({ min: 1, max: 2 ** 31 })
const idArb = fc.string({ minLength: 1, maxLength: 64 })
const wellFormed = fc.string({ unit: 'grapheme', maxLength: 20 }).filter((text) => text.isWellFormed())
const base64Arb = fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes).toString('base64'))
export const cursorTextArb = fc
  .tuple(epochArb, fc.dictionary(clusterArb, fc.tuple(epochArb, revisionArb)))
  .map(([viewTag, positions]) =>
    encodeCursor({
      viewTag,
      positions: new Map(
        Object.entries(positions).map(([id, [epoch, revision]]) => [id as ClusterId, { epoch, revision }]),
      ),
    }),
  )

const partial = <T extends object>(model: { readonly [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<Partial<T>> =>
  fc.record(model, { requiredKeys: [], noNullPrototype: true }) as fc.Arbitrary<Partial<T>>

const rangeArb = fc.oneof(
  wellFormed.map((key) => ({ key })),
  base64Arb.map((keyBase64) => ({ keyBase64 })),
  wellFormed.map((prefix) => ({ prefix })),
  base64Arb.map((prefixBase64) => ({ prefixBase64 })),
  wellFormed.map((from) => ({ from })),
  wellFormed.map((from) => ({ from, to: `${from}~` })),
)
const watchArb = fc
  .tuple(
    idArb,
    rangeArb,
    fc.oneof(fc.constantFrom('snapshot', 'now'), cursorTextArb),
    partial<Omit<WatchFrame, 'type' | 'id' | 'start'>>({
      clusters: fc.oneof(fc.constant('*' as const), fc.array(clusterArb, { minLength: 1, maxLength: 3 })),
      regions: fc.array(fc.constantFrom('sz', 'gz', 'mo'), { minLength: 1, maxLength: 3 }),
      default: fc.constantFrom('snapshot', 'now'),
      mode: fc.constantFrom('log', 'state'),
      values: fc.constantFrom('auto', 'base64', 'none'),
    }),
  )
  .map(([id, range, start, rest]) => ({ type: 'watch', id, start, ...range, ...rest }) as const)

export const clientFrameArb = fc.oneof(
  fc
    .tuple(
      fc.string({ maxLength: 128 }),
      fc.array(fc.integer(), { minLength: 1, maxLength: 16 }),
      fc.option(fc.string()),
    )
    .map(
      ([client, versions, token]) =>
        ({ type: 'hello', client, versions, ...(token === null ? {} : { token }) }) as const,
    ),
  watchArb,
  idArb.map((id) => ({ type: 'unwatch', id }) as const),
  fc.string().map((token) => ({ type: 'auth', token }) as const),
  fc.constant({ type: 'ping' } as const),
) satisfies fc.Arbitrary<ClientFrame>

const keyArb = fc.oneof(
  wellFormed.map((key) => ({ key })),
  base64Arb.map((keyBase64) => ({ keyBase64 })),
)
const valueArb = fc.oneof(
  fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), fc.array(fc.jsonValue())).map((json) => ({ json })),
  wellFormed.map((text) => ({ text })),
  base64Arb.map((base64) => ({ base64 })),
  fc.constant({ withheld: 'orders-to-hk' }),
  fc.nat().map((oversize) => ({ oversize })),
  fc.constant({}),
)
const metaArb = partial({ createRevision: revisionArb, version: uint64Arb, lease: uint64Arb })
const eventArb = fc.oneof(
  fc.tuple(keyArb, metaArb, valueArb).map(([key, meta, value]) => ({ op: 'put', ...key, ...meta, ...value })),
  keyArb.map((key) => ({ op: 'delete', ...key })),
  keyArb.map((key) => ({ op: 'leave', ...key })),
)
const itemArb = fc.oneof(
  fc
    .tuple(keyArb, revisionArb, metaArb, valueArb)
    .map(([key, revision, meta, value]) => ({ ...key, revision, ...meta, ...value })),
  fc.tuple(keyArb, fc.constantFrom('delete', 'leave')).map(([key, gone]) => ({ ...key, gone })),
)
const stateArb = fc.constantFrom('live', 'idle-proved', 'lagging', 'unreachable', 'resyncing', 'removed')
const placeArb = fc.record({ epoch: epochArb, revision: revisionArb }, { noNullPrototype: true })
const outcomeArb = fc.constantFrom('resumed', 'snapshot', 'live', 'waiting', 'resync', 'denied')
const reasonArb = fc.constantFrom('compacted', 'epoch', 'trimmed', 'policy', 'selector', 'ahead', 'removed')
const at = fc.tuple(chArb, clusterArb).map(([ch, cluster]) => ({ ch, cluster }))
const instantArb = fc
  .date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true })
  .map((date) => date.toISOString())

export const serverFrameArb = fc.oneof(
  fc
    .tuple(
      fc.dictionary(
        clusterArb,
        fc
          .tuple(stateArb, fc.option(placeArb), fc.nat())
          .map(([state, place, ageMs]) => ({ region: 'sz', state, ...place, ...(place === null ? {} : { ageMs }) })),
      ),
      fc.boolean(),
    )
    .map(([clusters, dev]) => ({
      type: 'welcome',
      version: 1,
      session: 's-1',
      heartbeatMs: 15_000,
      limits: { maxInboundBytes: 65_536, maxFrameBytes: 2 ** 25, maxWatches: 64, maxClusters: 64 },
      clusters,
      ...(dev ? { dev: true } : {}),
    })),
  fc
    .tuple(
      idArb,
      chArb,
      fc.dictionary(
        clusterArb,
        fc.tuple(outcomeArb, fc.option(placeArb)).map(([outcome, place]) => ({ outcome, ...place })),
      ),
    )
    .map(([id, ch, clusters]) => ({ type: 'watching', id, ch, clusters })),
  fc
    .tuple(at, fc.constantFrom('full', 'diff'), placeArb)
    .map(([where, base, place]) => ({ type: 'snapshot', ...where, phase: 'begin', base, ...place })),
  fc
    .tuple(at, fc.array(itemArb, { maxLength: 3 }))
    .map(([where, items]) => ({ type: 'snapshot', ...where, phase: 'items', items })),
  fc.tuple(at, revisionArb).map(([where, revision]) => ({ type: 'snapshot', ...where, phase: 'end', revision })),
  fc
    .tuple(at, placeArb, fc.array(eventArb, { minLength: 1, maxLength: 3 }))
    .map(([where, place, events]) => ({ type: 'events', ...where, ...place, events })),
  fc
    .tuple(at, placeArb, revisionArb, fc.array(itemArb, { maxLength: 3 }), fc.boolean())
    .map(([where, place, fromRevision, items, last]) => ({
      type: 'state',
      ...where,
      ...place,
      fromRevision,
      items,
      last,
    })),
  fc
    .tuple(
      chArb,
      cursorTextArb,
      fc.dictionary(
        clusterArb,
        fc.tuple(placeArb, stateArb, fc.nat()).map(([place, state, ageMs]) => ({ ...place, state, ageMs })),
      ),
    )
    .map(([ch, cursor, clusters]) => ({ type: 'bookmark', ch, cursor, clusters })),
  fc.tuple(clusterArb, stateArb, instantArb, fc.option(revisionArb)).map(([cluster, state, since, lastRevision]) => ({
    type: 'cluster',
    cluster,
    state,
    since,
    ...(lastRevision === null ? {} : { lastRevision }),
  })),
  fc
    .tuple(at, reasonArb, partial({ from: placeArb, to: placeArb }))
    .map(([where, reason, places]) => ({ type: 'resync', ...where, reason, ...places })),
  fc
    .tuple(at, fc.array(wellFormed, { maxLength: 3 }), partial({ leftBase64: fc.array(base64Arb, { minLength: 1 }) }))
    .map(([where, left, more]) => ({ type: 'scope', ...where, left, ...more })),
  fc.tuple(fc.option(idArb), fc.boolean()).map(([id, temporary]) => ({
    type: 'error',
    ...(id === null ? {} : { id }),
    code: 'DW4011',
    message: 'why',
    temporary,
  })),
  partial({ retryAfterMs: fc.nat() }).map((more) => ({ type: 'goodbye', code: 4201, reason: 'draining', ...more })),
  fc.constantFrom({ type: 'heartbeat' }, { type: 'pong' }, { type: 'authed' }),
  instantArb.map((expiresAt) => ({ type: 'authed', expiresAt })),
  fc.tuple(idArb, chArb).map(([id, ch]) => ({ type: 'unwatched', id, ch })),
) as fc.Arbitrary<ServerFrame>
