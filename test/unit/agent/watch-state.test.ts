// The watch machine: completeness, order, duplicates, bookmarks, ends. One table row per input in each phase.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { WatchMachine, type WatchOutput } from '#agent/watch/state.ts'
import { created, del, header, put, response, rev } from './fixtures.ts'

const machine = (start = 5, more: Partial<ConstructorParameters<typeof WatchMachine>[0]> = {}) =>
  new WatchMachine({ startRevision: rev(start), trustsManualProgress: true, maxRevisionBytes: 1_000, ...more })
const opened = (start = 5, more = {}) => {
  const m = machine(start, more)
  m.receive(created(), 0)
  return m
}
const events = (...list: object[]) => response({ events: list })
const fragment = (...list: object[]) => response({ events: list, fragment: true })
/** Kinds and revisions, which is what order is about. */
const brief = (outputs: readonly WatchOutput[]) =>
  outputs.map((o) => {
    switch (o.kind) {
      case 'revision':
        return `revision ${o.revision.revision}x${o.revision.changes.length}`
      case 'proved':
      case 'reached':
        return `${o.kind} ${o.revision}`
      case 'dropped':
        return `dropped ${o.reason} ${o.count}`
      case 'impossible':
        return `impossible ${o.events.length}`
      case 'ended':
        return `ended ${o.cause.kind}`
      case 'created':
        return 'created'
      default: {
        const never: never = o
        return never
      }
    }
  })

const INPUTS = {
  created: created(),
  progress: response({ header: header(50) }),
  'manual progress': response({ header: header(50), watch_id: '-1' }),
  events: events(put('/a', 7)),
  'compaction cancel': response({ canceled: true, header: header(0), compact_revision: '9' }),
  'denied cancel': response({ canceled: true, cancel_reason: 'etcdserver: permission denied' }),
  junk: { nonsense: true },
} as const
type Input = keyof typeof INPUTS
type Phase = WatchMachine['phase']

const TABLE: Record<Phase, Record<Input, readonly string[]>> = {
  creating: {
    created: ['created'],
    progress: ['ended protocol'],
    'manual progress': ['ended protocol'],
    events: ['ended protocol'],
    'compaction cancel': ['ended compacted'],
    'denied cancel': ['ended denied'],
    junk: ['ended protocol'],
  },
  open: {
    created: ['ended protocol'],
    progress: ['reached 50', 'proved 50'],
    'manual progress': ['reached 50', 'proved 50'],
    events: ['revision 7x1'],
    'compaction cancel': ['ended compacted'],
    'denied cancel': ['ended denied'],
    junk: ['ended protocol'],
  },
  ended: {
    created: [],
    progress: [],
    'manual progress': [],
    events: [],
    'compaction cancel': [],
    'denied cancel': [],
    junk: [],
  },
}
const inPhase: Record<Phase, () => WatchMachine> = {
  creating: () => machine(),
  open: () => opened(),
  ended: () => {
    const m = opened()
    m.receive(INPUTS.junk, 0)
    return m
  },
}

describe('the watch machine', () => {
  for (const phase of Object.keys(TABLE) as Phase[]) {
    for (const input of Object.keys(TABLE[phase]) as Input[]) {
      it(`${phase}: ${input}`, () => {
        const m = inPhase[phase]()
        assert.equal(m.phase, phase)
        assert.deepEqual(brief(m.receive(INPUTS[input], 0)), TABLE[phase][input])
      })
    }
  }

  it('created proves nothing: the cursor stays before the start revision, whatever the head', () => {
    const m = machine(5)
    m.receive(created(900), 0)
    assert.equal(m.cursor, '4')
  })

  it('the header of a batch is never the cursor', () => {
    const m = opened()
    m.receive(response({ header: header(3001), events: [put('/a', 7)] }), 0)
    assert.equal(m.cursor, '7')
  })

  it('a transaction is one revision; several revisions of one response stay apart', () => {
    const out = opened().receive(events(put('/a', 5), del('/b', 5), put('/c', 8)), 0)
    assert.deepEqual(brief(out), ['revision 5x2', 'revision 8x1'])
  })

  it('a revision split over fragments is put out once, when a later one or an unfragmented end completes it', () => {
    const m = opened()
    assert.deepEqual(brief(m.receive(fragment(put('/a', 5)), 0)), [])
    assert.deepEqual(brief(m.receive(fragment(put('/b', 5), put('/c', 6)), 0)), ['revision 5x2'])
    assert.equal(m.cursor, '5')
    assert.deepEqual(brief(m.receive(events(put('/d', 6)), 0)), ['revision 6x2'])
  })

  it('an empty last fragment completes what is open', () => {
    const m = opened()
    m.receive(fragment(put('/a', 5)), 0)
    assert.deepEqual(brief(m.receive(fragment(), 0)), [])
    assert.deepEqual(brief(m.receive(events(put('/b', 6)), 0)), ['revision 5x1', 'revision 6x1'])
  })

  it('an open revision keeps bookmarks from proving anything', () => {
    const m = opened()
    m.receive(fragment(put('/a', 5)), 0)
    assert.deepEqual(brief(m.receive(INPUTS.progress, 0)), ['reached 50'])
    assert.equal(m.cursor, '4')
  })

  it('an end discards the incomplete tail', () => {
    const m = opened()
    m.receive(fragment(put('/a', 5)), 0)
    assert.deepEqual(brief(m.receive(INPUTS['compaction cancel'], 0)), ['ended compacted'])
    assert.equal(m.cursor, '4')
  })

  it('events at or below the cursor are dropped and counted', () => {
    const m = opened()
    m.receive(events(put('/a', 7)), 0)
    assert.deepEqual(brief(m.receive(events(put('/old', 3), put('/a', 7), put('/b', 8)), 0)), [
      'revision 8x1',
      'dropped stale 1',
      'dropped duplicate 1',
    ])
  })

  it('a revision that goes on after it was complete is half a transaction: the watch ends', () => {
    const m = opened()
    m.receive(events(put('/a', 7)), 0)
    assert.deepEqual(brief(m.receive(events(put('/other', 7)), 0)), ['ended split'])
  })

  it('revisions that go backwards inside a response end the watch', () => {
    assert.deepEqual(brief(opened().receive(events(put('/a', 9), put('/b', 8)), 0)), ['ended disorder'])
  })

  it('a bookmark below the last event or the start is counted and proves nothing', () => {
    const m = opened(60)
    assert.deepEqual(brief(m.receive(INPUTS.progress, 0)), ['reached 50', 'dropped low-bookmark 1'])
    assert.equal(m.cursor, '59')
  })

  it('a manual bookmark is liveness alone where servers do not order it', () => {
    const m = opened(5, { trustsManualProgress: false })
    assert.deepEqual(brief(m.receive(INPUTS['manual progress'], 0)), ['reached 50'])
    assert.equal(m.cursor, '4')
    assert.deepEqual(brief(m.receive(INPUTS.progress, 0)), ['reached 50', 'proved 50'])
  })

  it('what a bookmark proved is history: events at or below it are dropped', () => {
    const m = opened()
    m.receive(INPUTS.progress, 0)
    assert.deepEqual(brief(m.receive(events(put('/late', 40), put('/next', 51)), 0)), [
      'revision 51x1',
      'dropped stale 1',
    ])
  })

  it('I8: a revision above the limit ends the watch instead of filling memory', () => {
    const large = put('/a', 5, { value: Buffer.alloc(600) })
    const m = opened()
    assert.deepEqual(brief(m.receive(fragment(large), 0)), [])
    assert.deepEqual(brief(m.receive(fragment(put('/b', 5, { value: Buffer.alloc(600) })), 0)), ['ended oversize'])
  })

  it('an impossible event does not stop the stream', () => {
    assert.deepEqual(brief(opened().receive(events(put('', 5), put('/b', 6)), 0)), ['impossible 1', 'revision 6x1'])
  })

  it('64-bit revisions are compared as integers', () => {
    const near = '9223372036854775800'
    const m = opened(5)
    const event = put('/a', 0, { mod_revision: near, create_revision: near })
    m.receive(response({ header: header('9223372036854775807'), events: [event] }), 0)
    assert.equal(m.cursor, near)
  })
})
