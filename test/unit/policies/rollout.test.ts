// Canary, shadow, decision records, bundle differences, replay, explanations.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keyFromText } from '#protocol/bytes.ts'
import { chooseBundle } from '#policies/engine/canary.ts'
import { affectedDecisions, parseRecord, ruleChanges } from '#policies/engine/diff.ts'
import { explainRules } from '#policies/engine/explain.ts'
import { decisionRecord, shouldRecord } from '#policies/engine/record.ts'
import type { RecordContext } from '#policies/engine/record.ts'
import { replay } from '#policies/engine/replay.ts'
import { difference, DifferenceTally } from '#policies/engine/shadow.ts'
import type { Decision } from '#policies/engine/types.ts'
import { sha256 } from '#policies/node/hashing.ts'
import { agentOf, allow, bundleOf, bytes, classOf, del, deny, NOW, put, subscriber } from './fixture.ts'

test('canary by share: close to the share, stable per subject, other subjects for another salt', () => {
  const subjects = Array.from({ length: 4000 }, (_, i) => subscriber({ subject: `user-${i}` }))
  const chosen = (share: number, salt = 'rev-1'): Set<string> =>
    new Set(
      subjects.filter((s) => chooseBundle(s, { salt, share, labels: {} }, sha256) === 'canary').map((s) => s.subject),
    )
  assert.equal(chosen(0).size, 0)
  assert.equal(chosen(1).size, 4000)
  const tenth = chosen(0.1)
  assert.ok(tenth.size > 320 && tenth.size < 480, String(tenth.size))
  assert.deepEqual(chosen(0.1), tenth)
  const fifth = chosen(0.2)
  for (const subject of tenth) assert.ok(fifth.has(subject), 'a growing share keeps who was in')
  const other = chosen(0.1, 'rev-2')
  assert.ok([...tenth].filter((s) => other.has(s)).length < 100)
})

test('canary by label; anonymous subscribers are stable', () => {
  const canary = { salt: 's', share: 0, labels: { env: 'canary', site: 'a' } }
  assert.equal(chooseBundle(subscriber({ labels: { env: 'canary', site: 'a', more: 'x' } }), canary, sha256), 'canary')
  assert.equal(chooseBundle(subscriber({ labels: { env: 'canary' } }), canary, sha256), 'stable')
  assert.equal(chooseBundle(subscriber(), { ...canary, labels: {} }, sha256), 'stable')
  assert.equal(
    chooseBundle(
      subscriber({ anonymous: true, labels: { env: 'canary', site: 'a' } }),
      { ...canary, share: 1 },
      sha256,
    ),
    'stable',
  )
})

const key = keyFromText('/orders/13800138000')
const allowed: Decision = {
  effect: 'allow',
  key,
  value: bytes('secret value'),
  transforms: ['/a=mask'],
  rules: ['a', 'b'],
}
const withheld: Decision = { effect: 'withhold', key, rule: 'w', reason: 'not-json', transforms: [], rules: ['w'] }
const denied: Decision = { effect: 'deny', rule: 'd', reason: 'deny-rule' }

test('differences name the rule that makes them; equal decisions make none', () => {
  assert.equal(difference(allowed, { ...allowed }), undefined)
  assert.equal(difference(denied, { effect: 'deny', reason: 'default-deny' }), undefined)
  assert.deepEqual(difference(allowed, denied), { live: 'allow', shadow: 'deny', rule: 'd', what: 'effect' })
  assert.deepEqual(difference(denied, allowed), { live: 'deny', shadow: 'allow', rule: 'd', what: 'effect' })
  assert.deepEqual(difference(allowed, withheld)?.rule, 'w')
  assert.deepEqual(difference({ effect: 'deny', reason: 'default-deny' }, allowed)?.rule, 'a')
  assert.equal(difference(allowed, { ...allowed, value: bytes('other') })?.what, 'value')
  assert.equal(difference(allowed, { ...allowed, key: keyFromText('/x') })?.what, 'key')
  assert.equal(difference(allowed, { ...allowed, transforms: [] })?.what, 'transforms')
})

test('a tally counts per rule, keeps a few hashes, and is bounded', () => {
  const tally = new DifferenceTally()
  for (let i = 0; i < 3000; i++)
    tally.add(allowed, { effect: 'deny', rule: `d${i % 2000}`, reason: 'deny-rule' }, () => `hash${i}`)
  tally.add(allowed, allowed, () => assert.fail('no difference, no hash'))
  const list = tally.list()
  assert.equal(tally.decisions, 3001)
  assert.ok(list.length <= 1025 && list.every((d) => d.examples.length <= 5))
  assert.equal(
    list.reduce((n, d) => n + d.count, 0),
    3000,
  )
  assert.equal(list[0]?.rule, '(more)')
})

test('a decision record holds neither the value nor the key', () => {
  const context: RecordContext = {
    id: 'r1',
    at: NOW,
    bundle: 'rev',
    cluster: 'sz-edge-1',
    stage: 'egress',
    to: 'sz',
    mode: 'enforce',
    keyHash: () => 'H',
  }
  for (const decision of [allowed, withheld, denied]) {
    const line = JSON.stringify(decisionRecord(decision, key, context))
    assert.ok(!line.includes('secret') && !line.includes('13800138000') && line.includes('"keyHash":"H"'), line)
    assert.ok(parseRecord(line).ok)
  }
  assert.deepEqual(decisionRecord(denied, key, context), {
    id: 'r1',
    at: NOW,
    bundle: 'rev',
    cluster: 'sz-edge-1',
    stage: 'egress',
    to: 'sz',
    mode: 'enforce',
    keyHash: 'H',
    effect: 'deny',
    rule: 'd',
    transforms: [],
    reason: 'deny-rule',
  })
  for (const line of ['', '{}', '[]', '5', '{"id":1}', 'null']) assert.ok(!parseRecord(line).ok, line)
})

test('every denial is recorded, of the rest a share', () => {
  assert.ok(shouldRecord(denied, 0, 0.99))
  assert.ok(shouldRecord(allowed, 0.01, 0.009) && !shouldRecord(allowed, 0.01, 0.01) && !shouldRecord(withheld, 0, 0))
})

test('rule changes and the recorded decisions that rest on them', () => {
  const before = bundleOf([allow('a', ['/a']), allow('b', ['/b']), deny('c', ['/c'])])
  const after = bundleOf([
    allow('a', ['/a'], { match: { to: { regions: ['hk'] } } }),
    deny('c', ['/c']),
    deny('d', ['/d']),
  ])
  const changes = ruleChanges(before, after)
  assert.deepEqual(
    changes.map((c) => `${c.rule} ${c.change}`),
    ['a changed', 'b removed', 'd added'],
  )
  assert.deepEqual(ruleChanges(before, before), [])
  const context: RecordContext = {
    id: 'r',
    at: 0,
    bundle: 'x',
    cluster: 'c',
    stage: 'egress',
    to: 'sz',
    mode: 'enforce',
    keyHash: () => 'H',
  }
  const records = [allowed, allowed, denied].map((d) => decisionRecord(d, key, context))
  assert.deepEqual(
    affectedDecisions(records, changes).map((c) => `${c.rule} ${c.decisions}`),
    ['a 2', 'b 2', 'd 1'],
  )
})

test('a replay says what would change for whom', () => {
  const before = bundleOf([allow('a', ['/o'])])
  const after = bundleOf([allow('a', ['/o'], { whenSubscriber: '!subscriber.anonymous' })])
  const events = [
    { source: 'sz', at: NOW, event: put('/o', { x: 1 }) },
    { source: 'sz', at: NOW, event: put('/o', { x: 1 }), subscriber: subscriber({ anonymous: true }) },
    { source: 'sz', at: NOW, event: del('/o', { x: 1 }), subscriber: subscriber({ anonymous: false }) },
  ]
  const { events: count, differences } = replay(events, before, after, 'sz', ({ event }) => event.key)
  assert.equal(count, 3)
  assert.deepEqual(
    differences.map(({ live, shadow, rule, count: n, examples }) => [live, shadow, rule, n, examples]),
    [['allow', 'deny', 'a', 1, ['/o']]],
  )
})

test('an explanation names each rule whose keys match and what kept it from speaking', () => {
  const bundle = bundleOf([
    allow('allows', ['/o/**']),
    allow('except', ['/o/**'], { match: { except: ['/o/1'] } }),
    allow('op', ['/o/**'], { match: { ops: ['delete'] } }),
    allow('region', ['/o/**'], { match: { to: { regions: ['hk'] } } }),
    allow('audience', ['/o/**'], { match: { to: { audience: ['x'] } } }),
    allow('subscriber', ['/o/**'], { whenSubscriber: 'subscriber.anonymous' }),
    allow('broken', ['/o/**'], { whenSubscriber: 'subscriber.labels.x == "1"' }),
    allow('when', ['/o/**'], { when: 'value.x == 2' }),
    allow('failed', ['/o/**'], { when: 'value.y == 2' }),
    allow('lapsed', ['/o/**'], { basis: { kind: 'c', ref: 'x', expires: '2020-01-01' } }),
    deny('denies', ['/o/**'], { when: 'value.x == 1' }),
    deny('denies-failed', ['/o/**'], { when: 'value.y == 1' }),
    deny('some', ['/o/**'], { match: { to: { audience: ['x'] } } }),
    allow('elsewhere', ['/p/**']),
  ])
  const verdicts = (scope: Parameters<typeof explainRules>[2]): Record<string, string> =>
    Object.fromEntries(explainRules(bundle, 'sz', scope, put('/o/1', { x: 1 }), NOW).map((r) => [r.rule, r.verdict]))
  const common = {
    allows: 'allows',
    except: 'no: except',
    op: 'no: operation',
    region: 'no: region',
    when: 'no: when is false',
    failed: 'no: when failed to evaluate',
    lapsed: 'denies: its basis has lapsed',
    denies: 'denies',
    'denies-failed': 'denies: its condition failed to evaluate',
  }
  assert.deepEqual(verdicts({ stage: 'egress', hub: 'sz' }), {
    ...common,
    audience: 'allows',
    subscriber: 'allows',
    broken: 'allows',
    some: 'no: only some subscribers, so not at egress',
  })
  assert.deepEqual(verdicts({ stage: 'deliver', cls: classOf(bundle) }), {
    ...common,
    audience: 'no: audience',
    subscriber: 'no: whenSubscriber is false',
    broken: 'no: whenSubscriber failed to evaluate',
    some: 'no: audience',
  })
  const lost = explainRules(
    bundleOf([allow('v', ['/o/**'], { when: 'value.x == 1' })]),
    'sz',
    { stage: 'egress', hub: 'sz' },
    del('/o/1', undefined, { prevKnown: false }),
    NOW,
  )
  assert.equal(lost[0]?.verdict, 'unknown: the previous value is not known')
})

test('an explanation and the decision agree: something allows and nothing denies exactly when it is let through', () => {
  const bundle = bundleOf([allow('a', ['/a', '/b']), deny('d', ['/b']), allow('c', ['/c'], { when: 'value.x == 1' })])
  for (const event of [put('/a'), put('/b'), put('/c', { x: 1 }), put('/c', { x: 2 }), put('/z')]) {
    const verdicts = explainRules(bundle, 'sz', { stage: 'egress', hub: 'sz' }, event, NOW).map((r) => r.verdict)
    const through = verdicts.includes('allows') && !verdicts.some((v) => v.startsWith('denies'))
    assert.equal(agentOf(bundle).decide(event, NOW).effect !== 'deny', through)
  }
})
