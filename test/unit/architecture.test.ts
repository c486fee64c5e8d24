// The architecture holds: the real tree has no violation, and every rule finds the one it is made for.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import {
  arrowViolations,
  bannedUse,
  cycles,
  etcdWatcherUse,
  formViolations,
  missingTargets,
  roadViolations,
} from '../support/architecture.ts'
import { parseSource, readSourceTree, ROOT, type SourceFile } from '../support/source-tree.ts'

const tree = await readSourceTree()
const none = (violations: readonly string[]): void =>
  assert.deepEqual(violations, [], `\n  ${violations.join('\n  ')}\n`)

describe('the tree', () => {
  test('was really read', () => {
    for (const folder of ['protocol', 'policies', 'kit', 'deploy', 'test']) {
      assert.ok(
        tree.some(({ path }) => path.startsWith(`${folder}/`)),
        folder,
      )
    }
    const here = tree.find(({ path }) => path === 'test/unit/architecture.test.ts')
    assert.ok(here?.imports.some(({ path }) => path === 'test/support/architecture.ts'))
  })
  test('imports only along the arrows', () => none(arrowViolations(tree)))
  test('imports only along the road of one event', () => none(roadViolations(tree)))
  test('has no cycle of code', () => none(cycles(tree)))
  test('imports only files that exist', () => none(missingTargets(tree, (path) => existsSync(join(ROOT, path)))))
  test('uses nothing that is banned', () => none(bannedUse(tree)))
  test("never uses etcd3's Watcher", () => none(etcdWatcherUse(tree)))
  test('consists of short files that say what they own', () => none(formViolations(tree)))
})

describe('every rule finds what it is made for', () => {
  const HEADER = '// What this file owns, and what it refuses to do.\n'
  const file = (path: string, body = ''): SourceFile => parseSource(path, HEADER + body)
  const importing = (path: string, specifier: string, type = ''): SourceFile =>
    file(path, `import ${type}{ x } from '${specifier}'\n`)

  test('arrows', () => {
    const refused: [string, string][] = [
      ['protocol/a.ts', 'node:crypto'],
      ['protocol/a.ts', '#protocol/b.ts'],
      ['protocol/log/a.ts', '../../kit/b.ts'],
      ['kit/a.ts', '#policies/engine/b.ts'],
      ['kit/a.ts', '#gateway/b.ts'],
      ['policies/engine/a.ts', '#kit/b.ts'],
      ['policies/engine/a.ts', '../node/b.ts'],
      ['policies/engine/a.ts', 'node:fs'],
      ['client/a.ts', 'ws'],
      ['client/core/a.ts', '#protocol/b.ts'],
      ['client/a.ts', '../kit/b.ts'],
      ['client/a.ts', './cli/b.ts'],
      ['client/cli/a.ts', '#gateway/app.ts'],
      ['gateway/a.ts', '#agent/b.ts'],
      ['edge-agent/watch/a.ts', '../../gateway/b.ts'],
      ['gateway/a.ts', '#test/support/b.ts'],
      ['deploy/local/a.ts', '#gateway/app.ts'],
      ['loadtest/scenarios/a.ts', '#protocol/b.ts'],
      ['loadtest/scenarios/a.ts', 'node:fs'],
      ['elsewhere/a.ts', './b.ts'],
    ]
    for (const [path, specifier] of refused)
      assert.equal(arrowViolations([importing(path, specifier)]).length, 1, `${path} -> ${specifier}`)
    for (const type of ['type ', ''])
      assert.equal(arrowViolations([importing('kit/a.ts', '#gateway/b.ts', type)]).length, 1)
    const allowed: [string, string][] = [
      ['protocol/log/a.ts', '../b.ts'],
      ['policies/engine/a.ts', 'zod'],
      ['policies/engine/a.ts', 'ajv/dist/2020.js'],
      ['kit/a.ts', '#protocol/b.ts'],
      ['kit/version.ts', '../package.json'],
      ['client/cli/a.ts', '#agent/config.ts'],
      ['gateway/a.ts', '#policies/engine/b.ts'],
      ['loadtest/scenarios/a.ts', 'k6/http'],
      ['loadtest/scenarios/a.ts', '../../protocol/b.ts'],
      ['test/unit/a.ts', '#gateway/b.ts'],
    ]
    for (const [path, specifier] of allowed) none(arrowViolations([importing(path, specifier)]))
  })

  test('every form of import is seen', () => {
    const forms = [
      "import '#gateway/b.ts'",
      "import x from '#gateway/b.ts'",
      "import * as x from '#gateway/b.ts'",
      "import {\n  x,\n  type Y,\n} from '#gateway/b.ts'",
      "export { x } from '#gateway/b.ts'",
      "export * from '#gateway/b.ts'",
      "export type { X } from '#gateway/b.ts'",
      "const x = await import('#gateway/b.ts')",
      "import x from '#gateway/b.json' with { type: 'json' }",
    ]
    for (const form of forms) assert.equal(arrowViolations([file('kit/a.ts', `${form}\n`)]).length, 1, form)
    none(
      arrowViolations([file('kit/a.ts', "// import x from '#gateway/b.ts'\n/*\nimport y from '#gateway/b.ts'\n*/\n")]),
    )
    const typeOnly = (form: string): boolean | undefined => file('kit/a.ts', form).imports[0]?.typeOnly
    assert.deepEqual(
      [
        "import type { X } from './b.ts'",
        "import { type X, type Y } from './b.ts'",
        "import { type X, y } from './b.ts'",
        "import './b.ts'",
      ].map(typeOnly),
      [true, true, false, false],
    )
  })

  test('the road', () => {
    const refused: [string, string][] = [
      ['gateway/view/a.ts', '../upstream/b.ts'],
      ['gateway/delivery/a.ts', '../view/b.ts'],
      ['gateway/delivery/a.ts', '../session/b.ts'],
      ['gateway/session/a.ts', '../view/b.ts'],
      ['edge-agent/uplink/a.ts', '../watch/b.ts'],
      ['edge-agent/egress/a.ts', '../lineage/b.ts'],
    ]
    for (const [path, specifier] of refused) {
      for (const type of ['type ', '']) assert.equal(roadViolations([importing(path, specifier, type)]).length, 1, path)
    }
    assert.equal(roadViolations([importing('edge-agent/uplink/a.ts', '../egress/change.ts')]).length, 1)
    none(roadViolations([importing('edge-agent/uplink/a.ts', '../egress/change.ts', 'type ')]))
    for (const [path, specifier] of [
      ['gateway/upstream/a.ts', '../view/b.ts'],
      ['gateway/session/a.ts', '../delivery/b.ts'],
      ['gateway/session/a.ts', '../auth/b.ts'],
      ['gateway/admin/a.ts', '../upstream/b.ts'],
      ['gateway/app.ts', './upstream/b.ts'],
      ['edge-agent/watch/a.ts', '../uplink/b.ts'],
    ] as const) {
      none(roadViolations([importing(path, specifier)]))
    }
  })

  test('cycles', () => {
    const ring = [
      importing('kit/a.ts', './b.ts'),
      importing('kit/b.ts', './c.ts'),
      importing('kit/c.ts', './a.ts'),
      importing('kit/d.ts', './b.ts'),
    ]
    assert.deepEqual(cycles(ring), ['kit/a.ts -> kit/b.ts -> kit/c.ts -> kit/a.ts'])
    assert.deepEqual(cycles([importing('kit/a.ts', './b.ts'), importing('kit/b.ts', './a.ts', 'type ')]), [])
  })

  test('missing files', () => {
    assert.equal(missingTargets([importing('kit/a.ts', './gone.ts')], () => false).length, 1)
  })

  test('banned names', () => {
    const refused: [string, string][] = [
      ['gateway/a.ts', 'const x = process.env'],
      ['kit/config/load.ts', "const x = process.env['HOME']"],
      ['edge-agent/a.ts', 'process.exit(1)'],
      ['gateway/view/a.ts', 'const t = Date.now()'],
      ['edge-agent/a.ts', 'const r = Math.random()'],
      ['kit/a.ts', '// TODO later'],
      ['protocol/a.ts', 'const b = Buffer.from(x)'],
      ['protocol/a.ts', 'return new TextDecoder().decode(x)'],
    ]
    for (const [path, body] of refused) assert.equal(bannedUse([file(path, `${body}\n`)]).length, 1, body)
    none(
      bannedUse([
        file('kit/config/process.ts', 'const x = process.env\n'),
        file('protocol/a.ts', "// no Buffer here\nconst kind = { crypto: 1, x: 'process' }\n"),
      ]),
    )
  })

  test("etcd3's Watcher", () => {
    const use = (body: string): string[] =>
      etcdWatcherUse([file('edge-agent/watch/a.ts', `import { Etcd3 } from 'etcd3'\n${body}\n`)])
    assert.equal(use("const w = await client.watch().prefix('/').create()").length, 1)
    assert.equal(use('let w: Watcher').length, 1)
    none(use('const stream = await client.watchClient.watch()'))
    none(etcdWatcherUse([file('client/a.ts', 'client.watch({ prefix })\n')]))
  })

  test('form', () => {
    const refused = [
      parseSource('kit/a.ts', 'export const x = 1\n'),
      file('kit/utils/a.ts'),
      file('kit/index.ts'),
      file('kit/a.ts', '\n'.repeat(400)),
    ]
    for (const one of refused) assert.equal(formViolations([one]).length, 1, one.path)
    none(
      formViolations([
        file('kit/a.ts', '\n'.repeat(399)),
        parseSource('deploy/a.cjs', `#!/usr/bin/env node\n${HEADER}`),
      ]),
    )
  })
})
