// What the command line prints: strangers' text made harmless, tables, sizes, and errors with what to do next.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { CliError, Exit, explain } from '#client/cli/failure.ts'
import { ageText, fit, keyText, preview, printable, sizeText } from '#client/cli/printable.ts'
import { names, requestOf } from '#client/cli/selection.ts'
import { table } from '#client/cli/table.ts'
import { WatchError } from '#client/errors.ts'

describe('text of strangers', () => {
  it('I10: nothing that moves a cursor, hides or reverses text reaches the terminal', () => {
    assert.equal(printable('a\x1b[2Jb\u202ec\u2028d\n'), 'a\\x1b[2Jb\\u{202e}c\\u{2028}d\\x0a')
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        assert.doesNotMatch(printable(text), /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u)
      }),
    )
  })
  it('keys that are not text show their bytes', () => {
    assert.equal(keyText({ key: '\u00ff\u0000a\\', binary: true }), '\\xff\\x00a\\x5c')
    assert.equal(keyText({ key: '/配置/a' }), '/配置/a')
  })
  it('values are previewed in the form they have, or by why they are not there', () => {
    assert.equal(preview({ json: { a: 1 } }), '{"a":1}')
    assert.equal(preview({ text: 'a\tb' }), 'a\\x09b')
    assert.equal(preview({ base64: '/w==' }), 'base64:/w==')
    assert.equal(preview({ withheld: 'never-health' }), '(withheld by never-health)')
    assert.equal(preview({ oversize: 1_900_000 }), "(1.8 MiB, above the gateway's limit)")
    assert.equal(preview({}), '')
  })
  it('sizes and ages are short', () => {
    assert.deepEqual([0, 1_023, 1_024, 10_485_760].map(sizeText), ['0 B', '1023 B', '1.0 KiB', '10 MiB'])
    assert.deepEqual([undefined, 12, 1_500, 61_000, 7_200_000, 2e8].map(ageText), [
      '-',
      '12 ms',
      '1.5 s',
      '1 min',
      '2 h',
      '2 d',
    ])
    assert.deepEqual([fit('abcdef', 4), fit('abc', 4), fit('abc', 1)], ['abc…', 'abc', '…'])
  })
})

describe('tables', () => {
  it('align, cut the last column and ignore the width of colours', () => {
    const text = table(
      [{ title: 'A' }, { title: 'N', align: 'right' }, { title: 'LAST' }],
      [['\x1b[32mok\x1b[0m', '7', 'x'.repeat(40)]],
      20,
    )
    assert.equal(text, `A   N  LAST\n\x1b[32mok\x1b[0m  7  ${'x'.repeat(12)}…\n`)
  })
})

describe('what is asked for', () => {
  it('lists come by commas and by repetition', () => {
    assert.deepEqual(names('a, b', ['c']), ['c', 'a', 'b'])
    assert.throws(() => names('SZ!'), /"SZ!" is no name/)
  })
  it('without a key or a prefix, every key is meant', () => {
    assert.deepEqual(requestOf({ values: 'auto' }), { prefix: '', values: 'auto' })
    assert.deepEqual(requestOf({ key: '/a', cluster: ['sz'], values: 'none' }), {
      key: '/a',
      clusters: ['sz'],
      values: 'none',
    })
  })
})

describe('failures', () => {
  it('are a sentence, what to do next, and a code', () => {
    assert.deepEqual(explain(new CliError(Exit.Usage, 'no', 'do this\nand that')), {
      text: 'no\n  do this\n  and that',
      exit: 2,
    })
    const refused = explain(new WatchError('DW4003', 'the token was refused'))
    assert.equal(refused.exit, Exit.Refused)
    assert.match(refused.text, /\(DW4003\)\n {2}give a valid token/)
    assert.equal(explain(new WatchError('DW4012', 'bad cursor')).exit, Exit.Usage)
    assert.doesNotMatch(explain(new TypeError('x is not a function')).text, /at .*:\d+/)
  })
})
