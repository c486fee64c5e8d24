// Bytes no server should send, at every place where a server may send some. The agent lives, says where it stands, and goes on.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import fc from 'fast-check'
import protobuf from 'protobufjs'
import { judgeLog } from '../../judge/log-judge.ts'
import { readLog } from '../../judge/log-reader.ts'
import { fingerprint, History } from '../../judge/truth.ts'
import { Verdict } from '../../judge/verdict.ts'
import { type FakeEtcd, type FakeWatch, startFakeEtcd } from '../../support/fake-etcd.ts'
import { startNats } from '../../support/nats.ts'
import { type Agent, CLUSTER, startAgent } from './harness.ts'

const CASES = 120
const WITHIN_MS = 40_000
const PHASES = new Set(
  'starting hub-unreachable stream-missing reading-tail standby etcd-unreachable range-denied proving checkpoint live'.split(
    ' ',
  ),
)
const ENV = {
  DELTAWATCH_WATCH_BACKOFF_BASE: '10ms',
  DELTAWATCH_WATCH_BACKOFF_CAP: '30ms',
  DELTAWATCH_WATCH_REPLAY_TIMEOUT: '500ms',
  DELTAWATCH_WATCH_PROGRESS_EVERY: '100ms',
  DELTAWATCH_WATCH_DEAF_AFTER: '300ms',
  DELTAWATCH_ETCD_CALL_TIMEOUT: '500ms',
  DELTAWATCH_UPLINK_RESYNC_EVERY: '0s',
  // A member that answers nothing but rubbish is given up; here it shall be asked again at once.
  DELTAWATCH_BREAKER_HALF_OPEN_AFTER: '100ms',
  DELTAWATCH_BREAKER_MINIMUM_CALLS: '1000',
}

type Case = { readonly created: boolean; readonly messages: readonly Uint8Array[]; readonly ends: boolean }

/** Messages that are no watch response at all, or are shaped like one: fields of the right numbers and of wrong content. */
const shaped = fc
  .array(
    fc.record({
      field: fc.constantFrom(1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 100),
      wire: fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7),
      number: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      blob: fc.uint8Array({ maxLength: 40 }),
    }),
    { maxLength: 8 },
  )
  .map((fields) => {
    const writer = protobuf.Writer.create()
    for (const { field, wire, number, blob } of fields) {
      writer.uint32(((field << 3) | wire) >>> 0)
      if (wire === 0) writer.uint64(number.toString())
      else if (wire === 2) writer.bytes(blob)
      else if (wire === 1) writer.fixed64(number.toString())
      else if (wire === 5) writer.fixed32(Number(number & 0xffffffffn))
    }
    return writer.finish()
  })
const message = fc.oneof(fc.uint8Array({ maxLength: 200 }), shaped, fc.constant(new Uint8Array(0)))
const cases = fc.record({
  created: fc.boolean(),
  messages: fc.array(message, { minLength: 1, maxLength: 5 }),
  ends: fc.boolean(),
})

function play(watch: FakeWatch, { created, messages, ends }: Case): void {
  if (created) watch.created()
  for (const bytes of messages) watch.bytes(bytes)
  if (ends) watch.end()
  else watch.say({ canceled: true, cancel_reason: 'enough' })
}

async function drain(agent: Agent, left: () => number): Promise<void> {
  const deadline = performance.now() + WITHIN_MS
  while (left() > 0) {
    assert.ok(performance.now() < deadline, `${left()} cases were not asked for\n${agent.process.log().slice(-3_000)}`)
    const status = await agent.status()
    assert.equal(agent.process.exit, undefined, agent.process.log().slice(-3_000))
    if (status !== undefined) assert.ok(PHASES.has(status.phase), `phase ${status.phase}: ${status.reason}`)
    await wait(20)
  }
}

async function survived(agent: Agent): Promise<void> {
  assert.equal(agent.process.exit, undefined)
  assert.equal(await agent.metric('deltawatch_stray_errors_total'), 0, agent.process.log().slice(-3_000))
  assert.doesNotMatch(agent.process.log(), /relay turn failed/)
}

function historyOf(etcd: FakeEtcd): History {
  const history = new History(1)
  for (const { events } of etcd.store.revisions) {
    history.add(
      events.map(({ kv }) => ({
        op: 'put' as const,
        key: kv.key.toString(),
        value: fingerprint(kv.value),
        lease: '0',
      })),
    )
  }
  return history
}

describe('bytes of an etcd', () => {
  it(`I10: ${CASES} watches of arbitrary bytes: the agent lives, names its state, and relays the rest exactly`, async () => {
    await using etcd = await startFakeEtcd()
    await using nats = await startNats()
    await using agent = await startAgent({
      etcd: etcd.url,
      nats: nats.clientUrl,
      flags: ['--create-stream', '--log-level', 'info'],
      env: ENV,
    })
    await agent.until('live', (s) => s.phase === 'live')
    for (let n = 0; n < 10; n++) etcd.store.put(`/k${n % 4}`, `${n}`)
    const queue = fc.sample(cases, { numRuns: CASES, seed: 4711 })
    etcd.script.watch = (watch) => {
      const next = queue.shift()
      // Something to relay waits behind every one of them.
      etcd.store.write({ op: 'put', key: `/k${queue.length % 4}`, value: `${queue.length}` })
      if (next === undefined) watch.honest()
      else play(watch, next)
    }
    etcd.proxy.cut()
    await drain(agent, () => queue.length)
    await survived(agent)
    delete etcd.script.watch
    etcd.proxy.cut()
    etcd.store.put('/last', '1')
    const { head } = etcd.store
    await agent.until(`position ${head}`, (s) => s.phase === 'live' && BigInt(s.position) >= head)
    const log = await readLog(nats.clientUrl, CLUSTER)
    // What looks like an event that cannot be is quarantined, and a checkpoint repairs what may have been lost with it.
    const expectation = { cluster: CLUSTER, histories: [historyOf(etcd)], pending: ['gap'] }
    const verdict = judgeLog(log, expectation, new Verdict())
    assert.equal(verdict.failed, 0, verdict.toString())
  })

  it(`I10: ${CASES} answers of arbitrary bytes to reads: the agent lives, names its state, and goes on`, async () => {
    await using etcd = await startFakeEtcd()
    await using nats = await startNats()
    const queue = fc.sample(message, { numRuns: CASES, seed: 4712 })
    let turn = 0
    const garbled = (honest: object): object => {
      turn += 1
      // Both kinds of reads get through now and then, so that the later steps are reached too.
      return turn % 3 === 0 ? honest : (queue.shift() ?? honest)
    }
    etcd.script.status = garbled
    etcd.script.range = garbled
    for (let n = 0; n < 10; n++) etcd.store.put(`/k${n % 4}`, `${n}`)
    await using agent = await startAgent({
      etcd: etcd.url,
      nats: nats.clientUrl,
      flags: ['--create-stream', '--log-level', 'info'],
      env: ENV,
    })
    await drain(agent, () => queue.length)
    await survived(agent)
    delete etcd.script.status
    delete etcd.script.range
    etcd.store.put('/last', '1')
    await agent.until('live', (s) => s.phase === 'live' && BigInt(s.position) >= etcd.store.head)
    await survived(agent)
  })
})
