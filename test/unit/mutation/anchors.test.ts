// Every mutation still changes what it says it changes: its text stands in its file exactly once, its scenario exists.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { SCENARIOS } from '../../faults/scenarios.ts'
import { applyEdits, modulePath, MUTATIONS } from '../../mutation/mutations.ts'
import { POLICY_MUTATIONS } from '../../mutation/policy-mutations.ts'

describe('mutations', () => {
  for (const mutation of MUTATIONS) {
    it(`${mutation.name} finds what it breaks, and a scenario that trips it`, () => {
      const { edits = [], swap } = mutation
      assert.ok(edits.length > 0 !== (swap !== undefined), 'it edits or swaps')
      for (const module of new Set(edits.map((edit) => edit.module))) {
        const own = edits.filter((edit) => edit.module === module)
        const source = readFileSync(modulePath(module), 'utf8')
        assert.notEqual(applyEdits(source, own), source)
      }
      for (const module of swap === undefined ? [] : [swap.module, swap.by]) readFileSync(modulePath(module))
      assert.ok(SCENARIOS.some(({ name }) => name === mutation.scenario))
    })
  }

  for (const { name, edits } of POLICY_MUTATIONS) {
    it(`${name} finds what it breaks`, () => {
      for (const edit of edits) {
        const source = readFileSync(modulePath(edit.module), 'utf8')
        assert.notEqual(applyEdits(source, [edit]), source)
      }
    })
  }

  it('an anchor that moved is an error, and so is one that stands twice', () => {
    const edit = { module: 'm.ts', find: 'a', replace: 'b' }
    assert.throws(() => applyEdits('xyz', [edit]), /0 times/)
    assert.throws(() => applyEdits('a a', [edit]), /2 times/)
    assert.equal(applyEdits('xay', [{ ...edit, replace: '$&' }]), 'x$&y')
  })
})
