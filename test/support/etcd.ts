// Real etcd for tests: one member or three, optionally behind proxies, with TLS, with users.
// Owns: flags, ports, data directories, readiness, turning authentication on. Does not own: clients, or what a test does with it.
// Every member comes back on its ports and data after kill() + restart(); everything is gone after dispose.

import { join } from 'node:path'
import { compareVersions } from '#deploy/toolchain/tools.ts'
import { resolveTool } from '#deploy/toolchain/resolve.ts'
import { enableEtcdAuth, type EtcdUser } from './etcd-auth.ts'
import { reservePort } from './ports.ts'
import { scratchDir } from './process.ts'
import { retryWhenPortTaken, type Server, startServer } from './server.ts'
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts'

export interface EtcdOptions {
  /** Exactly this version, such as the oldest supported 3.4.23; default: what DELTAWATCH_TEST_ETCD says, or the pinned one. */
  readonly version?: string
  readonly members?: 1 | 3
  /** Kept after dispose; default: a scratch directory that is removed. */
  readonly dir?: string
  /** Appended to every member's flags. */
  readonly args?: readonly string[]
  /** Interval of automatic progress notifications, such as "1s"; etcd's own default is ten minutes. */
  readonly progressNotify?: string
  /** Serves clients over TLS with these PEM files (certificates.ts makes them); `clientAuth` also asks clients for one. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca: string; readonly clientAuth?: boolean }
  /** Turns authentication on after the start. Root is always created; it is the user `root` with this password. */
  readonly auth?: { readonly rootPassword: string; readonly users?: readonly EtcdUser[] }
  /** Puts a fault proxy before each member's client port; `clientUrl` then leads through it. */
  readonly proxyFor?: 'clients'
}

export interface EtcdMember extends Server {
  /** What a client under test should use: through the proxy when there is one. */
  readonly clientUrl: string
  /** The member itself, past any proxy. */
  readonly directUrl: string
  readonly dataDir: string
  /** Throws unless the cluster was started with `proxyFor: 'clients'`. */
  readonly proxy: TcpProxy
}

export interface Etcd extends AsyncDisposable {
  readonly version: string
  readonly members: readonly EtcdMember[]
  /** Of the first member; see `members` for the others. */
  readonly clientUrl: string
  readonly clientUrls: readonly string[]
  readonly directUrl: string
  readonly pid: number
  readonly dataDir: string
  readonly proxy: TcpProxy
  /** These act on all members at once. */
  kill(signal?: NodeJS.Signals): Promise<void>
  stop(graceMs?: number): Promise<void>
  restart(): Promise<void>
  pause(): void
  resume(): void
  log(): string
}

export function startEtcd(options: EtcdOptions = {}): Promise<Etcd> {
  return retryWhenPortTaken(() => start(options))
}

/** One version per line that tests are run against, beside the pinned one. */
const LINES: Readonly<Record<string, string>> = { '3.4': '3.4.23', '3.5': '3.5.35', '3.6': '3.6.16' }

const chosenVersion = (wanted: string | undefined): string | undefined =>
  wanted === undefined || wanted === '' ? undefined : (LINES[wanted] ?? wanted)

interface Plan {
  readonly name: string
  readonly clientPort: number
  readonly peerPort: number
}

async function start(options: EtcdOptions): Promise<Etcd> {
  const version = options.version ?? chosenVersion(process.env['DELTAWATCH_TEST_ETCD'])
  const tool = await resolveTool('etcd', version === undefined ? {} : { version })
  await using stack = new AsyncDisposableStack()
  const root = options.dir ?? stack.use(await scratchDir('etcd')).path
  const plans: Plan[] = []
  for (let i = 1; i <= (options.members ?? 1); i += 1) {
    const clientPort = stack.use(await reservePort()).port
    plans.push({ name: `m${i}`, clientPort, peerPort: stack.use(await reservePort()).port })
  }
  // All together: a member of three is ready only once two of them can elect a leader. allSettled, so that none escapes.
  const starting = plans.map((plan) => startMember(tool, plan, plans, root, options))
  const settled = await Promise.allSettled(starting)
  const members: EtcdMember[] = []
  for (const result of settled) if (result.status === 'fulfilled') members.push(stack.use(result.value))
  const failure = settled.find((result) => result.status === 'rejected')
  if (failure !== undefined) throw failure.reason
  const [first] = members
  if (first === undefined) throw new RangeError('etcd: members must be 1 or 3')
  if (options.auth !== undefined) await enableEtcdAuth(first.directUrl, options.auth, options.tls)
  const owned = stack.move()
  return {
    version: tool.version,
    members,
    clientUrl: first.clientUrl,
    clientUrls: members.map((member) => member.clientUrl),
    directUrl: first.directUrl,
    get pid() {
      return first.pid
    },
    dataDir: first.dataDir,
    get proxy() {
      return first.proxy
    },
    kill: async (signal) => void (await Promise.all(members.map((member) => member.kill(signal)))),
    stop: async (graceMs) => void (await Promise.all(members.map((member) => member.stop(graceMs)))),
    restart: async () => void (await Promise.all(members.map((member) => member.restart()))),
    pause: () => members.forEach((member) => member.pause()),
    resume: () => members.forEach((member) => member.resume()),
    log: () => members.map((member) => member.log()).join('\n'),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

async function startMember(
  tool: { readonly path: string; readonly version: string },
  plan: Plan,
  plans: readonly Plan[],
  root: string,
  options: EtcdOptions,
): Promise<EtcdMember> {
  await using stack = new AsyncDisposableStack()
  const scheme = options.tls === undefined ? 'http' : 'https'
  const directUrl = `${scheme}://127.0.0.1:${plan.clientPort}`
  const dataDir = join(root, plan.name)
  const server = stack.use(
    await startServer({
      name: `etcd ${plan.name}`,
      command: tool.path,
      args: [...flags(tool.version, plan, plans, directUrl, dataDir, options), ...(options.args ?? [])],
      // Variables ETCD_* of whoever runs the tests would override flags that are left at their default.
      env: { PATH: '/usr/bin:/bin', HOME: root },
      // Logged after the member has published itself to a cluster with a leader; the sockets already listen.
      ready: (process) => process.waitForLine(/serving client traffic (in)?securely/),
    }),
  )
  const proxied =
    options.proxyFor === 'clients'
      ? stack.use(await startTcpProxy({ host: '127.0.0.1', port: plan.clientPort }))
      : undefined
  const owned = stack.move()
  // Getters of the server must stay live, so it is extended, not copied.
  return Object.defineProperties(Object.create(server) as EtcdMember, {
    clientUrl: { value: proxied === undefined ? directUrl : `${scheme}://127.0.0.1:${proxied.port}` },
    directUrl: { value: directUrl },
    dataDir: { value: dataDir },
    proxy: {
      get() {
        if (proxied === undefined) throw new Error("etcd: no proxy; start it with proxyFor: 'clients'")
        return proxied
      },
    },
    [Symbol.asyncDispose]: { value: () => owned.disposeAsync() },
  })
}

function flags(
  version: string,
  plan: Plan,
  plans: readonly Plan[],
  clientUrl: string,
  dataDir: string,
  options: EtcdOptions,
): string[] {
  const peerUrl = (of: Plan): string => `http://127.0.0.1:${of.peerPort}`
  const named = {
    name: plan.name,
    'data-dir': dataDir,
    logger: 'zap',
    'log-level': 'info',
    'listen-client-urls': clientUrl,
    'advertise-client-urls': clientUrl,
    'listen-peer-urls': peerUrl(plan),
    'initial-advertise-peer-urls': peerUrl(plan),
    'initial-cluster': plans.map((one) => `${one.name}=${peerUrl(one)}`).join(','),
    'initial-cluster-state': 'new',
    'initial-cluster-token': `test-${plans[0]?.peerPort}`,
  }
  const args = Object.entries(named).flatMap(([flag, value]) => [`--${flag}`, value])
  // A killed process loses nothing without fsync (only a crashed machine would), and tests write much faster.
  if (compareVersions(version, '3.5.0') >= 0) args.push('--unsafe-no-fsync')
  if (options.progressNotify !== undefined) {
    const stable = compareVersions(version, '3.6.0') >= 0
    args.push(`--${stable ? '' : 'experimental-'}watch-progress-notify-interval`, options.progressNotify)
  }
  const { tls } = options
  if (tls !== undefined) {
    args.push('--cert-file', tls.cert, '--key-file', tls.key)
    // An authority for clients makes etcd demand their certificates, with or without the flag that says so.
    if (tls.clientAuth === true) args.push('--trusted-ca-file', tls.ca, '--client-cert-auth')
  }
  return args
}
