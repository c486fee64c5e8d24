// One cluster of a stack under judgement: its history, a writer, and the verdict over subscribers and the log.
// Owns: learning etcd's history to the end and handing transcript and log to the judge.
// Refuses: faults and expectations; a test says what was done and which resyncs that makes legitimate.

import assert from 'node:assert/strict'
import { EtcdHttp } from '../judge/etcd-http.ts'
import { judgeLog, type LogExpectation } from '../judge/log-judge.ts'
import { readLog } from '../judge/log-reader.ts'
import { readTranscript } from '../judge/seen.ts'
import { type Expectation, judgeSubscription } from '../judge/subscription.ts'
import { History } from '../judge/truth.ts'
import { Verdict } from '../judge/verdict.ts'
import { everything } from '../judge/view.ts'
import { Writer, type WriterOptions } from '../judge/writer.ts'
import type { Recorder } from './recorder.ts'
import type { Cluster, Stack } from './stack.ts'

export class JudgedCluster implements AsyncDisposable {
  readonly writer: Writer
  readonly http: EtcdHttp
  readonly cluster: string
  #history: History
  readonly #natsUrl: string

  private constructor(stack: Stack, cluster: Cluster, history: History, options: Partial<WriterOptions>) {
    this.cluster = cluster.cluster
    this.http = new EtcdHttp(cluster.etcd.directUrl, undefined, options.access)
    this.#history = history
    this.#natsUrl = stack.nats.directUrl
    this.writer = new Writer({ url: cluster.etcd.directUrl, seed: 1, ...options })
  }

  static async begin(stack: Stack, cluster: Cluster, options: Partial<WriterOptions> = {}): Promise<JudgedCluster> {
    using http = new EtcdHttp(cluster.etcd.directUrl, undefined, options.access)
    return new JudgedCluster(stack, cluster, await History.startingAt(http), options)
  }

  get history(): History {
    return this.#history
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.writer[Symbol.asyncDispose]()
    this.http[Symbol.dispose]()
  }

  /** Everything etcd holds now, learnt. Returns the head. */
  async learn(): Promise<number> {
    const head = await this.http.head()
    await this.#history.extend(this.http, this.writer.acks.byRevision, head)
    this.writer.acks.forget(head)
    return head
  }

  /** Stops writing, waits until the recorder stands at the head, and judges its whole transcript. */
  async judge(recorder: Recorder, expect: Partial<Expectation> = {}, timeoutMs = 45_000): Promise<Verdict> {
    await this.writer.stop()
    const head = await this.learn()
    await recorder.reached(this.cluster, head, timeoutMs)
    await this.#history.verify(this.http)
    const expectation = { cluster: this.cluster, histories: [this.#history], view: everything, ...expect }
    return judgeSubscription(readTranscript(recorder.connections), expectation, new Verdict())
  }

  async judgeLog(expect: Partial<LogExpectation> = {}): Promise<Verdict> {
    const messages = await readLog(this.#natsUrl, this.cluster)
    return judgeLog(messages, { cluster: this.cluster, histories: [this.#history], ...expect }, new Verdict())
  }
}

/** No violation, and at least `least` of what is named: a verdict over nothing proves nothing. */
export function acquitted(
  verdict: Verdict,
  least: Readonly<Record<string, number>>,
  context: () => string = () => '',
): void {
  assert.equal(verdict.failed, 0, `${verdict.toString()}\n${context()}`)
  for (const [what, n] of Object.entries(least)) {
    assert.ok(verdict.total(what) >= n, `only ${verdict.total(what)} ${what} were judged: ${verdict.toString()}`)
  }
}
