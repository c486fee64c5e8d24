// Policy that changes under live subscribers: from the publication of a bundle to the frame, without closing anything.
// And what is told of decisions: the log on its own subject, the counters, the comparison with a shadow bundle.

import assert from 'node:assert/strict'
import { readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { readLog } from '../judge/log-reader.ts'
import { decodeEntry } from '#protocol/log/decode.ts'
import { JudgedCluster } from './judged.ts'
import { allow, CLUSTER, eventually, policy, PolicyStack } from './policy-stack.ts'
import { Recorder } from './recorder.ts'

const VISIBLE = `when: 'value.class != "secret"', `
const rules = (at: { a: string; b: string; more?: readonly string[] }): string =>
  policy(
    allow('a', '/a/**', at.a),
    allow('b', '/b/**', at.b),
    allow('by-value', '/v/**', 'sz, hk', VISIBLE),
    ...(at.more ?? [allow('c', '/c/**', 'sz, hk')]),
    '{ id: never-health, effect: deny, match: { keys: ["/health/**"] } }',
  )
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))
type Frame = { readonly type: string } & Readonly<Record<string, unknown>>

describe('policy that changes under live subscribers', () => {
  let stack: PolicyStack
  let judge: JudgedCluster
  let hk: Recorder
  const decisions: Record<string, unknown>[] = []
  const decisionFile = join(tmpdir(), `deltawatch-decisions-${process.pid}.jsonl`)
  const frames = (): Frame[] => hk.transcript.texts.map((text) => JSON.parse(text) as Frame)
  const put = (key: string, value: unknown): Promise<number> =>
    judge.writer.put([{ op: 'put', key, value: Buffer.isBuffer(value) ? value : json(value) }])

  before(async () => {
    stack = await PolicyStack.start({
      bundles: {
        live: rules({ a: 'sz, hk', b: 'sz' }),
        shadow: rules({ a: 'sz', b: 'sz' }),
      },
      gatewayFlags: [
        '--policy-shadow',
        'kv://rules/shadow',
        '--decisions-share',
        '1',
        '--decisions-file',
        decisionFile,
      ],
      agentFlags: ['--decisions-share', '1', '--policy-shadow', 'kv://rules/shadow'],
    })
    stack.nc.subscribe(`dw.decision.${CLUSTER}`, {
      callback: (_error, message) => void decisions.push(message.json<Record<string, unknown>>()),
    })
    await stack.nc.flush()
    judge = await JudgedCluster.begin(stack.stack, stack.stack.first)
    hk = new Recorder(stack.stack.url, { prefix: '/', start: 'snapshot' }, { token: 'dev:reader:hk' })
    await hk.change((c) => c.kind === 'snapshot')
    for (const key of ['/a/1', '/a/2', '/b/1', '/c/1']) await put(key, { planted: key })
    await hk.reached(CLUSTER, await put('/health/1', { diagnosis: 'planted-diagnosis' }))
  })
  after(async () => {
    await hk?.[Symbol.asyncDispose]()
    await judge?.[Symbol.asyncDispose]()
    await stack?.[Symbol.asyncDispose]()
    await rm(decisionFile, { force: true })
  })

  it('S11: keys that leave come as scope and keys that enter as a resync, within a second of the publication', async (t) => {
    const took: number[] = []
    for (let round = 0; round < 3; round++) {
      const [gone, come] = round % 2 === 0 ? ['/a/1', '/b/1'] : ['/b/1', '/a/1']
      const seen = hk.transcript.texts.length
      const at = performance.now()
      await stack.publish(rules(round % 2 === 0 ? { a: 'sz', b: 'sz, hk' } : { a: 'sz, hk', b: 'sz' }))
      const left = (): boolean => hk.transcript.texts.slice(seen).some((x) => x.includes('"scope"') && x.includes(gone))
      const came = (): boolean => hk.transcript.texts.slice(seen).some((x) => x.includes('"items"') && x.includes(come))
      await hk.until(
        () => left() && came(),
        () => hk.transcript.texts.slice(seen).join('\n').slice(-1_500),
        10_000,
      )
      took.push(performance.now() - at)
    }
    t.diagnostic(`publication to frame: ${took.map((ms) => `${Math.round(ms)} ms`).join(', ')}`)
    assert.ok(Math.min(...took) <= 1_000, `not one of ${took.map(Math.round).join(', ')} ms within a second`)
    assert.equal(hk.connections.length, 1, 'nothing was closed')
    const scope = frames().find((frame) => frame.type === 'scope')
    assert.equal(JSON.stringify(scope).includes('revision'), false, 'a scope carries no position')
  })

  it('I6: a value that becomes hidden leaves, one that comes back is put, and the log holds no hidden one', async () => {
    await put('/v/1', { class: 'open', n: 'first' })
    await put('/v/1', { class: 'secret', n: 'hidden-in-between' })
    await hk.reached(CLUSTER, await put('/v/1', { class: 'open', n: 'third' }))
    const seen = hk.changes.flatMap((c) => (c.kind === 'events' ? c.events.filter((e) => e.key === '/v/1') : []))
    assert.deepEqual(
      seen.map((e) => e.op),
      ['put', 'leave', 'put'],
    )
    const log = Buffer.concat((await readLog(stack.stack.nats.directUrl, CLUSTER)).map((m) => m.data)).toString(
      'latin1',
    )
    assert.ok(log.includes('third') && !log.includes('hidden-in-between'))
  })

  it('I6: a revision of hidden changes alone leaves no trace, and the bookmark moves on', async () => {
    const before = frames().filter((f) => f.type === 'events').length
    const revision = await put('/health/2', { diagnosis: 'planted-diagnosis' })
    await hk.reached(CLUSTER, revision)
    assert.equal(frames().filter((f) => f.type === 'events').length, before)
    assert.ok(!hk.transcript.texts.some((text) => text.includes('/health/')))
  })

  it('I6: what egress no longer lets out leaves by a policy checkpoint in the log', async () => {
    const at = performance.now()
    await stack.publish(rules({ a: 'sz', b: 'sz, hk', more: [] }))
    const left = (): boolean =>
      frames().some(
        (f) =>
          f.type !== 'bookmark' && JSON.stringify(f).includes('/c/1') && /scope|leave|gone/.test(JSON.stringify(f)),
      )
    await hk.until(left, () => hk.transcript.texts.slice(-4).join('\n'), 10_000)
    assert.ok(performance.now() - at < 5_000)
    // The gateway may know the bundle before the agent does; the log tells when the agent has it.
    const newest = async (): Promise<string> => {
      const entries = (await readLog(stack.stack.nats.directUrl, CLUSTER)).map((m) => decodeEntry(m.data))
      const begins = entries.flatMap((e) => (e.ok && e.value.kind === 'snapshot-begin' ? [e.value] : []))
      return begins.at(-1)?.reason ?? 'none'
    }
    let reason = await newest()
    while (reason !== 'policy' && performance.now() - at < 5_000) {
      await wait(50)
      reason = await newest()
    }
    assert.equal(reason, 'policy')
    assert.equal(hk.connections.length, 1)
  })

  it('S11: what rests on a legal basis leaves the very second it lapses, for those it was the basis for', async () => {
    const expires = new Date(Date.now() + 4_000)
    const lapsing = `{ id: e-hk, effect: allow, match: { keys: ["/e/**"], to: { regions: [hk] } }, basis: { kind: contract, ref: C-1, expires: "${expires.toISOString()}" } }`
    await stack.publish(rules({ a: 'sz', b: 'sz, hk', more: [allow('e', '/e/**', 'sz'), lapsing] }))
    const shown = (type: RegExp): boolean =>
      hk.transcript.texts.some((text) => type.test(text) && text.includes('/e/1'))
    await put('/e/1', { n: 1 })
    await hk.until(
      () => shown(/"events"|"items"/),
      () => hk.transcript.texts.slice(-3).join('\n'),
      3_500,
    )
    await hk.until(
      () => shown(/"scope"/),
      () => hk.transcript.texts.slice(-3).join('\n'),
      10_000,
    )
    const lateMs = Date.now() - expires.getTime()
    assert.ok(lateMs >= 0 && lateMs < 2_000, `${lateMs} ms after the lapse`)
    assert.equal(hk.connections.length, 1)
  })

  it('the decision log tells every denial and the rest by share, on both stages, without a key or a value', async () => {
    const told = (): boolean =>
      decisions.some((d) => d['stage'] === 'egress' && d['rule'] === 'never-health') &&
      decisions.some((d) => d['stage'] === 'deliver' && d['effect'] === 'allow')
    await eventually(async () => String(told()), /true/)
    const lines = (await readFile(decisionFile, 'utf8')).trim().split('\n')
    const all = [...decisions, ...lines.map((line) => JSON.parse(line) as Record<string, unknown>)]
    for (const record of all) {
      assert.deepEqual(Object.keys(record).sort(), [
        'at',
        'bundle',
        'cluster',
        'effect',
        'id',
        'keyHash',
        'mode',
        'reason',
        'rule',
        'stage',
        'to',
        'transforms',
      ])
      assert.match(String(record['keyHash']), /^[0-9a-f]{32}$/)
      assert.match(String(record['bundle']), /^[0-9a-f]{64}$/)
    }
    const text = JSON.stringify(all)
    for (const planted of ['/health', '/a/1', '/v/1', 'planted', 'hidden-in-between'])
      assert.ok(!text.includes(planted), planted)
    // Three denials of egress: two health records, and the put that became secret.
    const denials = decisions.filter((d) => d['stage'] === 'egress' && d['effect'] === 'deny')
    assert.ok(denials.length >= 3, `${denials.length} denials`)
  })

  it('decisions are counted by effect and rule, and where the shadow bundle differs, by rule', async () => {
    const agent = await stack.agentText('/metrics')
    assert.match(
      agent,
      /deltawatch_policy_decisions_total\{[^}]*stage="egress"[^}]*effect="deny"[^}]*rule="never-health"[^}]*\} [1-9]/,
    )
    assert.match(agent, /deltawatch_policy_decisions_total\{[^}]*effect="allow"[^}]*rule="by-value"/)
    const gateway = await stack.gatewayText('/metrics')
    assert.match(gateway, /deltawatch_policy_decisions_total\{[^}]*stage="deliver"[^}]*effect="allow"[^}]*rule="a"/)
    assert.match(
      gateway,
      /deltawatch_policy_shadow_differences_total\{[^}]*live="allow"[^}]*shadow="deny"[^}]*rule="a"[^}]*\} [1-9]/,
    )
    assert.match(stack.stack.gateway?.log() ?? '', /shadow policy differs/)
    assert.match(gateway, /deltawatch_policy_bundle_rules\{[^}]*role="shadow"/)
  })
})
