// Retention, standing by, and what a hub answers.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Mark } from '#protocol/log/entry.ts'
import { readAck, readMark } from '#agent/uplink/hub.ts'
import { bytesSince, checkpointDue, entryLimit, estimateCheckpoint, fits, mayRest } from '#agent/uplink/retention.ts'
import { Leadership } from '#agent/uplink/standby.ts'
import { rev } from './fixtures.ts'
import { EPOCH, id } from './log-fixtures.ts'

describe('retention', () => {
  const info = (more: object = {}) => ({
    created: 't',
    firstSeq: 1,
    lastSeq: 100,
    messages: 100,
    bytes: 10_000,
    maxBytes: 1_000_000,
    maxMessageBytes: -1,
    replicas: 1,
    hubRegion: 'sz',
    ...more,
  })

  it('the stream holds four checkpoints or it is too small', () => {
    assert.ok(fits(info(), 200_000).fits)
    const fit = fits(info(), 300_000)
    assert.ok(!fit.fits && fit.neededBytes > 1_000_000)
    assert.ok(fits(info({ maxBytes: -1 }), 1e12).fits)
  })

  it('the next checkpoint begins early enough that the newest complete one survives it', () => {
    for (const c of [1_000, 50_000, 200_000]) {
      let since = 0
      while (!checkpointDue(info(), c, since)) since += 1_000
      // Old checkpoint and what followed it, then the new one and as much again while it is written.
      assert.ok(c + since + c <= 1_000_000, `${c}: due after ${since}`)
    }
  })

  it('a routine checkpoint rests only while the newest complete one is safe, however slowly it is written', () => {
    for (const c of [1_000, 50_000, 200_000]) {
      let since = 0
      while (!checkpointDue(info(), c, since)) since += 1_000
      assert.ok(mayRest(info(), c, since), 'due is not late')
      // Its own bytes are in the log as well.
      while (mayRest(info(), c, since)) since += 1_000
      // From BEGIN on, so with the old one; then a whole new one at full speed, beside live events of a tenth of the stream.
      assert.ok(since + c + 100_000 <= 1_000_000, `${c}: hurries after ${since}`)
    }
    assert.ok(mayRest(info({ maxBytes: -1 }), 1e9, 1e12))
  })

  it('estimates from samples and averages', () => {
    assert.equal(estimateCheckpoint(1_000, 10, 500), 50_000)
    assert.equal(estimateCheckpoint(0, 0, 0), 0)
    assert.equal(bytesSince(info(), 51), 5_000)
    assert.equal(bytesSince(info({ firstSeq: 90 }), 10), 1_100)
  })

  it('an entry leaves room for protocol and never comes near max_bytes', () => {
    assert.equal(entryLimit(1024 * 1024, info({ maxBytes: -1 })), 1024 * 1024 - 64 * 1024)
    assert.ok(entryLimit(8 * 1024 * 1024, info()) <= 1_000_000 / 16)
    assert.ok(entryLimit(8 * 1024 * 1024, info({ maxBytes: -1, maxMessageBytes: 100_000 })) < 100_000)
  })
})

describe('standing by', () => {
  const leadership = () => new Leadership({ agentId: 'b/2', configHash: 'c', silenceMs: 3_000, stepDownMs: 3_000 })
  const mark = (more: Partial<Mark> = {}): Mark => ({
    v: 1,
    agentId: 'a/1',
    epoch: EPOCH,
    provenRevision: rev(1),
    seq: 1,
    entryId: id(1),
    configHash: 'c',
    state: 'live',
    lag: 0,
    atMs: 0,
    ...more,
  })

  it('leads when nobody was heard, stands by while somebody is, takes over after 3 s of silence', () => {
    const l = leadership()
    assert.equal(l.stand(0).kind, 'lead')
    l.heardMark(mark(), 0)
    assert.deepEqual(l.stand(2_999), { kind: 'standby', leader: 'a/1', waitMs: 1 })
    assert.equal(l.stand(3_000).kind, 'lead')
  })

  it('its own echo and other standbys are nobody', () => {
    const l = leadership()
    l.heardMark(mark({ agentId: 'b/2' }), 0)
    l.heardMark(mark({ state: 'standby' }), 0)
    assert.equal(l.stand(1).kind, 'lead')
  })

  it('an entry is as good as a bookmark', () => {
    const l = leadership()
    l.heardEntry('a/1', 'c', 0)
    assert.equal(l.stand(2_000).kind, 'standby')
  })

  it('steps down for 3 s and jitter after losing an append', () => {
    const l = leadership()
    l.lostTo('a/1', 'c', 0, 0.9)
    assert.deepEqual(l.stand(4_000), { kind: 'standby', leader: 'a/1', waitMs: 350 })
    assert.equal(l.stand(4_350).kind, 'lead')
  })

  it('L14: a live leader under another configuration keeps this one out, a silent one does not', () => {
    const l = leadership()
    l.heardMark(mark({ configHash: 'other' }), 0)
    assert.equal(l.stand(1_000).kind, 'mismatch')
    assert.equal(l.stand(3_000).kind, 'lead')
  })

  it('L14: a log that grows says that somebody leads, and takes back nothing of what is known of who', () => {
    const l = leadership()
    l.heardMark(mark({ configHash: 'other' }), 0)
    l.heardGrowth(2_000)
    assert.deepEqual(l.stand(4_999), { kind: 'mismatch', leader: 'a/1', waitMs: 1 })
    const nobody = leadership()
    nobody.heardGrowth(0)
    assert.equal(nobody.stand(2_999).kind, 'standby')
  })

  it('a leader that cannot reach etcd is relieved although it speaks', () => {
    const l = leadership()
    for (let now = 0; now <= 3_000; now += 1_000) l.heardMark(mark({ state: 'unreachable' }), now)
    assert.equal(l.stand(3_000).kind, 'lead')
    l.heardMark(mark(), 3_100)
    assert.equal(l.stand(3_200).kind, 'standby')
  })
})

describe('what a hub answers', () => {
  const ack = (value: unknown) =>
    readAck(new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value)))
  const error = (code: number, err_code: number, description = 'x') => ack({ error: { code, err_code, description } })

  it('L8: duplicate: true is an error, for nothing we send can be one', () => {
    assert.deepEqual(ack({ stream: 's', seq: 5 }), { kind: 'stored', seq: 5 })
    const duplicate = ack({ stream: 's', seq: 5, duplicate: true })
    assert.ok(duplicate.kind === 'rejected' && duplicate.reason === 'duplicate')
  })

  it('names every refusal', () => {
    assert.equal(error(400, 10_071).kind, 'refused')
    assert.equal(error(400, 10_164).kind, 'refused')
    const reasons = [
      [error(400, 10_054), 'too-large'],
      [error(404, 10_059), 'missing'],
      [error(503, 10_023), 'full'],
      [error(503, 10_077, 'maximum bytes exceeded'), 'full'],
      [error(429, 10_167), 'overloaded'],
      [error(500, 1), 'other'],
    ] as const
    for (const [result, reason] of reasons) assert.ok(result.kind === 'rejected' && result.reason === reason, reason)
  })

  it('an answer that is none leaves the append lost, never stored', () => {
    for (const junk of ['', 'x', '[]', 'null', '{}', '{"seq":0}', '{"seq":-1}', '{"seq":"5"}', '{"seq":1.5}']) {
      assert.equal(ack(junk).kind, 'lost', junk)
    }
  })

  it('I10: anything but a bookmark on the mark subject is ignored', () => {
    const good = {
      v: 1,
      agentId: 'a',
      epoch: '0'.repeat(16),
      provenRevision: '5',
      seq: 1,
      entryId: '0'.repeat(32),
      configHash: '',
      state: 'live',
      lag: 0,
      atMs: 1,
    }
    const parse = (value: unknown) => readMark(new TextEncoder().encode(JSON.stringify(value)))
    assert.equal(parse(good)?.provenRevision, '5')
    const bad = [
      null,
      [],
      { ...good, v: 2 },
      { ...good, provenRevision: 5 },
      { ...good, provenRevision: '-1' },
      { ...good, epoch: 'x' },
    ]
    for (const one of [
      ...bad,
      { ...good, seq: -1 },
      { ...good, state: 'well' },
      { ...good, entryId: 'Z'.repeat(32) },
    ]) {
      assert.equal(parse(one), undefined)
    }
  })
})
