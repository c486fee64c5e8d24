// The judge must be silent on a faultless transcript and must catch every fault planted into it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { crc32 } from 'node:zlib'
import { readTranscript } from '../../judge/seen.ts'
import { type Expectation, judgeSubscription } from '../../judge/subscription.ts'
import type { History } from '../../judge/truth.ts'
import { type Rule, Verdict } from '../../judge/verdict.ts'
import {
  bookmark,
  CLUSTER,
  cursorText,
  eventFrames,
  faultless,
  type Frame,
  OTHER_EPOCH,
  sampleHistory,
  type Script,
  snapshotFrames,
  view,
  watching,
} from './script.ts'

const judge = (script: Script, history: History, more: Partial<Expectation> = {}): Verdict => {
  const connections = script.map(({ start, frames }) => ({
    id: 'w',
    start,
    frames: frames.map((f) => JSON.stringify(f)),
  }))
  const expect = { cluster: CLUSTER, histories: [history], view, ...more }
  return judgeSubscription(readTranscript(connections), expect, new Verdict())
}
/** The faultless script after `change`, and its verdict. */
const planted = (change: (script: Script, history: History) => void, more: Partial<Expectation> = {}): Verdict => {
  const history = sampleHistory()
  const script = structuredClone(faultless(history))
  change(script, history)
  return judge(script, history, more)
}
const frameAt = (script: Script, revision: number): Frame => {
  const frame = script.flatMap((c) => c.frames).find((f) => f.type === 'events' && f.revision === String(revision))
  assert.ok(frame !== undefined, `no frame of revision ${revision}`)
  return frame
}
const eventsOf = (frame: Frame): Record<string, unknown>[] => frame.events as Record<string, unknown>[]
const itemsOf = (script: Script): unknown[] => framesOf(script, 0).find((f) => f.phase === 'items')?.items as unknown[]
const framesOf = (script: Script, n: number): Frame[] => {
  const connection = script[n]
  assert.ok(connection !== undefined)
  return connection.frames
}
const drop = (script: Script, match: (frame: Frame) => boolean): void => {
  for (const connection of script) connection.frames = connection.frames.filter((frame) => !match(frame))
}

type Plant = readonly [name: string, rule: Rule, change: (script: Script, history: History) => void]
const plants: readonly Plant[] = [
  [
    'a key outside the selector',
    'Filter',
    (s) => void eventsOf(frameAt(s, 8)).push({ op: 'put', key: '/b/x', text: 'hidden' }),
  ],
  [
    'a hidden revision delivered',
    'Filter',
    (s) => void framesOf(s, 1).splice(2, 0, { ...frameAt(s, 14), revision: '13' }),
  ],
  [
    'two frames swapped',
    'Ordered',
    (s) => void framesOf(s, 1).splice(1, 2, ...framesOf(s, 1).slice(1, 3).toReversed()),
  ],
  [
    'events of a transaction reordered',
    'Ordered',
    (s) => void Object.assign(frameAt(s, 15), { events: eventsOf(frameAt(s, 15)).toReversed() }),
  ],
  ['a frame sent twice', 'Unique', (s) => void framesOf(s, 0).push(structuredClone(frameAt(s, 11)))],
  ['a frame repeated after the reconnect', 'Unique', (s) => void framesOf(s, 1).splice(1, 0, frameAt(s, 11))],
  ['a key twice in a frame', 'Unique', (s) => void eventsOf(frameAt(s, 8)).push({ op: 'delete', key: '/a/2' })],
  ['half a transaction', 'Atomic', (s) => void eventsOf(frameAt(s, 15)).pop()],
  [
    'a transaction in two frames',
    'Atomic',
    (s) => {
      const whole = frameAt(s, 15)
      const [a, b] = eventsOf(whole)
      const at = framesOf(s, 1).indexOf(whole)
      framesOf(s, 1).splice(at, 1, { ...whole, events: [a] }, { ...whole, events: [b] })
    },
  ],
  ['an event below a bookmark', 'Bookmarkable', (s, h) => void framesOf(s, 1).push(...eventFrames(h, 14, 15))],
  ['a bookmark before its events', 'Bookmarkable', (s) => void framesOf(s, 1).splice(1, 0, bookmark(14))],
  ['a bookmark that goes back', 'Bookmarkable', (s) => void framesOf(s, 1).push(bookmark(16))],
  ['a bookmark ahead of etcd', 'Bookmarkable', (s) => void framesOf(s, 1).push(bookmark(18))],
  ['a resume elsewhere', 'Resumable', (s) => void framesOf(s, 1).splice(0, 1, watching('resumed', 12))],
  ['a resume that skips the first event', 'Resumable', (s) => drop(s, (f) => f.revision === '12')],
  ['a cursor answered with "live"', 'Resumable', (s) => void framesOf(s, 1).splice(0, 1, watching('live', 11))],
  [
    'an update shown as a creation',
    'IsCreate',
    (s) => void Object.assign(eventsOf(frameAt(s, 11))[0] ?? {}, { createRevision: '11' }),
  ],
  [
    'a creation shown as an update',
    'IsCreate',
    (s) => void Object.assign(eventsOf(frameAt(s, 14))[0] ?? {}, { createRevision: '5' }),
  ],
  ['a revision lost', 'Reliable', (s) => drop(s, (f) => f.revision === '10')],
  ['a delete lost', 'Reliable', (s) => drop(s, (f) => f.revision === '8')],
  ['another value', 'Reliable', (s) => void Object.assign(eventsOf(frameAt(s, 11))[0] ?? {}, { text: 'one+' })],
  ['a value missing', 'Reliable', (s) => void delete eventsOf(frameAt(s, 11))[0]?.text],
  [
    'a delete shown as a put',
    'Reliable',
    (s) => void Object.assign(eventsOf(frameAt(s, 8))[0] ?? {}, { op: 'put', text: '' }),
  ],
  [
    'a delete shown as a leave',
    'Reliable',
    (s) => void Object.assign(eventsOf(frameAt(s, 8))[0] ?? {}, { op: 'leave' }),
  ],
  ['a revision etcd never had', 'Reliable', (s) => void framesOf(s, 1).push({ ...frameAt(s, 17), revision: '18' })],
  ['an event that never was', 'Reliable', (s) => void eventsOf(frameAt(s, 8)).push({ op: 'delete', key: '/a/zzz' })],
  ['another version', 'PrevKV', (s) => void Object.assign(eventsOf(frameAt(s, 11))[0] ?? {}, { version: '2' })],
  ['another lease', 'PrevKV', (s) => void Object.assign(eventsOf(frameAt(s, 10))[0] ?? {}, { lease: '78' })],
  ['a snapshot without a key', 'Snapshot', (s) => void itemsOf(s).pop()],
  ['a snapshot with a key too many', 'Snapshot', (s) => void itemsOf(s).push({ key: '/a/0', revision: '2', text: '' })],
  [
    'a snapshot of another revision',
    'Snapshot',
    (s, h) => void framesOf(s, 0).splice(3, 1, snapshotFrames(h, 6)[1] as Frame),
  ],
  ['a snapshot nobody announced', 'Resync', (s, h) => void framesOf(s, 1).push(...snapshotFrames(h, 17))],
  [
    'a snapshot that goes back',
    'Ordered',
    (s, h) => void framesOf(s, 1).push(watching('snapshot'), ...snapshotFrames(h, 9), ...eventFrames(h, 9, 17)),
  ],
  ['events where a snapshot is owed', 'Resync', (s) => void framesOf(s, 1).splice(0, 1, watching('resync'))],
  [
    'a resync without cause',
    'Resync',
    (s, h) => {
      const resync = { type: 'resync', ch: 7, cluster: CLUSTER, reason: 'trimmed' }
      framesOf(s, 1).push(resync, ...snapshotFrames(h, 17))
    },
  ],
  ['a cursor that goes back', 'Cursor', (s) => void framesOf(s, 1).push({ ...bookmark(17), cursor: cursorText(12) })],
  [
    'a cursor ahead of its bookmark',
    'Cursor',
    (s) => void framesOf(s, 0).push({ ...bookmark(11), cursor: cursorText(15) }),
  ],
  [
    'a broken cursor',
    'Cursor',
    (s) => void framesOf(s, 0).push({ ...bookmark(11), cursor: `${cursorText(11).slice(0, -2)}AA` }),
  ],
  [
    'a silent change of epoch',
    'Epoch',
    (s, h) => void framesOf(s, 1).splice(1, 20, ...eventFrames(h, 11, 17, OTHER_EPOCH)),
  ],
  [
    'an epoch more than there were lineages',
    'Epoch',
    (s, h) => void framesOf(s, 1).push(watching('resync'), ...snapshotFrames(h, 17, OTHER_EPOCH)),
  ],
  ['the end never reached', 'Complete', (s) => void framesOf(s, 1).splice(-2, 2)],
  ['no position at all', 'Complete', (s) => void s.splice(0, 2, { start: 'snapshot', frames: [] })],
  ['text that is no frame', 'Garbled', (s) => void framesOf(s, 1).push({ type: 'events', ch: 7, cluster: CLUSTER })],
  ['a snapshot without its begin', 'Garbled', (s) => void framesOf(s, 0).splice(2, 1)],
]

describe('the judge of subscriptions', () => {
  it('is silent on a faultless transcript, and counts what it saw', () => {
    const verdict = planted(() => {})
    assert.equal(verdict.failed, 0, verdict.toString())
    assert.deepEqual(Object.fromEntries(verdict.totals), {
      connections: 2,
      outcomes: 2,
      snapshots: 1,
      items: 4,
      bookmarks: 3,
      frames: 7,
      events: 8,
    })
  })

  for (const [name, rule, change] of plants) {
    it(`catches ${name} (${rule})`, () => {
      const verdict = planted(change)
      assert.ok((verdict.byRule.get(rule) ?? 0) > 0, `${rule} was not reported: ${verdict.toString()}`)
    })
  }

  it('plants at least one fault for every rule about subscriptions', () => {
    const covered = new Set(plants.map(([, rule]) => rule))
    const log = new Set<Rule>(['Chain', 'Checkpoint'])
    const all: Rule[] = [
      'Filter',
      'Ordered',
      'Unique',
      'Atomic',
      'Bookmarkable',
      'Resumable',
      'IsCreate',
      'Reliable',
      'PrevKV',
    ]
    for (const rule of [...all, 'Snapshot', 'Cursor', 'Epoch', 'Resync', 'Complete', 'Garbled'] as Rule[]) {
      assert.ok(covered.has(rule) || log.has(rule), rule)
    }
  })

  it('accepts a resync the scenario makes legitimate, and a second lineage with its own history', () => {
    const second = sampleHistory()
    const verdict = planted(
      (s) => {
        const resync = { type: 'resync', ch: 7, cluster: CLUSTER, reason: 'epoch' }
        framesOf(s, 1).push(
          resync,
          ...snapshotFrames(second, 9, OTHER_EPOCH),
          ...eventFrames(second, 9, 17, OTHER_EPOCH),
        )
      },
      { histories: [sampleHistory(), second], resyncs: ['epoch'] },
    )
    assert.equal(verdict.failed, 0, verdict.toString())
  })

  it('catches a subscriber that never left the old lineage (Complete)', () => {
    const verdict = planted(() => {}, { histories: [sampleHistory(), sampleHistory()] })
    assert.ok((verdict.byRule.get('Complete') ?? 0) > 0, verdict.toString())
  })

  it('accepts a full snapshot for a client that came back before any bookmark named its view', () => {
    const back = (tag: string): Verdict =>
      planted((s, h) => {
        const body = Buffer.from(cursorText(11).slice(4), 'base64url').subarray(0, -4)
        body.write(tag, 0, 'hex')
        const sum = Buffer.alloc(4)
        sum.writeUInt32BE(crc32(body))
        const start = `dw1.${Buffer.concat([body, sum]).toString('base64url')}`
        const resync = { type: 'resync', ch: 7, cluster: CLUSTER, reason: 'selector' }
        s.splice(1, 1, { start, frames: [watching('resync'), resync, ...snapshotFrames(h, 17), bookmark(17)] })
      })
    assert.equal(back('0000000000000000').failed, 0, back('0000000000000000').toString())
    assert.ok((back('a1b2c3d4e5f60718').byRule.get('Resync') ?? 0) > 0)
  })

  it('takes masked, withheld and hidden values as the scenario says, and nothing else', () => {
    const shows = (key: string) => (key === '/a/1' ? 'masked' : key === '/a/x' ? 'hidden' : 'exact')
    const strict = { view: { ...view, shows } } as const
    const mask = (s: Script, value: object): void => {
      for (const { frames } of s) {
        for (const f of frames) {
          const list = ((f.items ?? f.events ?? []) as Record<string, unknown>[]).filter((e) => e.key !== '/a/x')
          for (const e of list)
            if (e.key === '/a/1' && e.op !== 'delete') {
              delete e.text
              Object.assign(e, value)
            }

          if (f.items !== undefined) f.items = list
          if (f.events !== undefined) f.events = list
        }
      }
    }
    assert.equal(planted((s) => mask(s, { text: '***' }), strict).failed, 0)
    assert.equal(planted((s) => mask(s, { withheld: 'rule-1' }), strict).failed, 0)
    const leaked = planted((s) => mask(s, { text: 'one++' }), strict)
    assert.ok((leaked.byRule.get('Reliable') ?? 0) > 0, 'an unmasked value passed')
    assert.ok(
      (planted(() => {}, strict).byRule.get('Filter') ?? 0) + (planted(() => {}, strict).byRule.get('Reliable') ?? 0) >
        0,
    )
  })
})
