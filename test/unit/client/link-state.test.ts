// One connection's state machine: every state against every input, then the paths that matter.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { DEFAULT_BACKOFF, LOOP_AFTER } from '#client/core/backoff.ts'
import { type LinkInput, type LinkOptions, type LinkState, stepLink, wakeAt } from '#client/core/link-state.ts'

const OPTIONS: LinkOptions = { backoff: DEFAULT_BACKOFF, dialMs: 15_000, welcomeMs: 10_000, renewable: false }
const NOW = 100_000

type Phase = LinkState['phase']
type Kind = LinkInput['kind']

const STATES: { readonly [P in Phase]: Extract<LinkState, { phase: P }> } = {
  idle: { phase: 'idle' },
  dialing: { phase: 'dialing', attempt: 0, refusals: 0, deadline: NOW },
  open: {
    phase: 'open',
    attempt: 0,
    session: 's',
    dev: false,
    openedAt: 0,
    heartbeatMs: 15_000,
    lastFrameAt: NOW - 22_500,
  },
  waiting: {
    phase: 'waiting',
    attempt: 1,
    refusals: 0,
    until: NOW,
    retryInMs: 5,
    ended: { code: 1006, reason: '' },
    looping: false,
  },
  closed: { phase: 'closed', ended: undefined },
}
const INPUTS: { readonly [K in Kind]: Extract<LinkInput, { kind: K }> } = {
  start: { kind: 'start' },
  opened: { kind: 'opened' },
  welcomed: { kind: 'welcomed', open: { session: 's', heartbeatMs: 15_000, dev: false } },
  frame: { kind: 'frame' },
  goodbye: { kind: 'goodbye', ended: { code: 4201, reason: 'draining' } },
  ended: { kind: 'ended', ended: { code: 1006, reason: '' } },
  tick: { kind: 'tick' },
  online: { kind: 'online' },
  stop: { kind: 'stop' },
}
/** The next phase and the effects, for each cell. */
const TABLE: { readonly [P in Phase]: { readonly [K in Kind]: string } } = {
  idle: {
    start: 'dialing dial',
    opened: 'idle',
    welcomed: 'idle',
    frame: 'idle',
    goodbye: 'idle',
    ended: 'idle',
    tick: 'idle',
    online: 'idle',
    stop: 'closed abandon',
  },
  dialing: {
    start: 'dialing',
    opened: 'dialing',
    welcomed: 'open',
    frame: 'dialing',
    goodbye: 'dialing',
    ended: 'waiting',
    tick: 'waiting abandon',
    online: 'dialing',
    stop: 'closed abandon',
  },
  open: {
    start: 'open',
    opened: 'open',
    welcomed: 'open',
    frame: 'open',
    goodbye: 'open',
    ended: 'waiting',
    tick: 'open ping',
    online: 'open',
    stop: 'closed abandon',
  },
  waiting: {
    start: 'waiting',
    opened: 'waiting',
    welcomed: 'waiting',
    frame: 'waiting',
    goodbye: 'waiting',
    ended: 'waiting',
    tick: 'dialing dial',
    online: 'dialing dial',
    stop: 'closed abandon',
  },
  closed: {
    start: 'closed',
    opened: 'closed',
    welcomed: 'closed',
    frame: 'closed',
    goodbye: 'closed',
    ended: 'closed',
    tick: 'closed',
    online: 'closed',
    stop: 'closed',
  },
}

const step = (state: LinkState, input: LinkInput, now = NOW, random = 0.5, options = OPTIONS) =>
  stepLink(state, input, now, random, options)
const close = (code: number, reason = '', retryAfterMs?: number): LinkInput => ({
  kind: 'ended',
  ended: { code, reason, retryAfterMs },
})

describe('the state of a connection', () => {
  for (const [phase, row] of Object.entries(TABLE) as [Phase, Record<Kind, string>][]) {
    for (const [kind, wanted] of Object.entries(row) as [Kind, string][]) {
      it(`${phase} + ${kind} -> ${wanted}`, () => {
        const { state, effects } = step(STATES[phase], INPUTS[kind])
        assert.equal([state.phase, ...effects].join(' '), wanted)
      })
    }
  }

  it('a quiet connection is asked first, and given up when the answer is late too', () => {
    const doubted = step(STATES.open, { kind: 'tick' })
    assert.deepEqual(doubted.effects, ['ping'])
    const due = wakeAt(doubted.state) ?? 0
    assert.equal(due, NOW + 7_500)
    assert.equal(step(doubted.state, { kind: 'tick' }, due - 1).state.phase, 'open', 'not before its time')
    assert.deepEqual(step(doubted.state, { kind: 'tick' }, due).effects, ['abandon'])
    const alive = step(doubted.state, { kind: 'frame' }, due - 1)
    assert.equal(step(alive.state, { kind: 'tick' }, due).state.phase, 'open', 'any frame is a sign of life')
  })

  it('a goodbye counts for more than the close code that a proxy left', () => {
    const told = step(STATES.open, { kind: 'goodbye', ended: { code: 4006, reason: 'revoked' } })
    const { state } = step(told.state, close(1006))
    assert.deepEqual(state, { phase: 'closed', ended: { code: 4006, reason: 'revoked' } })
  })

  it('the bands decide: never, back off, now', () => {
    assert.equal(step(STATES.open, close(4000)).state.phase, 'closed')
    const wait = (code: number, random: number, retryAfterMs?: number): number => {
      const { state } = step(STATES.open, close(code, '', retryAfterMs), NOW, random)
      assert.ok(state.phase === 'waiting')
      return state.until - NOW
    }
    assert.equal(wait(4100, 0), 1_000, 'the back-off band promises a second')
    assert.equal(wait(4200, 0), 0)
    assert.ok(wait(4200, 0.999) < 250)
    assert.ok(wait(1006, 0.999) < 500)
    assert.equal(wait(4201, 0, 1_200), 1_200, 'what the gateway asked for')
    assert.ok(wait(4201, 0.999, 1_200) < 1_450)
  })

  it('a refused token is tried again once when another one can be had', () => {
    const renewable = { ...OPTIONS, renewable: true }
    const once = step(STATES.dialing, close(4003), NOW, 0.5, renewable)
    assert.equal(once.state.phase, 'waiting')
    const again = step(once.state, { kind: 'tick' }, NOW + 60_000, 0.5, renewable)
    assert.equal(again.state.phase, 'dialing')
    assert.equal(step(again.state, close(4003), NOW, 0.5, renewable).state.phase, 'closed')
    assert.equal(step(STATES.dialing, close(4003)).state.phase, 'closed', 'a fixed token is refused for good')
  })

  it('being sent back "now" again and again grows into a back-off, and is called a loop', () => {
    let state: LinkState = STATES.idle
    let now = 0
    const delays: number[] = []
    let loops = 0
    for (let n = 0; n < 12; n++) {
      state = step(state, { kind: state.phase === 'idle' ? 'start' : 'tick' }, now).state
      state = step(state, INPUTS.welcomed, now).state
      const next = step(state, close(4200), now, 0.9)
      state = next.state
      assert.ok(state.phase === 'waiting')
      if (state.looping) loops += 1
      delays.push(state.until - now)
      now = state.until
    }
    assert.ok((delays[0] ?? 0) < 250)
    assert.ok((delays.at(-1) ?? 0) > 20_000, `the last delay was ${delays.at(-1)}`)
    assert.equal(loops, 12 - LOOP_AFTER + 1)
    // Once a connection holds, everything is forgiven.
    state = step(state, { kind: 'tick' }, now).state
    state = step(state, INPUTS.welcomed, now).state
    const { state: last } = step(state, close(4200), now + DEFAULT_BACKOFF.stableMs, 0.9)
    assert.ok(last.phase === 'waiting' && last.attempt === 1 && !last.looping)
  })

  it('a network that is back ends a wait that only the network caused, never one the gateway asked for', () => {
    const waiting = (code: number): LinkState => {
      const { state } = step(STATES.open, close(code))
      assert.equal(state.phase, 'waiting')
      return state
    }
    const outcome = (state: LinkState): string => step(state, { kind: 'online' }, NOW + 1).state.phase
    assert.deepEqual([0, 1006, 1001].map(waiting).map(outcome), ['dialing', 'dialing', 'dialing'])
    assert.deepEqual([4100, 4103, 4201].map(waiting).map(outcome), ['waiting', 'waiting', 'waiting'])
  })

  it('whatever happens, a wait is bounded, and time alone always leads on', () => {
    const input = fc.oneof(
      fc.constantFrom(...(Object.values(INPUTS) as LinkInput[]).filter(({ kind }) => kind !== 'stop')),
      fc.record({
        kind: fc.constant('ended' as const),
        ended: fc.record({
          code: fc.constantFrom(0, 1006, 1001, 1012, 4100, 4103, 4200, 4201),
          reason: fc.constant(''),
          retryAfterMs: fc.option(fc.nat(100_000), { nil: undefined }),
        }),
      }),
    )
    const moves = fc.array(fc.tuple(input, fc.nat(60_000), fc.double({ min: 0, max: 0.999, noNaN: true })))
    fc.assert(
      fc.property(moves, (steps) => {
        let state: LinkState = { phase: 'idle' }
        let now = 0
        for (const [move, wait, random] of steps) {
          now += wait
          state = step(state, move, now, random).state
          const due = wakeAt(state)
          if (state.phase === 'idle' || state.phase === 'closed') assert.equal(due, undefined)
          else assert.ok(due !== undefined && due - now <= 61_000, `${state.phase} waits until ${due} at ${now}`)
          if (due !== undefined && due <= now) {
            const ticked = step(state, { kind: 'tick' }, now, random)
            assert.notDeepEqual(ticked.state, state, 'a due tick changes something, or it would spin')
          }
        }
      }),
      { numRuns: 500 },
    )
  })
})
