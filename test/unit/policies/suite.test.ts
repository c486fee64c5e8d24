// Tests beside the documents: the shipped ones pass and cover, and the runner notices what it must.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { compileBundle } from '#policies/engine/compile.ts'
import { documentSchema } from '#policies/engine/json-schema.ts'
import { expiryWarnings, lostLimits, overlaps, unreachableRules } from '#policies/engine/lint.ts'
import { covered, runSuites, suitePassed } from '#policies/engine/suite.ts'
import type { SuiteResult } from '#policies/engine/suite.ts'
import { parseSuite } from '#policies/engine/suite-document.ts'
import type { ParsedDocument } from '#policies/engine/types.ts'
import { readBundleFiles } from '#policies/node/bundle-files.ts'
import { testDeps } from '#policies/node/hashing.ts'
import { parseFiles, testDocuments } from '#policies/node/open-bundle.ts'
import { parseYaml } from '#policies/node/yaml.ts'
import { agentOf, allow, bundleOf, compileDocuments, deny, documentOf, NOW, put, word } from './fixture.ts'

const ROOT = new URL('../../../policies/', import.meta.url)

async function shipped(): Promise<ParsedDocument[]> {
  const files = await readBundleFiles(ROOT.pathname)
  assert.ok(files.ok)
  const documents = parseFiles(files.value.files)
  assert.ok(documents.ok, JSON.stringify(documents))
  return documents.value
}

test('every shipped document has tests that pass and cover each rule for and against', async () => {
  const documents = await shipped()
  const results = testDocuments(documents)
  assert.ok(results.ok)
  const named = documents.flatMap((d) => (d.kind === 'policy' ? [d.policy.metadata.name] : []))
  assert.deepEqual(results.value.map((r) => r.policy).sort(), named.sort())
  for (const result of results.value) {
    assert.ok(suitePassed(result), JSON.stringify(result.cases.filter((c) => c.mismatches.length > 0)))
    assert.ok(covered(result), JSON.stringify(result.coverage))
  }
})

test('the shipped documents need no key, warn of nothing, and say that they are no legal advice', async () => {
  const documents = await shipped()
  const bundle = compileBundle(documents, { ...testDeps(), keyFingerprint: () => undefined, hmac: () => undefined })
  assert.ok(bundle.ok)
  assert.deepEqual(
    [
      ...bundle.value.warnings,
      ...expiryWarnings(bundle.value, NOW),
      ...unreachableRules(bundle.value, 'sz'),
      ...overlaps(bundle.value),
    ],
    [],
  )
  for (const region of ['sz', 'gz', 'mo', 'hk'])
    assert.match(await readFile(new URL(`regions/${region}.yaml`, ROOT), 'utf8'), /no legal advice/)
})

test('the JSON Schemas for editors are those the engine checks by', async () => {
  for (const [kind, file] of [
    ['policy', 'region-policy'],
    ['tests', 'policy-suite'],
  ] as const) {
    assert.deepEqual(
      JSON.parse(await readFile(new URL(`schema/${file}.schema.json`, ROOT), 'utf8')),
      documentSchema(kind),
      'run: deltawatch policy schema',
    )
  }
})

function run(rules: readonly unknown[], cases: readonly unknown[], over: Record<string, unknown> = {}): SuiteResult {
  const suite = parseSuite(
    {
      apiVersion: 'watch-policy/v1',
      kind: 'PolicySuite',
      policy: 'doc',
      hub: 'sz',
      at: '2026-11-22T00:00:00Z',
      cases,
      ...over,
    },
    't.yaml',
  )
  assert.ok(suite.ok, JSON.stringify(suite))
  const { bundle } = compileDocuments([documentOf(rules)])
  assert.ok(bundle !== undefined)
  const [result] = runSuites({ ...bundle, suites: [{ path: 't.yaml', suite: suite.value }] })
  assert.ok(result !== undefined)
  return result
}

const open = allow('open', ['/a/**'], { transform: [{ field: '/p', action: 'mask' }] })

test('a wrong expectation fails with the field, what was expected and what came', () => {
  const given = { key: '/a/1', value: { p: 1, q: 2 } }
  const fields = (expect: object, more: object = {}): string[] =>
    run([open], [{ name: 'x', given: { ...given, ...more }, expect }]).cases.flatMap((c) =>
      c.mismatches.map((m) => m.field),
    )
  assert.deepEqual(
    fields({
      effect: 'allow',
      rule: 'open',
      rules: ['open'],
      value: { q: 2, p: '***' },
      text: '{"p":"***","q":2}',
      key: '/a/1',
      change: 'put',
      stage: 'egress',
    }),
    [],
  )
  assert.deepEqual(fields({ effect: 'deny' }), ['effect'])
  assert.deepEqual(fields({ effect: 'allow', rule: 'other' }), ['rule'])
  assert.deepEqual(fields({ effect: 'allow', rules: [] }), ['rules'])
  assert.deepEqual(fields({ effect: 'allow', value: { p: 1, q: 2 } }), ['value'])
  assert.deepEqual(fields({ effect: 'allow', text: '{}' }), ['text'])
  assert.deepEqual(fields({ effect: 'allow', key: '/b' }), ['key'])
  assert.deepEqual(fields({ effect: 'allow', change: 'leave' }), ['change'])
  assert.deepEqual(fields({ effect: 'allow', stage: 'deliver' }), ['stage'])
  assert.deepEqual(fields({ effect: 'withhold', reason: 'missing-key' }, { value: undefined, text: 'no json' }), [
    'reason',
  ])
  const [failure] =
    run([open], [{ name: 'x', given, expect: { effect: 'allow', value: 1 } }]).cases[0]?.mismatches ?? []
  assert.deepEqual([failure?.expected, JSON.parse(failure?.actual ?? '')], ['1', { p: '***', q: 2 }])
})

test('a suite that cannot mean what it says does not run', () => {
  const one = { name: 'a', given: { key: '/a/1', text: '{}' }, expect: { effect: 'allow' } }
  assert.match(
    run([open], [one, { name: 'b', like: 'none', expect: { effect: 'allow' } }]).problem ?? '',
    /like "none"/,
  )
  assert.match(run([open], [one, one]).problem ?? '', /two cases/)
  assert.match(run([open], [{ ...one, given: { text: 'x' } }]).problem ?? '', /no key/)
  assert.match(run([open], [{ ...one, given: { key: '/a' } }]).problem ?? '', /a put needs/)
  assert.match(run([open], [one], { at: undefined }).problem ?? '', /no time/)
  assert.match(run([open], [one], { policy: 'nobody' }).problem ?? '', /no document named nobody/)
})

test('coverage: a case for and a case against every rule, near misses only where the case says so', () => {
  const rules = [open, deny('never', ['/health/**'])]
  const coverage = (...cases: readonly unknown[]): string =>
    run(rules, cases)
      .coverage.map((c) => `${c.rule} ${c.allow ? 'allow ' : ''}${c.deny ? 'deny' : ''}`.trim())
      .join(', ')
  const inside = { name: 'in', given: { key: '/a/1', value: {} }, expect: { effect: 'allow' } }
  const health = { name: 'health', given: { key: '/health/1', value: {} }, expect: { effect: 'deny' } }
  const far = { name: 'far', given: { key: '/zzz', value: {} }, expect: { effect: 'deny' } }
  assert.equal(coverage(inside), 'never, open allow')
  assert.equal(coverage(inside, far), 'never, open allow', 'a denial of other keys says nothing about the rule')
  assert.equal(
    coverage(inside, { ...inside, name: 'del', given: { key: '/a/1', op: 'delete', prev: { value: {} } } }, health),
    'never deny, open allow',
  )
  assert.equal(
    coverage({ ...inside, about: ['never'] }, health, { ...far, about: ['open'] }),
    'never allow deny, open allow deny',
  )
})

test('cases go the whole way: LEAVE as the subscriber sees it', () => {
  const rules = [
    allow('hub', ['/o'], { match: { to: { regions: ['sz'] } } }),
    allow('hk', ['/o'], { match: { to: { regions: ['hk'] } }, when: 'value.c == 1' }),
  ]
  const seen = (subscriber: object | undefined, value: unknown, prev: unknown): string | undefined => {
    const base = {
      key: '/o',
      value,
      ...(prev === undefined ? {} : { prev: { value: prev } }),
      ...(subscriber === undefined ? {} : { subscriber }),
    }
    const [first] = run(rules, [
      { name: 'x', given: base, expect: { effect: 'allow', change: 'unknown-needs-checkpoint' } },
    ]).cases
    return first?.mismatches.find((m) => m.field === 'change')?.actual
  }
  assert.equal(seen(undefined, { c: 2 }, { c: 1 }), 'put')
  assert.equal(seen({ region: 'hk' }, { c: 2 }, { c: 1 }), 'leave')
  assert.equal(seen({ region: 'hk' }, { c: 2 }, { c: 2 }), 'nothing')
  assert.equal(seen({ region: 'hk' }, { c: 1 }, { c: 2 }), 'put')
  assert.equal(seen({ region: 'us' }, { c: 1 }, undefined), 'nothing')
})

test('a document in shadow mode enforces nothing, and is tested and compared as if it did', () => {
  const live = documentOf([allow('a', ['/a/**'])])
  const shadow = documentOf([deny('no', ['/a/secret/**'])], { mode: 'shadow' }, 'strict')
  const { bundle } = compileDocuments([live, shadow])
  assert.ok(bundle?.shadow !== undefined)
  assert.equal(word(agentOf(bundle).decide(put('/a/secret/1'), NOW)), 'allow')
  assert.equal(word(agentOf(bundle.shadow).decide(put('/a/secret/1'), NOW)), 'deny deny-rule')
  assert.equal(bundle.shadow.revision, bundle.revision)
  const suite = parseSuite(
    {
      apiVersion: 'watch-policy/v1',
      kind: 'PolicySuite',
      policy: 'strict',
      hub: 'sz',
      at: '2026-11-22T00:00:00Z',
      cases: [{ name: 'x', given: { key: '/a/secret/1', text: 'x' }, expect: { effect: 'deny', rule: 'no' } }],
    },
    't',
  )
  assert.ok(suite.ok)
  const [result] = runSuites({ ...bundle, suites: [{ path: 't', suite: suite.value }] })
  assert.ok(result !== undefined && suitePassed(result))
})

test('lint: overlaps, rules that cannot take effect, bases about to lapse', () => {
  const mask = { transform: [{ field: '/p', action: 'mask' }] }
  const lint = (rules: readonly unknown[]): string[] =>
    overlaps(bundleOf(rules)).map((i) => `${i.rule}: ${/transform the key/.test(i.message) ? 'key' : 'value'}`)
  assert.deepEqual(lint([allow('a', ['/a/**']), allow('b', ['/*/x'], mask)]), ['b: value'])
  assert.deepEqual(lint([allow('a', ['/a/**']), allow('b', ['/b/x'], mask)]), [])
  assert.deepEqual(
    lint([
      allow('a', ['/a/**'], { match: { to: { regions: ['sz'] } } }),
      allow('b', ['/a/x'], { ...mask, match: { to: { regions: ['hk'] } } }),
    ]),
    [],
  )
  const move = (key: string): Record<string, unknown> => ({ keyTransform: [{ segment: 1, action: 'hmac', key }] })
  assert.deepEqual(lint([allow('a', ['/*'], move('k')), allow('b', ['/*'], move('l'))]), ['b: key'])
  const far = { match: { to: { regions: ['hk'] } } }
  assert.deepEqual(
    unreachableRules(bundleOf([allow('a', ['/a'], far)]), 'sz').map((i) => i.rule),
    ['a'],
  )
  assert.deepEqual(unreachableRules(bundleOf([allow('a', ['/a'], far), allow('b', ['/*'])]), 'sz'), [])
  const lapse = Date.parse('2027-01-01T00:00:00Z')
  const contract = bundleOf([allow('c', ['/c'], { basis: { kind: 'c', ref: 'x', expires: '2027-01-01T00:00:00Z' } })])
  const day = 86_400_000
  assert.deepEqual(
    [lapse - 31 * day, lapse - 30 * day, lapse].map((now) =>
      expiryWarnings(contract, now)
        .map((i) => i.code)
        .join(),
    ),
    ['', 'basis-expiring', 'basis-expired'],
  )
})

test('the guide’s documents load and its tests pass', async () => {
  const guide = await readFile(new URL('../../../docs/guides/first-policy.md', import.meta.url), 'utf8')
  const blocks = [...guide.matchAll(/```yaml\n([^]*?)```/g)].map((m) => m[1] ?? '')
  const [first, second, third, fifth, suite] = blocks
  assert.equal(blocks.length, 5)
  const raw = parseYaml([first, second, third, fifth].join(''))
  assert.ok(raw.ok, raw.ok ? '' : raw.error)
  const { bundle, issues } = compileDocuments([raw.value])
  assert.ok(bundle !== undefined, JSON.stringify(issues))
  const tests = parseYaml(suite ?? '')
  const parsed = parseSuite(tests.ok ? tests.value : undefined, 'guide')
  assert.ok(parsed.ok, JSON.stringify(parsed))
  const [result] = runSuites({ ...bundle, suites: [{ path: 'guide', suite: parsed.value }] })
  assert.ok(result !== undefined && suitePassed(result), JSON.stringify(result))
  // Who follows the guide to its end has nothing left uncovered.
  assert.deepEqual(
    result.coverage.filter(({ allow: lets, deny: stops }) => !lets || !stops),
    [],
  )
})

test('lint: rates that a canary would lift', () => {
  const acme = { to: { audience: ['org:acme'] }, events: '200/s', bytes: '64KiB/s' }
  const live = bundleOf([allow('a', ['/a/**'])], { limits: [acme] })
  const lost = (limits: readonly unknown[] | undefined): string[] =>
    lostLimits(live, bundleOf([allow('a', ['/a/**'])], limits === undefined ? {} : { limits })).map(
      ({ code, message }) => `${code} ${/rate of (\w+) for (\S+),/.exec(message)?.slice(1).join(' ')}`,
    )
  assert.deepEqual(lost(undefined), ['lost-limits events org:acme', 'lost-limits bytes org:acme'])
  assert.deepEqual(lost([{ ...acme, bytes: undefined }]), ['lost-limits bytes org:acme'])
  assert.deepEqual(lost([acme]), [])
  assert.deepEqual(lost([{ events: '1000/s', bytes: '1MiB/s' }]), [], 'everybody is acme too')
  assert.equal(lost([{ ...acme, to: { audience: ['org:other'] } }]).length, 2)
  assert.equal(lost([{ ...acme, to: { audience: ['org:acme'], regions: ['sz'] } }]).length, 2, 'only some of them')
})
