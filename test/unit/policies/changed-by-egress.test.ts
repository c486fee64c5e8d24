// What egress did to a value must not decide at the gateway: a condition that reads it counts as one that failed.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { blindedConditions } from '#policies/engine/lint.ts'
import type { Decision, PolicyBundle, PolicyEvent, Subscriber } from '#policies/engine/types.ts'
import { agentOf, allow, bundleOf, del, deny, gatewayOf, NOW, put, word } from './fixture.ts'

const to = (...regions: readonly string[]): { match: { to: { regions: readonly string[] } } } => ({
  match: { to: { regions } },
})
const HK: Partial<Subscriber> = { region: 'hk', org: 'acme' }

/** A put through both stages, with the hub in sz. */
function delivered(bundle: PolicyBundle, value: unknown, who: Partial<Subscriber> = HK): Decision {
  const left = agentOf(bundle).decide(put('/orders/1', value), NOW)
  assert.ok(left.effect === 'allow', word(left))
  const event: PolicyEvent = { op: 'put', key: left.key, value: left.value, applied: left.transforms, prevKnown: true }
  const gateway = gatewayOf(bundle, who)
  assert.equal(gateway.visible(event, NOW), gateway.decide(event, NOW).effect === 'deny' ? 'hidden' : 'visible')
  return gateway.decide(event, NOW)
}

/** Transforms that change what the rules below decide by, and a text for that field which they change. */
const CHANGES: readonly (readonly [string, unknown, string])[] = [
  ['mask', { field: '/class', action: 'mask' }, 'sensitive'],
  ['hash', { field: '/class', action: 'hash' }, 'sensitive'],
  ['hmac', { field: '/class', action: 'hmac', key: 'k' }, 'sensitive'],
  ['keepFirst', { field: '/class', action: 'keepFirst', n: 2 }, 'sensitive'],
  ['keepLast', { field: '/class', action: 'keepLast', n: 2 }, 'sensitive'],
  ['truncate', { field: '/class', action: 'truncate', n: 3 }, 'sensitive'],
  ['drop', { field: '/class', action: 'drop' }, 'sensitive'],
  ['any field', { field: '/*', action: 'truncate', n: 3 }, 'sensitive'],
  ['anything below', { field: '/**', action: 'hash' }, 'sensitive'],
  ['a name anywhere', { field: '/**/class', action: 'mask' }, 'sensitive'],
  ['detect', { detect: ['phone'], action: 'mask' }, 'for 13800138000'],
]

for (const [name, transform, secret] of CHANGES) {
  const is = `value.class == "${secret}"`
  const value = { class: secret, body: 'SECRET' }

  test(`I6: deliver denies by the source's value, not by what egress left of it: ${name}`, () => {
    const orders = allow('orders', ['/orders/*'], { ...to('sz', 'hk'), transform: [transform] })
    const byAudience = bundleOf([
      orders,
      deny('not-for-acme', ['/orders/*'], { match: { to: { audience: ['org:acme'] } }, when: is }),
    ])
    assert.equal(word(delivered(byAudience, value)), 'deny condition-error')
    assert.equal(word(delivered(byAudience, value, { region: 'hk', org: 'other' })), 'allow')

    const byRegion = bundleOf([orders, deny('not-to-hk', ['/orders/*'], { ...to('hk'), when: is })])
    assert.equal(word(delivered(byRegion, value)), 'deny condition-error')
    assert.equal(word(delivered(byRegion, value, { region: 'sz' })), 'allow')
  })

  test(`I6: deliver allows by the source's value, not by what egress left of it: ${name}`, () => {
    const bundle = bundleOf([
      allow('normal', ['/orders/*'], { ...to('hk', 'sz'), when: `value.class != "${secret}"` }),
      allow('hub', ['/orders/*'], { ...to('sz'), transform: [transform] }),
    ])
    assert.equal(word(delivered(bundle, value)), 'deny default-deny')
  })

  test(`I6: a delete is decided by the previous value as the source wrote it: ${name}`, () => {
    const bundle = bundleOf([
      allow('orders', ['/orders/*'], { ...to('sz', 'hk'), transform: [transform] }),
      deny('not-to-hk', ['/orders/*'], { ...to('hk'), when: is }),
    ])
    const before = agentOf(bundle).decide(put('/orders/1', value), NOW)
    assert.ok(before.effect === 'allow')
    const event = del('/orders/1', undefined, { prevValue: before.value, applied: before.transforms })
    assert.equal(word(gatewayOf(bundle, HK).decide(event, NOW)), 'deny condition-error')
  })
}

test('what egress certainly left alone can be read', () => {
  const seen = (when: string, transform: unknown, value: unknown): string =>
    word(
      delivered(
        bundleOf([
          allow('hk', ['/orders/*'], { ...to('hk'), when }),
          allow('hub', ['/orders/*'], { ...to('sz'), transform: [transform] }),
        ]),
        value,
      ),
    )
  const value = { class: 'normal', phone: '13800138000', o: { class: 'x', p: 'y' }, l: ['a', 'b'] }
  const phone = { detect: ['phone'], action: 'mask' }
  assert.equal(seen('value.class == "normal"', { field: '/phone', action: 'mask' }, value), 'allow')
  assert.equal(seen('value.class == "normal"', { field: '/class/below', action: 'mask' }, value), 'allow')
  assert.equal(seen('value.class == "normal"', { field: '/**/p', action: 'mask' }, value), 'allow')
  assert.equal(seen('value["class"] == "normal"', phone, value), 'allow')
  assert.equal(seen('value.o.p == "y"', { field: '/o/class', action: 'drop' }, value), 'allow')
  assert.equal(seen('value.l[1] == "b"', { field: '/l/0', action: 'drop' }, value), 'allow')
  assert.equal(seen('has(value.class)', phone, value), 'allow')
  assert.equal(seen('op == "put"', { field: '/**', action: 'mask' }, value), 'allow')
})

test('I6: what egress may have changed cannot be read, however it is read', () => {
  const seen = (when: string, transform: unknown): string =>
    word(
      delivered(
        bundleOf([
          allow('hk', ['/orders/*'], { ...to('hk'), when }),
          allow('hub', ['/orders/*'], { ...to('sz'), transform: [transform] }),
        ]),
        { class: 'normal', phone: '13800138000', o: { p: 'y' }, l: ['a', 'b'], 'n 13800138000': 1 },
      ),
    )
  const phone = { detect: ['phone'], action: 'mask' }
  for (const when of [
    'size(value) > 0',
    '!("x" in value)',
    '!has(value.phone)',
    'value[string(value.class)] != "x" || true',
  ])
    assert.equal(seen(when, { field: '/phone', action: 'drop' }), 'deny default-deny', when)
  for (const when of ['size(value.o) == 1', '!has(value.o.p.q)', 'value.o.p != "z"'])
    assert.equal(seen(when, { field: '/o/p', action: 'mask' }), 'deny default-deny', when)
  for (const when of ['value.o.p != "z" || true', '!has(value.o.p)'])
    assert.equal(seen(when, { field: '/o', action: 'mask' }), 'deny default-deny', when)
  for (const when of ['value.l.exists(x, x == "b")', 'value.l[0] != "q"', 'value.l[size(value.l) - 2] != "q"'])
    assert.equal(seen(when, { field: '/l/*', action: 'hash' }), 'deny default-deny', when)
  for (const when of ['value.phone != "q"', 'size(value) > 0', '!("q" in value)', 'true || value.phone == "q"'])
    assert.equal(seen(when, phone), 'deny default-deny', when)
})

test('a transform that the gateway does not know counts as one that may have changed anything', () => {
  const bundle = bundleOf([allow('a', ['/orders/*'], { when: 'value.class == "x"' })])
  const seen = (applied: string): string =>
    word(gatewayOf(bundle, HK).decide(put('/orders/1', { class: 'x' }, { applied: [applied] }), NOW))
  assert.equal(seen('detect:phone=mask'), 'allow')
  assert.equal(seen('detect:phone=withhold'), 'allow')
  assert.equal(seen('key:2=hmac:k'), 'allow')
  for (const unknown of ['', 'new', 'new=mask', 'detect:phone=blur', '/class=blur'])
    assert.equal(seen(unknown), 'deny default-deny', unknown)
})

test('`policy check` names conditions that egress blinds', () => {
  const rules = [
    allow('orders', ['/orders/*'], { ...to('sz', 'hk'), transform: [{ field: '/class', action: 'mask' }] }),
    deny('not-to-hk', ['/orders/*'], { ...to('hk'), when: 'value.class == "sensitive"' }),
    deny('elsewhere', ['/other/*'], { ...to('hk'), when: 'value.class == "sensitive"' }),
    deny('other-field', ['/orders/*'], { ...to('hk'), when: 'value.state == "sensitive"' }),
  ]
  const bundle = bundleOf(rules)
  for (const hub of ['sz', undefined])
    assert.deepEqual(
      blindedConditions(bundle, hub).map((issue) => `${issue.level} ${issue.code} ${issue.rule}`),
      ['warning blinded-by-transform not-to-hk'],
    )
  assert.deepEqual(blindedConditions(bundle, 'mo'), [], 'nothing leaves for that hub, so nothing is changed on the way')
})
