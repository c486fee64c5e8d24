// Conditions: what is offered, what is refused at load time, and that cost stays bounded.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keyFromText } from '#protocol/bytes.ts'
import { conditionCompiler } from '#policies/engine/condition.ts'
import { agentOf, allow, bundleOf, deny, issuesOf, NOW, put, word } from './fixture.ts'

const compiler = conditionCompiler()

function holds(expression: string, value: unknown, key = '/k', op: 'put' | 'delete' = 'put'): boolean {
  const compiled = compiler.value(expression)
  assert.ok(compiled.ok, `${expression}: ${compiled.ok ? '' : compiled.error}`)
  return compiled.value.evaluate(op, keyFromText(key), () => value)
}

test('conditions read op, key and value', () => {
  assert.ok(holds('value.class != "sensitive"', { class: 'normal' }))
  assert.ok(holds('value.n > 5 && value.n == 6', { n: 6 }), 'JSON numbers compare with whole literals')
  assert.ok(holds('op == "delete" || key.startsWith("/人")', {}, '/人/1'))
  assert.ok(holds('value.tags.exists(t, t == "a") && "x" in value', { tags: ['a'], x: 1 }))
  assert.ok(holds('glob(key, "/a/*/c") && !glob(key, "/a/é/c")', {}, '/a/b/c'))
  assert.ok(holds('glob(key, "/a/é/*")', {}, '/a/é/c'))
  assert.ok(holds('has(value.a) ? value.a == "x" : true', {}))
})

test('what the prototype has is no field of the value', () => {
  for (const name of ['constructor', 'toString', '__proto__', 'hasOwnProperty']) {
    assert.ok(!holds(`has(value.${name})`, {}))
    assert.throws(() => holds(`value.${name} == "x"`, {}))
  }
})

test('an expression that is unbounded, unknown or no condition refuses the bundle', () => {
  const refused = [
    'value.s.matches("^(a+)+$")',
    'value.a.all(i, value.b.all(j, i == j))',
    'value.a.all(i, i in value.b)',
    'value.a.exists(i, i == value.b)',
    'value.a.map(i, i)',
    'value.a.filter(i, true)',
    'value.a.contains(value.b)',
    'value.a.split(",").size() > 0',
    'cel.bind(x, key + key, x + x == "")',
    'glob(key, value.pattern)',
    'glob(key, "/a[b]")',
    'timestamp(value.at) < timestamp(value.to)',
    'subscriber.region == "sz"',
    'now > 5',
    '"a string"',
    'value.',
    'value.a.?b.orValue(true)',
    'key'.padEnd(3000, ' '),
    `${'('.repeat(40)}true${')'.repeat(40)}`,
    Array.from({ length: 150 }, () => 'key == "x"').join(' || '),
    `[${Array.from({ length: 100 }, () => '1').join(',')}].size() == 1`,
    'value.a.exists(value, true)',
  ]
  for (const expression of refused) assert.ok(!compiler.value(expression).ok, expression.slice(0, 60))
  assert.deepEqual(issuesOf([allow('a', ['/a'], { when: 'value.s.matches("a")' })]), ['bad-expression'])
  assert.deepEqual(
    issuesOf([allow('a', ['/a'], { whenSubscriber: 'op == "put"' })]),
    ['bad-expression'],
    'whenSubscriber sees nothing of the event',
  )
})

test('deep nesting is refused quickly and does not overflow', () => {
  const start = performance.now()
  for (const expression of [
    '!'.repeat(2000) + 'true',
    '('.repeat(1000),
    '['.repeat(2000),
    'value' + '.a'.repeat(1000),
    'true ? '.repeat(250) + 'true',
  ]) {
    assert.ok(!compiler.value(expression).ok)
  }
  assert.ok(performance.now() - start < 5000)
})

test('I6: a condition that fails to evaluate makes allow rules not match and deny rules match', () => {
  const agent = agentOf(
    bundleOf([
      allow('open', ['/a', '/b']),
      allow('c', ['/c'], { when: 'value.x == "1"' }),
      deny('d', ['/b'], { when: 'value.x == "1"' }),
    ]),
  )
  assert.equal(word(agent.decide(put('/c', { x: '1' }), NOW)), 'allow')
  assert.equal(word(agent.decide(put('/c', {}), NOW)), 'deny default-deny')
  assert.equal(word(agent.decide(put('/b', { x: '2' }), NOW)), 'allow')
  assert.equal(word(agent.decide(put('/b', {}), NOW)), 'deny condition-error')
  assert.equal(word(agent.decide(put('/b', 'no json'), NOW)), 'deny condition-error')
})

test('a value that two readers could read differently is an error to conditions', () => {
  const agent = agentOf(bundleOf([allow('c', ['/c'], { when: 'value.class != "sensitive"' })]))
  for (const value of [
    '{"class":"sensitive","class":"normal"}',
    '{"class":"normal","cl\\u0061ss":"sensitive"}',
    '{"class":"normal"}}',
    '{"class":"normal",}',
    '\ufeff{"class":"normal"}',
    `{"class":"normal","x":${'['.repeat(70)}${']'.repeat(70)}}`,
  ]) {
    assert.equal(word(agent.decide(put('/c', value), NOW)), 'deny default-deny', value.slice(0, 40))
  }
  const large = JSON.stringify({ class: 'normal', pad: 'x'.repeat(70_000) })
  assert.equal(word(agent.decide(put('/c', large), NOW)), 'deny default-deny', 'too large to look at')
})

test('a key that is no UTF-8 is an error to conditions that read it', () => {
  const agent = agentOf(bundleOf([allow('c', ['**'], { when: 'key != "/x"' })]))
  assert.equal(word(agent.decide({ ...put('/a'), key: '/\xff' as never }, NOW)), 'deny default-deny')
})
