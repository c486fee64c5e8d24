// Pages of the state are built in turns: others are served between the slices of a long walk, and see it changes nothing.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Key, prefixEnd } from '#protocol/bytes.ts'
import { type PageView, pinOf, readPage } from '#gateway/session/state-page.ts'
import { FakeSource } from '#test/support/fake-source.ts'
import { policyOf, type Rules } from './rig.ts'

const KEYS = 5_000
/** Entries that may be looked at before others have their turn. */
const SLICE = 2_048

/** Counts what is scanned between two turns of the event loop, and writes in each. */
class Walked extends FakeSource {
  most = 0
  turns = 0
  #inTurn = 0

  override scan(...args: Parameters<FakeSource['scan']>): ReturnType<FakeSource['scan']> {
    const entries = super.scan(...args)
    this.#inTurn += entries?.length ?? 0
    this.most = Math.max(this.most, this.#inTurn)
    return entries
  }

  nextTurn(): void {
    this.turns++
    this.#inTurn = 0
    this.commit({ put: '/k/written-meanwhile', value: `${this.turns}` })
  }
}

async function pageOf(rules: Rules, from: string): Promise<{ readonly source: Walked; readonly keys: string[] }> {
  const source = new Walked({ ring: 10 * KEYS })
  source.commit(...Array.from({ length: KEYS }, (_, i) => ({ put: `/k/${String(i).padStart(6, '0')}`, value: 'v' })))
  const policy = policyOf(rules)
  const subscriber = { subject: 's', region: 'sz', audiences: [], scopes: [], anonymous: false }
  const policyClass = policy.classOf(subscriber)
  assert.ok(policyClass !== undefined)
  const { cluster, region, epoch } = source
  const viewTag = policy.revision
  const view: PageView = {
    decider: policy.decider(region, policyClass),
    range: { from: from as Key, to: prefixEnd(from as Key) },
    ctx: { ch: 0, cluster, region, values: 'none', viewTag, hideActivity: false, maxValueBytes: 1_000 },
    now: 0,
  }
  const pin = pinOf(source, { epoch, revision: source.status.revision })
  assert.ok(typeof pin === 'object')
  let over = false
  const others = (): void => {
    if (over) return
    source.nextTurn()
    setImmediate(others)
  }
  setImmediate(others)
  const page = await readPage(source, view, pin, undefined, KEYS, 1 << 20)
  over = true
  const items = JSON.parse(`[${page?.items.toString() ?? ''}]`) as { readonly key: string }[]
  return { source, keys: items.map(({ key }) => key) }
}

test('a page of renamed keys is one walk over everything, in turns, at one revision', async () => {
  const { source, keys } = await pageOf({ rename: '/renamed' }, '/renamed/k/')
  assert.ok(source.most <= SLICE, `${source.most} entries in one turn`)
  assert.ok(source.turns >= Math.floor(KEYS / SLICE), `${source.turns} turns`)
  assert.equal(keys.length, KEYS)
  assert.ok(!keys.includes('/renamed/k/written-meanwhile'))
})

test('a page of keys as they are, and one of which all is hidden, is built in turns at one revision', async () => {
  const shown = await pageOf({}, '/k/')
  assert.ok(shown.source.most <= SLICE, `${shown.source.most} entries in one turn`)
  assert.equal(shown.keys.length, KEYS)
  assert.ok(!shown.keys.includes('/k/written-meanwhile'))
  const hidden = await pageOf({ hidden: ['/k/'] }, '/k/')
  assert.ok(hidden.source.most <= SLICE, `${hidden.source.most} entries in one turn`)
  assert.deepEqual(hidden.keys, [])
})
