// The whole product as real processes: etcd per cluster, nats-server, agents, gateway.
// Owns: starting them with the command lines an operator would use, and killing and restarting each.
// Does not own: what a test writes or expects. Ports are reserved, data is scratch, everything is gone after dispose.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Etcd, type EtcdOptions, startEtcd } from '../support/etcd.ts'
import { type Nats, type NatsOptions, startNats } from '../support/nats.ts'
import { reservePort } from '../support/ports.ts'
import { scratchDir } from '../support/process.ts'
import { type Server, startServer } from '../support/server.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))

export type ClusterPlan = { readonly cluster: string; readonly region: string }
export const THREE: readonly ClusterPlan[] = [
  { cluster: 'sz-edge-1', region: 'sz' },
  { cluster: 'gz-edge-1', region: 'gz' },
  { cluster: 'mo-edge-1', region: 'mo' },
]
export const ONE: readonly ClusterPlan[] = THREE.slice(0, 1)

export type StackOptions = {
  readonly clusters?: readonly ClusterPlan[]
  /** Directory with policy documents; default: documents that let everything pass. */
  readonly policies?: string
  readonly etcd?: EtcdOptions
  readonly nats?: NatsOptions
  readonly agentFlags?: readonly string[]
  readonly gatewayFlags?: readonly string[]
  /** Puts a fault proxy on each link: agent to etcd, agent to hub, gateway to hub. */
  readonly proxied?: boolean
  /** Options of Node itself, such as an --import that runs before the program. */
  readonly node?: { readonly agent?: readonly string[]; readonly gateway?: readonly string[] }
  /** Settings of the agents that no flag has. */
  readonly agentEnv?: Readonly<Record<string, string>>
  /** Default: both. */
  readonly start?: { readonly agents?: boolean; readonly gateway?: boolean }
}

export interface Cluster extends ClusterPlan {
  readonly etcd: Etcd
  /** undefined until {@link Stack.startAgent}. */
  agent: Server | undefined
  /** What the agent connects to: the servers themselves, or the proxies before them. */
  readonly etcdUrl: string
  readonly hubUrl: string
  readonly links: AgentLinks | undefined
}
export type AgentLinks = { readonly etcd: TcpProxy; readonly hub: TcpProxy }

export class Stack implements AsyncDisposable {
  readonly clusters: Cluster[] = []
  readonly #owned: AsyncDisposableStack
  readonly #options: StackOptions
  readonly #policies: string
  readonly #gatewayPort: number
  readonly nats: Nats
  gateway: Server | undefined
  gatewayLink: TcpProxy | undefined

  private constructor(
    owned: AsyncDisposableStack,
    options: StackOptions,
    parts: { nats: Nats; policies: string; port: number },
  ) {
    this.#owned = owned
    this.#options = options
    this.nats = parts.nats
    this.#policies = parts.policies
    this.#gatewayPort = parts.port
  }

  static async start(options: StackOptions = {}): Promise<Stack> {
    await using owned = new AsyncDisposableStack()
    const plans = options.clusters ?? ONE
    const starting = [startNats(options.nats), ...plans.map(() => startEtcd(options.etcd))] as const
    const settled = await Promise.allSettled(starting)
    for (const result of settled) if (result.status === 'fulfilled') owned.use(result.value)
    for (const result of settled) if (result.status === 'rejected') throw result.reason
    const [nats, ...etcds] = settled.map((result) => (result as PromiseFulfilledResult<Nats | Etcd>).value)
    const policies = options.policies ?? (await openPolicies(owned, plans))
    const { port } = owned.use(await reservePort())
    const stack = new Stack(owned.move(), options, { nats: nats as Nats, policies, port })
    try {
      for (const [i, plan] of plans.entries()) await stack.#join(plan, etcds[i] as Etcd)
      if (options.proxied === true) stack.gatewayLink = await stack.#proxy(stack.nats.directUrl)
      if (options.start?.gateway !== false) await stack.startGateway()
      if (options.start?.agents !== false) await Promise.all(stack.clusters.map((cluster) => stack.startAgent(cluster)))
    } catch (error) {
      await stack[Symbol.asyncDispose]()
      throw error
    }
    return stack
  }

  async #proxy(url: string): Promise<TcpProxy> {
    return this.#owned.use(await startTcpProxy({ port: Number(new URL(url).port) }))
  }

  async #join(plan: ClusterPlan, etcd: Etcd): Promise<void> {
    const { proxied } = this.#options
    const links =
      proxied === true
        ? { etcd: await this.#proxy(etcd.directUrl), hub: await this.#proxy(this.nats.directUrl) }
        : undefined
    // The proxy stands before the first member; the others are reached past it.
    const before = links === undefined ? etcd.clientUrl : etcd.directUrl.replace(/\d+$/, String(links.etcd.port))
    // By name where there are certificates: a TLS client may not name an address to the server.
    const through = before.replace('https://127.0.0.1', 'https://localhost')
    const etcdUrl = [through, ...etcd.clientUrls.slice(1)].join(',')
    const hubUrl = this.#hubUrls(links?.hub)
    this.clusters.push({ ...plan, etcd, agent: undefined, etcdUrl, hubUrl, links })
  }

  #hubUrls(link: TcpProxy | undefined): string {
    const first = link === undefined ? this.nats.clientUrl : `nats://127.0.0.1:${link.port}`
    return [first, ...this.nats.clientUrls.slice(1)].join(',')
  }

  get url(): string {
    return `ws://127.0.0.1:${this.#gatewayPort}/v1/watch`
  }
  get httpUrl(): string {
    return `http://127.0.0.1:${this.#gatewayPort}`
  }
  /** The first cluster; most tests have one. */
  get first(): Cluster {
    const [first] = this.clusters
    if (first === undefined) throw new Error('the stack has no cluster')
    return first
  }

  agentArgs(cluster: Cluster, more: readonly string[] = []): string[] {
    return [
      'edge-agent/main.ts',
      ...flags({
        cluster: cluster.cluster,
        region: cluster.region,
        etcd: cluster.etcdUrl,
        nats: cluster.hubUrl,
        prefix: '/',
        policies: this.#policies,
        'hub-region': 'sz',
        'log-format': 'json',
      }),
      '--create-stream',
      ...(this.#options.agentFlags ?? []),
      ...more,
    ]
  }

  gatewayArgs(): string[] {
    return [
      'gateway/main.ts',
      ...flags({
        nats: this.#hubUrls(this.gatewayLink),
        listen: `127.0.0.1:${this.#gatewayPort}`,
        clusters: this.clusters.map((c) => `${c.cluster}=${c.region}`).join(','),
        'hub-region': 'sz',
        policies: this.#policies,
        auth: 'dev',
        'log-format': 'json',
      }),
      '--create-streams',
      ...(this.#options.gatewayFlags ?? []),
    ]
  }

  async startAgent(cluster: Cluster): Promise<Server> {
    const args = this.agentArgs(cluster)
    const server = this.#owned.use(await this.#agent(`agent ${cluster.cluster}`, args))
    cluster.agent = server
    return server
  }

  /** One more agent for the same cluster, past any proxies. */
  async startRival(cluster: Cluster, name: string): Promise<Server> {
    const direct = { ...cluster, etcdUrl: cluster.etcd.directUrl, hubUrl: this.nats.directUrl }
    const args = this.agentArgs(direct, ['--agent-name', name])
    return this.#owned.use(await this.#agent(`agent ${cluster.cluster} ${name}`, args))
  }

  #agent(name: string, args: readonly string[]): Promise<Server> {
    const { node, agentEnv } = this.#options
    return service(name, args, /"event":"starting"/, node?.agent, agentEnv)
  }

  async startGateway(): Promise<Server> {
    const args = this.gatewayArgs()
    this.gateway = this.#owned.use(await service('gateway', args, /"event":"listening"/, this.#options.node?.gateway))
    return this.gateway
  }

  /** What agents and gateway said last, for messages of failed tests. */
  tail(lines = 15): string {
    const parts = [this.gateway, ...this.clusters.map((c) => c.agent)].filter((part) => part !== undefined)
    return parts.map((part) => `--- ${part.name}\n${part.log().split('\n').slice(-lines).join('\n')}`).join('\n')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync()
  }
}

function service(
  name: string,
  args: readonly string[],
  ready: RegExp,
  node: readonly string[] = [],
  settings: Readonly<Record<string, string>> = {},
): Promise<Server> {
  return startServer({
    name,
    command: process.execPath,
    args: [...node, ...args.map((arg) => (arg.endsWith('/main.ts') ? join(root, arg) : arg))],
    // Settings of the developer's own services must not reach the ones under test.
    env: { PATH: '/usr/bin:/bin', HOME: '/nonexistent', ...settings },
    ready: (process) => process.waitForLine(ready),
  })
}

const flags = (values: Readonly<Record<string, string>>): string[] =>
  Object.entries(values).flatMap(([name, value]) => [`--${name}`, value])

/** Policy documents under which every key passes everywhere, unchanged. */
async function openPolicies(owned: AsyncDisposableStack, plans: readonly ClusterPlan[]): Promise<string> {
  const { path } = owned.use(await scratchDir('policies'))
  const regions = [...new Set(plans.map((plan) => plan.region))]
  for (const region of regions) {
    const document = [
      'apiVersion: watch-policy/v1',
      'kind: RegionPolicy',
      `metadata: { name: open-${region}, owner: tests }`,
      'spec:',
      `  source: { region: ${region}, regime: PIPL }`,
      '  mode: enforce',
      '  rules:',
      '    - id: everything',
      '      effect: allow',
      `      match: { keys: ["/**"], to: { regions: [${['sz', 'gz', 'mo', 'hk'].join(', ')}] } }`,
      '      basis: { kind: no-personal-data, ref: TEST-1 }',
    ]
    await writeFile(join(path, `${region}.yaml`), `${document.join('\n')}\n`)
  }
  return path
}
