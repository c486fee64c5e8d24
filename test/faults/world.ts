// One stack under faults: every link behind a proxy, a writer that does not stop, a subscriber that is recorded, a judge.
// Owns: starting it, healing it, waiting until the subscriber has caught up, and the verdict at the end.
// Refuses: choosing faults (the scenarios do) and time limits of a whole run (run.ts).

import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { JudgedCluster } from '../e2e/judged.ts'
import { Recorder } from '../e2e/recorder.ts'
import { type AgentLinks, type Cluster, Stack, type StackOptions } from '../e2e/stack.ts'
import { judgeLog } from '../judge/log-judge.ts'
import { readLog } from '../judge/log-reader.ts'
import { readTranscript } from '../judge/seen.ts'
import { judgeSubscription } from '../judge/subscription.ts'
import type { History } from '../judge/truth.ts'
import { Verdict } from '../judge/verdict.ts'
import type { EtcdAccess } from '../judge/etcd-http.ts'
import { everything } from '../judge/view.ts'
import { seeded, type WriterOptions } from '../judge/writer.ts'
import type { TcpProxy } from '../support/tcp-proxy.ts'

const CAUGHT_UP_WITHIN_MS = 90_000
const SAID_WITHIN_MS = 20_000
const dumps = fileURLToPath(new URL('../../.deltawatch/faults/', import.meta.url))

export type WorldOptions = {
  readonly seed: number
  readonly stack?: StackOptions
  readonly writer?: Partial<WriterOptions>
  /** What the scenario made before the start: files, users. */
  readonly prepared?: Prepared
  /** Between the servers' start and the product's. */
  readonly before?: (stack: Stack) => Promise<void>
  /** Time to catch up in {@link World.settle}. */
  readonly settleWithinMs?: number
}

export type Prepared = {
  readonly stack: StackOptions
  /** How the writer and the judge are let in. */
  readonly access?: EtcdAccess
  readonly renew?: () => Promise<void>
  /** On this process's monotonic clock. */
  readonly expires?: number
}

export type Allowed = {
  /** Reasons of resyncs the scenario makes legitimate. */
  readonly resyncs?: readonly string[]
  /** Reasons of pending checkpoints, likewise. */
  readonly pending?: readonly string[]
  /** New epochs of one and the same history: the evidence of continuity was compacted away. */
  readonly extraEpochs?: number
}

export class World implements AsyncDisposable {
  readonly random: () => number
  readonly stack: Stack
  readonly recorder: Recorder
  /** Histories of earlier lineages; the current one is the judged cluster's. */
  readonly earlier: History[] = []
  readonly prepared: Prepared
  #leftEpoch: string | undefined
  #kills = 0
  judged: JudgedCluster
  readonly #seed: number
  readonly #settleWithinMs: number
  readonly #writer: Partial<WriterOptions>

  private constructor(stack: Stack, judged: JudgedCluster, options: WorldOptions) {
    this.stack = stack
    this.judged = judged
    this.#seed = options.seed
    this.prepared = options.prepared ?? { stack: {} }
    this.#settleWithinMs = options.settleWithinMs ?? CAUGHT_UP_WITHIN_MS
    this.#writer = options.writer ?? {}
    this.random = seeded(options.seed ^ 0x5bd1e995)
    this.recorder = new Recorder(stack.url, { prefix: '/', start: 'snapshot' }, { keep: 200 })
  }

  static async start(options: WorldOptions): Promise<World> {
    await using owned = new AsyncDisposableStack()
    const { before, prepared } = options
    const start = before === undefined ? {} : { start: { agents: false, gateway: false } }
    const stack = owned.use(await Stack.start({ proxied: true, ...options.stack, ...start }))
    if (before !== undefined) {
      await before(stack)
      await stack.startGateway()
      await stack.startAgent(stack.first)
    }
    const access = prepared?.access === undefined ? {} : { access: prepared.access }
    const writer = { ...options.writer, ...access }
    const judged = owned.use(await JudgedCluster.begin(stack, stack.first, { seed: options.seed, ...writer }))
    const world = new World(stack, judged, { ...options, writer })
    owned.use(world.recorder)
    await world.recorder.change((c) => c.kind === 'snapshot')
    owned.move()
    return world
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.recorder[Symbol.asyncDispose]()
    await this.judged[Symbol.asyncDispose]()
    await this.stack[Symbol.asyncDispose]()
  }

  get cluster(): Cluster {
    return this.stack.first
  }
  get links(): AgentLinks & { readonly gateway: TcpProxy } {
    const { links } = this.cluster
    const { gatewayLink } = this.stack
    if (links === undefined || gatewayLink === undefined) throw new Error('this stack has no fault proxies')
    return { ...links, gateway: gatewayLink }
  }

  /** An integer in [0, below), by the seed. */
  roll(below: number): number {
    return Math.floor(this.random() * below)
  }
  pick<T>(list: readonly T[]): T {
    const [first] = list
    return list[this.roll(list.length)] ?? (first as T)
  }

  /** Resolves when so many more writes were acknowledged; the pace of faults is the pace of writes, not the clock. */
  async writes(count: number): Promise<void> {
    await this.judged.writer.reached(this.judged.writer.acknowledged + count, 60_000)
  }

  /** kill -9, counted. */
  async killAgent(): Promise<void> {
    this.#kills += 1
    await this.cluster.agent?.kill()
  }

  /** From now on: resolves when the agent has said it. A fault that is never felt proves nothing. */
  async said(pattern: RegExp, act: () => Promise<void>): Promise<void> {
    const { agent } = this.cluster
    if (agent === undefined) throw new Error('there is no agent to say anything')
    const since = agent.process.lineCount()
    await act()
    await agent.process.waitForLine(pattern, { since, timeoutMs: SAID_WITHIN_MS })
  }

  /** Ends every fault, stops the writer and waits until the subscriber stands where etcd stands. */
  async settle(): Promise<void> {
    for (const proxy of Object.values(this.links)) await proxy.heal()
    await this.judged.writer.stop()
    const head = await this.judged.learn()
    await this.recorder.reached(this.cluster.cluster, head, this.#settleWithinMs, this.#leftEpoch)
  }

  /** A new lineage began: what was true so far is kept, and truth is read anew from the store as it is now. */
  async newLineage(): Promise<void> {
    const { judged } = this
    this.earlier.push(judged.history)
    this.#leftEpoch = this.recorder.epoch(this.cluster.cluster)
    await judged[Symbol.asyncDispose]()
    this.judged = await JudgedCluster.begin(this.stack, this.cluster, { seed: this.#seed + 1, ...this.#writer })
  }

  /** Judges everything the subscriber saw and everything the log holds. */
  async verdict(allowed: Allowed): Promise<Verdict> {
    await this.judged.writer.stop()
    await this.judged.learn()
    await this.judged.history.verify(this.judged.http)
    const { cluster } = this.cluster
    const same = Array.from({ length: allowed.extraEpochs ?? 0 }, () => this.judged.history)
    const histories = [...this.earlier, this.judged.history, ...same]
    const verdict = new Verdict()
    const expect = { cluster, histories, view: everything, resyncs: allowed.resyncs ?? [] }
    judgeSubscription(readTranscript(this.recorder.connections), expect, verdict)
    const log = new Verdict()
    judgeLog(
      await readLog(this.stack.nats.directUrl, cluster),
      { cluster, histories, pending: allowed.pending ?? [] },
      log,
    )
    verdict.count('agent kills', this.#kills)
    verdict.count('log events', log.total('events'))
    verdict.count('void entries', log.total('void entries'))
    for (const violation of log.violations) verdict.fail(violation.rule, `log ${cluster}`, violation.detail)
    return verdict
  }

  /** Keeps what is needed to understand a failure; returns where. */
  async dump(name: string): Promise<string> {
    const dir = join(dumps, `${name}-${this.#seed}`)
    await mkdir(dir, { recursive: true })
    await writeFile(join(dir, 'transcript.json'), JSON.stringify(this.recorder.connections))
    await writeFile(join(dir, 'agent.log'), this.cluster.agent?.log() ?? '')
    await writeFile(join(dir, 'gateway.log'), this.stack.gateway?.log() ?? '')
    await writeFile(join(dir, 'notices.log'), this.recorder.notices.join('\n'))
    return dir
  }
}
