// The hooks: what they find, what they stop, and that nothing is lost by it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Key } from '#protocol/bytes.ts'
import type { Epoch } from '#protocol/log/entry.ts'
import type { Change } from '#agent/egress/change.ts'
import { type Finding, type GuardOptions, Guards } from '#agent/hooks/guards.ts'
import { Hooks, type HookOptions } from '#agent/hooks/hooks.ts'
import { createLogger } from '#kit/logger.ts'
import { ManualClock } from '#test/support/manual-clock.ts'
import { bytes, change, changed, rev } from './fixtures.ts'

const quiet = createLogger({ service: 'test', level: 'silent' })
const EPOCH = '00000000000000aa' as Epoch
const del = (name: string): Change => change(name, { op: 'delete', version: '0', createRevision: rev(0) })
const made = (name: string, at: number): Change => change(name, { version: '1', createRevision: rev(at) })
const dels = (n: number, from = 0): Change[] => Array.from({ length: n }, (_, i) => del(`/d${from + i}`))

const OPTIONS: GuardOptions = {
  range: { from: '/' as Key, to: '0' as Key },
  window: 100,
  onCreate: { maxKeys: 0, action: 'annotate', preCheck: true },
  onUpdate: { maxKeys: 0, action: 'annotate', hotKey: 0 },
  onDelete: { maxKeys: 10, action: 'hold' },
}
const patterns = (findings: readonly Finding[]) => findings.map(({ pattern, action }) => `${pattern} ${action}`)

describe('guards', () => {
  it('a mass delete is found in one revision and across many, and not beyond the window', () => {
    assert.deepEqual(patterns(new Guards(OPTIONS).judge(changed(5, ...dels(11)), {})), ['mass-delete hold'])
    assert.deepEqual(patterns(new Guards(OPTIONS).judge(changed(5, ...dels(10)), {})), [])
    const spread = new Guards(OPTIONS)
    for (let i = 0; i < 10; i++) assert.deepEqual(spread.judge(changed(10 + i, del(`/d${i}`)), {}), [])
    assert.deepEqual(patterns(spread.judge(changed(109, del('/last')), {})), ['mass-delete hold'])
    const slow = new Guards(OPTIONS)
    for (let i = 0; i < 50; i++) assert.deepEqual(slow.judge(changed(10 * i + 1, del(`/d${i}`)), {}), [])
  })

  it('what was decided is not judged for its mass again, and is still pre-checked', () => {
    const guards = new Guards(OPTIONS)
    assert.deepEqual(guards.judge(changed(5, ...dels(50)), { onDelete: rev(500) }), [])
    assert.deepEqual(patterns(guards.judge(changed(500, change('zz')), { onUpdate: rev(500) })), [
      'outside-range resync',
    ])
    assert.deepEqual(guards.judge(changed(501, ...dels(10)), {}), [], 'what was decided is not counted')
    assert.deepEqual(patterns(guards.judge(changed(502, ...dels(11)), { onUpdate: rev(502) })), ['mass-delete hold'])
  })

  it('the pre-check finds keys outside the range, foreign revisions and duplicates', () => {
    const found = (...changes: Change[]) => patterns(new Guards(OPTIONS).judge(changed(7, ...changes), {}))
    assert.deepEqual(found(change('0')), ['outside-range resync'])
    assert.deepEqual(found(made('/a', 6)), ['foreign-revision resync'])
    assert.deepEqual(found(made('/a', 7), made('/a', 7)), ['duplicate-key resync'])
    assert.deepEqual(found(made('/a', 7), del('/b'), change('/c')), [])
    const off = new Guards({ ...OPTIONS, onCreate: { ...OPTIONS.onCreate, preCheck: false } })
    assert.deepEqual(off.judge(changed(7, change('0')), {}), [])
  })

  it('notes a key that takes most changes once per window, and rewrites of the same bytes', () => {
    const guards = new Guards({ ...OPTIONS, onUpdate: { ...OPTIONS.onUpdate, hotKey: 3 } })
    const seen = Array.from({ length: 120 }, (_, i) => patterns(guards.judge(changed(i + 1, change('/hot')), {})))
    assert.deepEqual(seen.flat(), ['hot-key annotate', 'hot-key annotate'])
    const same = change('/s', { prevValue: bytes('v') })
    assert.deepEqual(patterns(new Guards(OPTIONS).judge(changed(1, same), {})), ['rewrite annotate'])
  })

  it('what is read again is counted once, from wherever it is read', () => {
    const one = fc.record({ from: fc.nat({ max: 30 }), to: fc.nat({ max: 30 }) })
    fc.assert(
      fc.property(fc.array(one, { maxLength: 8 }), (runs) => {
        const guards = new Guards({ ...OPTIONS, onDelete: { maxKeys: 30, action: 'hold' } })
        let next = 1
        for (const { from, to } of runs) {
          for (let r = Math.min(from + 1, next); r <= to; r++) {
            assert.deepEqual(guards.judge(changed(r, del(`/d${r}`)), {}), [], `at ${r}`)
            next = r + 1
          }
        }
        for (; next <= 30; next++) assert.deepEqual(guards.judge(changed(next, del(`/d${next}`)), {}), [])
        assert.equal(guards.judge(changed(31, del('/d31')), {})[0]?.count, 31)
      }),
    )
  })

  it('the verdict depends on revisions alone: the counts of any history equal those of a plain recount', () => {
    const step = fc.record({ skip: fc.integer({ min: 1, max: 40 }), deletes: fc.integer({ min: 0, max: 4 }) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const guards = new Guards({ ...OPTIONS, onDelete: { maxKeys: 10, action: 'annotate' } })
        let revision = 0
        let history: { revision: number; n: number }[] = []
        for (const { skip, deletes } of steps) {
          revision += skip
          const found = guards.judge(changed(revision, change('/x'), ...dels(deletes)), {})
          history.push({ revision, n: deletes })
          const sum = history.filter((h) => revision - h.revision < 100).reduce((a, h) => a + h.n, 0)
          const expected = deletes > 0 && sum > 10
          assert.equal(found.length > 0, expected, `at ${revision}: ${sum}`)
          if (!expected) continue
          assert.equal(found[0]?.count, sum)
          // The revision that was told is remembered alone.
          history = [{ revision, n: deletes }]
        }
      }),
    )
  })
})

function setup(options: Partial<HookOptions> = {}) {
  const clock = new ManualClock()
  const told: string[] = []
  let head = rev(50)
  const hooks = new Hooks(
    { ...OPTIONS, holdMs: 60_000, delayMs: 1_000, ...options },
    {
      clock,
      logger: quiet,
      counters: {
        found: ({ pattern }) => told.push(pattern),
        held: (hook) => told.push(`held ${hook}`),
        released: (by) => told.push(by),
      },
      head: () => head,
    },
  )
  const never = new AbortController()
  return {
    clock,
    hooks,
    told,
    signal: never.signal,
    stop: () => never.abort(),
    seeHead: (n: number) => (head = rev(n)),
  }
}
const settled = () => new Promise((resolve) => setImmediate(resolve))

describe('holds', () => {
  it('holds before the revision, admits nothing meanwhile, and lets everything up to the head seen pass when released', async () => {
    const { hooks, told, signal } = setup()
    assert.equal(hooks.admit(changed(20, ...dels(11)), EPOCH), 'held')
    assert.equal(hooks.hold?.revision, '20')
    assert.match(hooks.reason, /mass-delete of 11 keys at revision 20/)
    assert.equal(hooks.admit(changed(21), EPOCH), 'held')
    const free = hooks.free(signal)
    assert.equal(hooks.release('21', 'events'), 'another-revision')
    assert.equal(hooks.release('20', 'events'), 'released')
    assert.equal(await free, true)
    assert.equal(hooks.release('20', 'events'), 'nothing-held')
    assert.equal(hooks.admit(changed(20, ...dels(11)), EPOCH), 'pass')
    assert.equal(hooks.admit(changed(50, ...dels(30, 100)), EPOCH), 'pass')
    assert.equal(hooks.skipping, false)
    assert.deepEqual(told, ['mass-delete', 'held onDelete', 'operator-events'])
    assert.equal(
      hooks.admit(changed(51, ...dels(30, 200)), EPOCH),
      'held',
      'what came after the decision is judged anew',
    )
  })

  it('the end of a delay, or of the time of a hold, decides about its own hook and revision alone', async () => {
    const upd = (n: number): Change[] => Array.from({ length: n }, (_, i) => change(`/u${i}`, { version: '5' }))
    const { hooks, clock, seeHead, signal } = setup({ onUpdate: { maxKeys: 10, action: 'delay', hotKey: 0 } })
    seeHead(500)
    const waited = async (ms: number): Promise<void> => {
      const free = hooks.free(signal)
      await clock.advance(ms)
      assert.equal(await free, true)
    }
    const both = changed(100, ...upd(11), ...dels(11))
    assert.equal(hooks.admit(both, EPOCH), 'held')
    assert.equal(hooks.hold?.hook, 'onDelete')
    await waited(60_000)
    assert.equal(hooks.admit(both, EPOCH), 'held')
    assert.equal(hooks.hold?.hook, 'onUpdate')
    await waited(1_000)
    assert.equal(hooks.admit(both, EPOCH), 'pass')
    assert.equal(hooks.admit(changed(101, del('/x')), EPOCH), 'pass', 'what time let through is not counted again')
    assert.equal(hooks.admit(changed(300, ...dels(10_000)), EPOCH), 'held')
    assert.equal(hooks.hold?.hook, 'onDelete')
  })

  it('what was counted in one epoch says nothing in the next, whose revisions may be lower', () => {
    const { hooks } = setup()
    for (let r = 900; r < 910; r++) assert.equal(hooks.admit(changed(r, del(`/d${r}`)), EPOCH), 'pass')
    const next = '00000000000000bb' as Epoch
    hooks.overtaken(rev(950), next)
    assert.equal(hooks.admit(changed(951, del('/x')), next), 'pass')
    assert.equal(hooks.admit(changed(952, ...dels(10)), next), 'held')
    assert.equal(hooks.hold?.count, 11)
  })

  it('released as a resync, and then led past by another agent or into its epoch, nothing is skipped any more', () => {
    for (const [position, epoch, skips] of [
      [19, EPOCH, true],
      [20, EPOCH, false],
      [3, '00000000000000bb' as Epoch, false],
    ] as const) {
      const { hooks } = setup()
      hooks.admit(changed(20, ...dels(11)), EPOCH)
      hooks.release('20', 'resync')
      hooks.overtaken(rev(position), epoch)
      assert.equal(hooks.skipping, skips, `${position} ${epoch}`)
    }
  })

  it('an operator may name the last revision let through', () => {
    const { hooks } = setup()
    hooks.admit(changed(20, ...dels(11)), EPOCH)
    assert.equal(hooks.release('20', 'events', rev(19)), 'ends-before')
    assert.equal(hooks.hold?.revision, '20')
    assert.equal(hooks.release('20', 'events', rev(30)), 'released')
    assert.equal(hooks.admit(changed(20, ...dels(11)), EPOCH), 'pass')
    assert.equal(hooks.admit(changed(30, ...dels(11)), EPOCH), 'pass')
    assert.equal(hooks.admit(changed(31, ...dels(11)), EPOCH), 'held')
  })

  it('is dropped when the log has gone past it, or begun a new epoch, under another agent', async () => {
    for (const [position, epoch, stays] of [
      [19, EPOCH, true],
      [20, EPOCH, false],
      [3, '00000000000000bb' as Epoch, false],
    ] as const) {
      const { hooks, signal } = setup({ holdMs: 0 })
      hooks.admit(changed(20, ...dels(11)), EPOCH)
      hooks.overtaken(rev(position), epoch)
      assert.equal(hooks.hold !== undefined, stays, `${position} ${epoch}`)
      if (!stays) assert.equal(await hooks.free(signal), true)
    }
  })

  it('a decision counts for its epoch alone', () => {
    const { hooks } = setup()
    hooks.admit(changed(20, ...dels(11)), EPOCH)
    hooks.release('20', 'events')
    assert.equal(hooks.admit(changed(20, ...dels(11)), '00000000000000bb' as Epoch), 'held')
  })

  it('released as a resync, nothing is relayed before the checkpoint that replaces it', () => {
    const { hooks } = setup()
    hooks.admit(changed(20, ...dels(11)), EPOCH)
    hooks.release('20', 'resync')
    assert.equal(hooks.skipping, true)
    hooks.skipped()
    assert.equal(hooks.skipping, false)
  })

  it('ends by itself after its time, and never when the time is 0', async () => {
    const timed = setup()
    timed.hooks.admit(changed(20, ...dels(11)), EPOCH)
    const free = timed.hooks.free(timed.signal)
    await timed.clock.advance(59_999)
    assert.notEqual(timed.hooks.hold, undefined)
    await timed.clock.advance(1)
    assert.equal(await free, true)
    assert.equal(timed.told.at(-1), 'timeout')
    const endless = setup({ holdMs: 0 })
    endless.hooks.admit(changed(20, ...dels(11)), EPOCH)
    const waiting = endless.hooks.free(endless.signal)
    await endless.clock.advance(7 * 24 * 60 * 60_000)
    assert.notEqual(endless.hooks.hold, undefined)
    endless.stop()
    assert.equal(await waiting, false)
  })

  it('a delay waits a little, and is no alarm', async () => {
    const { hooks, clock, signal, told } = setup({ onDelete: { maxKeys: 10, action: 'delay' } })
    hooks.admit(changed(20, ...dels(11)), EPOCH)
    assert.equal(hooks.hold?.action, 'delay')
    const free = hooks.free(signal)
    await clock.advance(1_000)
    assert.equal(await free, true)
    await settled()
    assert.deepEqual(told, ['mass-delete'])
  })
})
