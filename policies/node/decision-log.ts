// The decision log and what is counted of decisions: every denial and a share of the rest, as JSON, without keys and values.
// Owns: counters per effect and rule, sampling, the keyed hash that stands for a key, the file of JSON lines, and the bound on all of it.
// Refuses: waiting. A record that the hub or the file does not take is dropped and counted; decisions never wait for their record.

import { createHmac, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import type { Clock } from '#kit/clock.ts'
import { DeltawatchError, errorMessage } from '#kit/errors.ts'
import type { Logger } from '#kit/logger.ts'
import type { BoundCounter, Family, Metrics } from '#kit/metrics.ts'
import type { Random } from '#kit/random.ts'
import { toHex } from '#protocol/bytes.ts'
import type { Key } from '#protocol/bytes.ts'
import { type ClusterId, decisionSubject } from '#protocol/subjects.ts'
import { decisionRecord, type DecisionRecord, shouldRecord } from '../engine/record.ts'
import type { Decision } from '../engine/types.ts'
import { declareDecisionMetrics } from './policy-metrics.ts'

export type DecisionLogOptions = {
  readonly stage: DecisionRecord['stage']
  readonly nats: boolean
  /** Appended to, one JSON object per line. */
  readonly file: string | undefined
  /** Of what is not denied. */
  readonly share: number
  readonly perSecond: number
  /** Secret under which keys are hashed; absent: one of this process, so that hashes compare within its life only. */
  readonly keyFile: string | undefined
}

export type DecisionLogDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly metrics: Metrics
  /** Hands a record to the hub; false when it is not connected. */
  readonly publish: (subject: string, data: string) => boolean
}

export type DecisionFacts = Pick<DecisionRecord, 'bundle' | 'to' | 'mode'>

const MAX_PENDING_BYTES = 4 * 1024 * 1024
const MIN_KEY_BYTES = 32
const NO_RULE = '(none)'

export class DecisionLog implements AsyncDisposable {
  readonly #options: DecisionLogOptions
  readonly #deps: DecisionLogDeps
  readonly #secret: Buffer
  readonly #decisions: Family<'stage' | 'effect' | 'rule', BoundCounter>
  readonly #records: Family<'outcome', BoundCounter>
  readonly #bound = new Map<string, BoundCounter>()
  #file: FileHandle | undefined
  #pending: string[] = []
  #pendingBytes = 0
  #writing: Promise<void> | undefined
  #tokens: number
  #at: number

  private constructor(options: DecisionLogOptions, deps: DecisionLogDeps, file: FileHandle | undefined) {
    this.#options = options
    this.#deps = deps
    this.#file = file
    this.#secret = secretOf(options.keyFile)
    this.#tokens = options.perSecond
    this.#at = deps.clock.monotonic()
    const { decisions, records } = declareDecisionMetrics(deps.metrics)
    this.#decisions = decisions
    this.#records = records
  }

  static async open(options: DecisionLogOptions, deps: DecisionLogDeps): Promise<DecisionLog> {
    const file = options.file === undefined ? undefined : await open(options.file, 'a', 0o600)
    return new DecisionLog(options, deps, file)
  }

  /** Counts one decision on a change, and records it when it is a denial or drawn. */
  decided(cluster: ClusterId, decision: Decision, key: Key, facts: DecisionFacts): void {
    this.#count(decision)
    const { clock, random } = this.#deps
    const { nats, share, perSecond, stage } = this.#options
    if ((!nats && this.#file === undefined) || !shouldRecord(decision, share, random.next())) return
    const now = clock.monotonic()
    this.#tokens = Math.min(perSecond, this.#tokens + ((now - this.#at) / 1000) * perSecond)
    this.#at = now
    if (this.#tokens < 1) return this.#records.with({ outcome: 'over-rate' }).inc()
    this.#tokens--
    const { bundle, to, mode } = facts
    const id = toHex(random.bytes(8))
    const record = decisionRecord(decision, key, {
      id,
      at: clock.now(),
      bundle,
      cluster,
      stage,
      to,
      mode,
      keyHash: this.keyHash,
    })
    const line = JSON.stringify(record)
    if (nats) {
      const outcome = this.#deps.publish(decisionSubject(cluster), line) ? 'published' : 'unpublished'
      this.#records.with({ outcome }).inc()
    }
    if (this.#file !== undefined) this.#write(line)
  }

  /** Stands for a key; nobody without the secret can look for a guessed one. */
  readonly keyHash = (key: Key): string =>
    createHmac('sha256', this.#secret).update(key, 'latin1').digest('hex').slice(0, 32)

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing
    await this.#file?.close()
    this.#file = undefined
  }

  #count(decision: Decision): void {
    const { effect } = decision
    if (effect === 'allow') for (const rule of decision.rules) this.#counter(effect, rule).inc()
    else this.#counter(effect, decision.rule ?? NO_RULE).inc()
  }

  #counter(effect: Decision['effect'], rule: string): BoundCounter {
    const name = `${effect} ${rule}`
    let counter = this.#bound.get(name)
    if (counter === undefined) {
      counter = this.#decisions.with({ stage: this.#options.stage, effect, rule })
      // Rules come and go with bundles; the names of old ones are not kept for ever.
      if (this.#bound.size >= 4_096) this.#bound.clear()
      this.#bound.set(name, counter)
    }
    return counter
  }

  #write(line: string): void {
    if (this.#pendingBytes + line.length > MAX_PENDING_BYTES) return this.#records.with({ outcome: 'unwritten' }).inc()
    this.#pending.push(line)
    this.#pendingBytes += line.length
    this.#writing ??= this.#drain()
  }

  async #drain(): Promise<void> {
    while (this.#pending.length > 0) {
      const lines = this.#pending
      this.#pending = []
      this.#pendingBytes = 0
      try {
        await this.#file?.appendFile(`${lines.join('\n')}\n`)
        this.#records.with({ outcome: 'written' }).inc(lines.length)
      } catch (e) {
        this.#records.with({ outcome: 'unwritten' }).inc(lines.length)
        this.#deps.logger.warn('decision log cannot be written', { reason: errorMessage(e) })
      }
    }
    this.#writing = undefined
  }
}

function secretOf(keyFile: string | undefined): Buffer {
  if (keyFile === undefined) return randomBytes(MIN_KEY_BYTES)
  const secret = readFileSync(keyFile)
  if (secret.length >= MIN_KEY_BYTES) return secret
  throw new DeltawatchError(
    'DW_DECISION_KEY',
    `${keyFile} holds ${secret.length} bytes; the key of the decision log needs at least ${MIN_KEY_BYTES} (try: openssl rand -hex 32)`,
  )
}
