// Codes, versions and names: the tables other people's programs rely on.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Close, ErrorCode, errorLabel, isTemporary, retryFor } from '#protocol/codes.ts'
import {
  agentPublishSubjects,
  type ClusterId,
  logSubject,
  markSubject,
  parseClusterId,
  parseRegion,
  streamName,
} from '#protocol/subjects.ts'
import { streamConfig, streamDifferences } from '#protocol/log/stream.ts'
import { negotiateVersion, SUPPORTED_VERSIONS, WIRE_VERSION } from '#protocol/version.ts'

describe('codes', () => {
  it('X1: every close code lies in a band, and the band alone tells what to do', () => {
    for (const { code, name } of Object.values(Close)) {
      const expected = code < 4100 ? 'never' : code < 4200 ? 'backoff' : 'now'
      assert.ok(code >= 4000 && code < 4300, name)
      assert.equal(retryFor(code), expected, name)
    }
  })

  it('X1: numbers and names are unique in each table, and a number shared by both means the same', () => {
    for (const table of [Object.values(Close), Object.values(ErrorCode)]) {
      assert.equal(new Set(table.map((c) => c.code)).size, table.length)
      for (const c of table) assert.match(c.name, /^[A-Z][A-Za-z]+$/)
    }
    const closes = new Map<number, string>(Object.values(Close).map((c) => [c.code, c.name]))
    for (const c of Object.values(ErrorCode)) {
      const twin = closes.get(c.code)
      if (twin !== undefined) assert.equal(twin, c.name)
    }
  })

  it('X1: codes a client does not know, and codes of the WebSocket protocol, have a rule too', () => {
    fc.assert(
      fc.property(fc.integer({ min: -1, max: 70_000 }), (code) => {
        const retry = retryFor(code)
        if (code >= 4000 && code <= 4099) assert.equal(retry, 'never')
        else if (code >= 4200 && code <= 4299) assert.equal(retry, 'now')
        else if (code >= 4100 && code <= 4199) assert.equal(retry, 'backoff')
      }),
    )
    assert.deepEqual([1000, 1001, 1005, 1006, 1009, 1011, 1012, 1013, 4999].map(retryFor), [
      'backoff',
      'now',
      'backoff',
      'backoff',
      'never',
      'backoff',
      'now',
      'backoff',
      'backoff',
    ])
  })

  it('X2: in-band codes are DW and the number; from 4100 on they are temporary', () => {
    for (const code of Object.values(ErrorCode)) {
      assert.equal(errorLabel(code), `DW${code.code}`)
      assert.equal(isTemporary(code), code.code >= 4100)
    }
  })
})

describe('versions', () => {
  it('T1: the newest common version is taken, or none', () => {
    assert.ok(SUPPORTED_VERSIONS.includes(WIRE_VERSION))
    assert.equal(Math.max(...SUPPORTED_VERSIONS), WIRE_VERSION)
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -2, max: 5 })), (offered) => {
        const common = SUPPORTED_VERSIONS.filter((v) => offered.includes(v))
        assert.equal(negotiateVersion(offered), common.length === 0 ? undefined : Math.max(...common))
      }),
    )
  })
})

describe('names at the hub', () => {
  it('L1: cluster ids and regions are 1 to 32 of a-z, 0-9 and the hyphen', () => {
    for (const good of ['sz-edge-1', 'a', '-', '0', 'x'.repeat(32)]) {
      assert.equal(parseClusterId(good), good)
      assert.equal(parseRegion(good), good)
    }
    for (const bad of ['', 'A', 'a.b', 'a b', 'a*', '>', 'x'.repeat(33), 'a\n', 'é', 7, null, undefined, ['a']]) {
      assert.equal(parseClusterId(bad), undefined)
      assert.equal(parseRegion(bad), undefined)
    }
  })

  it('L7: a stream that keeps less than the log relies on is named, and its size is the operator’s', () => {
    const wanted = streamConfig({
      cluster: 'sz' as ClusterId,
      maxBytes: 1 << 30,
      maxMessageBytes: 1 << 20,
      replicas: 1,
    })
    assert.deepEqual(streamDifferences(wanted, { ...wanted }), [])
    assert.deepEqual(streamDifferences(wanted, { ...wanted, max_bytes: 5, num_replicas: 3, max_msg_size: 9 }), [])
    const spoiled = {
      max_age: 60,
      deny_delete: false,
      discard: 'new',
      storage: 'memory',
      subjects: ['dw.log.*'],
      allow_rollup_hdrs: true,
    }
    for (const [name, value] of Object.entries(spoiled)) {
      assert.deepEqual(streamDifferences(wanted, { ...wanted, [name]: value }), [name])
    }
  })

  it('P1: an agent may publish to its own cluster only, and none of its subjects has a wildcard', () => {
    const own = agentPublishSubjects('sz-edge-1' as ClusterId)
    const other = new Set(agentPublishSubjects('sz-edge-10' as ClusterId))
    for (const subject of own) {
      assert.match(subject, /^[A-Za-z0-9_$.-]+$/)
      assert.ok(!other.has(subject))
    }
    assert.ok(own.includes(logSubject('sz-edge-1' as ClusterId)))
    assert.ok(own.includes(markSubject('sz-edge-1' as ClusterId)))
    assert.ok(own.includes(`$JS.API.STREAM.MSG.GET.${streamName('sz-edge-1' as ClusterId)}`))
    for (const subject of own) assert.doesNotMatch(subject, /PURGE|DELETE|UPDATE|CREATE|CONSUMER|DIRECT/)
  })
})
