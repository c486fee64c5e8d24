// A detector of one rule and a field action of another at the same place: the stricter wins, and adding a rule reveals nothing.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { agentOf, allow, bundleOf, NOW, put, text, word } from './fixture.ts'

/** What rules with these lists of transforms make of a value together. */
function together(value: unknown, ...lists: readonly (readonly unknown[])[]): unknown {
  const rules = lists.map((transform, i) => allow(`r${i}`, ['/k'], { transform }))
  const decision = agentOf(bundleOf(rules)).decide(put('/k', value), NOW)
  return decision.effect === 'allow' ? (JSON.parse(text(decision.value) ?? '') as unknown) : word(decision)
}

const ID = '11010519491231002X'
const PHONE = '13800138000'
const find = (kind: string, action = 'mask'): unknown => ({ detect: [kind], action })
const MASKED = { id: '***' }

test('I6: what a detector finds is masked, whatever another rule would leave of it', () => {
  const value = { id: ID }
  assert.deepEqual(together(value, [find('cn-id')]), { id: '*'.repeat(18) })
  for (const action of [
    { action: 'keepFirst', n: 9 },
    { action: 'keepLast', n: 9 },
    { action: 'truncate', n: 17 },
    { action: 'hash' },
    { action: 'hmac', key: 'k' },
    { action: 'mask' },
  ]) {
    assert.deepEqual(together(value, [find('cn-id')], [{ field: '/id', ...action }]), MASKED, action.action)
    assert.deepEqual(together(value, [{ field: '/id', ...action }], [find('cn-id')]), MASKED, action.action)
  }
  assert.deepEqual(
    together({ id: Number(PHONE) }, [find('phone')], [{ field: '/id', action: 'truncate', n: 10 }]),
    MASKED,
  )
  assert.deepEqual(together({ id: PHONE }, [find('phone')], [{ field: '/id', action: 'hash' }]), MASKED)
  assert.deepEqual(together(value, [find('cn-id')], [{ field: '/id', action: 'drop' }]), {})
})

test('I6: what a detector withholds for stays withheld, whatever another rule does to the place', () => {
  for (const [field, value] of [
    ['/id', { id: PHONE }],
    ['/id', { id: { p: [PHONE] } }],
    ['/id', { id: { [PHONE]: 1 } }],
    ['/**', { o: { id: PHONE } }],
    [`/${PHONE}`, { [PHONE]: 1 }],
  ] as const) {
    for (const action of ['mask', 'drop', 'hash'])
      assert.equal(
        together(value, [find('phone', 'withhold')], [{ field, action }]),
        'withhold detected',
        `${field} ${action} ${JSON.stringify(value)}`,
      )
  }
})

test('one rule with both a field action and a detector means what it says: the detector sees what the action left', () => {
  const both = (n: number): unknown => together({ id: ID }, [{ field: '/id', action: 'keepLast', n }, find('cn-id')])
  assert.deepEqual(both(4), { id: '**************002X' })
  assert.deepEqual(together({ id: PHONE }, [{ field: '/id', action: 'drop' }, find('phone', 'withhold')]), {})
  assert.deepEqual(together({ id: PHONE }, [{ field: '/id', action: 'mask' }, find('phone', 'withhold')]), MASKED)
  assert.deepEqual(
    together(
      { id: ID },
      [{ field: '/id', action: 'keepLast', n: 4 }, find('cn-id')],
      [{ field: '/id', action: 'keepLast', n: 4 }],
    ),
    { id: '**************002X' },
  )
})

test('I6: a smaller number of another rule does not uncover what a rule’s own detector found', () => {
  const own = [{ field: '/id', action: 'truncate', n: 18 }, find('cn-id')]
  assert.deepEqual(together({ id: ID }, own), { id: '*'.repeat(18) })
  assert.deepEqual(together({ id: ID }, own, [{ field: '/id', action: 'truncate', n: 17 }]), MASKED)
  // A stretch that is a telephone only once the rest is cut off.
  const cut = [{ field: '/id', action: 'truncate', n: 11 }]
  const value = { id: '138001380007777777' }
  assert.deepEqual(together(value, cut, [find('phone')]), { id: '*'.repeat(11) })
  assert.deepEqual(together(value, cut, [find('phone')], [{ field: '/id', action: 'truncate', n: 10 }]), MASKED)
  for (const action of ['mask', 'drop'])
    assert.equal(together(value, cut, [find('phone', 'withhold')], [{ field: '/id', action }]), 'withhold detected')
})
