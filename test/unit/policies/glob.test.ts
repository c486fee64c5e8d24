// Globs: what they match, that the index agrees with the single matcher, and that meeting is exact.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { seededRandom } from '#kit/random.ts'
import { keyFromText } from '#protocol/bytes.ts'
import { MAX_KEY_BYTES } from '#policies/engine/bounds.ts'
import { GlobIndex } from '#policies/engine/glob-index.ts'
import { KeyMatcher } from '#policies/engine/key-matcher.ts'
import { globMatches, globsMeet, looksAtSegment, parseGlob } from '#policies/engine/glob.ts'
import type { Glob } from '#policies/engine/glob.ts'

function glob(text: string): Glob {
  const parsed = parseGlob(text)
  assert.ok(parsed.ok, `${text}: ${parsed.ok ? '' : parsed.error}`)
  return parsed.value
}

/** The ids of all globs that match; undefined beyond the bounds. */
const hitsOf = (index: GlobIndex, key: string): number[] | undefined =>
  index.read(keyFromText(key)) ? Array.from(index.hits.subarray(0, index.walk())) : undefined

const TABLE: readonly [string, readonly string[], readonly string[]][] = [
  ['/a/b', ['/a/b'], ['/a', '/a/b/', '/a/bc', 'a/b', '/A/b']],
  ['/a/*', ['/a/b', '/a/'], ['/a', '/a/b/c']],
  ['/a/**', ['/a/', '/a/b', '/a/b/c', '/a//'], ['/a', '/ab', '/b/a/c']],
  ['/a/**/z', ['/a/z', '/a/b/z', '/a/b/c/z', '/a//z'], ['/a', '/az', '/a/z/', '/a/zz']],
  ['**', ['', '/', '/a', 'a', 'a/b'], []],
  ['**/z', ['z', '/z', '/a/z'], ['zz', '/az']],
  ['/o/test-*/**', ['/o/test-1/x', '/o/test-/x'], ['/o/test-1', '/o/tes-1/x']],
  ['/o/a*b*c', ['/o/abc', '/o/aXbYc', '/o/abbcc'], ['/o/ab', '/o/acb', '/o/abcd']],
  ['/人/*', ['/人/é'], ['/大/é']],
]

test('a glob matches what it says and nothing else', () => {
  for (const [pattern, yes, no] of TABLE) {
    const one = glob(pattern)
    for (const key of yes) assert.ok(globMatches(one, keyFromText(key)), `${pattern} should match ${key}`)
    for (const key of no) assert.ok(!globMatches(one, keyFromText(key)), `${pattern} should not match ${key}`)
  }
})

test('signs that mean something in other dialects are refused, not taken literally', () => {
  for (const text of [
    '',
    '/a?',
    '/a[bc]',
    '/{a,b}',
    '/a\\*',
    '/!a',
    '/a**',
    '/**b/c',
    '/***',
    '/**/**',
    '/a/**/b/**/c/**',
    '/a\n',
    `/${'x'.repeat(600)}`,
    '/a*b*c*d*e*f',
    '/a'.repeat(40),
  ]) {
    assert.ok(!parseGlob(text).ok, JSON.stringify(text.slice(0, 30)))
  }
})

const part = fc.constantFrom('a', 'b', 'ab', '', '*', 'a*', '*b', 'a*b', '**')
const globText = fc
  .array(part, { minLength: 1, maxLength: 5 })
  .map((parts) => parts.filter((p, i) => p !== '**' || parts[i - 1] !== '**'))
  .filter((parts) => parts.filter((p) => p === '**').length <= 2)
  .map((parts) => `/${parts.join('/')}`)
const keyText = fc
  .array(fc.constantFrom('a', 'b', 'ab', 'aab', '', 'ba'), { minLength: 1, maxLength: 5 })
  .map((parts) => `/${parts.join('/')}`)

/** A third opinion: a regular expression. */
function reference(text: string): RegExp {
  const parts = text.split('/')
  const source = parts.map((p, i) => {
    const last = i === parts.length - 1
    if (p === '**') return last ? '[^]*' : '(?:[^/]*/)*'
    return p.split('*').join('[^/]*') + (last ? '' : '/')
  })
  return new RegExp(`^${source.join('')}$`)
}

test('one glob, the index of many, and a regular expression agree', () => {
  fc.assert(
    fc.property(
      fc.array(globText, { minLength: 1, maxLength: 12 }),
      fc.array(keyText, { minLength: 1, maxLength: 8 }),
      (texts, keys) => {
        const globs = texts.map(glob)
        const index = new GlobIndex(globs.map((one, id) => ({ glob: one, id })))
        for (const key of keys) {
          const hits = hitsOf(index, key)
          assert.ok(hits !== undefined)
          const expected = texts.flatMap((text, id) => (reference(text).test(key) ? [id] : []))
          assert.deepEqual(
            [...new Set(hits)].sort((a, b) => a - b),
            expected,
            key,
          )
          assert.deepEqual(
            globs.flatMap((one, id) => (globMatches(one, key) ? [id] : [])),
            expected,
            key,
          )
        }
      },
    ),
    { numRuns: 1500 },
  )
})

/** Every key of up to four segments over an alphabet in which all the patterns above can be told apart. */
const universe: readonly string[] = (() => {
  const segments = ['', 'a', 'b', 'ab', 'aab', 'abb', 'ba', 'aabb']
  let level = ['']
  const all: string[] = []
  for (let depth = 0; depth < 4; depth++) {
    level = level.flatMap((prefix) => segments.map((s) => `${prefix}/${s}`))
    all.push(...level)
  }
  return all
})()

test('two globs meet exactly when some key matches both', () => {
  fc.assert(
    fc.property(globText, globText, (a, b) => {
      const [x, y] = [reference(a), reference(b)]
      const witness = universe.find((key) => x.test(key) && y.test(key))
      const meets = globsMeet(glob(a), glob(b))
      assert.equal(globsMeet(glob(b), glob(a)), meets, 'the order of the two does not matter')
      // The universe is finite: it can prove that they meet, and four segments decide for globs of at most four.
      if (witness !== undefined) assert.ok(meets, `${a} and ${b} both match ${witness}`)
      else if (a.split('/').length + b.split('/').length <= 7) assert.ok(!meets, `${a} and ${b} are said to meet`)
    }),
    { numRuns: 1500 },
  )
})

test('a glob looks at a segment unless it names it by a bare star', () => {
  assert.ok(!looksAtSegment(glob('/u/*/x'), 2))
  assert.ok(looksAtSegment(glob('/u/*/x'), 1))
  assert.ok(looksAtSegment(glob('/u/t-*/x'), 2))
  assert.ok(!looksAtSegment(glob('/u/**'), 2))
  assert.ok(looksAtSegment(glob('/**/x'), 2), 'behind ** the literal may land on any segment')
})

test('keys beyond the bounds match nothing, and say so', () => {
  const index = new GlobIndex([{ glob: glob('**'), id: 0 }])
  assert.equal(hitsOf(index, 'x'.repeat(MAX_KEY_BYTES + 1)), undefined)
  assert.equal(hitsOf(index, '/'.repeat(64)), undefined)
  assert.deepEqual([...new Set(hitsOf(index, '/'.repeat(63)) ?? [])], [0])
})

/** The index's own hash of a segment, to find texts it cannot tell apart by it. */
function fnv(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash | 0
}

test('segments with equal hashes are told apart by their bytes', () => {
  const random = seededRandom(1)
  const seen = new Map<number, string>()
  let pair: readonly [string, string] | undefined
  for (let i = 0; pair === undefined && i < 1_000_000; i++) {
    const text = `x${random.next().toString(36).slice(2, 12).padEnd(10, '0')}`
    const other = seen.get(fnv(text))
    if (other !== undefined && other !== text) pair = [other, text]
    seen.set(fnv(text), text)
  }
  assert.ok(pair !== undefined, 'a million texts must collide in 32 bits')
  const index = new GlobIndex([{ glob: glob(`/${pair[0]}/**`), id: 0 }])
  assert.deepEqual(hitsOf(index, `/${pair[1]}/x`), [], 'a key crafted to collide with an allowed one')
  assert.deepEqual(hitsOf(index, `/${pair[0]}/x`), [0])

  // The hash of a whole key is made of those of its segments, so the memory of keys is given the same pair.
  const matcher = new KeyMatcher([{ keys: [glob(`/${pair[0]}/**`)], except: [] }])
  for (let round = 0; round < 4; round++) {
    assert.deepEqual(matcher.lookup(keyFromText(`/${pair[0]}/x`))?.rules, [0])
    assert.deepEqual(matcher.lookup(keyFromText(`/${pair[1]}/x`))?.rules, [], 'remembered under the same hash')
  }
})

test('many literals under one parent, beyond the first size of the table', () => {
  const names = Array.from({ length: 500 }, (_, i) => `s${i.toString(36)}`)
  const index = new GlobIndex(names.map((name, id) => ({ glob: glob(`/${name}/**`), id })))
  for (const [id, name] of names.entries()) {
    assert.deepEqual(hitsOf(index, `/${name}/x`), [id])
  }
})

test('a key means the same the first time, the second and ever after, however many others come between', () => {
  const rules = [
    { keys: [glob('/a/**')], except: [glob('/a/*/secret')] },
    { keys: [glob('/a/*/x'), glob('/**/x')], except: [] },
    { keys: [glob('/b/k1*/**')], except: [] },
  ]
  const matcher = new KeyMatcher(rules)
  const expected = (key: string): number[] =>
    rules.flatMap(({ keys, except }, i) =>
      keys.some((one) => globMatches(one, key)) && !except.some((one) => globMatches(one, key)) ? [i] : [],
    )
  const random = seededRandom(3)
  const pick = (n: number): number => Math.floor(random.next() * n)
  for (let i = 0; i < 200_000; i++) {
    // A few keys that come again and again among many that come once or twice.
    const key = `/${'abc'[pick(3)]}/k${pick(4) === 0 ? pick(60_000) : pick(50)}/${['x', 'secret', 'y/x', 'z'][pick(4)]}`
    assert.deepEqual(matcher.lookup(keyFromText(key))?.rules, expected(key), key)
  }
})
