// `deltawatch hub`: the streams the logs live in, and who may do what at the hub.
// Owns: command lines, help, the form of the answer. Decisions are hub/stream-plan.ts, calls hub/apply.ts, rights
// hub/users.ts; purging, decisions and calls, is hub/purge.ts.
// Refuses: deleting streams, and making secrets up.

import { readFile } from 'node:fs/promises'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { byteSize, formatSize } from '#kit/config/fields.ts'
import { DEFAULT_LOG_BYTES, keepsMetadata, withoutMetadata } from '#protocol/log/stream.ts'
import { type ClusterId, parseClusterId, parseRegion } from '#protocol/subjects.ts'
import { type Applied, applyStream } from './hub/apply.ts'
import { type Purged, purgeLog } from './hub/purge.ts'
import { type HubOptions, hubOptions, NATS_OPTION, openHub } from './hub/session.ts'
import { permissionsText, hubUsers, type PermissionOptions } from './hub/users.ts'
import { show } from './hub/stream-plan.ts'
import {
  CommandError,
  json,
  list,
  processTerminal,
  runCommand,
  table,
  type Terminal,
  wantsJson,
  withExamples,
} from './hub/terminal.ts'

type ApplyOptions = HubOptions & {
  readonly clusters: readonly string[]
  readonly maxBytes?: number
  readonly maxMessageBytes?: number
  readonly replicas?: '1' | '3' | '5'
  readonly hubRegion?: string
  readonly repair?: boolean
  readonly shrink?: boolean
  readonly dryRun?: boolean
  readonly json?: boolean
}
type PurgeOptions = HubOptions & {
  readonly clusters: readonly string[]
  readonly whole?: boolean
  readonly dryRun?: boolean
  readonly json?: boolean
}
type PermissionsOptions = {
  readonly clusters: readonly string[]
  readonly auth: PermissionOptions['auth']
  readonly operator?: boolean
  readonly revocationsBucket?: string
  readonly policiesBucket?: string
  readonly json?: boolean
}

export function registerHubCommands(program: Command, terminal: Terminal = processTerminal()): void {
  const hub = program
    .command('hub')
    .description(
      'set up the hub: the streams of the logs, the rights of each service, and purges after a policy change',
    )
  withExamples(
    hubOptions(
      hub
        .command('apply')
        .description(
          'Make and update the stream of each cluster, as the protocol needs it. Running it again changes nothing. ' +
            'What could lose entries or break the guarantees is refused, with what to do.',
        )
        .requiredOption(...NATS_OPTION)
        .requiredOption('--clusters <ids>', 'clusters whose logs the hub keeps', list)
        .option('--max-bytes <size>', `bytes each log may hold (new streams: ${formatSize(DEFAULT_LOG_BYTES)})`, size)
        .option('--max-message-bytes <size>', "largest message (new streams: the server's max_payload)", size)
        .addOption(new Option('--replicas <n>', 'copies of each log (new streams: 1)').choices(['1', '3', '5']))
        .option('--hub-region <id>', 'record in each stream which region the hub stands in', region)
        .option('--repair', 'also set required settings in streams that stand and differ')
        .option('--shrink', 'allow a --max-bytes below what a log holds; its oldest entries go')
        .option('--dry-run', 'say what would be done and change nothing')
        .option('--json', 'JSON, also on a terminal'),
    ).action((options: ApplyOptions) => runCommand(terminal, 'hub apply', () => apply(terminal, options))),
    [
      'deltawatch hub apply --nats nats://127.0.0.1:7422 --clusters sz-edge-1,gz-edge-1 --dry-run',
      'deltawatch hub apply --nats tls://hub:4222 --clusters sz-edge-1 --replicas 3 --max-bytes 8GiB --hub-region sz --creds-file operator.creds',
    ],
  )
  withExamples(
    hubOptions(
      hub
        .command('purge')
        .description(
          'Remove from each log what stands before its newest change of policy (or epoch): after a narrower policy those ' +
            'entries say more than it allows. Readers lose nothing: the complete checkpoint of that change and everything ' +
            'after it stay, and the command refuses while that checkpoint is not complete. nats-server drops whole files ' +
            'only: bytes that share a file with newer entries cannot be read any more but stay on the disk. --whole takes ' +
            'them off it: everything goes, and a running agent writes a new checkpoint within checkpoint.lookEvery (15s); ' +
            'until then new readers wait, and those who were away longer get a snapshot instead of a replay.',
        )
        .requiredOption(...NATS_OPTION)
        .requiredOption('--clusters <ids>', 'clusters whose logs are purged', list)
        .option('--whole', 'purge every entry, which removes the bytes from the disk; the agent must be running')
        .option('--dry-run', 'say what would be purged and change nothing')
        .option('--json', 'JSON, also on a terminal'),
    ).action((options: PurgeOptions) => runCommand(terminal, 'hub purge', () => purge(terminal, options))),
    [
      'deltawatch hub purge --nats nats://127.0.0.1:7422 --clusters sz-edge-1,gz-edge-1 --dry-run',
      'deltawatch hub purge --nats tls://hub:4222 --clusters sz-edge-1 --whole --creds-file operator.creds',
    ],
  )
  withExamples(
    hub
      .command('permissions')
      .description(
        'Print the users of the hub as configuration of nats-server: one per agent, one for the gateways, each with ' +
          'the least it needs. Secrets are variables that nats-server reads from its environment.',
      )
      .requiredOption('--clusters <ids>', 'clusters, one agent user each; join those of one agent process with +', list)
      .addOption(
        new Option('--auth <kind>', 'how users prove who they are').choices(['password', 'nkey']).default('password'),
      )
      .option('--operator', 'add the user for "hub apply", "hub purge" and "doctor"')
      .option('--revocations-bucket <name>', 'let the gateways follow this KV bucket (auth.revocationsBucket)')
      .option(
        '--policies-bucket <name>',
        'let agents and gateways read policy bundles from this KV bucket (policies: kv://…)',
      )
      .option('--json', 'users and subjects as JSON instead of the snippet')
      .action((options: PermissionsOptions) =>
        runCommand(terminal, 'hub permissions', async () => permissions(terminal, options)),
      ),
    [
      'deltawatch hub permissions --clusters sz-edge-1,gz-edge-1 --operator > users.conf',
      'deltawatch hub permissions --clusters sz-edge-1+sz-edge-2,gz-edge-1 --auth nkey',
    ],
  )
}

async function apply(terminal: Terminal, options: ApplyOptions): Promise<number> {
  const clusters = clusterIds(options.clusters)
  await using hub = await openHub(options, await readPassword(options.passwordFile))
  const states = keepsMetadata(hub.version)
  if (options.hubRegion !== undefined && !states) terminal.err(`warning: ${withoutMetadata(hub.version)}\n`)
  const hubRegion = states ? options.hubRegion : undefined
  const { maxBytes, maxMessageBytes, dryRun = false, repair = false, shrink = false } = options
  const replicas = options.replicas === undefined ? undefined : ({ '1': 1, '3': 3, '5': 5 } as const)[options.replicas]
  const defaults = { maxBytes: DEFAULT_LOG_BYTES, maxMessageBytes: hub.maxPayload }
  const results: Applied[] = []
  for (const cluster of clusters) {
    const wanted = { cluster, maxBytes, maxMessageBytes, replicas, hubRegion, repair, shrink }
    results.push(await applyStream(hub, wanted, defaults, dryRun))
  }
  report(terminal, results, { dryRun, json: options.json, server: hub.server, version: hub.version })
  return results.some(({ outcome }) => outcome === 'refused' || outcome === 'failed') ? 1 : 0
}

async function purge(terminal: Terminal, options: PurgeOptions): Promise<number> {
  const clusters = clusterIds(options.clusters)
  await using hub = await openHub(options, await readPassword(options.passwordFile))
  const { whole = false, dryRun = false } = options
  const streams: Purged[] = []
  for (const cluster of clusters) streams.push(await purgeLog(hub, cluster, { whole, dryRun }))
  if (wantsJson(terminal, options.json)) terminal.out(json({ ...hubOf(hub), dryRun, whole, streams }))
  else {
    const rows = streams.map(({ cluster, stream, outcome, entries, note, code }) => [
      cluster,
      stream,
      outcome,
      String(entries),
      code === undefined ? note : `${note} (${code})`,
    ])
    terminal.out(heading(hub, dryRun))
    terminal.out(table([['CLUSTER', 'STREAM', 'RESULT', 'ENTRIES', ''], ...rows], terminal.columns))
  }
  return streams.some(({ outcome }) => outcome === 'refused' || outcome === 'failed') ? 1 : 0
}

const hubOf = ({ server, version }: { server: string; version: string }) => ({ server, version })
const heading = ({ server, version }: { server: string; version: string }, dryRun: boolean): string =>
  `hub ${server} (nats-server ${version})${dryRun ? ', dry run: nothing was changed' : ''}\n\n`

type Shown = { dryRun: boolean; json: boolean | undefined; server: string; version: string }

function report(terminal: Terminal, results: readonly Applied[], { dryRun, json: asked, ...at }: Shown): void {
  if (wantsJson(terminal, asked)) return terminal.out(json({ ...at, dryRun, streams: results }))
  const rows = results.map(({ cluster, stream, outcome, changes, reasons }) => [
    cluster,
    stream,
    outcome,
    [...changes.map(({ setting, from, to }) => `${setting} ${show(from)} -> ${show(to)}`), ...reasons].join('; '),
  ])
  terminal.out(heading(at, dryRun))
  terminal.out(table([['CLUSTER', 'STREAM', 'RESULT', ''], ...rows], terminal.columns))
}

function permissions(terminal: Terminal, options: PermissionsOptions): number {
  const agents = options.clusters.map((served) => clusterIds(served.split('+')))
  const revocations = bucketName(options.revocationsBucket, '--revocations-bucket')
  const policies = bucketName(options.policiesBucket, '--policies-bucket')
  const wanted: PermissionOptions = {
    agents,
    auth: options.auth,
    operator: options.operator === true,
    ...(revocations === undefined ? {} : { revocations }),
    ...(policies === undefined ? {} : { policies }),
  }
  terminal.out(options.json === true ? json({ users: hubUsers(wanted) }) : permissionsText(wanted))
  return 0
}

function bucketName(name: string | undefined, option: string): string | undefined {
  if (name === undefined || /^[A-Za-z0-9_-]{1,64}$/.test(name)) return name
  const form = 'a bucket name has 1 to 64 of A-Z a-z 0-9 _ -'
  throw new CommandError('DW_HUB_BUCKET', `${option} ${JSON.stringify(name)}: ${form}`, 2)
}

export function clusterIds(texts: readonly string[]): readonly ClusterId[] {
  if (texts.length === 0) {
    throw new CommandError('DW_HUB_CLUSTERS', '--clusters is empty; write at least one id, such as sz-edge-1', 2)
  }
  const ids = texts.map((text) => {
    const id = parseClusterId(text)
    if (id !== undefined) return id
    const form = 'an id has 1 to 32 of a-z, 0-9 and -, such as sz-edge-1'
    throw new CommandError('DW_HUB_CLUSTERS', `--clusters: ${JSON.stringify(text)} is no cluster id; ${form}`, 2)
  })
  return [...new Set(ids)]
}

/** Read anew for each run; the text itself never reaches an error. */
export async function readPassword(file: string | undefined, option = '--password-file'): Promise<string | undefined> {
  if (file === undefined) return undefined
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (cause) {
    throw new CommandError('DW_HUB_PASSWORD', `${option} ${file} cannot be read; check the path and its mode`, 2, {
      cause,
    })
  }
}

const sizes = byteSize({ min: 64 * 1024 })
function size(text: string): number {
  const read = sizes.safeParse(text)
  if (read.success) return read.data
  throw new InvalidArgumentError('Write a size of at least 64KiB, such as 512MiB or 8GiB.')
}
function region(text: string): string {
  const read = parseRegion(text)
  if (read !== undefined) return read
  throw new InvalidArgumentError('Write a region of 1 to 32 of a-z, 0-9 and -, such as sz.')
}
