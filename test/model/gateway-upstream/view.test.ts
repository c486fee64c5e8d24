// Random logs against straight-line truth: the view, wherever it starts and however often it starts over.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Key } from '#protocol/bytes.ts'
import { compareRevisions, type Revision } from '#protocol/revision.ts'
import type { StateEntry } from '#gateway/delivery/ports.ts'
import { ChainReader } from '#gateway/upstream/chain-reader.ts'
import { StateScanner } from '#gateway/view/scan.ts'
import type { Demand, ViewBounds } from '#gateway/view/contract.ts'
import { ViewCore } from '#gateway/view/view-core.ts'
import { PlannedLog, type Step, stepArb } from './log-plan.ts'
import { plain, type SourceLike, SubscriberModel } from './subscriber-model.ts'

const ROOMY: ViewBounds = { ringBytes: 1e9, ringRevisions: 1e6, stagingBytes: 1e9, holdBytes: 1e9, stateBytes: 1e9 }
const ALL = { from: '' as Key, to: undefined }
const runs = Number(process.env.DELTAWATCH_FUZZ_RUNS ?? 400)

/** A reader as the follower is one, without a hub: it may be told to begin again, and does so when the view demands it. */
class Reader implements SourceLike {
  readonly core: ViewCore
  readonly scanner: StateScanner
  readonly subscriber = new SubscriberModel()
  readonly demands: string[] = []
  voids = 0
  #chain: ChainReader
  #next: number
  #turns = 0
  readonly #log: PlannedLog

  constructor(log: PlannedLog, bounds: ViewBounds, beginSeq: number | undefined, from = beginSeq ?? 1) {
    this.#log = log
    this.core = new ViewCore(bounds, (event) => this.subscriber.take(this, event))
    this.scanner = new StateScanner(this.core.ring)
    this.#chain = new ChainReader(beginSeq)
    this.#next = from
  }
  get epoch(): string | undefined {
    return this.core.epoch
  }
  get ready(): boolean {
    return this.core.ready
  }
  get revision(): string {
    return this.core.revision
  }
  at(index: number): ReturnType<SourceLike['at']> {
    return this.core.ring.at(index)
  }
  everything(): readonly StateEntry[] {
    return this.scanner.scan(this.core.index, ALL, undefined, 1e9, undefined) ?? []
  }
  /** Reads to the log's end. */
  read(): void {
    this.#turns = 0
    while (this.#next <= this.#log.stored.length) {
      const seq = this.#next++
      const data = this.#log.stored[seq - 1]?.data as Uint8Array
      const owned = seq % 2 === 0
      let judged = this.#chain.judge(seq, data)
      if (judged.kind === 'unrooted') {
        this.core.rejoin()
        judged = this.#chain.judge(seq, data)
      }
      if (judged.kind === 'void') this.voids++
      if (judged.kind === 'fault') {
        this.#startOver(judged.cause)
      }
      if (judged.kind !== 'valid') continue
      const { entry, state, completed } = judged
      const message = owned ? new Uint8Array(data) : data
      const step = { entry, message, owned: false, position: state.revision, completed, arrivedAt: seq }
      this.#obey(this.core.apply(step))
    }
  }
  rejoin(): void {
    const begin = this.#log.newestComplete
    this.#chain = new ChainReader(begin === 0 ? undefined : begin)
    this.#next = Math.max(1, begin)
    this.core.rejoin()
  }
  prove(revision: Revision): void {
    this.#obey(this.core.prove(revision))
  }
  #obey(demand: Demand | undefined): void {
    if (demand === undefined) return
    this.#startOver(demand.cause)
  }
  #startOver(cause: string): void {
    this.demands.push(cause)
    assert.ok(++this.#turns < 10, `starts over again and again: ${cause}`)
    this.rejoin()
  }
}

const truthOf = (log: PlannedLog): Record<string, unknown>[] =>
  [...log.writer.state.values()]
    .map((item) => plain({ ...item, withheld: undefined, transforms: undefined }))
    .toSorted((a, b) => (String(a.key) < String(b.key) ? -1 : 1))

/** Runs the steps in front of a live reader. */
const play = (steps: readonly Step[], bounds: ViewBounds): { log: PlannedLog; live: Reader } => {
  const log = new PlannedLog()
  const live = new Reader(log, bounds, 1)
  live.read()
  for (const step of steps) {
    if (step.do === 'rejoin') live.rejoin()
    if (step.do === 'rollback') {
      const again = log.truncate(step.entries)
      live.rejoin()
      live.read()
      if (again.length > 0) log.writer.append(log.writer.eventsBody(again))
    }
    if (step.do === 'bookmark' && log.writer.pending === 'none') {
      log.writer.head += step.ahead
      live.read()
      live.prove(String(log.writer.head) as Revision)
    }
    log.run(step)
    live.read()
  }
  // A bookmark named the head once; only the log itself says so to who reads it again.
  log.run({ do: 'progress', by: 1 })
  live.read()
  return { log, live }
}

test('I1, I2: every relayed revision once and in order, whatever is voided, cut, checkpointed or read again', () => {
  fc.assert(
    fc.property(fc.array(stepArb, { maxLength: 25, size: 'max' }), (steps) => {
      const { log, live } = play(steps, ROOMY)
      assert.deepEqual(live.everything().map(plain), truthOf(log))
      assert.equal(live.epoch, log.writer.epoch)
      assert.equal(live.revision, String(log.writer.position))
      const relayed = log.relayed.map(({ epoch, record }) => ({ epoch, revision: record.revision }))
      assert.deepEqual(live.subscriber.delivered, relayed)
    }),
    { numRuns: runs, interruptAfterTimeLimit: 60_000 },
  )
})

test('I1: a reset follows from a broken continuity and from nothing else', () => {
  fc.assert(
    fc.property(fc.array(stepArb, { maxLength: 25, size: 'max' }), (steps) => {
      const { live } = play(steps, ROOMY)
      const expected = steps.flatMap((step) =>
        step.do === 'pending' ? [step.reason === 'gap' ? 'compacted' : 'policy'] : step.do === 'epoch' ? ['epoch'] : [],
      )
      assert.deepEqual(
        live.subscriber.resets.map((reset) => reset.reason),
        ['epoch', ...expected],
      )
      assert.ok(!live.subscriber.outcomes.includes('mismatch'))
      for (const reset of live.subscriber.resets.slice(1)) {
        assert.ok(reset.differences !== undefined)
        if (reset.reason !== 'policy') continue
        for (const one of reset.differences) if ('gone' in one) assert.equal(one.gone, 'leave')
      }
    }),
    { numRuns: runs, interruptAfterTimeLimit: 60_000 },
  )
})

test('a log read from any of its complete checkpoints gives the same state', () => {
  fc.assert(
    fc.property(fc.array(stepArb, { maxLength: 20, size: 'max' }), (steps) => {
      const log = new PlannedLog()
      const begins = new Set([1])
      for (const step of steps) {
        log.run(step)
        begins.add(log.newestComplete)
      }
      for (const begin of begins) {
        const fresh = new Reader(log, ROOMY, begin)
        fresh.read()
        assert.deepEqual(fresh.everything().map(plain), truthOf(log))
        assert.equal(fresh.epoch, log.writer.epoch)
      }
    }),
    { numRuns: runs, interruptAfterTimeLimit: 60_000 },
  )
})

test('a log trimmed anywhere is picked up at its next complete checkpoint', () => {
  fc.assert(
    fc.property(fc.array(stepArb, { maxLength: 20, size: 'max' }), fc.nat(), fc.boolean(), (steps, trim, tight) => {
      const log = new PlannedLog()
      for (const step of steps) log.run(step)
      const first = 1 + (trim % log.stored.length)
      log.run({ do: 'checkpoint', reason: 'routine', per: 2, between: [{ op: 'delete', key: '/a' }], abandoned: 1 })
      log.run({ do: 'events', revisions: [[{ op: 'put', key: '/c', value: 'last' }]] })
      const seeking = new Reader(log, tight ? { ...ROOMY, holdBytes: 300 } : ROOMY, undefined, first)
      seeking.read()
      assert.ok(
        seeking.demands.every((cause) => cause === 'contradiction'),
        String(seeking.demands),
      )
      assert.deepEqual(seeking.everything().map(plain), truthOf(log))
      assert.equal(seeking.revision, String(log.writer.position))
    }),
    { numRuns: runs, interruptAfterTimeLimit: 60_000 },
  )
})

test('I8: with bounds of next to nothing the state stays right and positions never go back', () => {
  const tight: ViewBounds = { ringBytes: 900, ringRevisions: 3, stagingBytes: 700, holdBytes: 400, stateBytes: 1e9 }
  fc.assert(
    fc.property(fc.array(stepArb, { maxLength: 25, size: 'max' }), (steps) => {
      const { log, live } = play(steps, tight)
      assert.deepEqual(live.everything().map(plain), truthOf(log))
      assert.ok(live.core.ring.nextIndex - live.core.ring.firstIndex <= 3)
    }),
    { numRuns: runs, interruptAfterTimeLimit: 60_000 },
  )
})

test('I1: a reader that was away misses nothing without being told', () => {
  const awayArb = fc.array(fc.tuple(stepArb, fc.boolean()), { maxLength: 20, size: 'max' })
  const boundsArb = fc.constantFrom(ROOMY, { ...ROOMY, holdBytes: 300 })
  fc.assert(
    fc.property(awayArb, boundsArb, (steps, bounds) => {
      const log = new PlannedLog()
      const live = new Reader(log, bounds, 1)
      live.read()
      for (const [step, away] of steps) {
        log.run(step)
        if (away) continue
        // As after any loss of the stream's identity: the newest checkpoint, then everything after it.
        live.rejoin()
        live.read()
      }
      live.rejoin()
      live.read()
      assert.deepEqual(live.everything().map(plain), truthOf(log))
      const { delivered, resets } = live.subscriber
      const seen = new Set(delivered.map(({ epoch, revision }) => `${epoch} ${revision}`))
      assert.equal(seen.size, delivered.length, 'nothing twice')
      for (const { epoch, record } of log.relayed) {
        if (seen.has(`${epoch} ${record.revision}`)) continue
        const told = resets.some(
          ({ from, to }) =>
            from !== undefined &&
            (from.epoch !== epoch || compareRevisions(from.revision, record.revision) < 0) &&
            (to.epoch !== epoch || compareRevisions(record.revision, to.revision) <= 0),
        )
        assert.ok(told, `revision ${record.revision} is missing and no reset spans it`)
      }
    }),
    { numRuns: runs, interruptAfterTimeLimit: 60_000 },
  )
})

test('a page pinned before a revision shows the state of then, or nothing', () => {
  fc.assert(
    fc.property(
      fc.array(stepArb, { maxLength: 20, size: 'max' }),
      fc.nat(19),
      fc.integer({ min: 1, max: 3 }),
      (steps, at, limit) => {
        const log = new PlannedLog()
        const live = new Reader(log, ROOMY, 1)
        live.read()
        let pin: { index: number; resets: number; state: Record<string, unknown>[] } | undefined
        for (const [i, step] of steps.entries()) {
          if (i === at) {
            pin = {
              index: live.core.ring.nextIndex,
              resets: live.subscriber.resets.length,
              state: live.everything().map(plain),
            }
          }
          log.run(step)
          live.read()
          if (pin === undefined) continue
          const seen: Record<string, unknown>[] = []
          let after: Key | undefined
          for (;;) {
            const page = live.scanner.scan(live.core.index, ALL, after, limit, pin.index)
            assert.equal(page === undefined, live.subscriber.resets.length > pin.resets)
            if (page === undefined || page.length === 0) break
            seen.push(...page.map(plain))
            after = page.at(-1)?.key
          }
          if (live.subscriber.resets.length === pin.resets) assert.deepEqual(seen, pin.state)
        }
      },
    ),
    { numRuns: runs, interruptAfterTimeLimit: 60_000 },
  )
})

test('a cursor of any delivered revision continues with exactly what came after it', () => {
  fc.assert(
    fc.property(fc.array(stepArb, { maxLength: 25, size: 'max' }), (steps) => {
      const { live } = play(steps, ROOMY)
      const { delivered, resets } = live.subscriber
      for (const [i, position] of delivered.entries()) {
        const located = live.core.locate(position as Parameters<ViewCore['locate']>[0])
        if (position.epoch !== live.epoch) {
          assert.deepEqual(located, { kind: 'resync', reason: 'epoch' })
          continue
        }
        const cut = resets.at(-1)?.to.revision as Revision
        if (compareRevisions(position.revision as Revision, cut) < 0) assert.notEqual(located.kind, 'ring')
        else {
          assert.equal(located.kind, 'ring')
          const next = live.at(located.kind === 'ring' ? located.index : -1)
          assert.equal(next?.revision, delivered[i + 1]?.revision)
        }
      }
    }),
    { numRuns: runs, interruptAfterTimeLimit: 60_000 },
  )
})
