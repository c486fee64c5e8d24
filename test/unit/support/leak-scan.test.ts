// The scanner that the leak test trusts: it finds every spelling, at every place, and nothing else.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cnIdValid, hkidCheck } from '#policies/engine/detect/identity.ts'
import { LeakScanner } from '../../support/leak-scan.ts'
import { cnId, hkid, planted } from '../../support/planted-data.ts'

const ID = '44030519900101123X'

test('every spelling is found wherever it starts', () => {
  const scanner = new LeakScanner([ID])
  for (const pad of ['', 'x', 'xy', 'xyz', 'longer before']) {
    const text = `${pad}${ID}behind`
    const spelt = [
      text,
      Buffer.from(text).toString('base64'),
      Buffer.from(text).toString('base64url'),
      Buffer.from(text).toString('hex'),
      encodeURIComponent(text),
      Array.from(text, (c) => `\\u00${c.charCodeAt(0).toString(16)}`).join(''),
      Buffer.from(text, 'utf16le'),
    ]
    for (const [i, data] of spelt.entries()) assert.ok(scanner.count(data) === 1, `${i} ${pad}`)
  }
  assert.equal(scanner.count(Buffer.from(`before ${ID}`, 'utf16le').swap16()), 1)
  assert.equal(scanner.count('440305199001011230 44030519900101123 0101123X'), 0)
})

test('planted data is distinct and passes the real check digits', () => {
  const all = [0, 1, 2].flatMap((group) => planted(group, 1_000))
  assert.equal(new Set(all).size, 3_000)
  for (let n = 0; n < 500; n++) {
    assert.ok(cnIdValid(cnId(n)), cnId(n))
    const [, letters = '', digits = '', check] = /^([A-Z]+)(\d{6})\(([\dA])\)$/.exec(hkid(n)) ?? []
    assert.equal(hkidCheck(letters, digits), check)
  }
  // No text hides in another one, or a find would not say which leaked.
  const text = all.join('|')
  assert.equal(new LeakScanner(all).scan('', text).filter((leak) => leak.form === 'plain').length, 3_000)
})
