// The judge of logs must be silent on a faultless log and must catch every fault planted into one.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { judgeLog, type LogExpectation } from '../../judge/log-judge.ts'
import type { History } from '../../judge/truth.ts'
import { type Rule, Verdict } from '../../judge/verdict.ts'
import { faultlessLog, type Fields, LogScript, revisionFields } from './log-script.ts'
import { CLUSTER, OTHER_EPOCH, sampleHistory } from './script.ts'

const judge = (log: LogScript, more: Partial<LogExpectation> = {}): Verdict =>
  judgeLog(log.messages, { cluster: CLUSTER, histories: [log.history], ...more }, new Verdict())

/** A log that begins well at revision 7 and goes wrong as `write` says; `to` is where it stands afterwards. */
const written = (write: (log: LogScript, history: History) => void, more: Partial<LogExpectation> = {}): Verdict => {
  const history = sampleHistory()
  const log = new LogScript(history)
  log.checkpoint(7)
  write(log, history)
  return judge(log, more)
}
const first = (revisions: Fields[]): Fields => revisions[0] ?? {}
const eventsIn = (revision: Fields): Fields[] => revision.events as Fields[]

type Plant = readonly [name: string, rule: Rule, write: (log: LogScript, history: History) => void]
const plants: readonly Plant[] = [
  ['a revision lost between entries', 'Chain', (l) => (l.events(7, 9), l.events(10, 17))],
  ['a revision lost inside an entry', 'Reliable', (l) => l.events(7, 17, (r) => r.filter((x) => x.revision !== 12))],
  ['a revision lost at the end of an entry', 'Bookmarkable', (l) => l.events(7, 17, (r) => r.slice(0, -1))],
  ['a revision twice', 'Ordered', (l) => (l.events(7, 10), l.events(9, 17))],
  ['revisions out of order', 'Ordered', (l) => l.events(7, 17, (r) => r.toReversed())],
  ['half a revision', 'Atomic', (l) => l.events(7, 17, (r) => (eventsIn(r.at(-3) ?? {}).pop(), r))],
  [
    'a key twice in a revision',
    'Unique',
    (l) => l.events(7, 17, (r) => (eventsIn(first(r)).push(...eventsIn(first(r))), r)),
  ],
  [
    'another value',
    'Reliable',
    (l) => l.events(7, 17, (r) => (Object.assign(eventsIn(r[3] ?? {})[0] ?? {}, { value: Buffer.from('?') }), r)),
  ],
  [
    'another creation',
    'IsCreate',
    (l) => l.events(7, 17, (r) => (Object.assign(eventsIn(r[3] ?? {})[0] ?? {}, { create_revision: 11 }), r)),
  ],
  [
    'another version',
    'PrevKV',
    (l) => l.events(7, 17, (r) => (Object.assign(eventsIn(r[3] ?? {})[0] ?? {}, { version: 9 }), r)),
  ],
  [
    'a revision etcd never had',
    'Reliable',
    (l, h) =>
      l.events(7, 18, (r) => r.map((x) => (x.revision === 18 ? { ...revisionFields(h, 17), revision: 18 } : x))),
  ],
  ['proof of what is not there', 'Bookmarkable', (l) => l.add({ kind: 'PROGRESS', prev_revision: 7, revision: 17 })],
  [
    'proof ahead of etcd',
    'Bookmarkable',
    (l) => (l.events(7, 17), l.add({ kind: 'PROGRESS', prev_revision: 17, revision: 99 })),
  ],
  [
    'proof that goes back',
    'Bookmarkable',
    (l) => (l.events(7, 17), l.add({ kind: 'PROGRESS', prev_revision: 17, revision: 9 })),
  ],
  ['a slice lost', 'Chain', (l) => (l.chunks(8, 3, [0, 2]), l.events(7, 17))],
  ['a slice twice', 'Chain', (l) => (l.chunks(8, 3, [0, 1, 1, 2]), l.events(7, 17))],
  ['slices out of order', 'Chain', (l) => (l.chunks(8, 3, [1, 0, 2]), l.events(7, 17))],
  [
    'a message id',
    'Chain',
    (l) => l.add({ kind: 'PROGRESS', prev_revision: 7, revision: 7 }, false, { 'Nats-Msg-Id': 'x' }),
  ],
  [
    'an append without comparison',
    'Chain',
    (l) => void (l.events(7, 17), l.messages.splice(4, 1, { ...l.messages[4], headers: {} } as never)),
  ],
  [
    'a false base',
    'Chain',
    (l) => l.add({ kind: 'PROGRESS', prev_revision: 7, revision: 7, base: { seq: 1, entry_id: Buffer.alloc(16, 9) } }),
  ],
  [
    'a base that is void',
    'Chain',
    (l) => (
      l.add({ kind: 'PROGRESS', revision: 9 }, true),
      l.add({ kind: 'PROGRESS', prev_revision: 7, revision: 7, base: { seq: 5 } })
    ),
  ],
  [
    'a base in the future',
    'Chain',
    (l) => l.add({ kind: 'PROGRESS', prev_revision: 7, revision: 7, base: { seq: 50 } }),
  ],
  ['a checkpoint that is not complete named so', 'Checkpoint', (l) => ((l.newest = 3), l.events(7, 17))],
  ['the newest checkpoint going back', 'Checkpoint', (l) => (l.events(7, 9), (l.newest = 0), l.events(9, 17))],
  ['a second epoch of the same lineage', 'Epoch', (l) => ((l.epoch = OTHER_EPOCH), l.checkpoint(9), l.events(9, 17))],
  ['an epoch without checkpoint', 'Epoch', (l) => ((l.epoch = OTHER_EPOCH), l.events(7, 17))],
  ['a gap without cause', 'Resync', (l) => (l.checkpoint(12, 'GAP'), l.events(12, 17))],
  ['bytes that are no entry', 'Garbled', (l) => (l.raw(Buffer.from([0x0a, 0xff])), l.events(7, 17))],
  ['an end never reached', 'Complete', (l) => l.events(7, 16)],
]
/** Faults inside a checkpoint: how its entries are changed. */
const spoils: readonly (readonly [string, (fields: Fields) => Fields])[] = [
  [
    'an item missing',
    (f) => (f.kind === 'SNAPSHOT_ITEMS' && f.index === 1 ? { ...f, items: (f.items as Fields[]).slice(1) } : f),
  ],
  [
    'an item twice',
    (f) => (f.kind === 'SNAPSHOT_ITEMS' ? { ...f, items: [...(f.items as Fields[]), (f.items as Fields[])[0]] } : f),
  ],
  [
    'an item of another value',
    (f) =>
      f.kind === 'SNAPSHOT_ITEMS'
        ? { ...f, items: (f.items as Fields[]).map((i) => ({ ...i, value: Buffer.from('?') })) }
        : f,
  ],
  ['items out of order', (f) => (f.kind === 'SNAPSHOT_ITEMS' ? { ...f, index: 1 - Number(f.index) } : f)],
  ['items of another checkpoint', (f) => (f.kind === 'SNAPSHOT_ITEMS' ? { ...f, checkpoint_id: 'other' } : f)],
  ['another count', (f) => (f.kind === 'SNAPSHOT_END' ? { ...f, item_count: 99 } : f)],
  ['another digest', (f) => (f.kind === 'SNAPSHOT_END' ? { ...f, digest: Buffer.alloc(32) } : f)],
  ['another revision', (f) => (f.kind === 'SNAPSHOT_BEGIN' ? { ...f, revision: 8 } : f)],
]

describe('the judge of logs', () => {
  it('is silent on a faultless log, and counts what it saw', () => {
    const verdict = judge(faultlessLog(sampleHistory()))
    assert.equal(verdict.failed, 0, verdict.toString())
    assert.equal(verdict.total('void entries'), 2)
    assert.equal(verdict.total('checkpoints'), 2)
    assert.equal(verdict.total('revisions'), 10)
    assert.equal(verdict.total('chunks'), 3)
  })

  for (const [name, rule, write] of plants) {
    it(`catches ${name} (${rule})`, () => {
      const verdict = written(write)
      assert.ok((verdict.byRule.get(rule) ?? 0) > 0, `${rule} was not reported: ${verdict.toString()}`)
    })
  }

  for (const [name, spoil] of spoils) {
    it(`catches a checkpoint with ${name} (Checkpoint)`, () => {
      const verdict = written((log) => {
        log.events(7, 10)
        log.checkpoint(10, 'ROUTINE', spoil)
        log.events(10, 17)
      })
      assert.ok((verdict.byRule.get('Checkpoint') ?? 0) > 0, verdict.toString())
    })
  }

  it('catches events of an epoch that has no checkpoint yet (Chain)', () => {
    const log = new LogScript(sampleHistory())
    log.add({ kind: 'SNAPSHOT_BEGIN', checkpoint_id: 'c', revision: 7, reason: 'REASON_EPOCH' })
    log.add({ kind: 'EVENTS', prev_revision: 0, revision: 8, revisions: [revisionFields(log.history, 8)] })
    assert.ok((judge(log).byRule.get('Chain') ?? 0) > 0)
  })

  it('accepts a gap and a second lineage where the scenario makes them legitimate', () => {
    const gap = written((log) => (log.checkpoint(12, 'GAP'), log.events(12, 17)), { pending: ['gap'] })
    assert.equal(gap.failed, 0, gap.toString())
    const second = sampleHistory()
    const log = faultlessLog(second)
    log.epoch = OTHER_EPOCH
    log.checkpoint(9)
    log.events(9, 17)
    const first = sampleHistory()
    assert.equal(judge(log, { histories: [first, second] }).failed, 0)
    const stuck = judge(faultlessLog(first), { histories: [first, second] })
    assert.ok((stuck.byRule.get('Complete') ?? 0) > 0, 'a log that never left the old lineage')
  })
})
