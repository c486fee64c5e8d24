// What benchmarks, fault runs and soaks answer to --help and to a flag they do not know.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { usageText } from '#deploy/command-line.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const run = (file: string, flag: string) =>
  spawnSync(process.execPath, [file, flag], { cwd: root, encoding: 'utf8', timeout: 30_000 })

for (const file of ['loadtest/bench/policy.ts', 'test/faults/soak.ts']) {
  test(`${file}: --help is the usage, a wrong flag is named with it, and neither is a stack trace`, () => {
    const help = run(file, '--help')
    assert.deepEqual([help.status, help.stderr], [0, ''])
    assert.match(help.stdout, /^npm run [\w:]+ -- \[options\]\n/)
    const wrong = run(file, '--nope')
    assert.deepEqual([wrong.status, wrong.stdout], [2, ''])
    assert.match(wrong.stderr, /^Unknown option '--nope'.*\n\nnpm run /)
    assert.doesNotMatch(wrong.stderr, /\n {4}at /)
  })
}

test('every option is listed with what it means and its default', () => {
  const text = usageText(
    { use: 'npm run x --', about: 'Does x.' },
    {
      only: { type: 'string', about: 'which', default: 'all' },
      deep: { type: 'boolean', about: 'more', default: false },
    },
  )
  assert.match(text, /\n {2}--only <value> +which \(all\)\n {2}--deep +more\n {2}--help +this text\n$/)
})
