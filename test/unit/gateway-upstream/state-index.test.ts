// The sorted state and the bytes under it, against a plain map.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Key } from '#protocol/bytes.ts'
import type { SnapshotRecord } from '#protocol/log/entry.ts'
import { HeldEntry } from '#gateway/view/held-entry.ts'
import { StateIndex } from '#gateway/view/state-index.ts'
import { rev } from './log-writer.ts'

const record = (key: string, value: Uint8Array, n: number): SnapshotRecord => ({
  key: key as Key,
  value,
  modRevision: rev(n),
  createRevision: rev(1),
  version: '1',
  lease: '0',
})
const put = (index: StateIndex, key: string, value: Uint8Array, n: number): HeldEntry => {
  const entry = new HeldEntry(record(key, value, n), rev(n))
  index.put(entry, value, 0)
  return entry
}
const bytes = (length: number, fill: number): Uint8Array => new Uint8Array(length).fill(fill)

const keyArb = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((n) => String.fromCharCode(n)), maxLength: 3 })
const actionArb = fc.oneof(
  { weight: 3, arbitrary: fc.record({ put: keyArb, size: fc.integer({ min: 0, max: 40 }), fill: fc.nat(255) }) },
  { weight: 2, arbitrary: fc.record({ remove: keyArb }) },
)

test('any mix of inserts, updates and deletes: order, content and bytes are those of a sorted map', () => {
  fc.assert(
    fc.property(fc.array(actionArb, { maxLength: 3000, size: 'max' }), keyArb, keyArb, (actions, from, to) => {
      const index = new StateIndex()
      const model = new Map<string, Uint8Array>()
      for (const [n, action] of actions.entries()) {
        if ('put' in action) {
          const value = bytes(action.size, action.fill)
          put(index, action.put, value, n)
          model.set(action.put, value)
        } else {
          const gone = index.remove(action.remove as Key)
          assert.deepEqual(gone === undefined ? undefined : Buffer.from(gone.value), bufferOf(model.get(action.remove)))
          model.delete(action.remove)
        }
      }
      const sorted = [...model.keys()].toSorted((a, b) => (a < b ? -1 : 1))
      const walk = (low: string, high: string | undefined): string[] =>
        [...index.walk(low as Key, high as Key | undefined)].map((slot) => slot.key)
      assert.deepEqual(walk('', undefined), sorted)
      assert.deepEqual(
        walk(from, to),
        sorted.filter((key) => key >= from && key < to),
      )
      for (const [key, value] of model)
        assert.deepEqual(Buffer.from(index.get(key as Key)?.value ?? []), bufferOf(value))
      assert.equal(index.size, model.size)
      const charged = [...index.walk('' as Key, undefined)].reduce((sum, slot) => sum + slot.entry.charge, 0)
      assert.equal(index.bytes, charged)
    }),
    { numRuns: 60 },
  )
})

const bufferOf = (value: Uint8Array | undefined): Buffer | undefined =>
  value === undefined ? undefined : Buffer.from(value)

test('keys inserted in ascending, descending and shuffled order are walked in order', () => {
  const count = 5000
  const names = Array.from({ length: count }, (_, i) => `/k${String(i).padStart(6, '0')}`)
  const shuffled = names.map((_, i) => names[(i * 7919) % count] as string)
  for (const order of [names, names.toReversed(), shuffled]) {
    const index = new StateIndex()
    for (const [n, key] of order.entries()) put(index, key, bytes(1, n), n)
    assert.deepEqual(
      [...index.walk('' as Key, undefined)].map((slot) => slot.key),
      names,
    )
    for (let i = 0; i < count; i += 2) index.remove(names[i] as Key)
    assert.deepEqual(
      [...index.walk('' as Key, undefined)].map((slot) => slot.key),
      names.filter((_, i) => i % 2 === 1),
    )
  }
})

test('the bytes handed in may be overwritten at once: the state has its own', () => {
  const index = new StateIndex()
  for (const size of [1, 300, 4096, 4097, 100_000]) {
    const value = bytes(size, 7)
    const entry = put(index, `/${size}`, value, 1)
    value.fill(0)
    assert.deepEqual(Buffer.from(entry.value), Buffer.alloc(size, 7))
  }
})

test('a value kept in an adopted message stays right, also after the message was given up for its other values', () => {
  const index = new StateIndex()
  const message = bytes(20_000, 0)
  index.adopt(message)
  const kept: HeldEntry[] = []
  for (let i = 0; i < 50; i++) {
    message.fill(i + 1, i * 100, i * 100 + 100)
    kept.push(put(index, `/k${i}`, message.subarray(i * 100, i * 100 + 100), 1))
  }
  assert.equal(kept[0]?.value.buffer, message.buffer, 'no copy while it is worth keeping')
  index.adopt(undefined)
  // 5,000 wanted bytes of 20,000: not worth it.
  assert.ok(
    kept.every((entry) => entry.value.buffer !== message.buffer),
    'a small value does not pin a large message',
  )
  assert.ok(kept.every((entry, i) => entry.value.length === 100 && entry.value.every((byte) => byte === i + 1)))
})

test('I8: slabs follow what is wanted: overwriting for ever does not grow them', () => {
  const index = new StateIndex()
  const held: Uint8Array[] = []
  for (let round = 0; round < 60; round++) {
    for (let i = 0; i < 400; i++) {
      // One key in forty is written once and stays: it must not hold its neighbours' slab.
      if (i % 40 === 0 && round > 0) continue
      const entry = put(index, `/k${i}`, bytes(500, (i + round) % 251), round + 1)
      if (i === 1) held.push(entry.value)
    }
    assert.ok(index.slabBytes <= 3 * 400 * 500 + 3 * 65_536, `${index.slabBytes} bytes for 200,000`)
  }
  for (let i = 0; i < 400; i += 40) {
    assert.ok(index.get(`/k${i}` as Key)?.value.every((byte) => byte === i % 251))
  }
  assert.ok(
    held.every((value, round) => value.every((byte) => byte === (1 + round) % 251)),
    'views handed out stay true',
  )
})
