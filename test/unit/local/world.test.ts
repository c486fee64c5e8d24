// The sample data is believable where it must be, and harmless where it must be.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#kit/random.ts'
import { cnIdValid, hkidCheck } from '#policies/engine/detect/identity.ts'
import { bankCard, hongKongId, residentId } from '#deploy/local/writer/personal.ts'
import { formatSite, parseSite } from '#deploy/local/writer/sites.ts'
import { createWorld, type Operation } from '#deploy/local/writer/world.ts'

const SITE = { cluster: 'sz-edge-1', region: 'sz', city: 'Shenzhen', network: '10.21' }

function story(seed: number, length: number): Operation[] {
  const random = seededRandom(seed)
  const world = createWorld(SITE, () => random.next())
  const at = new Date('2026-11-22T00:00:00Z')
  return [...world.open(), ...Array.from({ length }, () => world.next(at))]
}

test('ids pass their checksums, and belong to nobody', () => {
  const random = seededRandom(1)
  for (let i = 0; i < 2_000; i += 1) {
    const next = (): number => random.next()
    const id = residentId(next)
    assert.ok(cnIdValid(id), id)
    assert.ok(Number(id.slice(6, 10)) >= 2120, 'born in a year that no living person was born in')
    const [, letters = '', digits = '', check] = /^([A-Z]{2})(\d{6})\((.)\)$/.exec(hongKongId(next)) ?? []
    assert.equal(hkidCheck(letters, digits), check)
    assert.ok(luhn(bankCard(next)))
  }
})

function luhn(card: string): boolean {
  const sum = Array.from(card, Number)
    .toReversed()
    .map((digit, index) => (index % 2 === 1 ? digit * 2 : digit))
    .reduce((total, value) => total + (value > 9 ? value - 9 : value), 0)
  return card.length === 16 && sum % 10 === 0
}

test('a day has everything in it: both registries, three-key transactions, deletes, crashes, goodbyes, health records', () => {
  const day = story(7, 3_000)
  const keys = day.flatMap((operation) => ('puts' in operation ? operation.puts.map((put) => put.key) : []))
  for (const pattern of [
    /^\/microservices\/[a-z]+\/[0-9a-f-]{36}$/,
    /^\/micro\/registry\/go\.micro\.srv\.[a-z]+\/go\.micro\.srv\.[a-z]+-[0-9a-f-]{36}$/,
    /^\/config\/[a-z]+\/log-level$/,
    /^\/devices\/[a-z]+-\d+\/state$/,
    /^\/orders\/[a-z0-9]+\/status$/,
    /^\/health\/clinic-\d\/record-\d+$/,
  ]) {
    assert.ok(
      keys.some((key) => pattern.test(key)),
      String(pattern),
    )
  }
  assert.ok(day.some((operation) => operation.kind === 'write' && operation.puts.length === 3))
  assert.ok(day.some((operation) => operation.kind === 'write' && (operation.deletes?.length ?? 0) > 0))
  for (const kind of ['register', 'crash', 'leave'] as const)
    assert.ok(
      day.some((operation) => operation.kind === kind),
      kind,
    )
})

test('values are JSON, or plain words of the configuration', () => {
  for (const operation of story(3, 1_000)) {
    if (!('puts' in operation)) continue
    for (const { key, value } of operation.puts) {
      if (key.endsWith('/log-level')) assert.match(value, /^(debug|info|warn)$/)
      else assert.equal(typeof JSON.parse(value), 'object')
    }
  }
})

test('an order is deleted only after it was written, and the region stays small', () => {
  const alive = new Set<string>()
  const leases = new Set<string>()
  let most = 0
  for (const operation of story(11, 20_000)) {
    if (operation.kind === 'register') leases.add(operation.lease)
    if (operation.kind === 'crash' || operation.kind === 'leave') assert.ok(leases.delete(operation.lease))
    if (operation.kind !== 'write') continue
    for (const { key } of operation.puts) alive.add(key)
    for (const key of operation.deletes ?? []) assert.ok(alive.delete(key), key)
    most = Math.max(most, alive.size)
  }
  assert.ok(most < 400, `${most} keys`)
  assert.ok(leases.size < 20)
})

test('the same seed tells the same story', () => {
  assert.deepEqual(story(5, 500), story(5, 500))
  assert.notDeepEqual(story(5, 500), story(6, 500))
})

test('a site survives its text form, and a bad one is named', () => {
  const site = { ...SITE, url: 'http://127.0.0.1:7501' }
  assert.deepEqual(parseSite(formatSite(site)), site)
  assert.throws(() => parseSite('a|b'), /"a\|b": write cluster\|region/)
})
