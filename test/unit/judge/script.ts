// A faultless subscription, written out as frames: what the planted faults are planted into.
// Owns: a small history with every kind of change, and the frames an exact gateway would send for it.
// Refuses: the product's encoders; a judge tested with its subject's code would share its mistakes.

import { crc32 } from 'node:zlib'
import { type Held, History } from '../../judge/truth.ts'
import { visibleState, type View, Walk } from '../../judge/view.ts'

export const CLUSTER = 'sz-edge-1'
export const EPOCH = '00112233445566aa'
export const OTHER_EPOCH = 'ffeeddccbbaa9988'
const raw = (value: string): string => `r:${value}`
const put = (key: string, value: string, lease = '0') => ({ op: 'put', key, value: raw(value), lease }) as const
const del = (key: string) => ({ op: 'delete', key }) as const

/** Revisions 6 to 17 on top of a base at 5: puts, a transaction, deletes, a lease expiry, a rebirth, keys outside "/a". */
export function sampleHistory(): History {
  const held = (value: string, mod: number): Held => ({ value: raw(value), mod, create: mod, version: 1, lease: '0' })
  const history = new History(
    5,
    new Map([
      ['/a/1', held('one', 3)],
      ['/b/1', held('uno', 4)],
      ['/a/2', held('two', 5)],
    ]),
  )
  history.add([put('/a/1', 'one+')])
  history.add([put('/a/x', 'x'), put('/a/y', 'y'), put('/b/x', 'hidden')])
  history.add([del('/a/2')])
  history.add([put('/b/2', 'unseen')])
  history.add([put('/a/lease', 'L', '77')])
  history.add([put('/a/1', 'one++')])
  history.add([del('/a/lease')], false)
  history.add([put('/b/2', 'unseen+')])
  history.add([put('/a/2', 'two again')])
  history.add([put('/a/x', 'x+'), del('/a/y')])
  history.add([del('/b/1')])
  history.add([put('/a/é', '{"n":12345678901234567890}')])
  return history
}

export const view: View = { selects: (key) => key.startsWith('/a') }

type Item = Record<string, unknown>
const named = (key: string): Item => {
  const bytes = Buffer.from(key, 'latin1')
  const text = bytes.toString('utf8')
  return Buffer.from(text, 'utf8').equals(bytes) ? { key: text } : { keyBase64: bytes.toString('base64') }
}
const valued = (held: Held): Item => ({
  text: held.value.slice(2),
  createRevision: String(held.create),
  version: String(held.version),
  ...(held.lease === '0' ? {} : { lease: held.lease }),
})

export type Frame = Record<string, unknown> & { readonly type: string }
const base = { ch: 7, cluster: CLUSTER }

export function cursorText(revision: number, epoch = EPOCH): string {
  const id = Buffer.from(CLUSTER)
  const body = Buffer.alloc(9 + 1 + id.length + 16)
  body.write('a1b2c3d4e5f60718', 0, 'hex')
  body[8] = 1
  body[9] = id.length
  id.copy(body, 10)
  body.write(epoch, 10 + id.length, 'hex')
  body.writeBigUInt64BE(BigInt(revision), 18 + id.length)
  const sum = Buffer.alloc(4)
  sum.writeUInt32BE(crc32(body))
  return `dw1.${Buffer.concat([body, sum]).toString('base64url')}`
}

export const watching = (outcome: string, revision?: number, epoch = EPOCH): Frame => ({
  type: 'watching',
  id: 'w',
  ch: 7,
  clusters: { [CLUSTER]: { outcome, ...(revision === undefined ? {} : { epoch, revision: String(revision) }) } },
})
export const bookmark = (revision: number, epoch = EPOCH): Frame => ({
  type: 'bookmark',
  ch: 7,
  cursor: cursorText(revision, epoch),
  clusters: { [CLUSTER]: { epoch, revision: String(revision), state: 'live', ageMs: 3 } },
})

export function snapshotFrames(history: History, revision: number, epoch = EPOCH): Frame[] {
  const items = [...visibleState(view, history.stateAt(revision))].map(([key, held]) => ({
    ...named(key),
    revision: String(held.mod),
    ...valued(held),
  }))
  return [
    { type: 'snapshot', ...base, phase: 'begin', base: 'full', epoch, revision: String(revision) },
    { type: 'snapshot', ...base, phase: 'items', items },
    { type: 'snapshot', ...base, phase: 'end', revision: String(revision) },
  ]
}

export function eventFrames(history: History, from: number, to: number, epoch = EPOCH): Frame[] {
  return [...new Walk(history, view, from).to(to)].map((revision) => ({
    type: 'events',
    ...base,
    epoch,
    revision: String(revision.revision),
    events: revision.events.map((event) =>
      event.op === 'put' ? { op: 'put', ...named(event.key), ...valued(event) } : { op: event.op, ...named(event.key) },
    ),
  }))
}

export type Script = { start: string; frames: Frame[] }[]

/** Two connections: a snapshot and events, then a resume from the folded cursor to the end. */
export function faultless(history: History): Script {
  return [
    {
      start: 'snapshot',
      frames: [
        { type: 'welcome', version: 1, clusters: {} },
        watching('snapshot', 7),
        ...snapshotFrames(history, 7),
        bookmark(7),
        ...eventFrames(history, 7, 10),
        { type: 'heartbeat' },
        ...eventFrames(history, 10, 11),
      ],
    },
    {
      start: cursorText(11),
      frames: [
        watching('resumed', 11),
        ...eventFrames(history, 11, 14),
        bookmark(14),
        ...eventFrames(history, 14, 17),
        bookmark(17),
      ],
    },
  ]
}
