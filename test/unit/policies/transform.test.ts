// Field transforms: what each leaves, how several become one, and that the rest of the value stays byte for byte.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { strictest } from '#policies/engine/field-action.ts'
import type { FieldAction } from '#policies/engine/field-action.ts'
import { testDeps } from '#policies/node/hashing.ts'
import { agentOf, allow, bundleOf, bytes, issuesOf, NOW, put, text, through, word } from './fixture.ts'

const field = (pointer: string, action: string, more: object = {}): unknown => ({ field: pointer, action, ...more })

test('each action leaves what it says', () => {
  const id = { id: '440305199001011234' }
  assert.equal(through([field('/id', 'keepLast', { n: 4 })], id), '{"id":"**************1234"}')
  assert.equal(through([field('/id', 'keepFirst', { n: 6 })], id), '{"id":"440305************"}')
  assert.equal(through([field('/id', 'truncate', { n: 6 })], id), '{"id":"440305"}')
  assert.equal(through([field('/id', 'mask')], id), '{"id":"***"}')
  assert.equal(through([field('/id', 'drop')], id), '{}')
  assert.match(through([field('/id', 'hmac', { key: 'k' })], id) ?? '', /^\{"id":"hmac:k:[\w-]{43}"\}$/)
  assert.match(through([field('/id', 'hash')], id) ?? '', /^\{"id":"sha256:[\w-]{43}"\}$/)
  assert.equal(through([field('/id', 'withhold')], id), 'withhold rule')
  assert.equal(through([field('/other', 'withhold')], id), JSON.stringify(id))
})

test('keepFirst and keepLast never show more than half, whole characters only', () => {
  assert.equal(through([field('/a', 'keepLast', { n: 4 })], { a: '1234' }), '{"a":"**34"}')
  assert.equal(through([field('/a', 'keepLast', { n: 4 })], { a: '1' }), '{"a":"*"}')
  assert.equal(through([field('/a', 'keepFirst', { n: 4 })], { a: '' }), '{"a":""}')
  assert.equal(through([field('/a', 'keepLast', { n: 2 })], { a: 'ab😀😀' }), '{"a":"**😀😀"}')
  assert.equal(through([field('/a', 'truncate', { n: 1 })], { a: '😀b' }), '{"a":"😀"}')
})

test('numbers, booleans and null are acted on as their source text, objects and lists are masked', () => {
  assert.equal(through([field('/n', 'keepLast', { n: 4 })], '{"n":13800138000}'), '{"n":"*******8000"}')
  assert.equal(through([field('/n', 'truncate', { n: 2 })], '{"n":12345678901234567890}'), '{"n":"12"}')
  assert.equal(through([field('/n', 'keepLast', { n: 1 })], '{"n":null}'), '{"n":"***l"}')
  for (const value of ['{"n":{"a":1}}', '{"n":[1,2]}', '{"n":[]}'])
    assert.equal(through([field('/n', 'keepLast', { n: 1 })], value), '{"n":"***"}')
})

test('everything else stays byte for byte: numbers, order, blanks, escapes, repeated names', () => {
  const source =
    '{ "z" : 1.50e+3,\t"a":12345678901234567890 , "s":"\\u00e9\\/x", "phone" : "1", "b": [ 1 , {"phone":"2"} ],"phone":"3" }'
  assert.equal(
    through([field('/phone', 'mask')], source),
    source.replace('"phone" : "1"', '"phone" : "***"').replace('"phone":"3"', '"phone":"***"'),
  )
  assert.equal(through([field('/nothing', 'mask')], source), source)
})

test('an untouched value is the very same bytes, not a copy', () => {
  const agent = agentOf(bundleOf([allow('a', ['**'], { transform: [field('/x', 'mask')] })]))
  const event = put('/k', { y: 1 })
  const decision = agent.decide(event, NOW)
  assert.ok(decision.effect === 'allow' && decision.value === event.value)
})

test('drop takes the member with one comma; in a list null stands for it, so that indexes stay', () => {
  const drop = (pointer: string, value: string): string | undefined => through([field(pointer, 'drop')], value)
  assert.equal(drop('/a', '{"a":1,"b":2,"c":3}'), '{"b":2,"c":3}')
  assert.equal(drop('/b', '{"a":1,"b":2,"c":3}'), '{"a":1,"c":3}')
  assert.equal(drop('/c', '{"a":1,"b":2,"c":3}'), '{"a":1,"b":2}')
  assert.equal(drop('/*', '{"a":1,"b":2,"c":3}'), '{}')
  assert.equal(drop('/l/1', '{"l":[1,2,3]}'), '{"l":[1,null,3]}')
  assert.equal(drop('/l/*', '{"l":[1,[2],{}]}'), '{"l":[null,null,null]}')
  assert.equal(through([field('/a', 'drop'), field('/b', 'drop')], '{ "a" : 1 , "b" : 2 , "c" : 3 }'), '{   "c" : 3 }')
})

test('names are found however they are spelt; pointers know ~0, ~1, * and **', () => {
  assert.equal(through([field('/phone', 'mask')], '{"ph\\u006fne":"1"}'), '{"ph\\u006fne":"***"}')
  assert.equal(through([field('/a~1b', 'mask')], '{"a/b":"1"}'), '{"a/b":"***"}')
  assert.equal(through([field('/a~0b', 'mask')], '{"a~b":"1"}'), '{"a~b":"***"}')
  assert.equal(through([field('/é', 'mask')], '{"é":"1","\\u00e9":"2"}'), '{"é":"***","\\u00e9":"***"}')
  assert.equal(through([field('/l/*/p', 'mask')], '{"l":[{"p":1},{"q":1}],"p":1}'), '{"l":[{"p":"***"},{"q":1}],"p":1}')
  assert.equal(
    through([field('/**/p', 'mask')], '{"p":1,"a":{"p":[1]},"l":[[{"p":2}]]}'),
    '{"p":"***","a":{"p":"***"},"l":[[{"p":"***"}]]}',
  )
  assert.equal(
    through([field('/a/**', 'mask')], '{"a":{"b":1,"c":{"d":2}},"b":3}'),
    '{"a":{"b":"***","c":"***"},"b":3}',
  )
  assert.equal(
    through([field('/a/**/d', 'mask')], '{"a":{"d":0,"b":{"c":{"d":1}}},"d":3}'),
    '{"a":{"d":"***","b":{"c":{"d":"***"}}},"d":3}',
  )
})

test('fail closed: what is no JSON is withheld where a field rule needs JSON', () => {
  const bad = [
    '',
    'plain',
    '{"a":1',
    '{"a":1}x',
    '{"a":01}',
    "{'a':1}",
    '{"a":1,}',
    '[1,]',
    '\ufeff{}',
    '{"a":"\u0001"}',
    '{"a":"\\x41"}',
    'nul',
    '{"a":+1}',
    '{"a" 1}',
    `${'['.repeat(65)}${']'.repeat(65)}`,
  ]
  for (const value of bad) assert.equal(through([field('/a', 'mask')], value), 'withhold not-json', value.slice(0, 20))
  const raw = (value: Uint8Array): string =>
    word(
      agentOf(bundleOf([allow('a', ['**'], { transform: [field('/a', 'mask')] })])).decide(
        { ...put('/k'), value },
        NOW,
      ),
    )
  for (const sequence of [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [0x80]]) {
    assert.equal(raw(Uint8Array.from([0x22, ...sequence, 0x22])), 'withhold not-json', String(sequence))
  }
})

test('fail closed: a missing required field, a missing key, too large a value', () => {
  assert.equal(through([field('/a', 'mask', { required: true })], '{"b":1}'), 'withhold missing-field')
  assert.equal(through([field('/a', 'mask', { required: true })], '{"a":null}'), '{"a":"***"}')
  const keyless = { ...testDeps(), hmac: () => undefined, keyFingerprint: () => undefined }
  assert.equal(through([field('/a', 'hmac', { key: 'gone' })], '{"a":"x"}', keyless), 'withhold missing-key')
  assert.equal(through([field('/a', 'mask')], `{"a":"${'x'.repeat(4 * 1024 * 1024)}"}`), 'withhold too-large')
  const { warnings } = bundleOf(
    [allow('a', ['**'], { transform: [field('/a', 'hmac', { key: 'gone' })] })],
    {},
    keyless,
  )
  assert.deepEqual(
    warnings.map((w) => w.code),
    ['missing-key'],
    'said at load time, by name',
  )
})

test('the scanner and JSON.parse agree on what is JSON', () => {
  const piece = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"a"',
    '"\\u0041"',
    '"\\',
    '1',
    '-0',
    '1.5e3',
    '01',
    'true',
    'null',
    'nul',
    ' ',
    '\n',
    '"é"',
    '.5',
    '1.',
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.json(),
        fc.array(piece, { maxLength: 9 }).map((p) => p.join('')),
      ),
      (source) => {
        let ok = true
        try {
          JSON.parse(source)
        } catch {
          ok = false
        }
        const result = through([field('/never-there', 'mask')], source)
        assert.equal(result, ok ? source : 'withhold not-json')
      },
    ),
    { numRuns: 800 },
  )
})

const actions: fc.Arbitrary<FieldAction> = fc.oneof(
  fc.constantFrom<FieldAction>(
    { kind: 'withhold' },
    { kind: 'drop' },
    { kind: 'mask' },
    { kind: 'hash' },
    { kind: 'hmac', key: 'a' },
    { kind: 'hmac', key: 'b' },
  ),
  fc
    .tuple(
      fc.constantFrom('keepFirst' as const, 'keepLast' as const, 'truncate' as const),
      fc.integer({ min: 1, max: 6 }),
    )
    .map(([kind, n]): FieldAction => ({ kind, n })),
)

test('merging is associative, commutative and idempotent, so the order of rules cannot matter', () => {
  fc.assert(
    fc.property(actions, actions, actions, (a, b, c) => {
      assert.deepEqual(strictest(a, b), strictest(b, a))
      assert.deepEqual(strictest(strictest(a, b), c), strictest(a, strictest(b, c)))
      assert.deepEqual(strictest(a, a), a)
    }),
  )
})

test('merging follows the table: withhold > drop > mask > the rest; what does not nest becomes mask', () => {
  const merge = (...all: FieldAction[]): string => all.reduce(strictest).kind
  assert.equal(merge({ kind: 'drop' }, { kind: 'withhold' }), 'withhold')
  assert.equal(merge({ kind: 'mask' }, { kind: 'drop' }), 'drop')
  assert.equal(merge({ kind: 'hmac', key: 'a' }, { kind: 'mask' }), 'mask')
  assert.equal(merge({ kind: 'hmac', key: 'a' }, { kind: 'hmac', key: 'b' }), 'mask')
  assert.equal(merge({ kind: 'keepFirst', n: 2 }, { kind: 'keepLast', n: 2 }), 'mask')
  assert.equal(merge({ kind: 'hmac', key: 'a' }, { kind: 'keepLast', n: 2 }), 'mask')
  assert.equal(merge({ kind: 'hash' }, { kind: 'hmac', key: 'a' }), 'mask')
  assert.deepEqual(strictest({ kind: 'keepLast', n: 4 }, { kind: 'keepLast', n: 2 }), { kind: 'keepLast', n: 2 })
})

test('the transforms of all matching rules apply, per place, also through wildcards and from above', () => {
  const agent = agentOf(
    bundleOf([
      allow('a', ['**'], { transform: [field('/l/*/p', 'keepLast', { n: 4 }), field('/o/secret', 'mask')] }),
      allow('b', ['/k'], { transform: [field('/l/0/p', 'keepLast', { n: 2 }), field('/o', 'drop')] }),
      allow('c', ['/k'], { when: 'has(value.l)', transform: [field('/l/1/p', 'hmac', { key: 'k' })] }),
    ]),
  )
  const decision = agent.decide(
    put('/k', { l: [{ p: '13800138000' }, { p: '13800138000' }, { p: '13800138000' }], o: { secret: 1 } }),
    NOW,
  )
  assert.ok(decision.effect === 'allow')
  assert.equal(text(decision.value), '{"l":[{"p":"*********00"},{"p":"***"},{"p":"*******8000"}]}')
  assert.deepEqual(decision.rules, ['a', 'b', 'c'])
})

test('a withheld place below a dropped one still withholds', () => {
  assert.equal(through([field('/a', 'drop'), field('/a/b', 'withhold')], { a: { b: 1 } }), 'withhold rule')
  assert.equal(through([field('/a', 'mask'), field('/a/*/c', 'mask', {})], { a: { b: { c: 1 } } }), '{"a":"***"}')
})

test('pointers that cannot be meant refuse the bundle', () => {
  for (const pointer of [
    '',
    'a',
    '/a~2',
    '/**/**',
    '/**/a/**/b/**',
    `/${Array.from({ length: 20 }, () => 'a').join('/')}`,
  ]) {
    assert.equal(issuesOf([allow('a', ['**'], { transform: [field(pointer, 'mask')] })]).length > 0, true, pointer)
  }
  assert.deepEqual(issuesOf([allow('a', ['**'], { transform: [field('/a/*', 'mask', { required: true })] })]), [
    'bad-transform',
  ])
})

test('fields that make too many combinations withhold instead of taking the memory', () => {
  const names = Array.from({ length: 14 }, (_, i) => `n${i}`)
  const transform = names.flatMap((name) => [field(`/**/${name}/*/*/*/*/*/*/*/*/*/*/*/*/x`, 'mask')])
  const start = performance.now()
  const value = names.reduceRight<unknown>((inner, name) => ({ [name]: inner, other: inner === 1 ? 1 : { x: 1 } }), 1)
  const result = through(transform, value)
  assert.ok(result === JSON.stringify(value) || result?.startsWith('withhold') === true)
  assert.ok(performance.now() - start < 10_000)
})

test('values are spliced right at any size', () => {
  for (const pad of [0, 200, 255, 256, 257, 900, 1100, 9000, 70_000]) {
    const value = { before: 'x'.repeat(pad), phone: '13800138000', after: 'y'.repeat(pad) }
    assert.equal(through([field('/phone', 'mask')], value), JSON.stringify({ ...value, phone: '***' }))
  }
  assert.equal(bytes('é').length, 2)
})
