// What loadtest/bench/agent.ts measures in: a real etcd, a real hub, a line with a delay between them, agents as processes.
// Owns: starting and ending them, and asking the agent and the system what it costs. Refuses: cases and figures.

import type { ChildProcess } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { PROGRAMS } from '#deploy/executable/programs.ts'
import { streamConfig } from '#protocol/log/stream.ts'
import { type ClusterId, streamName } from '#protocol/subjects.ts'
import { type Etcd, startEtcd } from '#test/support/etcd.ts'
import { type Nats, startNats } from '#test/support/nats.ts'
import { reservePort } from '#test/support/ports.ts'
import { type RunningProcess, scratchDir, startProcess } from '#test/support/process.ts'
import { startTcpProxy, type TcpProxy } from '#test/support/tcp-proxy.ts'
import type { Load, Written } from './agent-load.ts'
import type { Observed, Window } from './agent-observer.ts'
import { endChild, forkHere, nextMessage, sleep } from './gateway-processes.ts'

export const CLUSTER = 'sz-edge-1' as ClusterId
const MAIN = fileURLToPath(new URL('../../edge-agent/main.ts', import.meta.url))
/** The options that the executable is built with. */
const FROM_SOURCE = PROGRAMS.find(({ name }) => name === 'deltawatch-agent')?.nodeOptions ?? []
const GIB = 1024 ** 3
const POLICY = `apiVersion: watch-policy/v1
kind: RegionPolicy
metadata: { name: open, owner: bench }
spec:
  source: { region: sz, regime: PIPL }
  mode: enforce
  rules:
    - id: all
      effect: allow
      match: { keys: ["/**"] }
      basis: { kind: no-personal-data, ref: bench }
`

export interface RunningAgent extends AsyncDisposable {
  readonly process: RunningProcess
  /** Milliseconds from the start of the process until it said it is ready. */
  readonly readyMs: number
  /** Sum over the series of a metric, or over those that carry a label of this value. */
  metric(name: string, value?: string): Promise<number>
  /** Waits until everything written to etcd so far is acknowledged by the hub. */
  settled(): Promise<void>
}

type LogStatus = {
  readonly position: string
  readonly proven: string | null
  readonly phase: string
  readonly hub: { readonly inFlight: number; readonly heldBytes: number }
}

export class World implements AsyncDisposable {
  readonly etcd: Etcd
  readonly nats: Nats
  readonly line: TcpProxy
  readonly #owned: AsyncDisposableStack
  readonly #policies: string

  private constructor(
    owned: AsyncDisposableStack,
    parts: { etcd: Etcd; nats: Nats; line: TcpProxy; policies: string },
  ) {
    this.#owned = owned
    this.etcd = parts.etcd
    this.nats = parts.nats
    this.line = parts.line
    this.#policies = parts.policies
  }

  static async start(): Promise<World> {
    await using owned = new AsyncDisposableStack()
    const etcd = owned.use(await startEtcd({ args: ['--quota-backend-bytes', String(8 * GIB)] }))
    const nats = owned.use(await startNats())
    const line = owned.use(await startTcpProxy({ port: Number(new URL(nats.directUrl).port) }))
    const policies = join(owned.use(await scratchDir('bench-policies')).path, 'policies')
    await mkdir(policies)
    await writeFile(join(policies, 'sz.yaml'), POLICY)
    const world = new World(owned.move(), { etcd, nats, line, policies })
    await world.stream(8 * GIB)
    return world
  }

  /** Creates the log's stream, or gives it another size. */
  async stream(maxBytes: number): Promise<void> {
    const nc = await connect({ servers: this.nats.directUrl })
    const jsm = await jetstreamManager(nc)
    const config = streamConfig({ cluster: CLUSTER, maxBytes, maxMessageBytes: 1024 * 1024, replicas: 1 })
    const existing = await jsm.streams.info(streamName(CLUSTER)).catch(() => undefined)
    if (existing === undefined) await jsm.streams.add(config as unknown as Parameters<typeof jsm.streams.add>[0])
    else await jsm.streams.update(streamName(CLUSTER), { max_bytes: maxBytes })
    await nc.close()
  }

  /** `rttMs` between agent and hub: 0 is a direct connection, anything else goes through the line. */
  async agent(rttMs: number, executable?: string): Promise<RunningAgent> {
    this.line.delay(rttMs / 2)
    const port = this.#owned.use(await reservePort()).port
    const admin = `http://127.0.0.1:${port}`
    const hub = rttMs === 0 ? this.nats.directUrl : `nats://127.0.0.1:${this.line.port}`
    const began = performance.now()
    const process_ = await startProcess({
      name: 'agent',
      command: executable ?? process.execPath,
      args: [
        ...(executable === undefined ? [...FROM_SOURCE, MAIN] : []),
        ...['--cluster', CLUSTER, '--region', 'sz', '--etcd', this.etcd.directUrl, '--nats', hub],
        ...['--prefix', '/', '--policies', this.#policies, '--hub-region', 'sz', '--agent-name', 'bench'],
        ...['--admin', `127.0.0.1:${port}`, '--log-format', 'json'],
      ],
      env: { PATH: '/usr/bin:/bin', HOME: '/nonexistent' },
    })
    const metric = async (name: string, value = ''): Promise<number> => {
      const text = await (await fetch(`${admin}/metrics`)).text()
      const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) && line.includes(value))
      return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
    }
    const ready = async (): Promise<void> => {
      for (;;) {
        const answer = await fetch(`${admin}/readyz?verbose`).catch(() => undefined)
        if (answer?.ok === true && /live|checkpoint/.test(await answer.text())) return
        if (process_.exit !== undefined) throw new Error(`the agent ended: ${process_.log().slice(-2_000)}`)
        await sleep(3)
      }
    }
    await ready()
    return {
      process: process_,
      readyMs: performance.now() - began,
      metric,
      settled: async () => {
        const head = Number(await this.#head())
        for (;;) {
          const status = await (await fetch(`${admin}/debug/status`)).json()
          const [log] = (status as { logs: readonly LogStatus[] }).logs
          const at = Math.max(Number(log?.position), Number(log?.proven ?? 0))
          if (log?.phase === 'live' && at >= head && log.hub.inFlight === 0 && log.hub.heldBytes === 0) return
          await sleep(20)
        }
      },
      [Symbol.asyncDispose]: async () => void (await process_.stop()),
    }
  }

  async #head(): Promise<string> {
    const body = JSON.stringify({ key: 'AA==', count_only: true })
    const answer = await fetch(`${this.etcd.directUrl}/v3/kv/range`, { method: 'POST', body })
    return ((await answer.json()) as { header: { revision: string } }).header.revision
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync()
  }
}

/** The writer, as a process. */
export class Writer implements AsyncDisposable {
  readonly #child: ChildProcess

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  static async start({ etcd }: Pick<World, 'etcd'>): Promise<Writer> {
    const child = forkHere('agent-load.ts', [etcd.directUrl])
    await nextMessage(child)
    return new Writer(child)
  }

  async write(load: Load): Promise<Written> {
    this.#child.send(load)
    return (await nextMessage(this.#child, 300_000)) as Written
  }

  stop(): void {
    this.#child.send('stop')
  }

  [Symbol.asyncDispose](): Promise<void> {
    return endChild(this.#child)
  }
}

/** The direct watch and the hub's reader, as a process. */
export class Observer implements AsyncDisposable {
  readonly #child: ChildProcess

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  static async start({ etcd, nats }: Pick<World, 'etcd' | 'nats'>, gatewayUrl?: string): Promise<Observer> {
    const more = gatewayUrl === undefined ? [] : [gatewayUrl]
    const child = forkHere('agent-observer.ts', [etcd.directUrl, nats.directUrl, CLUSTER, ...more])
    await nextMessage(child)
    return new Observer(child)
  }

  async observed(window: Window): Promise<Observed> {
    this.#child.send(window)
    return (await nextMessage(this.#child)) as Observed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return endChild(this.#child)
  }
}

export const nowUs = (): number => Number(process.hrtime.bigint() / 1000n)

/** Bytes of memory that no file backs. */
export async function anonymousBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/RssAnon:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024
}
