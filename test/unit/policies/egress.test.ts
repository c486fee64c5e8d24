// What leaves: default deny, deny beats allow, lapsed bases, the hub's region, deletes and LEAVE.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keyFromText } from '#protocol/bytes.ts'
import { egress } from '#policies/engine/egress.ts'
import { ABSENT, transition } from '#policies/engine/transition.ts'
import type { Transition } from '#policies/engine/transition.ts'
import type { EgressDecider, PolicyEvent } from '#policies/engine/types.ts'
import { testDeps } from '#policies/node/hashing.ts'
import {
  agentOf,
  allow,
  bundleOf,
  bytes,
  compileDocuments,
  del,
  deny,
  documentOf,
  NOW,
  PUBLIC,
  put,
  word,
} from './fixture.ts'

test('I6: nothing that no rule allows leaves; deny beats allow in any order', () => {
  const rules = [allow('a', ['/**']), deny('d', ['/health/**'])]
  for (const order of [rules, rules.toReversed()]) {
    const agent = agentOf(bundleOf(order))
    assert.equal(word(agent.decide(put('/x'), NOW)), 'allow')
    assert.deepEqual(agent.decide(put('/health/1'), NOW), { effect: 'deny', rule: 'd', reason: 'deny-rule' })
    assert.equal(word(agent.decide(put('no-slash'), NOW)), 'deny default-deny')
  }
})

test('except takes keys out; ops limits operations', () => {
  const agent = agentOf(
    bundleOf([
      allow('a', ['/o/**'], { match: { except: ['/o/test-*/**'] } }),
      allow('p', ['/p'], { match: { ops: ['put'] } }),
      allow('b', ['/o/test-1/shown']),
    ]),
  )
  assert.equal(word(agent.decide(put('/o/1/x'), NOW)), 'allow')
  assert.equal(word(agent.decide(put('/o/test-1/x'), NOW)), 'deny default-deny')
  assert.deepEqual(agent.decide(put('/o/test-1/shown'), NOW).effect, 'allow', 'another rule may name it again')
  assert.equal(word(agent.decide(put('/p'), NOW)), 'allow')
  assert.equal(word(agent.decide(del('/p', '{}'), NOW)), 'deny default-deny')
})

test('egress asks for the hub’s region, whoever subscribes', () => {
  const bundle = bundleOf([
    allow('hk', ['/hk/**'], { match: { to: { regions: ['hk'] } } }),
    allow('sz', ['/sz/**'], { match: { to: { regions: ['sz', 'hk'] } } }),
    deny('no', ['/sz/no'], { match: { to: { regions: ['hk'] } } }),
  ])
  const [inSz, inHk] = [agentOf(bundle, 'sz'), agentOf(bundle, 'hk')]
  assert.equal(word(inSz.decide(put('/hk/1'), NOW)), 'deny default-deny')
  assert.equal(word(inHk.decide(put('/hk/1'), NOW)), 'allow')
  assert.equal(word(inSz.decide(put('/sz/no'), NOW)), 'allow')
  assert.equal(word(inHk.decide(put('/sz/no'), NOW)), 'deny deny-rule')
  assert.notEqual(inSz.configHash(NOW), inHk.configHash(NOW))
})

test('audience and whenSubscriber count as true in allow rules and as false in deny rules', () => {
  const some = { match: { to: { audience: ['org:acme'] } } }
  const agent = agentOf(
    bundleOf([
      allow('a', ['/a'], some),
      allow('b', ['/b'], { whenSubscriber: '"x" in subscriber.scopes' }),
      allow('c', ['/c', '/d']),
      deny('c1', ['/c'], some),
      deny('c2', ['/c'], { whenSubscriber: 'subscriber.anonymous' }),
      deny('d', ['/d']),
    ]),
  )
  for (const key of ['/a', '/b', '/c']) assert.equal(word(agent.decide(put(key), NOW)), 'allow', key)
  assert.equal(word(agent.decide(put('/d'), NOW)), 'deny deny-rule')
})

test('a lapsed basis denies from that very instant, also what another rule allows', () => {
  const lapse = Date.parse('2027-03-31T16:00:00Z')
  const contract = { basis: { kind: 'gba-standard-contract', ref: 'SC', expires: '2027-03-31' } }
  const agent = agentOf(bundleOf([allow('c', ['/c', '/both'], contract), allow('open', ['/both'])]))
  assert.equal(word(agent.decide(put('/c'), lapse - 1)), 'allow', 'a date means through the end of that day, at +08:00')
  assert.deepEqual(agent.decide(put('/c'), lapse), { effect: 'deny', rule: 'c', reason: 'basis-expired' })
  assert.equal(
    word(agent.decide(put('/both'), lapse)),
    'deny basis-expired',
    'or its transforms would silently fall away',
  )
  assert.equal(
    word(agent.decide(put('/c'), lapse - 1)),
    'allow',
    'time is an argument: asking again for before gives before',
  )
  assert.equal(agent.nextExpiry(NOW), lapse)
  assert.equal(agent.nextExpiry(lapse), undefined)
  assert.notEqual(
    agent.configHash(lapse - 1),
    agent.configHash(lapse),
    'an agent that slept through the lapse must notice',
  )
})

test('a lapsed rule for some subscribers does not stop the others at egress, nor does it let anything out', () => {
  const contract = { match: { to: { audience: ['org:acme'] } }, basis: { kind: 'c', ref: 'SC', expires: '2026-01-01' } }
  const agent = agentOf(bundleOf([allow('acme', ['/a', '/b'], contract), allow('open', ['/b'])]))
  assert.equal(word(agent.decide(put('/a'), NOW)), 'deny basis-expired')
  assert.equal(word(agent.decide(put('/b'), NOW)), 'allow')
})

test('expires: an instant is that instant, a date follows utcOffset, no real day refuses', () => {
  const at = (expires: string, utcOffset?: string): number | undefined => {
    const { bundle } = compileDocuments([
      documentOf([allow('a', ['/a'], { basis: { kind: 'c', ref: 'x', expires } })], {
        source: { region: 'sz', regime: 'PIPL', ...(utcOffset === undefined ? {} : { utcOffset }) },
      }),
    ])
    return bundle === undefined ? undefined : agentOf(bundle).nextExpiry(0)
  }
  assert.equal(at('2027-03-31T12:00:00+08:00'), Date.parse('2027-03-31T04:00:00Z'))
  assert.equal(at('2027-03-31', '-05:00'), Date.parse('2027-04-01T05:00:00Z'))
  for (const bad of ['2027-02-29', '2027-13-01', '2027-3-1', 'tomorrow', '2027-03-31T12:00:00', '2027-03-31T25:00:00Z'])
    assert.equal(at(bad), undefined, bad)
})

test('a basis is required when the regimes differ, and towards regions nobody speaks for', () => {
  const issues = (to: readonly string[] | undefined, more: object = {}): string[] => {
    const rule = {
      id: 'a',
      effect: 'allow',
      match: { keys: ['/a'], ...(to === undefined ? {} : { to: { regions: to } }) },
      ...more,
    }
    const others = [
      documentOf([], { source: { region: 'gz', regime: 'PIPL' } }, 'gz'),
      documentOf([], { source: { region: 'hk', regime: 'HK-PDPO' } }, 'hk'),
    ]
    const { bundle, issues } = compileDocuments([documentOf([rule]), ...others])
    return bundle === undefined ? issues.map((i) => i.code) : []
  }
  assert.deepEqual(issues(['sz', 'gz']), [])
  for (const to of [['hk'], ['sz', 'hk'], ['us'], undefined])
    assert.deepEqual(issues(to), ['missing-basis'], String(to))
  assert.deepEqual(issues(['hk'], { basis: { kind: 'gba-standard-contract', ref: 'x', expires: '2030-01-01' } }), [])
  assert.deepEqual(issues(['hk'], { basis: PUBLIC }), [])
  assert.deepEqual(
    issues(['hk'], { basis: { kind: 'gba-standard-contract', ref: 'x' } }),
    ['bad-document'],
    'a contract has an end',
  )
})

test('two documents that disagree about a regime, or share names or ids, refuse the bundle', () => {
  const codes = (...documents: readonly unknown[]): string[] => compileDocuments(documents).issues.map((i) => i.code)
  assert.deepEqual(codes(documentOf([]), documentOf([], { source: { region: 'sz', regime: 'HK-PDPO' } }, 'two')), [
    'conflicting-regime',
  ])
  assert.deepEqual(codes(documentOf([]), documentOf([])), ['duplicate-id'])
  assert.deepEqual(codes(documentOf([allow('a', ['/a'])]), documentOf([allow('a', ['/b'])], {}, 'two')), [
    'duplicate-id',
  ])
})

test('a region without a document is closed', () => {
  const agent = egress(bundleOf([allow('a', ['**'])]), 'mars', 'sz')
  assert.equal(word(agent.decide(put('/a'), NOW)), 'deny unknown-source')
  assert.equal(agent.visible(put('/a'), NOW), 'hidden')
  assert.notEqual(agent.configHash(NOW), agentOf(bundleOf([allow('a', ['**'])])).configHash(NOW))
})

test('keys beyond the bounds are denied', () => {
  const agent = agentOf(bundleOf([allow('a', ['**'])]))
  assert.equal(word(agent.decide(put(`/${'x'.repeat(5000)}`), NOW)), 'deny key-too-long')
  assert.equal(word(agent.decide(put('/a'.repeat(70)), NOW)), 'deny key-too-long')
})

test('a put without a value, which cannot be, is withheld', () => {
  const agent = agentOf(bundleOf([allow('a', ['**'])]))
  assert.equal(word(agent.decide({ op: 'put', key: keyFromText('/a'), prevKnown: true }, NOW)), 'withhold error')
  assert.equal(agent.visible({ op: 'put', key: keyFromText('/a'), prevKnown: true }, NOW), 'visible')
})

test('I6: an engine error denies or withholds', () => {
  const deps = testDeps()
  const broken = { ...deps, hmac: () => assert.fail('the key store is down') }
  const agent = agentOf(
    bundleOf(
      [
        allow('v', ['/v'], { transform: [{ field: '/a', action: 'hmac', key: 'k' }] }),
        allow('k', ['/u/*'], { keyTransform: [{ segment: 2, action: 'hmac', key: 'k' }] }),
      ],
      {},
      broken,
    ),
  )
  assert.equal(word(agent.decide(put('/v', { a: 1 }), NOW)), 'withhold error')
  assert.equal(word(agent.decide(put('/u/1'), NOW)), 'deny error')
  assert.equal(agent.visible(put('/u/1'), NOW), 'hidden')
  const hostile = {
    op: 'put',
    key: keyFromText('/v'),
    get value(): Uint8Array {
      return assert.fail('no value today')
    },
    prevKnown: true,
  } as PolicyEvent
  assert.equal(word(agent.decide(hostile, NOW)), 'deny error')
})

// ---- deletes and leaving

const byClass = [allow('a', ['/o/*'], { when: 'value.class != "sensitive"' })]
const open = { class: 'open' }
const secret = { class: 'sensitive' }

/** What the agent writes for one change, as the callers of the engine compute it. */
function change(agent: EgressDecider, event: PolicyEvent, existed: boolean): Transition {
  const next = agent.decide(event, NOW)
  const previous = !existed
    ? ABSENT
    : event.prevKnown
      ? agent.visible({ op: 'put', key: event.key, value: event.prevValue, prevKnown: true }, NOW)
      : undefined
  return transition(previous, next, event.op)
}

test('a key in view whose new put is denied leaves; a delete is decided on the previous value', () => {
  const agent = agentOf(bundleOf(byClass))
  assert.ok(agent.needsPrevValue)
  const was = (value: unknown): Partial<PolicyEvent> => ({ prevValue: bytes(value) })
  assert.equal(change(agent, put('/o/1', open), false), 'put')
  assert.equal(change(agent, put('/o/1', secret), false), 'nothing')
  assert.equal(change(agent, put('/o/1', secret, was(open)), true), 'leave')
  assert.equal(change(agent, put('/o/1', secret, was(secret)), true), 'nothing')
  assert.equal(change(agent, put('/o/1', open, was(secret)), true), 'put')
  assert.equal(change(agent, del('/o/1', open), true), 'delete')
  assert.equal(change(agent, del('/o/1', secret), true), 'nothing')
})

test('a previous value that is not to be had means a checkpoint, never a guess', () => {
  const agent = agentOf(bundleOf(byClass))
  const lost = { prevKnown: false }
  assert.equal(change(agent, put('/o/1', open, lost), true), 'put', 'its own value decides')
  assert.equal(change(agent, put('/o/1', secret, lost), true), 'unknown-needs-checkpoint')
  assert.equal(change(agent, put('/o/1', secret, lost), false), 'nothing', 'a created key had no value')
  assert.equal(change(agent, del('/o/1', undefined, lost), true), 'unknown-needs-checkpoint')
  assert.equal(word(agent.decide(del('/o/1', undefined, lost), NOW)), 'deny prev-unknown')
  assert.equal(agent.visible(del('/o/1', undefined, lost), NOW), 'unknown')
})

test('what does not depend on the lost value is decided without it', () => {
  const lost = { prevKnown: false }
  const agent = agentOf(
    bundleOf([
      ...byClass,
      allow('all', ['/o/all']),
      deny('no', ['/o/no']),
      deny('maybe', ['/o/maybe', '/elsewhere'], { when: 'value.x == 1' }),
      allow('m', ['/o/maybe']),
    ]),
  )
  assert.equal(word(agent.decide(del('/o/all', undefined, lost), NOW)), 'allow')
  assert.equal(word(agent.decide(del('/o/no', undefined, lost), NOW)), 'deny deny-rule')
  assert.equal(word(agent.decide(del('/elsewhere', undefined, lost), NOW)), 'deny default-deny')
  assert.equal(word(agent.decide(del('/o/maybe', undefined, lost), NOW)), 'deny prev-unknown')
})

test('a delete that no rule allows makes a key in view leave', () => {
  const agent = agentOf(bundleOf([allow('p', ['/p'], { match: { ops: ['put'] } })]))
  assert.ok(!agent.needsPrevValue, 'prev_kv is asked for only when rules look at values')
  assert.equal(
    transition(agent.visible(put('/p'), NOW), agent.decide(del('/p', undefined, { prevKnown: false }), NOW), 'delete'),
    'leave',
  )
})

test('conditions on key and op alone need no previous value', () => {
  assert.ok(!agentOf(bundleOf([allow('a', ['/**'], { when: 'key.endsWith("x") || op == "delete"' })])).needsPrevValue)
  assert.ok(
    !agentOf(bundleOf([allow('a', ['/**'], { when: 'value.x == 1', match: { to: { regions: ['hk'] } } })]), 'sz')
      .needsPrevValue,
    'only rules able to speak at egress count',
  )
})

test('transition: every cell of the table', () => {
  const allowed = { effect: 'allow', key: keyFromText('/k'), transforms: [], rules: [] } as const
  const withheld = {
    effect: 'withhold',
    key: keyFromText('/k'),
    rule: 'r',
    reason: 'not-json',
    transforms: [],
    rules: [],
  } as const
  const denied = { effect: 'deny', reason: 'default-deny' } as const
  const unknown = { effect: 'deny', reason: 'prev-unknown' } as const
  const table = [
    [allowed, allowed, 'put', 'put'],
    [denied, allowed, 'put', 'put'],
    [undefined, allowed, 'put', 'put'],
    [denied, withheld, 'put', 'put'],
    [withheld, denied, 'put', 'leave'],
    [allowed, denied, 'put', 'leave'],
    [denied, denied, 'put', 'nothing'],
    [undefined, denied, 'put', 'unknown-needs-checkpoint'],
    [unknown, denied, 'put', 'unknown-needs-checkpoint'],
    [allowed, allowed, 'delete', 'delete'],
    [allowed, denied, 'delete', 'leave'],
    [denied, denied, 'delete', 'nothing'],
    [undefined, denied, 'delete', 'unknown-needs-checkpoint'],
    [allowed, unknown, 'delete', 'unknown-needs-checkpoint'],
    [denied, unknown, 'put', 'unknown-needs-checkpoint'],
  ] as const
  for (const [before, next, op, expected] of table) assert.equal(transition(before, next, op), expected)
})

// ---- schemas

const withSchema = (onInvalid: string, schema: unknown = { type: 'object', required: ['c'] }): EgressDecider =>
  agentOf(
    bundleOf([allow('a', ['/d/*'])], { schemas: [{ keys: ['/d/*'], schema: 's.json', onInvalid }] }, testDeps(), {
      's.json': schema,
    }),
  )

test('a value that fails its schema is withheld or quarantined, a good one passes', () => {
  const [hold, keep] = [withSchema('withhold'), withSchema('quarantine')]
  assert.equal(word(hold.decide(put('/d/1', { c: 1 }), NOW)), 'allow')
  assert.equal(word(hold.decide(put('/d/1', { d: 1 }), NOW)), 'withhold schema-invalid')
  assert.equal(word(hold.decide(put('/d/1', 'no json'), NOW)), 'withhold schema-invalid')
  assert.ok(!hold.needsPrevValue)
  assert.deepEqual(keep.decide(put('/d/1', { d: 1 }), NOW), {
    effect: 'deny',
    rule: 'schema:s.json',
    reason: 'quarantined',
  })
  assert.ok(keep.needsPrevValue, 'whether the key was in view depends on its value')
  assert.equal(change(keep, put('/d/1', { d: 1 }, { prevValue: bytes({ c: 1 }) }), true), 'leave')
  assert.equal(change(keep, del('/d/1', { d: 1 }), true), 'nothing')
  assert.equal(change(keep, del('/d/1', undefined, { prevKnown: false }), true), 'unknown-needs-checkpoint')
})

test('schemas that could run away or look elsewhere refuse the bundle', () => {
  const bomb: Record<string, unknown> = { a0: { type: 'string' } }
  for (let i = 1; i < 30; i++) bomb[`a${i}`] = { allOf: [{ $ref: `#/$defs/a${i - 1}` }, { $ref: `#/$defs/a${i - 1}` }] }
  const deep = Array.from({ length: 100 }).reduce<unknown>((inner) => ({ not: inner }), true)
  const bad: readonly unknown[] = [
    { pattern: '^(a+)+$' },
    { properties: { a: { pattern: 'x' } } },
    { patternProperties: { '^x': true } },
    { format: 'email' },
    { uniqueItems: true },
    { $ref: 'https://example.com/s.json' },
    { $ref: '#' },
    { $defs: { a: { $ref: '#/$defs/a' } } },
    { $dynamicRef: '#x' },
    { $ref: '#/$defs/none' },
    { unknownKeyword: 1 },
    { $defs: bomb, $ref: '#/$defs/a29' },
    deep,
    { type: 'nonsense' },
    [],
    'x',
  ]
  for (const schema of bad) {
    const { issues, bundle } = compileDocuments(
      [documentOf([], { schemas: [{ keys: ['/d/*'], schema: 's.json', onInvalid: 'withhold' }] })],
      testDeps(),
      { 's.json': schema },
    )
    assert.ok(bundle === undefined && issues.every((i) => i.code === 'bad-schema'), JSON.stringify(schema).slice(0, 60))
  }
  const { issues } = compileDocuments([
    documentOf([], { schemas: [{ keys: ['/d/*'], schema: '../x.json', onInvalid: 'withhold' }] }),
  ])
  assert.deepEqual(
    issues.map((i) => i.code),
    ['missing-schema'],
  )
  assert.equal(
    word(
      withSchema('withhold', { $defs: { a: { type: 'number' } }, properties: { c: { $ref: '#/$defs/a' } } }).decide(
        put('/d/1', { c: 'x' }),
        NOW,
      ),
    ),
    'withhold schema-invalid',
  )
})
