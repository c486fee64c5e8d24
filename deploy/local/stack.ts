// Which processes make up the local stack, with which arguments, and how each says that it serves.
// Owns: three regions, their ports, directories and command lines. Does not own: running them (part.ts, supervisor.ts).

import { createConnection } from 'node:net'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { LocalOptions } from './options.ts'
import type { WantedPort } from './free-ports.ts'
import type { Incarnation, PartSpec } from './part.ts'
import type { Tier } from './supervisor.ts'
import { formatSite, type WriterSite } from './writer/sites.ts'

export const HUB_REGION = 'sz'
const POLL_MS = 50

export interface StackPaths {
  readonly root: string
  /** Everything the stack writes lies below this directory. */
  readonly dataDir: string
}

export interface ToolPaths {
  readonly etcd: string
  readonly natsServer: string
}

export function sitesOf(options: LocalOptions): readonly WriterSite[] {
  const [sz, gz, mo] = options.etcdPorts
  const url = (port: number): string => `http://127.0.0.1:${port}`
  return [
    { cluster: 'sz-edge-1', region: 'sz', city: 'Shenzhen', network: '10.21', url: url(sz) },
    { cluster: 'gz-edge-1', region: 'gz', city: 'Guangzhou', network: '10.22', url: url(gz) },
    { cluster: 'mo-edge-1', region: 'mo', city: 'Macau', network: '10.23', url: url(mo) },
  ]
}

export const gatewayUrl = (options: LocalOptions): string => `http://127.0.0.1:${options.gatewayPort}`

export function wantedPorts(options: LocalOptions): readonly WantedPort[] {
  const etcd = sitesOf(options).map((site, index) => ({
    port: options.etcdPorts[index] ?? 0,
    part: `etcd ${site.cluster}`,
    option: '--etcd-ports N,N,N',
  }))
  return [
    ...etcd,
    { port: options.natsPort, part: 'nats-server', option: '--nats-port N' },
    { port: options.gatewayPort, part: 'gateway', option: '--gateway-port N' },
  ]
}

/** Tier 0: the servers. Tier 1: agents and gateway. Tier 2: the writer. */
export function tiersOf(options: LocalOptions, tools: ToolPaths, paths: StackPaths): readonly Tier[] {
  const sites = sitesOf(options)
  const nats = `nats://127.0.0.1:${options.natsPort}`
  const policies = join(paths.root, 'policies', 'regions')
  const script = (file: string): string => join(paths.root, file)
  const program = (name: string, file: string, flags: readonly string[]): Pick<PartSpec, 'command' | 'args'> =>
    options.executables === undefined
      ? { command: process.execPath, args: [script(file), ...flags] }
      : { command: join(resolve(options.executables), name), args: flags }
  const common = {
    env: childEnvironment(paths),
    graceMs: 3_000,
  }
  const logFile = (name: string): string => join(paths.dataDir, 'logs', `${name.replaceAll(' ', '-')}.log`)

  const etcds = sites.map((site): PartSpec => {
    const name = `etcd ${site.cluster}`
    return {
      ...common,
      name,
      command: tools.etcd,
      args: etcdArgs(site, join(paths.dataDir, site.cluster)),
      logFile: logFile(name),
      ready: (incarnation) => incarnation.waitForLine(/serving client traffic (in)?securely/),
    }
  })
  const natsServer: PartSpec = {
    ...common,
    name: 'nats-server',
    command: tools.natsServer,
    args: [
      '--addr',
      '127.0.0.1',
      '--port',
      String(options.natsPort),
      '--jetstream',
      '--store_dir',
      join(paths.dataDir, 'nats'),
    ],
    logFile: logFile('nats-server'),
    ready: (incarnation) => incarnation.waitForLine(/Server is ready/),
  }
  const agents = sites.map((site): PartSpec => {
    const name = `agent ${site.cluster}`
    const flags = {
      cluster: site.cluster,
      region: site.region,
      etcd: site.url,
      nats,
      prefix: '/',
      policies,
      'hub-region': HUB_REGION,
    }
    return {
      ...common,
      name,
      ...program('deltawatch-agent', 'edge-agent/main.ts', asFlags(flags)),
      logFile: logFile(name),
      // Only that its configuration was accepted; whether it relays is seen at the gateway (clusters.ts).
      ready: (incarnation) => incarnation.waitForLine(/"starting"/),
    }
  })
  const gateway: PartSpec = {
    ...common,
    name: 'gateway',
    ...program('deltawatch-gateway', 'gateway/main.ts', [
      ...asFlags({
        nats,
        listen: `127.0.0.1:${options.gatewayPort}`,
        clusters: sites.map((site) => `${site.cluster}=${site.region}`).join(','),
        'hub-region': HUB_REGION,
        policies,
        auth: 'dev',
      }),
      // Instead of `deltawatch hub apply`, which is how a real hub gets its streams.
      '--create-streams',
    ]),
    logFile: logFile('gateway'),
    ready: (incarnation) => answers(options.gatewayPort, incarnation),
  }
  const writer: PartSpec = {
    ...common,
    name: 'writer',
    command: process.execPath,
    args: [
      script('deploy/local/writer/main.ts'),
      ...sites.flatMap((site) => ['--site', formatSite(site)]),
      '--rate',
      String(options.rate),
    ],
    logFile: logFile('writer'),
    ready: () => Promise.resolve(),
  }
  return [[...etcds, natsServer], [...agents, gateway], options.writer ? [writer] : []]
}

function etcdArgs(site: WriterSite, dataDir: string): string[] {
  // One member only: the peer port is nobody's business, so the kernel chooses one.
  const peer = 'http://localhost:0'
  return asFlags({
    name: site.cluster,
    'data-dir': dataDir,
    'listen-client-urls': site.url,
    'advertise-client-urls': site.url,
    'listen-peer-urls': 'http://127.0.0.1:0',
    'initial-advertise-peer-urls': peer,
    'initial-cluster': `${site.cluster}=${peer}`,
    'auto-compaction-mode': 'periodic',
    'auto-compaction-retention': '1h',
    logger: 'zap',
  })
}

const asFlags = (flags: Readonly<Record<string, string>>): string[] =>
  Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])

/** The developer's own ETCD_* and DELTAWATCH_* settings are for other servers than these. */
function childEnvironment(paths: StackPaths): NodeJS.ProcessEnv {
  const kept = ['PATH', 'HOME', 'TMPDIR', 'LANG', 'LC_ALL', 'TZ', 'NODE_COMPILE_CACHE']
  const env = Object.fromEntries(
    kept.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
  )
  return { ...env, PWD: paths.root }
}

/** Resolves when something accepts connections on the port. */
async function answers(port: number, { signal }: Incarnation): Promise<void> {
  while (!signal.aborted) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = createConnection({ port, host: '127.0.0.1' })
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
      socket.once('connect', () => socket.destroy())
    })
    if (open) return
    await delay(POLL_MS, undefined, { signal }).catch(() => {})
  }
}
