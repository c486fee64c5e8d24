// The small pure parts of the client: positions to resume from, the queue, the live map, tokens, values, options.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ChangeQueue } from '#client/core/change-queue.ts'
import type { Change, Entry } from '#client/core/changes.ts'
import { LiveMap } from '#client/core/live-map.ts'
import { expiryOf, refreshIn } from '#client/core/token.ts'
import { PositionVector } from '#client/core/vector.ts'
import { Refused, UNAUTHORIZED, WatchError } from '#client/errors.ts'
import { askOf, settle } from '#client/options.ts'
import { valueBytes, valueJson, valueText } from '#client/values.ts'
import { toBase64Url } from '#protocol/bytes.ts'
import { Close, ErrorCode, errorLabel } from '#protocol/codes.ts'
import { decodeCursor, MAX_CURSOR_CLUSTERS } from '#protocol/cursor.ts'
import type { Epoch } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ClusterId } from '#protocol/subjects.ts'

const EPOCH = '00112233445566aa' as Epoch
const TAG = 'a1b2c3d4e5f60718'
const at = (cluster: string, revision: string) =>
  ({ kind: 'at', cluster: cluster as ClusterId, position: { epoch: EPOCH, revision: revision as Revision } }) as const
const owed = (cluster: string) => ({ kind: 'owed', cluster: cluster as ClusterId }) as const
const NOW = { start: 'now', default: undefined } as const

describe('what to resume from', () => {
  it('nothing known: as it was asked for', () => {
    assert.equal(new PositionVector().resume(NOW).start, 'now')
    assert.equal(new PositionVector().resume({ start: 'snapshot', default: undefined }).start, 'snapshot')
  })
  it('positions and a tag: the canonical cursor', () => {
    const vector = new PositionVector()
    vector.apply([at('sz', '7'), { kind: 'tag', viewTag: TAG }])
    const { start } = vector.resume(NOW)
    assert.equal(start, vector.cursor())
    const decoded = decodeCursor(start)
    assert.ok(decoded.ok && decoded.cursor.viewTag === TAG)
    assert.equal(decoded.cursor.positions.get('sz' as ClusterId)?.revision, '7')
  })
  it('positions without a tag: a cursor of no view, which a gateway answers with a resync and never with a gap', () => {
    const vector = new PositionVector()
    vector.apply([at('sz', '7')])
    assert.equal(vector.cursor(), undefined)
    const decoded = decodeCursor(vector.resume(NOW).start)
    assert.ok(decoded.ok && decoded.cursor.viewTag === '0'.repeat(16))
  })
  it('a cluster that is owed a snapshot gets one, also on a watch from "now"', () => {
    const vector = new PositionVector()
    vector.apply([at('sz', '7'), owed('gz'), { kind: 'tag', viewTag: TAG }])
    assert.equal(vector.resume(NOW).default, 'snapshot')
    vector.apply([at('gz', '9')])
    assert.equal(vector.resume(NOW).default, 'now')
    vector.apply([owed('gz'), owed('sz')])
    assert.equal(vector.resume(NOW).start, 'snapshot')
    vector.apply([{ kind: 'dropped', cluster: 'gz' as ClusterId }, at('sz', '8')])
    assert.equal(vector.resume(NOW).default, 'now')
  })
  it('more clusters than a cursor holds: from a snapshot', () => {
    const vector = new PositionVector()
    vector.apply([{ kind: 'tag', viewTag: TAG }])
    for (let n = 0; n <= MAX_CURSOR_CLUSTERS; n++) vector.apply([at(`c${n}`, '1')])
    assert.equal(vector.cursor(), undefined)
    assert.equal(vector.resume(NOW).start, 'snapshot')
  })
})

describe('the queue', () => {
  it('I8: says when it is full and when there is room, and never drops', () => {
    const queue = new ChangeQueue(1_000)
    for (let n = 0; n < 10; n++) queue.push({ advances: [], size: n })
    assert.equal(queue.full, false)
    queue.push({ advances: [], size: 900 })
    assert.equal(queue.full, true)
    assert.equal(queue.slack, false)
    const sizes: number[] = []
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) sizes.push(item.size)
    assert.deepEqual(sizes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 900])
    assert.equal(queue.weight, 0)
    assert.equal(queue.slack, true)
  })
  it('many tiny changes weigh something too', () => {
    const queue = new ChangeQueue(1_000)
    for (let n = 0; n < 20; n++) queue.push({ advances: [], size: 0 })
    assert.equal(queue.full, true)
  })
})

describe('the live map', () => {
  const entry = (key: string, text: string, revision: string): Entry => ({ key, text, revision })
  const place = { cluster: 'sz', epoch: EPOCH, revision: '5' } as const
  const snapshot = (...items: Entry[]): Change => ({ kind: 'snapshot', base: 'full', ...place, items })
  const keys = (map: LiveMap, cluster = 'sz'): string[] => [...map.entries(cluster)].map(({ key }) => key)

  it('a full snapshot drops what it does not list, and reports only what differs', () => {
    const map = new LiveMap()
    map.apply(snapshot(entry('/a', '1', '1'), entry('/b', '1', '2')))
    const difference = map.apply(snapshot(entry('/b', '1', '2'), entry('/c', '1', '4')))
    assert.deepEqual(
      difference?.changed.map(({ name, before, after }) => [name.key, before?.text, after?.text]),
      [
        ['/a', '1', undefined],
        ['/c', undefined, '1'],
      ],
    )
    assert.deepEqual(keys(map), ['/b', '/c'])
  })
  it('an equal revision with another value is a change: the epoch may be another one', () => {
    const map = new LiveMap()
    map.apply(snapshot(entry('/a', '1', '1')))
    assert.equal(map.apply(snapshot(entry('/a', '2', '1')))?.changed.length, 1)
  })
  it('events, differences, scope and removal touch what they name', () => {
    const map = new LiveMap()
    map.apply(snapshot(entry('/a', '1', '1'), entry('/b', '1', '2')))
    map.apply({
      kind: 'events',
      ...place,
      revision: '6',
      events: [
        { op: 'put', key: '/c', text: 'x' },
        { op: 'delete', key: '/a' },
        { op: 'leave', key: '/nope' },
      ],
    })
    assert.deepEqual(keys(map), ['/b', '/c'])
    assert.equal(map.get('sz', '/c')?.revision, '6')
    map.apply({
      kind: 'state',
      ...place,
      fromRevision: '6',
      items: [{ key: '/b', gone: 'leave' }, entry('/d', 'y', '7')],
    })
    assert.deepEqual(keys(map), ['/c', '/d'])
    map.apply({ kind: 'scope', cluster: 'sz', left: [{ key: '/c' }] })
    map.apply({ kind: 'resync', cluster: 'sz', reason: 'epoch', from: undefined, to: undefined })
    assert.deepEqual(keys(map), ['/d'], 'a resync keeps the old state until its snapshot')
    const gone = { region: undefined, since: undefined, lastRevision: undefined }
    const difference = map.apply({ kind: 'cluster', cluster: 'sz', state: 'removed', ...gone })
    assert.equal(difference?.changed[0]?.before?.key, '/d')
    assert.deepEqual(keys(map), [])
  })
  it('order is bytewise, and binary keys are keys like others', () => {
    const map = new LiveMap()
    const binary = { key: '\u00ff\u0000', binary: true, text: 'b', revision: '1' } as const
    map.apply(snapshot(entry('\u{1f600}', '', '1'), entry('\uffee', '', '1'), entry('a', '', '1'), binary))
    assert.deepEqual(keys(map), ['a', '\uffee', '\u{1f600}', '\u00ff\u0000'])
    assert.equal(map.get('sz', new Uint8Array([255, 0]))?.text, 'b')
    assert.equal(map.get('sz', '\u00ff\u0000'), undefined, 'that text is another key')
  })
})

describe('tokens', () => {
  const jwt = (claims: object): string => `e30.${toBase64Url(new TextEncoder().encode(JSON.stringify(claims)))}.x`
  it('are refreshed a fifth of their life before the end, at most a minute', () => {
    assert.equal(expiryOf(jwt({ exp: 1_700_000_000 })), 1_700_000_000_000)
    assert.equal(refreshIn(100_000, 0), 80_000)
    assert.equal(refreshIn(3_600_000, 0), 3_540_000)
    assert.equal(refreshIn(1_000, 5_000), 1_000, 'one that is over is not refreshed in a loop')
  })
  for (const text of [
    '',
    'opaque',
    'a.b.c',
    'a.!!.c',
    jwt({ exp: 'soon' }),
    jwt([]),
    `a.${toBase64Url(new Uint8Array([255]))}.c`,
  ]) {
    it(`without a readable expiry are left alone: ${JSON.stringify(text.slice(0, 12))}`, () => {
      assert.equal(expiryOf(text), undefined)
    })
  }
})

describe('values', () => {
  it('are read in whatever form they travelled', () => {
    assert.deepEqual(valueJson({ json: { a: 1 } }), { a: 1 })
    assert.deepEqual(valueJson({ base64: 'eyJhIjoxfQ==' }), { a: 1 })
    assert.equal(valueJson({ text: 'no json' }), undefined)
    assert.equal(valueText({ json: [1, 2] }), '[1,2]')
    assert.equal(valueText({ base64: '/w==' }), undefined)
    assert.equal(valueText({ base64: '77u/YQ==' }), '\ufeffa', 'a byte order mark is part of the value')
    assert.deepEqual(valueBytes({ base64: '/wA=' }), new Uint8Array([255, 0]))
    assert.deepEqual(valueBytes({ text: 'é' }), new Uint8Array([0xc3, 0xa9]))
    for (const absent of [{}, { withheld: 'rule' }, { oversize: 5 }]) assert.equal(valueBytes(absent), undefined)
  })
})

describe('options', () => {
  const fails = (what: () => unknown, message: RegExp): void => {
    assert.throws(what, (error) => {
      assert.ok(error instanceof WatchError && error.code === 'client.bad-option')
      assert.match(error.message, message)
      return true
    })
  }
  const quiet = (): void => undefined
  it('understand http, and a missing path', () => {
    const urlOf = (url: string): string => settle({ url }, quiet).url
    assert.equal(urlOf('http://127.0.0.1:7400'), 'ws://127.0.0.1:7400/v1/watch')
    assert.equal(urlOf('https://x.example/v1/watch'), 'wss://x.example/v1/watch')
    assert.equal(urlOf('wss://x.example/behind/proxy'), 'wss://x.example/behind/proxy')
  })
  it('name what is wrong and never print credentials', () => {
    fails(() => settle({ url: 'nonsense' }, quiet), /url: "nonsense" is not a URL/)
    fails(() => settle({ url: 'ftp://x' }, quiet), /neither ws: nor wss:/)
    fails(() => settle({ url: 'ws://user:hunter2@x' }, quiet), /^url: it holds credentials; use the token option$/)
    fails(() => settle({ url: 'ws://x', maxQueue: 0 }, quiet), /maxQueue: 0 is not a positive number/)
    fails(() => settle({ url: 'ws://x', backoff: { maxMs: Number.NaN } }, quiet), /maxMs: NaN/)
    fails(() => askOf({}), /exactly one of key, prefix, from/)
    fails(() => askOf({ key: '/a', prefix: '/b' }), /exactly one/)
  })
  it('the codes it acts on are those of the protocol', () => {
    assert.equal(UNAUTHORIZED, Close.Unauthorized.code)
    for (const name of ['TooManyWatches', 'BadCursor', 'DuplicateChannel'] as const) {
      assert.equal(Refused[name], errorLabel(ErrorCode[name]))
    }
  })
})
