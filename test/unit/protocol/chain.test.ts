// The chain rule: alone, against void runs and chunk groups, and under several agents that all append.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  advance,
  CHAIN_START,
  type ChainState,
  MAX_GROUP_BYTES,
  MAX_GROUP_SLICES,
  type Verdict,
} from '#protocol/log/chain.ts'
import { encodeRevision } from '#protocol/log/encode.ts'
import type { EntryBody, EntryId, Epoch, LogEntry, RevisionRecord } from '#protocol/log/entry.ts'
import { addRevision, REVISION_ZERO, type Revision } from '#protocol/revision.ts'
import { entryArb, revisionRecordArb } from './entries.ts'
import { chainReader, EPOCH, eventsBody, head, idOf, naiveReader, Simulation } from './log-simulation.ts'

const OTHER_EPOCH = 'ffffffffffffffff' as Epoch
const rev = (n: number): Revision => String(n) as Revision

/** A log being written: `add` continues the last entry. */
class Chain {
  readonly entries: LogEntry[] = []
  #n = 1
  last: EntryId = CHAIN_START.entryId
  add(body: EntryBody, epoch: Epoch = EPOCH): LogEntry {
    const entry = { ...head(idOf(this.#n++), this.last, 'a', epoch), ...body }
    this.last = entry.entryId
    this.entries.push(entry)
    return entry
  }
  begin(epoch: Epoch = EPOCH): LogEntry {
    return this.add({ kind: 'snapshot-begin', checkpointId: 'c', revision: rev(10), reason: 'epoch' }, epoch)
  }
  end(revision = 10, epoch: Epoch = EPOCH): LogEntry {
    const body = { kind: 'snapshot-end', checkpointId: 'c', itemCount: 0, digest: new Uint8Array(0) } as const
    return this.add({ ...body, revision: rev(revision) }, epoch)
  }
}
const judge = (
  entries: readonly LogEntry[],
  from: ChainState = CHAIN_START,
): { state: ChainState; verdicts: Verdict[] } => {
  let state = from
  const verdicts = entries.map((entry, i) => {
    const verdict = advance(state, i + 1, entry)
    if (verdict.kind === 'valid') state = verdict.state
    return verdict
  })
  return { state, verdicts }
}
const last = (entries: readonly LogEntry[]): Verdict => {
  const verdict = judge(entries).verdicts.at(-1)
  assert.ok(verdict !== undefined)
  return verdict
}
const broken = (entries: readonly LogEntry[], reason: string): void =>
  assert.deepEqual(last(entries), { kind: 'broken', reason })

/** A valid log of epoch start, checkpoint end and `batches` of events. */
const simple = (batches: readonly number[]): Chain => {
  const chain = new Chain()
  chain.begin()
  chain.end()
  let at = rev(10)
  for (const count of batches) {
    chain.add(eventsBody(at, count))
    at = addRevision(at, count)
  }
  return chain
}

describe('chain rule', () => {
  it('C1: an entry that does not continue the last valid one is void and changes nothing', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 6 }),
        entryArb,
        (batches, stray) => {
          const { state } = judge(simple(batches).entries)
          if (stray.prevEntryId === state.entryId) return
          assert.deepEqual(advance(state, 99, stray), { kind: 'void', reason: 'chain' })
        },
      ),
    )
  })

  it('C1: void runs of any length, anywhere, never change what is applied or where the log stands', () => {
    const strays = fc.array(fc.tuple(fc.nat(), entryArb), { maxLength: 60 })
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 6 }), strays, (batches, list) => {
        const clean = simple(batches).entries
        const ids = new Set<string>(clean.map((e) => e.entryId))
        const noisy = [...clean]
        for (const [at, stray] of list) {
          // A stray continues nothing that is valid: neither an entry of the log nor its start.
          if (!ids.has(stray.prevEntryId) && stray.prevEntryId !== CHAIN_START.entryId) {
            noisy.splice(at % (noisy.length + 1), 0, stray)
          }
        }
        const [a, b] = [chainReader(clean), chainReader(noisy)]
        assert.deepEqual(b.applied, a.applied)
        assert.equal(b.voids, noisy.length - clean.length)
        const [cleanEnd, noisyEnd] = [judge(clean).state, judge(noisy).state]
        assert.deepEqual({ ...noisyEnd, seq: 0 }, { ...cleanEnd, seq: 0 })
      }),
    )
  })

  it('C1: a chain of entries hanging on a void one is void as a whole', () => {
    const chain = simple([1])
    const good = [...chain.entries]
    const stray = new Chain()
    stray.last = idOf(0xdead)
    stray.add(eventsBody(rev(11), 2))
    stray.add(eventsBody(rev(13), 2))
    chain.add(eventsBody(rev(11), 1))
    const mixed = [...good, ...stray.entries, ...chain.entries.slice(good.length)]
    assert.deepEqual(
      judge(mixed).verdicts.map((v) => v.kind),
      ['valid', 'valid', 'valid', 'void', 'void', 'valid'],
    )
    assert.deepEqual(chainReader(mixed).applied, ['11', '12'])
  })

  it('C2: an in-chain entry at or below the position, or beyond a gap, is a break, never a duplicate', () => {
    const add = (body: EntryBody): LogEntry[] => {
      const chain = simple([2])
      chain.add(body)
      return chain.entries
    }
    broken(add(eventsBody(rev(11), 1)), 'prev-revision')
    broken(add(eventsBody(rev(13), 1)), 'prev-revision')
    broken(add({ kind: 'progress', prevRevision: rev(12), revision: rev(12) }), 'revision-order')
    broken(add({ kind: 'progress', prevRevision: rev(12), revision: rev(9) }), 'revision-order')
    broken(add({ ...eventsBody(rev(12), 2), throughRevision: rev(13) }), 'revision-order')
    const [one, two] = eventsBody(rev(12), 2).revisions
    assert.ok(one !== undefined && two !== undefined)
    const body = { kind: 'events', prevRevision: rev(12), throughRevision: rev(14) } as const
    broken(add({ ...body, revisions: [two, one] }), 'revision-order')
    broken(add({ ...body, revisions: [one, one] }), 'revision-order')
    broken(add({ ...body, revisions: [{ ...one, revision: rev(12) }] }), 'revision-order')
  })

  it('C2: revisions are compared as integers, not as text', () => {
    const chain = simple([])
    chain.add({ kind: 'progress', prevRevision: rev(10), revision: '9007199254740993' as Revision })
    chain.add({ ...eventsBody('9007199254740993' as Revision, 2) })
    assert.equal(judge(chain.entries).state.revision, '9007199254740995')
  })

  it('C3: an epoch begins with SNAPSHOT_BEGIN and nothing else', () => {
    const bodies: EntryBody[] = [
      eventsBody(REVISION_ZERO, 1),
      { kind: 'progress', prevRevision: REVISION_ZERO, revision: rev(1) },
      { kind: 'snapshot-items', checkpointId: 'c', index: 0, items: [] },
      { kind: 'snapshot-end', checkpointId: 'c', revision: rev(1), itemCount: 0, digest: new Uint8Array(0) },
    ]
    for (const body of bodies) {
      const fresh = new Chain()
      fresh.add(body)
      broken(fresh.entries, 'epoch-without-checkpoint')
      const later = simple([1])
      later.add({ ...body, ...('prevRevision' in body ? { prevRevision: rev(11) } : {}) }, OTHER_EPOCH)
      broken(later.entries, 'epoch-without-checkpoint')
    }
  })

  it('C3: a new epoch may stand at lower revisions; the old position is gone with the old epoch', () => {
    const chain = simple([5])
    chain.begin(OTHER_EPOCH)
    assert.equal(judge(chain.entries).state.revision, REVISION_ZERO)
    chain.end(3, OTHER_EPOCH)
    chain.add(eventsBody(rev(3), 1), OTHER_EPOCH)
    const { state } = judge(chain.entries)
    assert.deepEqual([state.epoch, state.revision], [OTHER_EPOCH, '4'])
  })

  it('K4: within an epoch a checkpoint moves the position forward at END, never back', () => {
    const routine = simple([5])
    routine.begin()
    assert.equal(judge(routine.entries).state.revision, '15')
    routine.end(12)
    assert.equal(judge(routine.entries).state.revision, '15')
    const gap = simple([5])
    gap.begin()
    gap.end(40)
    gap.add(eventsBody(rev(40), 1))
    assert.equal(judge(gap.entries).state.revision, '41')
  })

  it('L13: the position after an EVENTS entry includes the hidden revisions it proves', () => {
    const chain = simple([])
    chain.add({ ...eventsBody(rev(10), 1), throughRevision: rev(30) })
    chain.add(eventsBody(rev(30), 1))
    assert.equal(judge(chain.entries).state.revision, '31')
  })
})

describe('chunk groups', () => {
  const sliced = (record: RevisionRecord, count: number): Uint8Array[] => {
    const bytes = encodeRevision(record)
    const size = Math.ceil(bytes.length / count)
    return Array.from({ length: count }, (_, i) => bytes.subarray(i * size, (i + 1) * size))
  }
  const group = (
    chain: Chain,
    revision: Revision,
    slices: readonly Uint8Array[],
    groupId = 'g',
    prev = rev(10),
  ): void => {
    for (const [index, data] of slices.entries()) {
      chain.add({ kind: 'chunk', prevRevision: prev, revision, groupId, index, count: slices.length, data })
    }
  }
  const record: RevisionRecord = { ...eventsBody(rev(10), 1).revisions[0] } as RevisionRecord
  const slices = sliced(record, 3)
  const [first, second, third] = slices as [Uint8Array, Uint8Array, Uint8Array]

  it('C4: the slices of a revision give back the revision, and the position moves only with the last', () => {
    fc.assert(
      fc.property(revisionRecordArb, fc.integer({ min: 1, max: 6 }), (record, count) => {
        if (BigInt(record.revision) <= 10n) return
        const chain = simple([])
        group(chain, record.revision, sliced(record, count))
        const { state, verdicts } = judge(chain.entries)
        const final = verdicts.at(-1)
        assert.ok(final?.kind === 'valid' && final.completed !== undefined)
        assert.deepEqual(Buffer.from(encodeRevision(final.completed)), Buffer.from(encodeRevision(record)))
        assert.equal(state.revision, record.revision)
        for (const verdict of verdicts.slice(2, -1)) {
          assert.ok(verdict.kind === 'valid' && verdict.state.revision === '10' && verdict.completed === undefined)
        }
      }),
    )
  })

  it('C4: a group broken off is void: a restart at index 0, or any other entry, begins afresh', () => {
    const unfinished = simple([])
    unfinished.add({
      kind: 'chunk',
      prevRevision: rev(10),
      revision: rev(11),
      groupId: 'old',
      index: 0,
      count: 3,
      data: first,
    })
    group(unfinished, rev(11), slices, 'new')
    assert.deepEqual(chainReader(unfinished.entries).applied, ['11'])
    const other = simple([])
    other.add({
      kind: 'chunk',
      prevRevision: rev(10),
      revision: rev(11),
      groupId: 'old',
      index: 0,
      count: 3,
      data: first,
    })
    other.add(eventsBody(rev(10), 1))
    assert.deepEqual(chainReader(other.entries).applied, ['11'])
    assert.equal(judge(other.entries).state.group, undefined)
  })

  it('C4: a slice out of place is a break', () => {
    const place = { kind: 'chunk', prevRevision: rev(10), revision: rev(11), groupId: 'g', index: 0, count: 3 } as const
    const after = (...bodies: (EntryBody & { kind: 'chunk' })[]): LogEntry[] => {
      const chain = simple([])
      for (const body of bodies) chain.add(body)
      return chain.entries
    }
    const start = { ...place, data: first }
    broken(after({ ...place, index: 1, data: second }), 'chunk')
    broken(after(start, { ...place, index: 2, data: third }), 'chunk')
    broken(after(start, { ...place, index: 0, data: first }), 'chunk')
    broken(after(start, { ...place, index: 1, count: 4, data: second }), 'chunk')
    broken(after(start, { ...place, index: 1, revision: rev(12), data: second }), 'chunk')
    broken(after({ ...place, count: 1, data: first }), 'chunk')
    broken(after({ ...place, revision: rev(12), count: 1, data: encodeRevision(record) }), 'chunk')
    broken(after({ ...start, revision: rev(10) }), 'revision-order')
    broken(after({ ...start, prevRevision: rev(9) }), 'prev-revision')
  })

  it('C5: a group may not outgrow its bound', () => {
    const big = new Uint8Array(MAX_GROUP_BYTES / 2 + 1)
    const chain = simple([])
    const place = {
      kind: 'chunk',
      prevRevision: rev(10),
      revision: rev(11),
      groupId: 'g',
      count: 9,
      data: big,
    } as const
    chain.add({ ...place, index: 0 })
    chain.add({ ...place, index: 1 })
    broken(chain.entries, 'chunk')
  })

  it('I8: a group of more slices than any agent cuts is a break', () => {
    const chain = simple([])
    const place = { kind: 'chunk', prevRevision: rev(10), revision: rev(11), groupId: 'g', index: 0 } as const
    chain.add({ ...place, count: MAX_GROUP_SLICES + 1, data: first })
    broken(chain.entries, 'chunk')
    const most = simple([])
    most.add({ ...place, count: MAX_GROUP_SLICES, data: first })
    assert.equal(last(most.entries).kind, 'valid')
  })
})

describe('several agents on one log', () => {
  const setup = fc.record({
    agents: fc.integer({ min: 2, max: 4 }),
    window: fc.integer({ min: 2, max: 16 }),
    revisions: fc.integer({ min: 5, max: 200 }),
    choices: fc.array(fc.nat(1000), { minLength: 20, maxLength: 1500, size: 'max' }),
  })

  it('I5: a chain reader applies every revision once and in order, whoever appends', () => {
    fc.assert(
      fc.property(setup, (options) => {
        const { log } = new Simulation(options).run()
        const expected = Array.from({ length: options.revisions }, (_, i) => String(i + 1))
        assert.deepEqual(chainReader(log).applied, expected)
      }),
      { numRuns: 300 },
    )
  })

  it('C6: compare-and-append alone is not enough: a reader without the chain rule loses revisions', () => {
    const runs = fc.sample(setup, { numRuns: 200, seed: 20_261_122 }).map((options) => {
      const { log } = new Simulation(options).run()
      return options.revisions - naiveReader(log).length
    })
    assert.ok(
      runs.some((lost) => lost > 0),
      'no run lost anything: the simulation has gone blind',
    )
  })

  it('C6: the runs contain what the rule is for: conflicts and void entries', () => {
    const runs = fc.sample(setup, { numRuns: 200, seed: 7 }).map((options) => {
      const simulation = new Simulation(options).run()
      return { conflicts: simulation.conflicts, voids: chainReader(simulation.log).voids }
    })
    assert.ok(runs.some((run) => run.conflicts > 10))
    assert.ok(runs.some((run) => run.voids > 3))
  })
})
