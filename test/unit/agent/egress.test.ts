// What leaves the region: decisions into log events, LEAVE, and the outcomes nobody may guess.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Egress } from '#agent/egress/decide.ts'
import { configHash } from '#agent/egress/policy.ts'
import { scopeOf } from '#agent/scope.ts'
import type { Decision, EgressDecider, PolicyEvent } from '#policies/engine/types.ts'
import { bytes, change, changed, key, rev } from './fixtures.ts'

/** Decides by the value: "open" leaves, "masked" leaves changed, "sealed" is withheld, anything else is denied. */
function byValue(needsPrevValue = true): EgressDecider {
  const decide = (event: PolicyEvent): Decision => {
    if (event.key.startsWith('/boom')) throw new Error('an engine that fails')
    const shown = event.op === 'put' ? event.value : event.prevValue
    if (shown !== undefined && new TextDecoder().decode(shown) === 'poison') throw new Error('an engine that fails')
    if (shown === undefined && needsPrevValue) {
      return { effect: 'deny', reason: event.prevKnown ? 'default-deny' : 'prev-unknown' }
    }
    const word = new TextDecoder().decode(shown)
    if (word === 'open') return { effect: 'allow', key: event.key, value: event.value, transforms: [], rules: ['r'] }
    if (word === 'masked') {
      return { effect: 'allow', key: event.key, value: bytes('***'), transforms: ['mask'], rules: ['r'] }
    }
    if (word === 'renamed') return { effect: 'allow', key: key('/hidden-name'), transforms: [], rules: ['r'] }
    if (word === 'sealed') {
      return { effect: 'withhold', key: event.key, rule: 'seal', reason: 'rule', transforms: [], rules: ['r'] }
    }
    return { effect: 'deny', reason: 'default-deny' }
  }
  return { needsPrevValue, configHash: () => 'h', decide, visible: () => 'unknown', nextExpiry: () => undefined }
}
const egress = (decider = byValue(), prefixes: string[] = []) => new Egress(decider, { prefixes: prefixes.map(key) })
const run = (one: Parameters<typeof change>[1], of = egress()) => {
  const outcome = of.revision(changed(5, change('/k', one)), 0)
  return outcome.kind === 'record' ? outcome.record.events[0] : outcome.kind
}
const word = (value: string, prev?: string) => ({
  value: bytes(value),
  prevValue: prev === undefined ? undefined : bytes(prev),
})

describe('egress', () => {
  it("lets out what is allowed, byte for byte, with etcd's numbers", () => {
    const event = run({ ...word('open'), version: '4', createRevision: rev(2), lease: '9' })
    assert.deepEqual(event, {
      op: 'put',
      key: '/k',
      value: bytes('open'),
      version: '4',
      createRevision: '2',
      lease: '9',
    })
  })

  it('lists the transforms it applied and marks what it withheld', () => {
    assert.deepEqual(run(word('masked')), {
      op: 'put',
      key: '/k',
      value: bytes('***'),
      transforms: ['mask'],
      version: '2',
      createRevision: '1',
      lease: '0',
    })
    const sealed = run(word('sealed'))
    assert.ok(typeof sealed === 'object' && sealed.withheld === 'seal' && sealed.value.length === 0)
  })

  it('I6: hides what is denied, and what the engine fails on', () => {
    assert.equal(run({ ...word('secret'), version: '1', createRevision: rev(5) }), 'hidden')
    const created = { ...word('open'), version: '1', createRevision: rev(5) }
    assert.equal(egress().revision(changed(5, change('/boom', created)), 0).kind, 'hidden')
  })

  it('a key in view whose new put is denied leaves; one that was never in view does not', () => {
    const leave = run(word('secret', 'open'))
    assert.ok(typeof leave === 'object' && leave.op === 'leave' && leave.key === '/k' && leave.value.length === 0)
    assert.equal(run(word('secret', 'secret')), 'hidden')
  })

  it('I6: a key in view whose new put the engine fails on leaves, so that its old value is not shown on', () => {
    const leave = run(word('poison', 'open'))
    assert.ok(typeof leave === 'object' && leave.op === 'leave' && leave.value.length === 0)
    assert.equal(run(word('poison', 'secret')), 'hidden')
  })

  it('a key leaves under the name it was known by', () => {
    const leave = run(word('secret', 'renamed'))
    assert.ok(typeof leave === 'object' && leave.op === 'leave')
    assert.equal(leave.key, '/hidden-name')
  })

  it('a delete is decided on the previous value', () => {
    const gone = { op: 'delete' as const, version: '0', value: bytes('') }
    const visible = run({ ...gone, prevValue: bytes('open') })
    assert.ok(typeof visible === 'object' && visible.op === 'delete')
    assert.equal(run({ ...gone, prevValue: bytes('secret') }), 'hidden')
  })

  it('a previous value that is needed and not to be had calls for a checkpoint, never a guess', () => {
    assert.equal(run({ op: 'delete', version: '0', value: bytes(''), prevValue: undefined }), 'unknown-previous')
    assert.equal(run({ ...word('secret'), version: '3' }), 'unknown-previous')
    assert.equal(
      run({ ...word('secret'), version: '1', createRevision: rev(5) }),
      'hidden',
      'a new key has no previous value',
    )
  })

  it('a transaction that hides one key and changes another stays one record', () => {
    const outcome = egress().revision(
      changed(
        5,
        change('/a', word('open')),
        change('/b', { ...word('x'), version: '1' }),
        change('/c', word('secret', 'open')),
      ),
      0,
    )
    assert.equal(outcome.kind, 'record')
    assert.deepEqual(outcome.kind === 'record' && outcome.record.events.map((e) => `${e.op} ${e.key}`), [
      'put /a',
      'leave /c',
    ])
  })

  it('keys outside every prefix are discarded and counted', () => {
    const of = egress(byValue(), ['/w/'])
    assert.equal(of.revision(changed(5, change('/other', word('open'))), 0).kind, 'hidden')
    assert.equal(of.counts.filtered, 1)
  })

  it('a checkpoint holds the same keys and values as the events would have left', () => {
    const of = egress()
    const item = (value: string) =>
      of.item(
        { key: key('/k'), value: bytes(value), modRevision: rev(5), createRevision: rev(1), version: '2', lease: '0' },
        0,
      )
    assert.deepEqual(item('open')?.value, bytes('open'))
    assert.deepEqual(item('masked')?.transforms, ['mask'])
    assert.equal(item('sealed')?.withheld, 'seal')
    assert.equal(item('secret'), undefined)
  })
})

describe('scope', () => {
  it('is the smallest range that holds all prefixes', () => {
    assert.deepEqual(scopeOf(['/a/', '/c/'], undefined), { from: '/a/', to: '/c0', prefixes: ['/a/', '/c/'] })
    assert.deepEqual(scopeOf(['/'], undefined), { from: '/', to: '0', prefixes: ['/'] })
    assert.deepEqual(scopeOf([''], undefined), { from: '', to: undefined, prefixes: [] })
    assert.deepEqual(scopeOf(['/a/', '/a/b/'], undefined).prefixes, ['/a/'])
  })

  it('refuses a prefix outside a given range', () => {
    assert.deepEqual(scopeOf(['/a/'], { from: '/', to: '0' }), { from: '/', to: '0', prefixes: ['/a/'] })
    assert.throws(() => scopeOf(['/a/'], { from: '/b' }), /outside the range/)
    assert.deepEqual(scopeOf([''], { from: '/', to: '0' }).prefixes, [], 'the empty prefix means the whole range')
  })

  it('L14: the configuration hash changes with the range, the prefixes and the policy, not with their order', () => {
    const policy = (hash: string) => ({ decider: { ...byValue(), configHash: () => hash }, revision: 'x' })
    const base = configHash(scopeOf(['/a/', '/b/'], undefined), policy('p'), 0)
    assert.equal(configHash(scopeOf(['/b/', '/a/'], undefined), policy('p'), 0), base)
    assert.notEqual(configHash(scopeOf(['/a/', '/c/'], undefined), policy('p'), 0), base)
    assert.notEqual(configHash(scopeOf(['/a/', '/b/'], { from: '/', to: '0' }), policy('p'), 0), base)
    assert.notEqual(configHash(scopeOf(['/a/', '/b/'], undefined), policy('q'), 0), base)
  })
})
