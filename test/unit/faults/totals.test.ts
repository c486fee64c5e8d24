// A campaign in slices adds up to one campaign, and a run that was not clean is never forgotten.

import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { after, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Totals } from '../../faults/totals.ts'
import { Verdict } from '../../judge/verdict.ts'

const NAME = `unit-${process.pid}`
const file = fileURLToPath(new URL(`../../../.deltawatch/faults/${NAME}.json`, import.meta.url))

const verdict = (events: number, violations = 0): Verdict => {
  const one = new Verdict()
  one.count('events', events)
  for (let n = 0; n < violations; n++) one.fail('Reliable', 'c', `${n}`)
  return one
}

describe('totals', () => {
  after(() => rm(file, { force: true }))

  it('go on where the last slice stopped, with its seed, its counts and its troubles', async () => {
    assert.equal(await Totals.resumed(NAME), undefined)
    const first = new Totals(7)
    first.add('cut-etcd 7', verdict(100), false, 2)
    first.add('kill-agent 8', verdict(50, 3), false, 1)
    await first.keep(NAME)
    const second = await Totals.resumed(NAME)
    assert.ok(second)
    assert.deepEqual([second.seed, second.runs, second.events, second.violations], [7, 2, 150, 3])
    second.add('kill-hub 9', verdict(10), true, 1)
    assert.deepEqual(second.troubled, ['kill-agent 8', 'kill-hub 9'])
    assert.equal(second.failures, 1)
    assert.equal(second.seconds, 4)
    assert.equal(second.clean, false)
  })

  it('are clean only without violations and with every run recovered', () => {
    const totals = new Totals(1)
    totals.add('a 1', verdict(5), false, 1)
    assert.ok(totals.clean)
    totals.add('b 2', verdict(5, 1), false, 1)
    assert.equal(totals.clean, false)
  })
})
