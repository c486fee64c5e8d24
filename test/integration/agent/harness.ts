// An agent under test: a real process beside a real etcd and a real hub, judged by the log it wrote.
// Owns: its command line, an open policy, waiting for what its status says, and the judgement of the log.
// Refuses: looking inside. What counts is the log, read by the judge, and what an operator can see.

import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { EtcdHttp } from '#test/judge/etcd-http.ts'
import { judgeLog, type LogExpectation } from '#test/judge/log-judge.ts'
import { decodeRaw, type RawEntry, type RawMessage, readLog } from '#test/judge/log-reader.ts'
import { type Ack, History } from '#test/judge/truth.ts'
import { Verdict } from '#test/judge/verdict.ts'
import { type RunningProcess, scratchDir, startProcess } from '#test/support/process.ts'
import { reservePort } from '#test/support/ports.ts'

export const CLUSTER = 'sz-edge-1'
const MAIN = fileURLToPath(new URL('../../../edge-agent/main.ts', import.meta.url))

export const OPEN_POLICY = `
apiVersion: watch-policy/v1
kind: RegionPolicy
metadata: { name: open, owner: tests }
spec:
  source: { region: sz, regime: PIPL }
  mode: enforce
  rules:
    - id: all
      effect: allow
      match: { keys: ["/**"] }
      basis: { kind: no-personal-data, ref: tests }
`

export type AgentStatus = {
  readonly phase: string
  readonly reason: string
  readonly leader: string
  readonly epoch: string | null
  readonly position: string
  readonly proven: string | null
  readonly seq: number
  readonly newestCompleteBeginSeq: number
  readonly etcd: { readonly endpoint: string }
  readonly hub: { readonly heldBytes: number; readonly inFlight: number; readonly connected: boolean }
  readonly egress: Readonly<Record<string, number>> | null
}

export interface Agent extends AsyncDisposable {
  readonly process: RunningProcess
  readonly adminUrl: string
  /** The one document of its bundle. */
  readonly policyFile: string
  status(): Promise<AgentStatus | undefined>
  /** Polls the status until it satisfies; fails with the last one seen. */
  until(
    what: string,
    test: (status: AgentStatus) => boolean,
    timeoutMs?: number,
    signal?: AbortSignal,
  ): Promise<AgentStatus>
  metric(name: string): Promise<number>
  kill(): Promise<void>
  /** A new process with the same command line. */
  restart(): Promise<void>
}

export type AgentOptions = {
  /** Null leaves it to a configuration file. */
  readonly etcd: readonly string[] | string | null
  readonly nats: string
  readonly flags?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly name?: string
  readonly policy?: string
  readonly prefix?: string
  /** `sz` unless told otherwise; null leaves it to what the stream states. */
  readonly hubRegion?: string | null
}

export async function startAgent(options: AgentOptions): Promise<Agent> {
  await using stack = new AsyncDisposableStack()
  const dir = stack.use(await scratchDir('agent')).path
  const { port } = stack.use(await reservePort())
  const policies = join(dir, 'policies')
  await mkdir(policies)
  const policyFile = join(policies, 'sz.yaml')
  await writeFile(policyFile, options.policy ?? OPEN_POLICY)
  const etcd = options.etcd === null ? {} : { etcd: [options.etcd].flat().join(',') }
  const flags = {
    cluster: CLUSTER,
    region: 'sz',
    ...etcd,
    nats: options.nats,
    prefix: options.prefix ?? '/',
    policies,
    ...(options.hubRegion === null ? {} : { 'hub-region': options.hubRegion ?? 'sz' }),
    admin: `127.0.0.1:${port}`,
    'agent-name': options.name ?? 'a',
    'log-format': 'json',
  }
  const args = [
    MAIN,
    ...Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value]),
    ...(options.flags ?? []),
  ]
  const launch = (): Promise<RunningProcess> =>
    startProcess({
      name: `agent ${flags['agent-name']}`,
      command: process.execPath,
      args,
      env: { PATH: '/usr/bin:/bin', ...options.env },
    })
  let current = await launch()
  const adminUrl = `http://127.0.0.1:${port}`
  const owned = stack.move()

  const status = async (): Promise<AgentStatus | undefined> => {
    try {
      const response = await fetch(`${adminUrl}/debug/status`, { signal: AbortSignal.timeout(2_000) })
      const body = (await response.json()) as { logs: AgentStatus[] }
      return body.logs[0]
    } catch {
      return undefined
    }
  }
  return {
    get process() {
      return current
    },
    adminUrl,
    policyFile,
    status,
    until: async (what, test, timeoutMs = 20_000, signal) => {
      const deadline = performance.now() + timeoutMs
      let last: AgentStatus | undefined
      while (performance.now() < deadline && signal?.aborted !== true) {
        last = await status()
        if (last !== undefined && test(last)) return last
        await wait(20)
      }
      assert.fail(`not within ${timeoutMs} ms: ${what}; status ${JSON.stringify(last)}\n${current.log().slice(-4_000)}`)
    },
    metric: async (name) => {
      const text = await (await fetch(`${adminUrl}/metrics`)).text()
      return text
        .split('\n')
        .filter((line) => line.startsWith(name) && !line.startsWith('#'))
        .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
    },
    kill: async () => {
      current.kill('SIGKILL')
      await current.exited
    },
    restart: async () => {
      await current.stop()
      current = await launch()
    },
    [Symbol.asyncDispose]: async () => {
      await current.stop()
      await owned.disposeAsync()
    },
  }
}

/** Waits until the agent has everything etcd holds now, acknowledged by the hub. */
export async function caughtUp(
  agent: Agent,
  etcd: EtcdHttp,
  timeoutMs = 30_000,
  signal?: AbortSignal,
): Promise<number> {
  const head = await etcd.head()
  await agent.until(
    `position ${head}`,
    ({ phase, position, proven, hub }) =>
      phase === 'live' &&
      Math.max(Number(position), Number(proven ?? 0)) >= head &&
      hub.inFlight === 0 &&
      hub.heldBytes === 0,
    timeoutMs,
    signal,
  )
  return head
}

export type Judged = {
  readonly verdict: Verdict
  readonly entries: readonly RawEntry[]
  readonly messages: readonly RawMessage[]
}

export type JudgeOptions = Partial<LogExpectation> & {
  readonly from?: History
  readonly lineages?: number
}

/** Reads the whole log and holds it against etcd's history; fails the test on any violation. */
export async function judge(
  natsUrl: string,
  etcd: EtcdHttp,
  acks: ReadonlyMap<number, Ack>,
  options: JudgeOptions = {},
): Promise<Judged> {
  const head = await etcd.head()
  const history = options.from ?? new History(1)
  await history.extend(etcd, acks, head)
  const histories = options.histories ?? Array.from({ length: options.lineages ?? 1 }, () => history)
  const messages = await readLog(natsUrl, CLUSTER)
  const { from: _from, lineages: _lineages, ...expectation } = options
  const verdict = judgeLog(messages, { cluster: CLUSTER, ...expectation, histories }, new Verdict())
  assert.equal(verdict.failed, 0, verdict.toString())
  return { verdict, entries: messages.map((message) => decodeRaw(message.data)), messages }
}
