// JSON Schemas of what a gateway sends.
// Owns: one schema per server frame of wire version 1, strict: a field that is not named here is a bug of the gateway.
// Refuses: order and meaning across frames (SPEC.md). A client must still skip fields and types it does not know, because
// a newer gateway may send them (rule T2).

import * as t from './terms.ts'

const keyed = { 'key?': t.text('The key, when it is UTF-8.'), 'keyBase64?': t.base64('The key, when it is not') }
const oneKey: t.Schema = t.either({ required: ['key'] }, { required: ['keyBase64'] })
const meta = {
  'createRevision?': t.revision,
  'version?': t.counter,
  'lease?': t.counter,
}
const valued = {
  'json?': { type: ['object', 'array'], description: 'The value, embedded byte for byte.' },
  'text?': t.text('The value, when it is UTF-8 but not embeddable.'),
  'base64?': t.base64('The value'),
  'withheld?': t.text('Rule that withheld the value.'),
  'oversize?': t.integer('Size in bytes of a value above the maximum.', { minimum: 0 }),
}
const oneValue = t.atMostOne('json', 'text', 'base64', 'withheld', 'oversize')
const strictly = (fields: Readonly<Record<string, t.Schema>>, ...rules: readonly t.Schema[]): t.Schema =>
  t.object(fields, { allOf: rules })

const event = t.either(
  strictly({ op: t.constant('put'), ...keyed, ...meta, ...valued }, oneKey, oneValue),
  strictly({ op: t.oneOfWords(['delete', 'leave'], 'Gone, or gone from view only.'), ...keyed }, oneKey),
)
const item = t.either(
  strictly({ ...keyed, revision: t.revision, ...meta, ...valued }, oneKey, oneValue),
  strictly({ ...keyed, gone: t.oneOfWords(['delete', 'leave'], 'Why the key is gone.') }, oneKey),
)
const place = t.object({ epoch: t.epoch, revision: t.revision })
const where = { ch: t.channel, cluster: t.cluster }
const phase = (name: string, fields: Readonly<Record<string, t.Schema>>): t.Schema =>
  t.object({ type: t.constant('snapshot'), ...where, phase: t.constant(name), ...fields })

export const SHARED: Readonly<Record<string, t.Schema>> = { event, item, place }

export const SERVER_FRAMES: Readonly<Record<string, t.Schema>> = {
  welcome: t.object({
    type: t.constant('welcome'),
    version: t.integer('The wire version that was negotiated.', { minimum: 1 }),
    session: t.text('Names this connection in the logs of the gateway.'),
    heartbeatMs: t.milliseconds('Longest silence of a healthy gateway'),
    limits: t.object({
      maxInboundBytes: t.integer('Largest frame a client may send.', { minimum: 1 }),
      maxFrameBytes: t.integer('Largest frame a client must be ready to receive.', { minimum: 1 }),
      maxWatches: t.integer('Watches on one connection.', { minimum: 1 }),
      maxClusters: t.integer('Clusters of one watch.', { minimum: 1 }),
    }),
    clusters: t.byCluster(
      t.object({
        region: t.region,
        state: t.clusterState,
        'epoch?': t.epoch,
        'revision?': t.revision,
        'ageMs?': t.milliseconds('Age of the last proof that nothing is missing up to `revision`'),
      }),
    ),
    'dev?': { const: true, description: 'The gateway runs without authentication.' },
  }),
  watching: t.object({
    type: t.constant('watching'),
    id: t.watchId,
    ch: t.channel,
    clusters: t.byCluster(
      t.object({
        outcome: t.oneOfWords(
          ['resumed', 'snapshot', 'live', 'waiting', 'resync', 'denied'],
          'How this cluster begins.',
        ),
        'epoch?': t.epoch,
        'revision?': t.revision,
      }),
    ),
  }),
  snapshot: t.either(
    phase('begin', {
      base: t.oneOfWords(['full', 'diff'], 'Whole state, or changes to it.'),
      epoch: t.epoch,
      revision: t.revision,
    }),
    phase('items', { items: t.list(t.ref('item')) }),
    phase('end', { revision: t.revision }),
  ),
  events: t.object({
    type: t.constant('events'),
    ...where,
    epoch: t.epoch,
    revision: t.revision,
    events: t.list(t.ref('event'), { minItems: 1 }),
  }),
  state: t.object({
    type: t.constant('state'),
    ...where,
    epoch: t.epoch,
    fromRevision: t.revision,
    revision: t.revision,
    items: t.list(t.ref('item')),
    last: t.flag('True on the chunk that completes the difference.'),
  }),
  bookmark: t.object({
    type: t.constant('bookmark'),
    ch: t.channel,
    cursor: t.cursor,
    clusters: t.byCluster(
      t.object({
        epoch: t.epoch,
        revision: t.revision,
        state: t.clusterState,
        ageMs: t.milliseconds('Age of the proof'),
      }),
    ),
  }),
  cluster: t.object({
    type: t.constant('cluster'),
    cluster: t.cluster,
    'region?': t.region,
    state: t.clusterState,
    since: t.instant,
    'lastRevision?': t.revision,
  }),
  resync: t.object({
    type: t.constant('resync'),
    ...where,
    reason: t.oneOfWords(
      ['compacted', 'epoch', 'trimmed', 'policy', 'selector', 'ahead', 'removed'],
      'Why continuity was broken.',
    ),
    'from?': t.ref('place'),
    'to?': t.ref('place'),
  }),
  scope: t.object({
    type: t.constant('scope'),
    ...where,
    left: t.list(t.text('A key that left the view.')),
    'leftBase64?': t.list(t.base64('A key that left the view and is not UTF-8'), { minItems: 1 }),
  }),
  error: t.object({
    type: t.constant('error'),
    'id?': t.watchId,
    code: t.text('In-band code.', { pattern: '^DW4[0-9]{3}$' }),
    message: t.text('For people.'),
    temporary: t.flag('Trying again later may help.'),
  }),
  goodbye: t.object({
    type: t.constant('goodbye'),
    code: t.integer('The close code that follows.', { minimum: 4000, maximum: 4299 }),
    reason: t.text('For people.'),
    'retryAfterMs?': t.milliseconds('Shortest wait before reconnecting'),
  }),
  heartbeat: t.object({ type: t.constant('heartbeat') }),
  pong: t.object({ type: t.constant('pong') }),
  authed: t.object({ type: t.constant('authed'), 'expiresAt?': t.instant }),
  unwatched: t.object({ type: t.constant('unwatched'), id: t.watchId, ch: t.channel }),
}
