// One response of the watch stream: what is believed, what is quarantined, what ends the stream.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { classifyRefusal, readMessage } from '#agent/watch/message.ts'
import { created, del, header, put, response } from './fixtures.ts'

const read = (raw: unknown) => {
  const result = readMessage(raw, '0')
  assert.ok(result.ok, JSON.stringify(result))
  return result.message
}
const impossible = (event: unknown): string => {
  const message = read(response({ events: [event] }))
  assert.equal(message.kind, 'events')
  assert.equal(message.changes.length, 0)
  return message.impossible[0]?.reason ?? 'none'
}

describe('a watch response', () => {
  it('is created, progress of one watcher, progress of all, or events', () => {
    assert.equal(read(created()).kind, 'created')
    assert.deepEqual({ ...read(response()), header: 0 }, { kind: 'progress', header: 0, manual: false })
    assert.deepEqual(
      { ...read(response({ watch_id: '-1' })), header: 0 },
      { kind: 'progress', header: 0, manual: true },
    )
    const events = read(response({ events: [put('/a', 5), del('/b', 5)] }))
    assert.equal(events.kind, 'events')
    assert.deepEqual(
      events.changes.map(({ revision, change }) => [revision, change.op, change.key]),
      [
        ['5', 'put', '/a'],
        ['5', 'delete', '/b'],
      ],
    )
  })

  it('keeps binary keys bytewise and negative leases as unsigned numbers', () => {
    const message = read(response({ events: [put('\xff\x00\n', 5, { lease: '-1' })] }))
    assert.equal(message.kind, 'events')
    assert.equal(message.changes[0]?.change.key, '\xff\x00\n')
    assert.equal(message.changes[0]?.change.lease, '18446744073709551615')
  })

  it('classifies every cancel reason', () => {
    const cause = (more: object) => {
      const message = read(response({ canceled: true, ...more }))
      return message.kind === 'canceled' ? message.cause : undefined
    }
    // etcd leaves reason and header revision of a compaction empty: only compact_revision tells.
    const compacted = cause({ header: header(0), compact_revision: '42' })
    assert.deepEqual(compacted, { kind: 'compacted', compactRevision: '42' })
    const kinds = {
      'etcdserver: permission denied': 'denied',
      'rpc error: code = PermissionDenied desc = etcdserver: permission denied': 'denied',
      'etcdserver: invalid auth token': 'auth',
      'etcdserver: revision of auth store is old': 'auth',
      'etcdserver: user name is empty': 'auth',
      'etcdserver: no leader': 'no-leader',
      'etcdserver: watch ID already in use': 'unknown',
      '': 'unknown',
    }
    for (const [reason, kind] of Object.entries(kinds)) {
      assert.equal(cause({ cancel_reason: reason })?.kind, kind, reason)
      assert.equal(classifyRefusal(reason).kind, kind)
    }
  })

  it('quarantines an event that no etcd can mean, and keeps the others', () => {
    assert.equal(impossible(null), 'no-key-value')
    assert.equal(impossible({ type: 'Put', kv: null }), 'no-key-value')
    assert.equal(impossible(put('', 5)), 'no-key')
    assert.equal(impossible(put('/a', 0)), 'bad-mod-revision')
    assert.equal(impossible(put('/a', 5, { mod_revision: '-5' })), 'bad-mod-revision')
    assert.equal(impossible(put('/a', 101)), 'beyond-header')
    assert.equal(impossible({ ...put('/a', 5), type: 'Rename' }), 'unknown-type')
    assert.equal(impossible(put('/a', 5, { create_revision: '0' })), 'bad-create-revision')
    assert.equal(impossible(put('/a', 5, { version: '0' })), 'bad-version')
    assert.equal(impossible(put('/a', 5, { lease: 'x' })), 'bad-lease')
    assert.equal(impossible(put('/a', 5, { version: '2' })), 'version-contradicts-create-revision')
    assert.equal(
      impossible(put('/a', 5, { version: '1', create_revision: '4' })),
      'version-contradicts-create-revision',
    )
    assert.equal(impossible(put('/a', 5, { version: '2', create_revision: '6' })), 'created-after-change')
    const mixed = read(response({ events: [put('/bad', 0), put('/good', 5)] }))
    assert.equal(mixed.kind, 'events')
    assert.deepEqual(
      mixed.changes.map(({ change }) => change.key),
      ['/good'],
    )
  })

  it('never carries the key of a quarantined event', () => {
    const message = read(response({ events: [put('/health/secret-name', 0)] }))
    assert.ok(!JSON.stringify(message).includes('secret-name'))
  })

  it('names what makes a response unusable', () => {
    const defects: unknown[] = [
      undefined,
      7,
      {},
      response({ header: null }),
      response({ header: { ...header(5), revision: '-1' } }),
      response({ header: { ...header(5), cluster_id: 5 } }),
      response({ watch_id: 0 }),
      response({ events: null }),
      response({ watch_id: '9', events: [put('/a', 5)] }),
      response({ watch_id: '-1', events: [put('/a', 5)] }),
      response({ watch_id: '9', canceled: true }),
    ]
    for (const raw of defects) assert.equal(readMessage(raw, '0').ok, false, JSON.stringify(raw))
  })

  it('whatever the server sends is a message or a named defect, never an exception', () => {
    const junk = fc.anything({ withBigInt: true, withDate: true, withTypedArray: true, withNullPrototype: true })
    const shaped = fc.record(
      {
        header: fc.oneof(fc.constant(header(100)), junk),
        watch_id: fc.oneof(fc.constantFrom('0', '-1', '7'), junk),
        created: fc.oneof(fc.boolean(), junk),
        canceled: fc.oneof(fc.boolean(), junk),
        compact_revision: fc.oneof(fc.constantFrom('0', '5', '-1', '99999999999999999999'), junk),
        cancel_reason: fc.oneof(fc.string(), junk),
        fragment: fc.oneof(fc.boolean(), junk),
        events: fc.oneof(fc.array(fc.oneof(fc.constant(put('/a', 5)), junk)), junk),
      },
      { requiredKeys: [] },
    )
    fc.assert(
      fc.property(fc.oneof(shaped, junk), (raw) => {
        const result = readMessage(raw, '0')
        assert.ok(result.ok || result.defect.length > 0)
      }),
      { numRuns: 2_000 },
    )
  })
})
