// Documents and bundles written to harm: refused or bounded, quickly, never a crash.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keyFromText } from '#protocol/bytes.ts'
import { MAX_PATTERNS_PER_NODE, MAX_RULES } from '#policies/engine/bounds.ts'
import type { PolicyIssue, Result } from '#policies/engine/types.ts'
import { openFiles } from '#policies/node/open-bundle.ts'
import { testDeps } from '#policies/node/hashing.ts'
import { parseYaml } from '#policies/node/yaml.ts'
import {
  agentOf,
  allow,
  bundleOf,
  bytes,
  deny,
  issuesOf,
  NOW,
  put,
  word,
  compileDocuments,
  documentOf,
} from './fixture.ts'

const limit = 15_000

function quickly<T>(what: string, run: () => T): T {
  const start = performance.now()
  const result = run()
  const took = performance.now() - start
  assert.ok(took < limit, `${what} took ${took.toFixed(0)} ms`)
  return result
}

test('YAML beyond plain data is refused', () => {
  const documents: Record<string, string> = {
    'billion laughs': [
      'a: &a [x,x,x,x,x,x,x,x,x]',
      ...Array.from(
        { length: 9 },
        (_, i) => `${'bcdefghij'[i]}: &${'bcdefghij'[i]} [*${'abcdefghi'[i]},*${'abcdefghi'[i]}]`,
      ),
    ].join('\n'),
    anchor: 'a: &x 1',
    alias: 'a: *x',
    merge: 'a: &x {b: 1}\nc:\n  <<: *x',
    tag: 'a: !!js/function "x"',
    'binary tag': 'a: !!binary aGk=',
    directive: '%YAML 1.1\n---\na: 1',
    'explicit key': '? a\n: b',
    'two documents': 'a: 1\n---\nb: 2',
    'repeated key': 'a: 1\na: 2',
    'repeated key, quoted': 'a:\n  b: 1\n  "b": 2',
    'repeated key, flow': 'a: {b: 1, b: 2}',
    'repeated key, one of them a number': '{1: a, "1": b}',
    'deep flow': '['.repeat(100_000),
    'deep maps': '{a: '.repeat(50_000),
    'deep sequences': '- '.repeat(50_000),
    'deep explicit keys': '? '.repeat(50_000),
    'wide indent': `a:\n${' '.repeat(500)}b: 1`,
    tabs: 'a:\n\tb: 1',
    empty: '',
    comments: '#'.repeat(1_000_000),
    broken: 'a: "x',
    commas: `[${','.repeat(300_000)}]`,
    'too many tokens': 'a\n: \n'.repeat(600_000),
  }
  for (const [name, text] of Object.entries(documents)) {
    const result = quickly(name, () => parseYaml(text))
    assert.ok(!result.ok, name)
    assert.ok(result.error.length < 300, name)
  }
})

test('signs inside texts are text', () => {
  for (const text of [
    'a: "*x"',
    "a: '&y !z'",
    'a: x&y *z',
    'a: |\n  *x\n  &y\n',
    'a: >\n  %x\n',
    'a: "? b"',
    'a: # *comment\n  b',
  ])
    assert.ok(parseYaml(text).ok, text)
  assert.deepEqual(parseYaml('a: 2027-03-31\nb: 010\nc: yes'), {
    ok: true,
    value: { a: '2027-03-31', b: 10, c: 'yes' },
  })
})

test('a name like __proto__ is an unknown field, not a prototype', () => {
  const parsed = parseYaml('__proto__: {polluted: 1}\nconstructor: 2')
  assert.ok(parsed.ok && Object.hasOwn(parsed.value as object, '__proto__'))
  assert.equal(({} as Record<string, unknown>)['polluted'], undefined)
})

const file = (path: string, text: string | Uint8Array): { path: string; bytes: Uint8Array } => ({
  path,
  bytes: typeof text === 'string' ? bytes(text) : text,
})
const open = (...files: readonly { path: string; bytes: Uint8Array }[]): Result<unknown, PolicyIssue[]> =>
  openFiles({ files }, { deps: testDeps() })
const HEAD =
  'apiVersion: watch-policy/v1\nkind: RegionPolicy\nmetadata: { name: a, owner: b }\nspec:\n  source: { region: sz, regime: PIPL }\n  mode: enforce\n'

test('a hostile file refuses the bundle with its name', () => {
  const cases: readonly [string, string | Uint8Array, string][] = [
    ['a.yaml', Uint8Array.of(0xff, 0xfe, 0x00), 'bad-yaml'],
    ['a.yaml', 'a: &x 1', 'bad-yaml'],
    ['a.yaml', '5', 'bad-document'],
    ['a.yaml', `${HEAD}  rules: []\n  rules: []\n`, 'bad-yaml'],
    ['s.json', '{"a":1,"a":2}', 'bad-schema'],
    ['s.json', '['.repeat(5000), 'bad-schema'],
    ['t.yaml', 'apiVersion: watch-policy/v1\nkind: PolicySuite\npolicy: a\nhub: sz\ncases: []\n', 'bad-document'],
  ]
  for (const [path, text, code] of cases) {
    const result = quickly(code, () => open(file('good.yaml', `${HEAD}  rules: []\n`), file(path, text)))
    assert.ok(
      !result.ok && result.error.every((issue) => issue.file === path && issue.code === code),
      `${path} ${JSON.stringify(result)}`,
    )
  }
  assert.ok(open(file('good.yaml', `${HEAD}  rules: []\n`)).ok)
  assert.ok(!open().ok, 'a bundle without a policy is no bundle')
})

test('10,000 rules load, decide and stay right', () => {
  const lines = Array.from(
    { length: 10_000 },
    (_, i) =>
      `    - { id: r${i}, effect: ${i % 2 === 0 ? 'allow' : 'deny'}, match: { keys: ["/app-${i >> 1}/${i % 2 === 0 ? '**' : '*/secret'}"] }${i % 2 === 0 ? ', basis: { kind: no-personal-data, ref: x }' : ''} }`,
  )
  const result = quickly('10,000 rules', () =>
    openFiles({ files: [file('a.yaml', `${HEAD}  rules:\n${lines.join('\n')}\n`)] }, { deps: testDeps() }),
  )
  assert.ok(result.ok)
  const agent = agentOf(result.value)
  quickly('30,000 decisions', () => {
    for (let i = 0; i < 30_000; i++) {
      const app = i % 6000
      const expected = app >= 5000 ? 'deny default-deny' : i % 3 === 0 ? 'deny deny-rule' : 'allow'
      assert.equal(word(agent.decide(put(`/app-${app}/x${i}/${i % 3 === 0 ? 'secret' : 'open'}`), NOW)), expected)
    }
  })
})

test('10,000 rules for the very same keys are one decision, remembered', () => {
  const bundle = bundleOf([
    ...Array.from({ length: 9_999 }, (_, i) =>
      allow(`r${i}`, ['/a/**'], { transform: [{ field: `/f${i % 50}`, action: 'mask' }] }),
    ),
    deny('z', ['/a/no']),
  ])
  const agent = agentOf(bundle)
  quickly('2,000 decisions', () => {
    for (let i = 0; i < 2000; i++) assert.equal(word(agent.decide(put(`/a/${i % 40}`, { f1: 1 }), NOW)), 'allow')
  })
  assert.equal(word(agent.decide(put('/a/no'), NOW)), 'deny deny-rule')
})

test('too many rules, globs or patterns refuse the bundle', () => {
  assert.deepEqual(
    issuesOf(Array.from({ length: MAX_RULES + 1 }, (_, i) => allow(`r${i}`, ['/a']))),
    ['bad-document'],
    'more than one document may hold',
  )
  const half = Array.from({ length: MAX_RULES / 2 + 1 }, (_, i) => allow(`r${i}`, ['/a']))
  const many = compileDocuments([documentOf(half, {}, 'one'), documentOf(half, {}, 'two')])
  assert.deepEqual(
    many.issues.map((issue) => issue.code),
    ['too-many'],
    'in two documents',
  )
  assert.deepEqual(
    issuesOf([
      allow(
        'a',
        Array.from({ length: 65 }, (_, i) => `/a${i}`),
      ),
    ]),
    ['bad-document'],
  )
  assert.deepEqual(issuesOf([allow('a', [`/${'a'.repeat(600)}`])]), ['bad-document'])
  assert.deepEqual(issuesOf([allow('a', ['/a*b*c*d*e*f'])]), ['bad-glob'])
  assert.deepEqual(issuesOf([allow('a', ['/a/**/b/**/c/**'])]), ['bad-glob'])
  const patterns = Array.from({ length: MAX_PATTERNS_PER_NODE + 1 }, (_, i) => allow(`r${i}`, [`/p${i}-*/x`]))
  assert.deepEqual(issuesOf(patterns), ['too-many'])
  assert.deepEqual(issuesOf(patterns.slice(1)), [])
})

test('globs at their bounds against keys at theirs', () => {
  const globs = ['/**/a*a*a*a/**', '/**/*a*a*a/b', '/*/**/*b*/**', '/**/x*/**']
  const agent = agentOf(
    bundleOf(Array.from({ length: 200 }, (_, i) => allow(`r${i}`, globs.map((g) => `/g${i}${g}`).concat(globs)))),
  )
  const keys = [`/${'a/'.repeat(62)}b`, `/${'a'.repeat(4000)}`, '/aaaaaaaaab'.repeat(63), '/'.repeat(63)]
  quickly('400 decisions', () => {
    for (let i = 0; i < 100; i++)
      for (const key of keys) agent.decide({ ...put('/k'), key: keyFromText(`${key.slice(0, 4000)}${i}`) }, NOW)
  })
})
