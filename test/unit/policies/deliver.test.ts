// What subscribers see: classes, narrowing, transforms not repeated, keys as delivered, view tags, limits.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keyFromText, prefixEnd } from '#protocol/bytes.ts'
import type { Key } from '#protocol/bytes.ts'
import { MAX_CLASSES } from '#policies/engine/bounds.ts'
import { classify, releaseClass } from '#policies/engine/classes.ts'
import { deliver } from '#policies/engine/deliver.ts'
import { keyDescriptor } from '#policies/engine/key-transform.ts'
import type { Decision, PolicyBundle, PolicyEvent } from '#policies/engine/types.ts'
import { testDeps } from '#policies/node/hashing.ts'
import {
  agentOf,
  allow,
  bundleOf,
  classOf,
  del,
  deny,
  gatewayOf,
  issuesOf,
  NOW,
  put,
  subscriber,
  text,
  word,
} from './fixture.ts'

/** The event as the log carries it on. */
function logged(decision: Decision, op: PolicyEvent['op'] = 'put'): PolicyEvent {
  assert.ok(decision.effect !== 'deny')
  return decision.effect === 'withhold'
    ? { op, key: decision.key, withheld: decision.rule, applied: decision.transforms, prevKnown: true }
    : { op, key: decision.key, value: decision.value, applied: decision.transforms, prevKnown: true }
}

test('who sees what: region, audience, whenSubscriber', () => {
  const bundle = bundleOf([
    allow('r', ['/r'], { match: { to: { regions: ['hk'] } } }),
    allow('a', ['/a'], { match: { to: { audience: ['org:acme', 'team:x'] } } }),
    allow('s', ['/s'], { whenSubscriber: '"orders:read" in subscriber.scopes' }),
    allow('all', ['/n']),
    deny('n', ['/n'], { whenSubscriber: 'subscriber.labels.env == "prod"' }),
  ])
  const sees = (key: string, over: Parameters<typeof subscriber>[0]): string =>
    word(gatewayOf(bundle, over).decide(put(key), NOW))
  assert.equal(sees('/r', { region: 'hk' }), 'allow')
  assert.equal(sees('/r', { region: 'us' }), 'deny default-deny')
  assert.equal(sees('/a', { org: 'acme' }), 'allow')
  assert.equal(sees('/a', { audiences: ['team:x'] }), 'allow')
  assert.equal(sees('/a', { org: 'other' }), 'deny default-deny')
  assert.equal(sees('/s', { scopes: ['orders:read'] }), 'allow')
  assert.equal(sees('/s', {}), 'deny default-deny')
  assert.equal(sees('/n', { labels: { env: 'test' } }), 'allow')
  assert.equal(sees('/n', { labels: { env: 'prod' } }), 'deny deny-rule')
  assert.equal(sees('/n', {}), 'deny deny-rule', 'a whenSubscriber that fails matches in a deny rule')
})

test('a class is what the bundle distinguishes and nothing more', () => {
  const bundle = bundleOf([
    allow('a', ['/a'], {
      match: { to: { regions: ['hk'], audience: ['org:acme'] } },
      whenSubscriber: '"r" in subscriber.scopes',
    }),
  ])
  const id = (over: Parameters<typeof subscriber>[0]): string => classOf(bundle, over).id
  assert.equal(
    id({ region: 'us', scopes: ['a'] }),
    id({ region: 'mo', scopes: ['b', 'c'], subject: 'other', labels: { x: 'y' } }),
  )
  assert.notEqual(id({ region: 'hk' }), id({ region: 'us' }))
  assert.notEqual(id({ org: 'acme' }), id({}))
  assert.equal(id({ org: 'acme' }), id({ audiences: ['org:acme', 'org:acme', 'org:none'] }))
  assert.notEqual(id({ scopes: ['r'] }), id({}))
  assert.equal(
    classify(bundle, subscriber()),
    classify(bundle, subscriber({ subject: 'else' })),
    'one object per class',
  )
})

test('the number of classes is capped, refused by name, and places come back', () => {
  const audiences = Array.from({ length: MAX_CLASSES + 1 }, (_, i) => `team:${i}`)
  const bundle = bundleOf([
    allow('a', ['/a'], { match: { to: { audience: audiences.slice(0, 256) } } }),
    allow('b', ['/b'], { match: { to: { audience: audiences.slice(256) } } }),
  ])
  const classes = audiences.slice(0, MAX_CLASSES).map((a) => classOf(bundle, { audiences: [a] }))
  assert.deepEqual(classify(bundle, subscriber({ audiences: [`team:${MAX_CLASSES}`] })), {
    refused: 'too-many-classes',
  })
  assert.equal(classify(bundle, subscriber({ audiences: ['team:0'] })), classes[0], 'known classes still come in')
  const [first] = classes
  assert.ok(first !== undefined)
  releaseClass(bundle, first)
  assert.ok(!('refused' in classify(bundle, subscriber({ audiences: [`team:${MAX_CLASSES}`] }))))
})

test('a class of another bundle sees nothing', () => {
  const cls = classOf(bundleOf([allow('a', ['**'])]))
  const other = { ...bundleOf([allow('a', ['**'])]), revision: 'other' }
  const gateway = deliver(other, 'sz', cls)
  assert.equal(word(gateway.decide(put('/a'), NOW)), 'deny unknown-source')
  assert.ok(gateway.blind && gateway.hideActivity)
})

test('deliver does not repeat what egress applied, and does what it did not', () => {
  const bundle = bundleOf([
    allow('all', ['/o'], {
      transform: [
        { field: '/phone', action: 'hmac', key: 'k' },
        { field: '/id', action: 'keepLast', n: 4 },
      ],
    }),
    allow('hk', ['/o'], {
      match: { to: { regions: ['hk'] } },
      transform: [
        { field: '/id', action: 'keepLast', n: 2 },
        { field: '/address', action: 'drop' },
      ],
    }),
  ])
  const left = agentOf(bundle, 'sz').decide(
    put('/o', { phone: '13800138000', id: '440305199001011221', address: 'x' }),
    NOW,
  )
  assert.deepEqual(left.effect === 'allow' ? left.transforms : [], ['/id=keepLast:4', '/phone=hmac:k'])
  const event = logged(left)
  const near = gatewayOf(bundle, { region: 'sz' }).decide(event, NOW)
  assert.ok(near.effect === 'allow' && near.value === event.value, 'the same bytes: nothing is left to do')
  const far = gatewayOf(bundle, { region: 'hk' }).decide(event, NOW)
  assert.ok(far.effect === 'allow')
  const token = (JSON.parse(text(event.value) ?? '{}') as Record<string, string>)['phone']
  assert.equal(text(far.value), `{"phone":"${token}","id":"****************21"}`)
})

test('what egress withheld stays withheld, under its own rule', () => {
  const bundle = bundleOf([
    allow('a', ['/o'], { transform: [{ field: '/a', action: 'mask' }] }),
    allow('v', ['/v'], { when: 'value.x == 1', transform: [{ field: '/a', action: 'mask' }] }),
  ])
  const event = logged(agentOf(bundle).decide(put('/o', 'no json'), NOW))
  assert.deepEqual(gatewayOf(bundle).decide(event, NOW), {
    effect: 'withhold',
    key: '/o',
    rule: 'a',
    reason: 'egress',
    transforms: ['/a=mask'],
    rules: ['a'],
  })
  assert.equal(
    word(gatewayOf(bundle).decide({ ...event, key: keyFromText('/v') }, NOW)),
    'deny default-deny',
    'a condition on a value that is not there fails',
  )
})

// ---- keys that are personal data

const users = (more: Record<string, unknown> = {}): PolicyBundle =>
  bundleOf([
    allow('u', ['/users/*/profile'], { keyTransform: [{ segment: 2, action: 'hmac', key: 'k' }], ...more }),
    allow('x', ['/plain/**']),
  ])

test('keyTransform replaces a segment, always the same, for puts and deletes, and the gateway does not repeat it', () => {
  const bundle = users()
  const agent = agentOf(bundle)
  const one = agent.decide(put('/users/13800138000/profile'), NOW)
  assert.ok(one.effect === 'allow')
  assert.match(one.key, /^\/users\/~k\.[\w-]{43}\/profile$/)
  assert.deepEqual(one.transforms, ['key:2=hmac:k'])
  const gone = agent.decide(del('/users/13800138000/profile', '{}'), NOW)
  assert.ok(gone.effect === 'allow' && gone.key === one.key)
  const gateway = gatewayOf(bundle)
  assert.ok(gateway.movesKeys)
  for (const event of [
    logged(one),
    { ...logged(gone, 'delete') },
    { op: 'put', key: one.key, value: new Uint8Array(), prevKnown: true } as const,
  ]) {
    const seen = gateway.decide(event, NOW)
    assert.ok(
      seen.effect === 'allow' && seen.key === one.key,
      'also without a list of what was applied, as a LEAVE has none',
    )
  }
  assert.notEqual(agent.decide(put('/users/13900139000/profile'), NOW), one)
  assert.equal(keyDescriptor({ segment: 2, action: 'hmac', key: 'k' }), 'key:2=hmac:k')
})

test('a keyTransform that cannot be done drops the event; keys that look like its outcome are denied at the source', () => {
  const keyless = { ...testDeps(), hmac: () => undefined, keyFingerprint: () => undefined }
  const broken = agentOf(
    bundleOf([allow('u', ['/users/**'], { keyTransform: [{ segment: 2, action: 'hmac', key: 'gone' }] })], {}, keyless),
  )
  assert.equal(word(broken.decide(put('/users/1/profile'), NOW)), 'deny key-transform-failed')
  const deep = agentOf(bundleOf([allow('u', ['/**'], { keyTransform: [{ segment: 3, action: 'hmac', key: 'k' }] })]))
  assert.equal(word(deep.decide(put('/a/b'), NOW)), 'deny key-transform-failed', 'the key has no such segment')
  const agent = agentOf(users())
  assert.equal(word(agent.decide(put(`/plain/~k.${'A'.repeat(43)}`), NOW)), 'deny key-reserved')
  assert.equal(word(agent.decide(put(`/plain/~k.${'A'.repeat(42)}`), NOW)), 'allow')
})

test('differing keyTransforms for one key deny it; equal ones are one; the key does not depend on operation, value or time', () => {
  const move = (key: string): unknown => [{ segment: 1, action: 'hmac', key }]
  const conflict = agentOf(
    bundleOf([allow('a', ['/*'], { keyTransform: move('k') }), allow('b', ['/*'], { keyTransform: move('l') })]),
  )
  assert.equal(word(conflict.decide(put('/1'), NOW)), 'deny key-transform-conflict')
  const same = agentOf(
    bundleOf([
      allow('a', ['/*'], { keyTransform: move('k') }),
      allow('b', ['/*'], { keyTransform: move('k') }),
      allow('c', ['/*']),
    ]),
  )
  assert.equal(word(same.decide(put('/1'), NOW)), 'allow')
  const varying = agentOf(
    bundleOf([
      allow('a', ['/*'], { when: 'value.x == 1', keyTransform: move('k'), match: { ops: ['put'] } }),
      allow('b', ['/*']),
    ]),
  )
  const keys = [put('/1', { x: 1 }), put('/1', { x: 2 }), del('/1', { x: 2 })].map((event) => {
    const decision = varying.decide(event, NOW)
    return decision.effect === 'deny' ? '' : decision.key
  })
  assert.ok(keys[0]?.startsWith('/~k.') === true && keys.every((key) => key === keys[0]))
})

test('rules that a keyTransform would blind at the gateway refuse the bundle', () => {
  const transform = allow('u', ['/users/*/profile'], { keyTransform: [{ segment: 2, action: 'hmac', key: 'k' }] })
  const blind = [
    deny('d', ['/users/138*/profile']),
    deny('d', ['/**/138*/**']),
    deny('d', ['/users/**'], { when: 'key.startsWith("/users/138")' }),
    allow('d', ['/users/**'], { match: { except: ['/users/138*/**'] } }),
    allow('d', ['/users/138*/profile'], { transform: [{ field: '/a', action: 'mask' }] }),
  ]
  for (const rule of blind)
    assert.deepEqual(issuesOf([transform, rule]), ['blinded-by-key-transform'], JSON.stringify(rule))
  const fine = [
    deny('d', ['/users/*/profile']),
    deny('d', ['/orders/138*/profile']),
    allow('d', ['/users/138*/profile']),
    deny('d', ['/users/**']),
    deny('d', ['/users/*/secret-*']),
  ]
  for (const rule of fine) assert.deepEqual(issuesOf([transform, rule]), [], JSON.stringify(rule))
  assert.deepEqual(
    issuesOf([allow('u', ['/users/u-*/profile'], { keyTransform: [{ segment: 2, action: 'hmac', key: 'k' }] })]),
    ['blinded-by-key-transform'],
    'a rule can blind itself',
  )
})

// ---- view tags, limits, activity

const range = (prefix: string): { from: Key; to: Key | undefined } => ({
  from: keyFromText(prefix),
  to: prefixEnd(keyFromText(prefix)),
})

test('a view tag changes exactly with the rules able to touch the range, for this class', () => {
  const base = [allow('a', ['/a/**']), allow('b', ['/b/**'], { match: { to: { regions: ['hk'] } } })]
  const tag = (rules: readonly unknown[], prefix: string, region = 'sz'): string =>
    gatewayOf(bundleOf(rules), { region }).tagFor(range(prefix), NOW)
  const changedA = [allow('a', ['/a/**'], { transform: [{ field: '/x', action: 'mask' }] }), base[1]]
  assert.notEqual(tag(base, '/a/'), tag(changedA, '/a/'))
  assert.equal(tag(base, '/b/', 'hk'), tag(changedA, '/b/', 'hk'))
  assert.notEqual(tag(base, '/'), tag(changedA, '/'), 'a range around it is touched')
  assert.notEqual(tag(base, '/a/deep/inside'), tag(changedA, '/a/deep/inside'), 'and one inside it')
  assert.notEqual(tag(base, '/b/', 'hk'), tag(base, '/b/', 'sz'))
  assert.equal(tag([...base, deny('d', ['/c/**'])], '/a/'), tag(base, '/a/'))
  assert.notEqual(
    tag([...base, deny('d', ['/**/x'])], '/a/'),
    tag(base, '/a/'),
    'a rule that starts with a wildcard may touch anything',
  )
  assert.equal(tag(base.toReversed(), '/'), tag(base, '/'), 'order is nothing')
})

test('a view tag changes when a basis lapses, a key is rotated, and for keys that a transform moves', () => {
  const lapse = Date.parse('2027-01-01T00:00:00Z')
  const contract = bundleOf([
    allow('c', ['/c/**'], { basis: { kind: 'c', ref: 'x', expires: '2027-01-01T00:00:00Z' } }),
  ])
  const gateway = gatewayOf(contract)
  assert.notEqual(gateway.tagFor(range('/c/'), lapse - 1), gateway.tagFor(range('/c/'), lapse))
  assert.equal(gateway.tagFor(range('/x/'), lapse - 1), gateway.tagFor(range('/x/'), lapse))
  assert.equal(gateway.nextExpiry(NOW), lapse)
  const rules = [
    allow('u', ['/*/a'], { keyTransform: [{ segment: 1, action: 'hmac', key: 'k' }] }),
    allow('v', ['/users/a']),
  ]
  const rotated = { ...testDeps(), keyFingerprint: () => 'another' }
  const tags = [testDeps(), rotated].map((deps) => gatewayOf(bundleOf(rules, {}, deps)).tagFor(range('/~k.'), NOW))
  assert.notEqual(tags[0], tags[1])
  const [one, two] = [rules, [rules[0], allow('v', ['/users/a'], { match: { ops: ['put'] } })]].map((all) =>
    gatewayOf(bundleOf(all)).tagFor(range('/~k.'), NOW),
  )
  assert.notEqual(one, two, 'the range is of keys as delivered: v acts on /users/a, which is delivered elsewhere')
})

test('limits: the strictest that applies wins; activity is hidden where a document says so', () => {
  const bundle = bundleOf([allow('a', ['**'])], {
    limits: [
      { events: '1000/s' },
      { to: { audience: ['org:acme'] }, events: '200/s', bytes: '64KiB/s' },
      { to: { regions: ['hk'] }, bytes: '1MiB/s' },
    ],
    activity: [{ to: { audience: ['org:acme'] }, hide: true }],
  })
  assert.deepEqual(gatewayOf(bundle).limits, { eventsPerSecond: 1000 })
  assert.deepEqual(gatewayOf(bundle, { org: 'acme', region: 'hk' }).limits, {
    eventsPerSecond: 200,
    bytesPerSecond: 65_536,
  })
  assert.deepEqual(gatewayOf(bundle, { region: 'hk' }).limits, { eventsPerSecond: 1000, bytesPerSecond: 1_048_576 })
  assert.ok(gatewayOf(bundle, { org: 'acme' }).hideActivity && !gatewayOf(bundle).hideActivity)
})

test('blind: no rule could ever show this class anything', () => {
  const bundle = bundleOf([allow('a', ['/a'], { match: { to: { regions: ['hk'] } } }), deny('d', ['/**'])])
  assert.ok(gatewayOf(bundle, { region: 'sz' }).blind && !gatewayOf(bundle, { region: 'hk' }).blind)
})

test('a decision on one event is not another class’s, nor another event’s', () => {
  const bundle = bundleOf([
    allow('a', ['/o/*'], { when: 'value.c == "x"', match: { to: { regions: ['hk'] } } }),
    allow('b', ['/o/*'], { when: 'value.c == "y"', match: { to: { regions: ['mo'] } } }),
  ])
  const [hk, mo] = [gatewayOf(bundle, { region: 'hk' }), gatewayOf(bundle, { region: 'mo' })]
  const [x, y] = [put('/o/1', { c: 'x' }), put('/o/1', { c: 'y' })]
  for (const [gateway, event, expected] of [
    [hk, x, 'allow'],
    [mo, x, 'deny default-deny'],
    [hk, y, 'deny default-deny'],
    [mo, y, 'allow'],
    [hk, x, 'allow'],
  ] as const) {
    assert.equal(word(gateway.decide(event, NOW)), expected)
  }
})
