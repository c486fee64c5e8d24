// Documents: strict, or the whole bundle is refused.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parsePolicy } from '#policies/engine/document.ts'
import { allow, compileDocuments, deny, documentOf, issuesOf, PUBLIC } from './fixture.ts'

type Json = Record<string, unknown>

const rule: Json = { id: 'a', effect: 'allow', match: { keys: ['/a'] }, basis: PUBLIC }

test('an unknown version, kind or field anywhere refuses the document', () => {
  const good = documentOf([rule])
  assert.ok(parsePolicy(good, 'f').ok)
  const spec = good['spec'] as Json
  const bad: readonly unknown[] = [
    { ...good, apiVersion: 'watch-policy/v2' },
    { ...good, kind: 'Policy' },
    { ...good, extra: 1 },
    { ...good, metadata: { name: 'a', owner: 'b', extra: 1 } },
    { ...good, spec: { ...spec, extra: 1 } },
    { ...good, spec: { ...spec, mode: 'audit' } },
    { ...good, spec: { ...spec, source: { region: 'sz', regime: 'PIPL', extra: 1 } } },
    ...[
      { ...rule, extra: 1 },
      { ...rule, effect: 'permit' },
      { ...rule, match: { ...(rule['match'] as Json), extra: 1 } },
      { ...rule, match: { keys: ['/a'], to: { region: ['sz'] } } },
      { ...rule, match: { keys: [] } },
      { ...rule, match: { keys: ['/a'], ops: ['get'] } },
      { ...rule, transform: [{ field: '/a', action: 'shred' }] },
      { ...rule, transform: [{ field: '/a', action: 'mask', n: 4 }] },
      { ...rule, transform: [{ field: '/a', action: 'keepLast' }] },
      { ...rule, transform: [{ field: '/a', action: 'keepLast', n: 0 }] },
      { ...rule, transform: [{ field: '/a', action: 'hmac' }] },
      { ...rule, transform: [{ detect: ['passport'], action: 'mask' }] },
      { ...rule, transform: [{ detect: ['phone'], action: 'drop' }] },
      { ...rule, transform: [] },
      { ...rule, basis: { kind: 'x', ref: 'y' } },
      { ...rule, id: 'Not A Slug' },
      { ...rule, when: 5 },
      { ...rule, limits: {} },
    ].map((one) => documentOf([one])),
    documentOf([rule], { limits: [{ events: '200' }] }),
    documentOf([rule], { limits: [{ to: { regions: ['hk'] } }] }),
    documentOf([rule], { activity: [{ hide: false }] }),
    null,
    [],
    'text',
  ]
  for (const raw of bad) assert.ok(!parsePolicy(raw, 'f').ok, JSON.stringify(raw).slice(0, 200))
})

test('a deny rule carries nothing that only means something to what is let through', () => {
  for (const more of [
    { transform: [{ field: '/a', action: 'mask' }] },
    { keyTransform: [{ segment: 1, action: 'hmac', key: 'k' }] },
    { basis: PUBLIC },
  ]) {
    assert.deepEqual(issuesOf([deny('d', ['/a'], more)]), ['bad-document'])
  }
})

test('issues say where, and a hostile document cannot make a report of its own size', () => {
  const parsed = parsePolicy(
    documentOf([rule, { ...rule, id: 'b', match: { keys: ['/a'], extra: 1 } }]),
    'regions/x.yaml',
  )
  assert.ok(!parsed.ok)
  assert.deepEqual(
    parsed.error.map(({ file, at }) => [file, at]),
    [['regions/x.yaml', 'spec.rules[1].match']],
  )
  const many = parsePolicy(documentOf(Array.from({ length: 10_000 }, () => ({ nonsense: 'x'.repeat(1000) }))), 'f')
  assert.ok(!many.ok && many.error.length <= 50 && JSON.stringify(many.error).length < 50_000)
})

test('what cannot be compiled is found at load time, with its place', () => {
  const { issues } = compileDocuments([
    documentOf([
      allow('a', ['/a?'], {
        when: 'value.',
        whenSubscriber: 'nonsense(',
        transform: [{ field: '/*', action: 'mask', required: true }],
      }),
    ]),
  ])
  assert.deepEqual(
    issues.map(({ code, at, rule: id }) => [code, at, id]),
    [
      ['bad-glob', 'spec.rules[0].match.keys[0]', 'a'],
      ['bad-expression', 'spec.rules[0].when', 'a'],
      ['bad-expression', 'spec.rules[0].whenSubscriber', 'a'],
      ['bad-transform', 'spec.rules[0].transform[0].field', 'a'],
    ],
  )
})

test('a plain hash is allowed with a warning, because trying all numbers undoes it', () => {
  const { issues } = compileDocuments([
    documentOf([allow('a', ['/a'], { transform: [{ field: '/p', action: 'hash' }] })]),
  ])
  assert.deepEqual(
    issues.map((i) => [i.level, i.code]),
    [['warning', 'weak-hash']],
  )
})
