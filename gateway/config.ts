// The gateway's configuration: every field, its default and its words.
// Owns: the schema, the flags of the common case, and the two rules that no field can state alone.
// Refuses: reading it (kit/config). Durations are milliseconds and sizes bytes once read.

import * as z from 'zod'
import { defineConfig } from '#kit/config/definition.ts'
import { address, byteSize, duration, field, secret } from '#kit/config/fields.ts'
import { logSection, natsSection, processSection, tracingSection } from '#kit/config/sections.ts'
import { bundlePlace, decisionsSection, policyPoll } from '#policies/node/config-section.ts'
import { DEFAULT_LIMITS as LIMITS } from './session/limits.ts'
import { isLoopback } from './session/origin.ts'

const MINUTE_MS = 60_000
const MIB = 1024 * 1024

const name = (what: string, example: string) =>
  field(z.string().regex(/^[a-z0-9-]{1,32}$/), { expect: `${what}: 1 to 32 of a-z, 0-9 and -`, example })
const texts = (expect: string, example: string) => field(z.array(z.string().min(1)), { expect, example }).default([])
const count = (fallback: number) => z.int().min(1).default(fallback)

const limits = z
  .strictObject({
    maxInbound: byteSize({ min: 1024, max: MIB }).default(LIMITS.maxInboundBytes).describe('largest inbound message'),
    maxFragments: count(LIMITS.maxFragments).describe('fragments of one inbound message'),
    maxWatches: count(LIMITS.maxWatches).describe('watches of one connection'),
    inboundPerSecond: count(LIMITS.inboundPerSecond).describe('inbound frames per second of one connection'),
    inboundBurst: count(LIMITS.inboundBurst).describe('inbound frames of one connection at once'),
    headersTimeout: duration({ min: 100, max: MINUTE_MS })
      .default(LIMITS.headersTimeoutMs)
      .describe('time for the headers of a request'),
    helloTimeout: duration({ min: 100, max: MINUTE_MS })
      .default(LIMITS.helloTimeoutMs)
      .describe('time from the upgrade to a valid hello'),
    heartbeat: duration({ min: 500, max: 5 * MINUTE_MS })
      .default(LIMITS.heartbeatMs)
      .describe('a peer silent this long is asked for a sign of life'),
    slowReader: duration({ min: 500, max: 10 * MINUTE_MS })
      .default(LIMITS.slowReaderMs)
      .describe('a peer that leaves a mark unanswered this long is reset'),
    maxLifetime: duration({ min: 1_000 })
      .default(LIMITS.maxLifetimeMs)
      .describe('connections are ended after at most this'),
    closeTimeout: duration({ min: 100, max: MINUTE_MS })
      .default(LIMITS.closeTimeoutMs)
      .describe('time a peer gets to answer a close'),
    maxInFlight: byteSize({ min: 4096, max: 64 * MIB })
      .default(LIMITS.maxInFlight)
      .describe('bytes written to a peer and not answered by a pong; beyond it the reader waits'),
    markEvery: byteSize({ min: 1024, max: 16 * MIB })
      .default(LIMITS.markBytes)
      .describe('a mark is sent after this many bytes'),
    maxFrame: byteSize({ min: 65_536 })
      .default(LIMITS.maxFrameBytes)
      .describe('largest frame a client must be ready for'),
    maxValue: byteSize({ min: 1024 }).default(1_600_000).describe('a larger value is delivered as its size'),
    maxBytesInFlight: byteSize({ min: MIB })
      .default(LIMITS.maxBytesInFlight)
      .describe('bytes in flight over all connections of one process'),
    maxConnections: count(LIMITS.maxConnections).describe('connections of one process'),
    maxUnauthenticated: count(LIMITS.maxUnauthenticated).describe('connections without a valid hello'),
    maxPerAddress: count(LIMITS.maxPerAddress).describe('connections of one address'),
    maxUnauthenticatedPerAddress: count(LIMITS.maxUnauthenticatedPerAddress).describe(
      'connections of one address without a valid hello',
    ),
    maxPerSubject: count(LIMITS.maxPerSubject).describe('sessions of one subject, over all workers'),
    connectsPerSecond: count(LIMITS.connectsPerSecond).describe('new connections per second'),
    statePerSecond: count(LIMITS.statePerSecond).describe('/v1/state requests per second'),
  })
  .prefault({})

const memory = z
  .strictObject({
    ring: byteSize({ min: MIB })
      .default(64 * MIB)
      .describe('recent revisions kept per cluster'),
    ringRevisions: count(65_536).describe('recent revisions kept per cluster, in number'),
    state: byteSize({ min: MIB })
      .default(2048 * MIB)
      .describe('state kept per cluster; beyond it the cluster is refused'),
    staging: byteSize({ min: MIB })
      .default(64 * MIB)
      .describe('differences of a checkpoint under way, per cluster'),
    hold: byteSize({ min: MIB })
      .default(32 * MIB)
      .describe('revisions held back during a checkpoint, per cluster'),
    frames: byteSize({ min: MIB })
      .default(32 * MIB)
      .describe('encoded revisions kept for readers that fell behind'),
  })
  .prefault({})

const canary = z.strictObject({
  policies: bundlePlace.describe('bundle that serves some subscribers instead; only ever what egress let out'),
  share: field(z.number().min(0).max(1), { expect: 'a share from 0 to 1', example: '0.05' })
    .default(0)
    .describe('share of the subjects it serves; the same ones on every gateway'),
  labels: field(z.record(z.string(), z.string()), { expect: 'name=value pairs', example: 'env=canary' })
    .default({})
    .describe('labels of a token that put it in whatever the share; all of them must match'),
})

const auth = z
  .strictObject({
    mode: z.enum(['dev', 'jwt']).default('jwt').describe('dev lets everybody in; jwt asks for a signed token'),
    devAnywhere: z.boolean().default(false).describe('allow dev mode on an address that is not loopback'),
    secretFile: z.string().optional().describe('file with the shared HS256 secret, at least 32 bytes'),
    jwksFile: z.string().optional().describe('JWKS file with public keys; read again when it changes'),
    jwksUrl: z
      .url({ protocol: /^https?$/ })
      .optional()
      .describe('JWKS URL with public keys'),
    issuer: z.string().optional().describe('required iss of every token'),
    audience: z.string().optional().describe('required aud of every token'),
    clockTolerance: duration({ max: 5 * MINUTE_MS })
      .default(5_000)
      .describe('clock difference allowed in exp and nbf'),
    revocationsFile: z
      .string()
      .optional()
      .describe('JSON lines of revoked subjects and token ids; read again when it changes'),
    revocationsBucket: z.string().optional().describe('NATS KV bucket of revoked subjects and token ids'),
  })
  .prefault({})

const schema = z.strictObject({
  listen: address().default({ host: '127.0.0.1', port: 7400 }).describe('where subscribers connect'),
  nats: natsSection,
  clusters: field(z.record(name('a cluster id', 'sz-edge-1'), name('a region', 'sz')), {
    expect: 'cluster=region pairs',
    example: 'sz-edge-1=sz,gz-edge-1=gz',
  }).describe('clusters to follow and the region of each'),
  hubRegion: name('a region', 'sz').describe(
    'region the hub and this gateway stand in; a dev token belongs to it by default',
  ),
  policies: bundlePlace.describe('policy bundle: a directory, a bundle file, or kv://bucket/key'),
  canary: canary.optional(),
  policyShadow: bundlePlace
    .optional()
    .describe('bundle that is asked beside the live one and never enforced; differences are counted per rule'),
  policySkew: duration({ min: 1_000 })
    .default(30_000)
    .describe('an agent that enforces another bundle for longer than this is an alarm'),
  policyKeys: z
    .string()
    .optional()
    .describe('directory with one file per HMAC key that deliver transforms name; never the egress keys'),
  policyPublicKeyFile: z.string().optional().describe('PEM file of the ed25519 key the bundle must be signed with'),
  policyPoll,
  decisions: decisionsSection(0.01),
  auth,
  origins: texts('origins such as https://app.example', 'https://app.example').describe(
    'web origins that may connect; * for any, when every client brings a token',
  ),
  hosts: texts('host names without port', 'gw.example').describe(
    'host names this gateway answers to; empty for any, in dev mode loopback',
  ),
  admin: address()
    .optional()
    .describe(
      'where the admin API, metrics and the details of probes listen; absent: the API nowhere, the rest on a loopback `listen` for callers on this host that no proxy speaks for',
    ),
  adminToken: secret().optional().describe('bearer token of the admin API; required with it'),
  workers: z.int().min(0).max(256).default(0).describe('processes that serve subscribers; 0 serves from this one'),
  proxyProtocol: z.boolean().default(false).describe('expect a PROXY protocol header (v1 or v2) on every connection'),
  createStreams: z.boolean().default(false).describe('create missing logs at the hub; for development'),
  drain: duration({ max: 10 * MINUTE_MS })
    .default(5_000)
    .describe('goodbyes are spread over this when stopping'),
  limits,
  memory,
  tracing: tracingSection({ fallback: 1, means: 'share of the traces begun by agents that this gateway goes on with' }),
  log: logSection,
  process: processSection,
})

export const gatewayConfig = defineConfig({
  program: 'deltawatch-gateway',
  summary: 'Serves the changes of several clusters to subscribers, in order, once, as far as policy lets them see.',
  schema,
  flags: {
    listen: '--listen <host:port>',
    'nats.servers': '--nats <urls>',
    'nats.credsFile': '--nats-creds <file>',
    clusters: '--clusters <pairs>',
    hubRegion: '--hub-region <id>',
    policies: '--policies <place>',
    'canary.policies': '--canary-policies <place>',
    'canary.share': '--canary-share <share>',
    'canary.labels': '--canary-labels <pairs>',
    policyShadow: '--policy-shadow <place>',
    policyPublicKeyFile: '--policy-public-key <file>',
    policyPoll: '--policy-poll <time>',
    policySkew: '--policy-skew <time>',
    'decisions.file': '--decisions-file <file>',
    'decisions.share': '--decisions-share <share>',
    'decisions.keyFile': '--decisions-key-file <file>',
    policyKeys: '--policy-keys <dir>',
    'auth.mode': '--auth <mode>',
    'auth.devAnywhere': '--auth-dev-anywhere',
    'auth.secretFile': '--auth-secret-file <file>',
    'auth.jwksFile': '--auth-jwks-file <file>',
    'auth.jwksUrl': '--auth-jwks-url <url>',
    'auth.issuer': '--auth-issuer <iss>',
    'auth.audience': '--auth-audience <aud>',
    origins: '--origins <origins>',
    hosts: '--hosts <names>',
    admin: '--admin <host:port>',
    adminTokenFile: '--admin-token-file <file>',
    workers: '--workers <n>',
    proxyProtocol: '--proxy-protocol',
    createStreams: '--create-streams',
    'log.level': '--log-level <level>',
    'log.format': '--log-format <format>',
    'process.exitWithParent': '--exit-with-parent',
  },
  check: contradictions,
  examples: [
    'deltawatch-gateway --nats nats://127.0.0.1:7422 --listen 127.0.0.1:7400 --clusters sz-edge-1=sz,gz-edge-1=gz --hub-region sz --policies policies/regions --auth dev',
  ],
})

export type GatewayConfig = z.output<typeof schema>

/** What is wrong between fields; empty when nothing is. */
function contradictions(config: z.output<typeof schema>): readonly string[] {
  const problems: string[] = []
  const { auth, listen, admin } = config
  if (auth.mode === 'dev' && !auth.devAnywhere && !isLoopback(listen.host)) {
    problems.push(
      `auth.mode dev lets everybody in, and listen ${listen.host} is not loopback; use jwt, or --auth-dev-anywhere if that is meant`,
    )
  }
  if (auth.mode === 'jwt') {
    const sources = [auth.secretFile, auth.jwksFile, auth.jwksUrl].filter((source) => source !== undefined)
    if (sources.length !== 1)
      problems.push('auth.mode jwt needs exactly one of auth.secretFile, auth.jwksFile, auth.jwksUrl')
    if (auth.issuer === undefined) problems.push('auth.mode jwt needs auth.issuer')
    if (auth.audience === undefined) problems.push('auth.mode jwt needs auth.audience')
  }
  if (auth.revocationsFile !== undefined && auth.revocationsBucket !== undefined) {
    problems.push('auth.revocationsFile and auth.revocationsBucket are both given; keep one')
  }
  if (admin !== undefined && config.adminToken === undefined) {
    problems.push('admin is given without adminToken; write adminTokenFile, the path of a file that holds it')
  }
  if (Object.keys(config.clusters).length === 0) problems.push('clusters is empty; write at least one cluster=region')
  return problems
}
