// Real nats-server for tests: one server, or a cluster of three with replicated JetStream.
// Owns: the configuration file, ports, store directories, readiness. Does not own: streams, permissions or clients.
// Every server comes back on its ports and data after kill() + restart(); everything is gone after dispose.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { resolveTool } from '#deploy/toolchain/resolve.ts'
import { reservePort } from './ports.ts'
import { scratchDir } from './process.ts'
import { retryWhenPortTaken, type Server, startServer } from './server.ts'
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts'

/** How long three servers may take to know each other, and how often they are asked. */
const GROUP_MS = 15_000
const POLL_MS = 50

export interface NatsOptions {
  /** Default true. */
  readonly jetstream?: boolean
  /** Kept after dispose; default: a scratch directory that is removed. */
  readonly dir?: string
  /** Another version than the pinned one; ToolMissingError where neither releases nor a package have it. */
  readonly version?: string
  /** More configuration in the server's own syntax (accounts, max_payload, …), appended to every server's file. */
  readonly config?: string
  /** Three servers, JetStream in one Raft group, so that streams may have 3 replicas. */
  readonly cluster?: 3
  /** Puts a fault proxy before each server's client port; `clientUrl` then leads through it. */
  readonly proxyFor?: 'clients'
}

export interface NatsServer extends Server {
  /** What a client under test should use: through the proxy when there is one. */
  readonly clientUrl: string
  readonly directUrl: string
  /** Monitoring endpoint: /varz, /jsz, /healthz. */
  readonly monitorUrl: string
  readonly dataDir: string
  /** Throws unless started with `proxyFor: 'clients'`. */
  readonly proxy: TcpProxy
}

export interface Nats extends AsyncDisposable {
  readonly version: string
  readonly servers: readonly NatsServer[]
  /** Of the first server; see `servers` for the others. */
  readonly clientUrl: string
  readonly clientUrls: readonly string[]
  readonly directUrl: string
  readonly monitorUrl: string
  readonly pid: number
  readonly dataDir: string
  readonly proxy: TcpProxy
  /** These act on all servers at once. */
  kill(signal?: NodeJS.Signals): Promise<void>
  stop(graceMs?: number): Promise<void>
  restart(): Promise<void>
  pause(): void
  resume(): void
  log(): string
}

export function startNats(options: NatsOptions = {}): Promise<Nats> {
  return retryWhenPortTaken(() => start(options))
}

interface Plan {
  readonly name: string
  readonly port: number
  readonly monitorPort: number
  readonly routePort: number
}

async function start(options: NatsOptions): Promise<Nats> {
  const { version } = options
  const tool = await resolveTool('nats-server', version === undefined ? {} : { version })
  await using stack = new AsyncDisposableStack()
  const root = options.dir ?? stack.use(await scratchDir('nats')).path
  const take = async (): Promise<number> => stack.use(await reservePort()).port
  const plans: Plan[] = []
  for (let i = 1; i <= (options.cluster ?? 1); i += 1) {
    plans.push({ name: `n${i}`, port: await take(), monitorPort: await take(), routePort: await take() })
  }
  const settled = await Promise.allSettled(plans.map((plan) => startOne(tool.path, plan, plans, root, options)))
  const servers: NatsServer[] = []
  for (const result of settled) if (result.status === 'fulfilled') servers.push(stack.use(result.value))
  const failure = settled.find((result) => result.status === 'rejected')
  if (failure !== undefined) throw failure.reason
  const [first] = servers
  if (first === undefined) throw new RangeError('nats: cluster must be 3 or absent')
  if (plans.length > 1 && options.jetstream !== false) await wholeGroup(servers)
  const owned = stack.move()
  return {
    version: tool.version,
    servers,
    clientUrl: first.clientUrl,
    clientUrls: servers.map((server) => server.clientUrl),
    directUrl: first.directUrl,
    monitorUrl: first.monitorUrl,
    get pid() {
      return first.pid
    },
    dataDir: first.dataDir,
    get proxy() {
      return first.proxy
    },
    kill: async (signal) => void (await Promise.all(servers.map((server) => server.kill(signal)))),
    stop: async (graceMs) => void (await Promise.all(servers.map((server) => server.stop(graceMs)))),
    restart: async () => void (await Promise.all(servers.map((server) => server.restart()))),
    pause: () => servers.forEach((server) => server.pause()),
    resume: () => servers.forEach((server) => server.resume()),
    log: () => servers.map((server) => server.log()).join('\n'),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** A leader can be elected by two of three; streams with three replicas need every member known to every other. */
async function wholeGroup(servers: readonly NatsServer[]): Promise<void> {
  const deadline = AbortSignal.timeout(GROUP_MS)
  for (const server of servers) {
    for (;;) {
      const answer = await fetch(`${server.monitorUrl}/jsz`, { signal: deadline })
      const { meta_cluster: group } = (await answer.json()) as { meta_cluster?: { cluster_size?: number } }
      if (group?.cluster_size === servers.length) break
      await delay(POLL_MS, undefined, { signal: deadline })
    }
  }
}

async function startOne(
  command: string,
  plan: Plan,
  plans: readonly Plan[],
  root: string,
  options: NatsOptions,
): Promise<NatsServer> {
  await using stack = new AsyncDisposableStack()
  const file = join(root, `${plan.name}.conf`)
  const dataDir = join(root, plan.name)
  await writeFile(file, configuration(plan, plans, dataDir, options))
  const clustered = plans.length > 1 && options.jetstream !== false
  const server = stack.use(
    await startServer({
      name: `nats-server ${plan.name}`,
      command,
      args: ['--config', file],
      ready: async (process) => {
        await process.waitForLine(/Server is ready/)
        // Ready to talk is not ready to store: that takes an elected metadata leader, which every member logs.
        if (clustered)
          await process.waitForLine(
            /JetStream cluster new metadata leader|Self is new JetStream cluster metadata leader/,
          )
      },
    }),
  )
  const target = { host: '127.0.0.1', port: plan.port }
  const proxied = options.proxyFor === 'clients' ? stack.use(await startTcpProxy(target)) : undefined
  const owned = stack.move()
  const directUrl = `nats://127.0.0.1:${plan.port}`
  // Getters of the server must stay live, so it is extended, not copied.
  return Object.defineProperties(Object.create(server) as NatsServer, {
    clientUrl: { value: proxied === undefined ? directUrl : `nats://127.0.0.1:${proxied.port}` },
    directUrl: { value: directUrl },
    monitorUrl: { value: `http://127.0.0.1:${plan.monitorPort}` },
    dataDir: { value: dataDir },
    proxy: {
      get() {
        if (proxied === undefined) throw new Error("nats: no proxy; start it with proxyFor: 'clients'")
        return proxied
      },
    },
    [Symbol.asyncDispose]: { value: () => owned.disposeAsync() },
  })
}

function configuration(plan: Plan, plans: readonly Plan[], dataDir: string, options: NatsOptions): string {
  const parts = [
    `server_name: ${plan.name}`,
    'host: 127.0.0.1',
    `port: ${plan.port}`,
    `http: "127.0.0.1:${plan.monitorPort}"`,
  ]
  if (options.jetstream !== false) parts.push(`jetstream { store_dir: ${JSON.stringify(dataDir)} }`)
  if (plans.length > 1) {
    const routes = plans.map((one) => `"nats-route://127.0.0.1:${one.routePort}"`).join(', ')
    parts.push(
      `cluster { name: test, host: 127.0.0.1, port: ${plan.routePort}, routes: [ ${routes} ], no_advertise: true }`,
    )
  }
  if (options.config !== undefined) parts.push(options.config)
  return `${parts.join('\n')}\n`
}
