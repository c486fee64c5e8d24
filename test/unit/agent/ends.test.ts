// Which checkpoint is due: what the log calls for, and what a hold released as a resync adds to it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { leavingOut, type Need, needOfTail } from '#agent/ends.ts'
import type { Tail } from '#agent/uplink/tail.ts'

const tail = (last: object): Tail =>
  ({
    kind: 'known',
    last: { pending: 'none', newestCompleteBeginSeq: 1, configHash: 'old', ...last },
  }) as unknown as Tail

describe('the checkpoint that is due', () => {
  it('K4: a gap that is open when the policy changes is answered for the policy, so that nothing it takes looks deleted', () => {
    assert.equal(needOfTail(tail({ pending: 'gap' }), 'old')?.reason, 'gap')
    const both = needOfTail(tail({ pending: 'gap' }), 'new')
    assert.deepEqual([both?.reason, both?.skips], ['policy', true])
    assert.equal(needOfTail(tail({ pending: 'policy' }), 'new')?.skips, undefined)
    assert.equal(needOfTail(tail({ pending: 'epoch' }), 'new')?.reason, 'epoch')
    assert.equal(needOfTail(tail({ pending: 'gap', newestCompleteBeginSeq: 0 }), 'new')?.reason, 'gap')
  })

  it('what a hook held is left out behind whatever weighs more', () => {
    const policy: Need = { reason: 'policy', why: 'changed' }
    const epoch: Need = { reason: 'epoch', why: 'another lineage' }
    assert.equal(leavingOut(policy), policy)
    assert.equal(leavingOut(epoch), epoch)
    assert.equal(leavingOut(undefined)?.reason, 'gap')
    assert.match(leavingOut({ reason: 'gap', why: 'compaction' })?.why ?? '', /hook/)
  })
})
