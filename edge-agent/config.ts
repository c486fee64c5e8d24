// The agent's configuration: every field, its default and its words.
// Owns: the schema, the flags of the common case, and the translation of several logs in one process.
// Refuses: reading it (kit/config). Durations are milliseconds and sizes bytes once read.

import * as z from 'zod'
import { defineConfig } from '#kit/config/definition.ts'
import { address, byteSize, duration, field, secret } from '#kit/config/fields.ts'
import { bundlePlace, decisionsSection, policyPoll } from '#policies/node/config-section.ts'
import { breakerSection, logSection, natsSection, processSection, tracingSection } from '#kit/config/sections.ts'

const MINUTE_MS = 60_000
const MIB = 1024 * 1024

const name = (what: string, example: string) =>
  field(z.string().regex(/^[a-z0-9-]{1,32}$/), { expect: `${what}: 1 to 32 of a-z, 0-9 and -`, example })

const endpoint = field(z.string().regex(/^https?:\/\/[^\s/@]+$/), {
  expect: 'http://host:port or https://host:port, without user and password',
  example: 'http://127.0.0.1:2379',
})

const etcdFields = {
  endpoints: field(z.array(endpoint).min(1), {
    expect: 'one or more of http://host:port or https://host:port',
    example: 'http://127.0.0.1:7501',
  }).describe('client endpoints of the members of one etcd cluster; never a grpc-proxy'),
  user: z.string().optional().describe('user name; read permission on the range suffices'),
  password: secret()
    .optional()
    .describe('password of the user; this, the user, the endpoints and the files below are read anew at SIGHUP'),
  caFile: z.string().optional().describe('PEM file of the authorities that may sign the members'),
  certFile: z.string().optional().describe('PEM file of the client certificate'),
  keyFile: z.string().optional().describe('PEM file of the key of the client certificate'),
} as const

const logFields = {
  cluster: name('a cluster id', 'sz-edge-1').describe('id of the cluster; names its log at the hub'),
  region: name('a region', 'sz').describe('region whose policy governs what may leave'),
  prefixes: field(z.array(z.string()), { expect: 'key prefixes', example: '/' })
    .default(['/'])
    .describe('keys to relay; the watched range is the smallest one that holds all of them, unless range is given'),
  range: z
    .strictObject({
      from: z.string().default('').describe('first key of the range, as text'),
      to: z.string().optional().describe('first key behind the range; absent means to the end of the key space'),
    })
    .optional(),
}

const massFields = (done: string, fallback: 'annotate' | 'hold') => ({
  maxKeys: z
    .int()
    .min(0)
    .default(0)
    .describe(`more keys than this ${done} within the window call for the action; 0: never`),
  action: z
    .enum(['annotate', 'delay', 'hold'])
    .default(fallback)
    .describe('annotate: count and log; delay: wait a little; hold: stop before it until it is released'),
})

const moreLogs = z
  .array(z.strictObject({ ...logFields, etcd: z.strictObject(etcdFields) }))
  .default([])
  .describe('further logs served by this process, each with its own etcd; they fail independently')

const schema = z.strictObject({
  ...logFields,
  etcd: z.strictObject({
    ...etcdFields,
    keepalive: duration({ min: 1_000, max: 5 * MINUTE_MS })
      .default(5_000)
      .describe("HTTP/2 ping interval while a call lives; not below the server's --grpc-keepalive-min-time (5s)"),
    keepaliveTimeout: duration({ min: 200, max: MINUTE_MS })
      .default(2_000)
      .describe('a ping unanswered this long ends the connection'),
    callTimeout: duration({ min: 200, max: 5 * MINUTE_MS })
      .default(10_000)
      .describe('deadline of every single read'),
  }),
  hubRegion: name('a region', 'sz')
    .optional()
    .describe(
      'region the hub stands in: policy treats it as the destination of everything; absent: the one the stream states (`deltawatch hub apply --hub-region`), and until then nothing leaves',
    ),
  policies: bundlePlace
    .default('policies/regions')
    .describe('policy bundle: a directory, a bundle file, or kv://bucket/key'),
  policyShadow: bundlePlace
    .optional()
    .describe('bundle that is asked beside the live one and never enforced; differences are counted per rule'),
  policyPoll,
  decisions: decisionsSection(0.01),
  policyKeys: z.string().optional().describe('directory with one file per HMAC key that transforms name'),
  policyPublicKeyFile: z.string().optional().describe('PEM file of the ed25519 key the bundle must be signed with'),
  nats: natsSection,
  lineageKeyFile: z
    .string()
    .optional()
    .describe("file with the agents' secret, one key per line, the first in use; without it digests can be guessed"),
  agentName: field(z.string().regex(/^[A-Za-z0-9._-]{1,64}$/), { expect: '1 to 64 of A-Z a-z 0-9 . _ -' })
    .optional()
    .describe('name of this agent, stable across restarts; default: the host name'),
  admin: address()
    .optional()
    .describe('where /livez, /readyz, /metrics and /debug listen; loopback only; absent: nowhere'),
  adminToken: secret().optional().describe('bearer token that /debug asks for'),
  createStream: z.boolean().default(false).describe("create the log's stream when it is missing; for development"),
  watch: z
    .strictObject({
      progressEvery: duration({ min: 100, max: MINUTE_MS })
        .default(1_000)
        .describe('progress is asked for after this much silence'),
      deafAfter: duration({ min: 200, max: 5 * MINUTE_MS })
        .default(3_500)
        .describe('a question unanswered this long, with nothing arriving, means a deaf watch'),
      probeEvery: duration({ min: 200, max: 5 * MINUTE_MS })
        .default(5_000)
        .describe('interval of head reads through another endpoint'),
      staleAfter: duration({ min: 200, max: 5 * MINUTE_MS })
        .default(5_000)
        .describe('the watch must reach a head read elsewhere within this'),
      replayTimeout: duration({ min: 500, max: 5 * MINUTE_MS })
        .default(10_000)
        .describe('time for reproducing the history of the log'),
      maxRevision: byteSize({ min: 64 * 1024, max: 64 * MIB })
        .default(16 * MIB)
        .describe('a larger revision is replaced by a checkpoint'),
      continuityKeys: z
        .int()
        .min(0)
        .max(1_000_000)
        .default(16_384)
        .describe('recently changed keys whose history is checked'),
      stateKeys: z
        .int()
        .min(0)
        .default(100_000)
        .describe('a quiet range of at most this many keys is read now and then to keep it provable after compaction'),
      quietAfter: duration({ min: 1_000 }).default(30_000).describe('a range without a change for this long is quiet'),
      deviationEvery: duration({ min: 1_000 })
        .default(MINUTE_MS)
        .describe(
          "interval in which what arrives is held against the advance of etcd's revision; over 30 % is an alarm",
        ),
      stableAfter: duration({ min: 100 }).default(30_000).describe('a watch that lived this long clears the backoff'),
      backoff: z
        .strictObject({
          base: duration({ min: 10 }).default(1_000).describe('upper bound of the first wait; it doubles'),
          cap: duration({ min: 10 }).default(30_000).describe('upper bound of every wait'),
        })
        .prefault({}),
    })
    .prefault({}),
  uplink: z
    .strictObject({
      window: z.int().min(1).max(64).default(16).describe('appends in flight at once'),
      windowBytes: byteSize({ min: 64 * 1024, max: 256 * MIB })
        .default(4 * MIB)
        .describe('bytes in flight at once'),
      maxHeld: byteSize({ min: 64 * 1024, max: 1024 * MIB })
        .default(8 * MIB)
        .describe('bytes waiting and in flight; above it the watch is paused'),
      ackTimeout: duration({ min: 200, max: 5 * MINUTE_MS })
        .default(10_000)
        .describe('an append unanswered this long is lost'),
      markEvery: duration({ min: 100, max: 30_000 }).default(1_000).describe('interval of bookmarks'),
      progressRevisions: z
        .int()
        .min(1)
        .default(1_000)
        .describe('bookmarks run ahead of the last entry by at most this many revisions'),
      progressEvery: duration({ min: 100 }).default(30_000).describe('and by at most this long'),
      silence: duration({ min: 0, max: 5 * MINUTE_MS })
        .default(3_000)
        .describe('a leader unheard this long is gone; 0: never stand by, which is safe and wasteful'),
      stepDown: duration({ min: 0, max: 5 * MINUTE_MS })
        .default(3_000)
        .describe('wait after losing an append to another agent'),
      backoffBase: duration({ min: 1 }).default(100).describe('upper bound of the first wait between runs; it doubles'),
      backoffCap: duration({ min: 1 }).default(5_000).describe('upper bound of every wait between runs'),
      resyncEvery: duration({ min: 0 })
        .default(15_000)
        .describe(
          'least time between resyncs caused by suspicious events; nothing is relayed while the next one waits',
        ),
    })
    .prefault({}),
  checkpoint: z
    .strictObject({
      maxAge: duration({ min: 0 })
        .default(24 * 60 * MINUTE_MS)
        .describe('a changed log gets a fresh routine checkpoint after this; 0: by size alone'),
      maxRevisions: z
        .int()
        .min(0)
        .default(0)
        .describe('and after this many revisions of the store; 0: by age and size alone'),
      lookEvery: duration({ min: 100 })
        .default(15_000)
        .describe(
          'the hub is asked this often what the log still holds; without its newest checkpoint another is written',
        ),
    })
    .prefault({}),
  hooks: z
    .strictObject({
      window: z
        .int()
        .min(1)
        .max(100_000)
        .default(1_000)
        .describe('revisions of the store over which changed keys are counted'),
      onCreate: z
        .strictObject({
          preCheck: z
            .boolean()
            .default(true)
            .describe('keys outside the range, foreign revisions and duplicates are answered by a checkpoint'),
          ...massFields('created', 'annotate'),
        })
        .prefault({}),
      onUpdate: z
        .strictObject({
          ...massFields('updated', 'annotate'),
          hotKey: z
            .int()
            .min(0)
            .default(500)
            .describe('updates of one key within the window that are noted as an anti-pattern; 0: never'),
        })
        .prefault({}),
      onDelete: z.strictObject(massFields('deleted', 'hold')).prefault({}),
      holdFor: duration({ min: 0 })
        .default(15 * MINUTE_MS)
        .describe('a hold nobody releases ends after this, and what was found follows; 0: it waits for an operator'),
      delayFor: duration({ min: 100, max: MINUTE_MS }).default(5_000).describe('how long the action delay waits'),
    })
    .prefault({})
    .describe('guards that look at every revision before it is relayed; they can stop the relay, never drop a change'),
  logs: moreLogs,
  breaker: breakerSection,
  tracing: tracingSection({
    fallback: 0.01,
    means: 'share of the entries with events that begin a trace; gateways go on with those and with no others',
  }),
  log: logSection,
  process: processSection,
})

export const agentConfig = defineConfig({
  program: 'deltawatch-agent',
  summary: 'Relays every change of an etcd range to the hub, in order, once, as far as policy lets it.',
  schema,
  flags: {
    cluster: '--cluster <id>',
    region: '--region <id>',
    'etcd.endpoints': '--etcd <urls>',
    'etcd.user': '--etcd-user <name>',
    'etcd.passwordFile': '--etcd-password-file <file>',
    'etcd.caFile': '--etcd-ca <file>',
    'etcd.certFile': '--etcd-cert <file>',
    'etcd.keyFile': '--etcd-key <file>',
    'nats.servers': '--nats <urls>',
    'nats.credsFile': '--nats-creds <file>',
    prefixes: '--prefix <keys>',
    policies: '--policies <place>',
    policyKeys: '--policy-keys <dir>',
    policyShadow: '--policy-shadow <place>',
    policyPublicKeyFile: '--policy-public-key <file>',
    policyPoll: '--policy-poll <time>',
    'decisions.file': '--decisions-file <file>',
    'decisions.share': '--decisions-share <share>',
    'decisions.keyFile': '--decisions-key-file <file>',
    hubRegion: '--hub-region <id>',
    lineageKeyFile: '--lineage-key <file>',
    agentName: '--agent-name <name>',
    admin: '--admin <host:port>',
    createStream: '--create-stream',
    'log.level': '--log-level <level>',
    'log.format': '--log-format <format>',
    'process.exitWithParent': '--exit-with-parent',
  },
  check: contradictions,
  examples: [
    'deltawatch-agent --cluster sz-edge-1 --region sz --etcd http://127.0.0.1:7501 --nats nats://127.0.0.1:7422 --prefix / --policies policies/regions --hub-region sz',
  ],
})

export type AgentConfig = z.output<typeof schema>
export type LogConfig = Pick<AgentConfig, 'cluster' | 'region' | 'prefixes' | 'range'> & {
  readonly etcd: z.output<z.ZodObject<typeof etcdFields>>
}

/** What is wrong between fields; empty when nothing is. */
function contradictions(config: z.output<typeof schema>): readonly string[] {
  const logs = logsOf(config)
  const clusters = logs.map((log) => log.cluster)
  const twice = clusters.find((cluster, i) => clusters.indexOf(cluster) !== i)
  const problems = twice === undefined ? [] : [`cluster ${twice} has two logs in this configuration; keep one`]
  for (const { cluster, etcd } of logs) {
    if ((etcd.certFile === undefined) !== (etcd.keyFile === undefined))
      problems.push(`etcd.certFile and etcd.keyFile of ${cluster} belong together; give both or none`)
    if (etcd.password !== undefined && etcd.user === undefined)
      problems.push(`etcd.password of ${cluster} is given without etcd.user; give the user it belongs to`)
  }
  return problems
}

/** The first log and those under `logs`, alike. */
export function logsOf(config: AgentConfig): readonly LogConfig[] {
  const { cluster, region, prefixes, range, etcd } = config
  return [{ cluster, region, prefixes, range, etcd }, ...config.logs]
}
