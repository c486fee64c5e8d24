// The judge's own reading of frames: exact JSON sources, keys, staging; and its cursor against the published vectors.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { membersOf, readCursor, readTranscript } from '../../judge/seen.ts'
import { fingerprint } from '../../judge/truth.ts'

const eventsFrame = (event: string): string =>
  `{"type":"events","ch":1,"cluster":"c","epoch":"00","revision":"9","events":[${event}]}`
const watching = '{"type":"watching","id":"w","ch":1,"clusters":{}}'
const seenOf = (event: string) => {
  const seen = readTranscript([{ id: 'w', start: 'now', frames: [watching, eventsFrame(event)] }])
  const found = seen.find((s) => s.kind === 'events')
  assert.ok(found !== undefined, JSON.stringify(seen))
  return found.events[0]
}

describe('reading frames', () => {
  it('keeps an embedded JSON value byte for byte', () => {
    for (const source of [
      '{"n":12345678901234567890}',
      '{ "a" : [1, 2.0, "x,}]\\""] ,"b":{}}',
      '[]',
      '[1e3,[{"json":7}]]',
      '  {"a":1}\t',
    ]) {
      const event = seenOf(`{"op":"put","key":"/k","json":${source},"version":"1"}`)
      assert.ok(event?.op === 'put')
      assert.deepEqual(event.value, { kind: 'exact', value: fingerprint(Buffer.from(source)) })
      assert.equal(event.version, 1)
    }
  })

  it('finds the source of every member, whatever JSON surrounds it', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.nat(3), (object, indent) => {
        const members = membersOf(JSON.stringify(object, undefined, indent))
        assert.deepEqual([...members.keys()].toSorted(), Object.keys(object).toSorted())
        for (const [name, source] of members)
          assert.deepEqual(JSON.parse(source), JSON.parse(JSON.stringify(object[name])))
      }),
    )
  })

  it('reads text, base64, empty and absent values, and binary keys', () => {
    const value = (event: string) => {
      const seen = seenOf(event)
      return seen?.op === 'put' ? seen.value : undefined
    }
    assert.deepEqual(value('{"op":"put","key":"/k","text":"é"}'), {
      kind: 'exact',
      value: fingerprint(Buffer.from('é')),
    })
    assert.deepEqual(value('{"op":"put","key":"/k","text":""}'), { kind: 'exact', value: fingerprint(Buffer.from('')) })
    assert.deepEqual(value('{"op":"put","key":"/k","base64":"AP8="}'), {
      kind: 'exact',
      value: fingerprint(Buffer.from([0, 255])),
    })
    assert.equal(value('{"op":"put","key":"/k","withheld":"r"}')?.kind, 'absent')
    assert.equal(value('{"op":"put","key":"/k","oversize":9}')?.kind, 'absent')
    assert.equal(value('{"op":"put","key":"/k"}')?.kind, 'absent')
    assert.equal(seenOf('{"op":"delete","keyBase64":"/wA="}')?.key, '\u00ff\0')
    assert.equal(seenOf('{"op":"delete","key":"é"}')?.key, Buffer.from('é').toString('latin1'))
  })

  it('reports what it cannot read instead of skipping it', () => {
    for (const text of [
      '{',
      'null',
      '{"type":"events","ch":1}',
      '{"type":"novelty","ch":1}',
      eventsFrame('{"op":"put"}'),
    ]) {
      const seen = readTranscript([{ id: 'w', start: 'now', frames: [watching, text] }])
      assert.equal(seen.at(-1)?.kind, 'garbled', text)
    }
  })
})

describe('reading cursors', () => {
  it('agrees with the published vectors', () => {
    const vectors = JSON.parse(
      readFileSync(new URL('../../../protocol/vectors/cursor.json', import.meta.url), 'utf8'),
    ) as {
      valid: { name: string; positions: Record<string, { epoch: string; revision: string }>; cursor: string }[]
      refused: { name: string; cursor: string; reason: string }[]
    }
    for (const { name, positions, cursor } of vectors.valid) {
      const read = readCursor(cursor)
      assert.ok(typeof read !== 'string', name)
      for (const [id, at] of Object.entries(positions)) {
        assert.deepEqual(read.positions.get(id), { epoch: at.epoch, revision: Number(at.revision) }, name)
      }
    }
    for (const { name, cursor, reason } of vectors.refused) {
      if (['prefix', 'base64', 'checksum'].includes(reason)) assert.equal(typeof readCursor(cursor), 'string', name)
    }
  })
})
