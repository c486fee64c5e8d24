// The agent's ports seen through its policies: what counts against a dependency, and that an append is sent once or not at all.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { seededRandom } from '#kit/random.ts'
import { createResilience } from '#kit/resilience.ts'
import { etcdIsInTrouble, guardEtcd, guardHub, logPolicies } from '#agent/resilience.ts'
import { type AppendResult, HubError, type HubLog } from '#agent/uplink/ports.ts'
import { EtcdFailure, type EtcdMember } from '#agent/watch/etcd.ts'
import { ManualClock } from '#test/support/manual-clock.ts'
import { SimulatedHub, SimulatedStream } from './simulated-hub.ts'

const breaker = { failureRatio: 0.35, samplingMs: 60_000, minimumCalls: 3, halfOpenAfterMs: 60_000 }

function setup() {
  const clock = new ManualClock()
  const resilience = createResilience({ clock, random: seededRandom(1) })
  const limits = { breaker, etcdReadMs: 1_000, hubReadMs: 1_000, appendMs: 1_000, window: 16 }
  return { clock, resilience, policies: logPolicies(resilience, 'sz', limits) }
}

const settled = () => new Promise((resolve) => setImmediate(resolve))
const TIMEOUT: AppendResult = { kind: 'lost', reason: 'timeout' }

/** A hub whose appends end as told, by hand. */
function scriptedHub() {
  const sent: ((result: AppendResult) => void)[] = []
  const inner: HubLog = Object.assign(new SimulatedHub(new SimulatedStream()), {
    append: () => new Promise<AppendResult>((resolve) => sent.push(resolve)),
  })
  return { inner, sent }
}

describe('hub append', () => {
  it('L8: an open breaker refuses before anything is sent, and what was sent is answered by the hub alone', async () => {
    const { policies, clock } = setup()
    const { inner, sent } = scriptedHub()
    const hub = guardHub(inner, policies.hubRead, policies.hubAppend)
    const bytes = new Uint8Array(1)
    for (let run = 0; run < 3; run++) {
      const answer = hub.append(bytes, run)
      sent.at(-1)?.(TIMEOUT)
      assert.deepEqual(await answer, TIMEOUT)
      await settled()
    }
    assert.equal(policies.hubAppend.state, 'open')
    const refused = await hub.append(bytes, 3)
    assert.equal(refused.kind === 'rejected' && refused.reason, 'overloaded')
    assert.equal(sent.length, 3, 'nothing was sent again or anew')
    await clock.advance(60_000)
    const probe = hub.append(bytes, 3)
    sent.at(-1)?.({ kind: 'stored', seq: 4 })
    assert.deepEqual(await probe, { kind: 'stored', seq: 4 })
    await settled()
    assert.equal(policies.hubAppend.state, 'closed')
  })

  it('a whole window lost at once counts once; lost connections and refused places count nothing', async () => {
    const { policies } = setup()
    const { inner, sent } = scriptedHub()
    const hub = guardHub(inner, policies.hubRead, policies.hubAppend)
    const window = Array.from({ length: 16 }, (_, i) => hub.append(new Uint8Array(1), i))
    for (const answer of sent.splice(0)) answer(TIMEOUT)
    await Promise.all(window)
    await settled()
    assert.equal(policies.hubAppend.state, 'closed')
    for (const harmless of [{ kind: 'lost', reason: 'disconnected' }, { kind: 'refused' }] as const) {
      for (let i = 0; i < 5; i++) {
        const answer = hub.append(new Uint8Array(1), i)
        sent.pop()?.(harmless)
        await answer
      }
    }
    await settled()
    assert.equal(policies.hubAppend.state, 'closed')
  })

  it('a new connection is news of the hub: an open breaker asks it at once instead of waiting its minute', async () => {
    const { policies } = setup()
    let generation = 1
    const inner = Object.defineProperty(new SimulatedHub(new SimulatedStream()), 'generation', {
      get: () => generation,
    }) as HubLog
    const answers = { dead: true }
    const info = inner.info.bind(inner)
    inner.info = () => (answers.dead ? Promise.reject(new HubError('timeout', 'no answer')) : info())
    const hub = guardHub(inner, policies.hubRead, policies.hubAppend)
    for (let i = 0; i < 3; i++) await assert.rejects(hub.info())
    answers.dead = false
    await assert.rejects(hub.info(), /too many recent failures/)
    generation++
    assert.equal((await hub.info()).lastSeq, 0)
    assert.equal(policies.hubRead.state, 'closed')
  })

  it('reads that get no answer open their own breaker, and are refused by name', async () => {
    const { policies } = setup()
    const { inner } = scriptedHub()
    const silent: HubLog = Object.assign(inner, {
      info: () => Promise.reject(new HubError('timeout', 'no answer')),
    })
    const hub = guardHub(silent, policies.hubRead, policies.hubAppend)
    for (let i = 0; i < 3; i++) await assert.rejects(hub.info(), /no answer/)
    await assert.rejects(hub.info(), { kind: 'timeout', message: /next probe follows/ })
    assert.equal(policies.hubAppend.state, 'closed')
  })
})

describe('etcd read', () => {
  const member = (fail: () => EtcdFailure | undefined): { member: EtcdMember; calls: () => number } => {
    let calls = 0
    const answer = async (): Promise<never> => {
      calls++
      throw fail() ?? new Error('no failure given')
    }
    const inner: EtcdMember = {
      endpoint: 'http://a:1',
      status: answer,
      head: answer,
      page: answer,
      watch: answer,
      [Symbol.dispose]: () => undefined,
    }
    return { member: inner, calls: () => calls }
  }

  it('counts silence and broken connections; not refusals, plain answers or cancelled calls', () => {
    const judge = (kind: EtcdFailure['kind'], message: string) => etcdIsInTrouble(new EtcdFailure(kind, message))
    assert.equal(judge('timeout', 'deadline exceeded'), true)
    assert.equal(judge('unavailable', '14 UNAVAILABLE: read ECONNRESET'), true)
    assert.equal(judge('other', 'etcdserver: too many requests'), true)
    assert.equal(judge('unavailable', 'connect ECONNREFUSED 127.0.0.1:2379'), false)
    assert.equal(judge('unavailable', '1 CANCELLED: Cancelled on client'), false)
    for (const kind of ['compacted', 'auth', 'denied', 'learner', 'no-leader', 'future'] as const) {
      assert.equal(judge(kind, 'told'), false, kind)
    }
  })

  it('asks a member once for its head, since another member is the better second attempt; one breaker per member', async () => {
    const { policies } = setup()
    const { member: bad, calls } = member(() => new EtcdFailure('timeout', 'silent'))
    const guarded = guardEtcd(bad, policies.etcdRead('http://a:1'))
    for (let i = 1; i <= 3; i++) {
      await assert.rejects(guarded.status(), { kind: 'timeout' })
      assert.equal(calls(), i)
    }
    await assert.rejects(guarded.status(), { kind: 'unavailable', message: /next probe follows/ })
    assert.equal(calls(), 3)
    assert.equal(policies.etcdRead('http://b:1').state, 'closed')
    assert.equal(policies.etcdRead('http://a:1').state, 'open')
  })
})
