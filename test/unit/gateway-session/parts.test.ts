// Small parts of the gateway's subscriber side, each on its own.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Key, prefixEnd } from '#protocol/bytes.ts'
import type { KeyRange } from '#protocol/decode.ts'
import { forgetForkedScript } from '#gateway/workers/executable.ts'
import { mergeMetrics } from '#gateway/workers/merge-metrics.ts'
import { type Frame, FrameCache } from '#gateway/delivery/frame-cache.ts'
import { InterestIndex } from '#gateway/delivery/interest.ts'
import { ByteBudget, Outlet } from '#gateway/delivery/outlet.ts'
import { RateLimiter } from '#gateway/delivery/rate-limiter.ts'
import { viewMismatch } from '#gateway/delivery/channel.ts'
import { InboundRate } from '#gateway/session/inbound-rate.ts'
import { judgeOrigin, type OriginRules } from '#gateway/session/origin.ts'
import { cursorFromEventId, watchFromQuery } from '#gateway/session/query.ts'
import { decodePageToken, encodePageToken } from '#gateway/session/state-page.ts'
import { type Reading, Vitals } from '#gateway/session/vitals.ts'
import { type Sleeper, TimingWheel } from '#gateway/session/wheel.ts'
import { FakeWire } from './rig.ts'

test('interest: every range that holds a key, none that does not, through additions and removals', () => {
  const key = fc.string({ unit: fc.constantFrom('a', 'b', 'c', '\u00ff'), maxLength: 4 }) as fc.Arbitrary<Key>
  const range = fc.oneof(
    key.map((k): KeyRange => ({ from: k, to: prefixEnd(k) })),
    key.map((k): KeyRange => ({ from: k, to: `${k}\0` as Key })),
    fc.tuple(key, key).map(([a, b]): KeyRange => (a < b ? { from: a, to: b } : { from: b, to: `${a}\0` as Key })),
  )
  fc.assert(
    fc.property(
      fc.array(fc.tuple(range, fc.boolean()), { maxLength: 40 }),
      fc.array(key, { maxLength: 10 }),
      (steps, keys) => {
        const index = new InterestIndex<number>()
        const held: { readonly id: number; readonly range: KeyRange }[] = []
        for (const [id, [one, remove]] of steps.entries()) {
          const oldest = held[0]
          if (remove && oldest !== undefined) {
            index.remove(oldest.range, oldest.id)
            held.shift()
          }
          index.add(one, id)
          held.push({ id, range: one })
        }
        for (const k of keys) {
          const found: number[] = []
          index.match(k, (id) => void found.push(id))
          const expected = held
            .filter((h) => k >= h.range.from && (h.range.to === undefined || k < h.range.to))
            .map((h) => h.id)
          assert.deepEqual(
            found.sort((a, b) => a - b),
            expected.sort((a, b) => a - b),
          )
        }
        for (const one of held) index.remove(one.range, one.id)
        assert.equal(index.size, 0)
      },
    ),
    { numRuns: 400 },
  )
})

test('interest: five thousand prefixes cost a lookup a few comparisons', () => {
  const index = new InterestIndex<number>()
  for (let i = 0; i < 5_000; i++) {
    const prefix = `/tenants/${i}/` as Key
    index.add({ from: prefix, to: prefixEnd(prefix) }, i)
  }
  let found = 0
  const began = performance.now()
  for (let i = 0; i < 20_000; i++) index.match(`/tenants/${i % 5_000}/x` as Key, () => void found++)
  assert.equal(found, 20_000)
  // A walk over all ranges would take a hundred million comparisons.
  assert.ok(performance.now() - began < 2_000)
})

test('I8 outlet: never more in flight than allowed, room comes back by pongs, a lone frame may be larger', () => {
  const wire = new FakeWire()
  const budget = new ByteBudget(10_000)
  let n = 0
  const outlet = new Outlet(
    wire,
    { maxInFlight: 1_000, markBytes: 300 },
    budget,
    () => (n++ % 97) / 97,
    () => 5,
  )
  assert.ok(outlet.offer(Buffer.alloc(5_000)))
  assert.equal(outlet.inFlight, 5_000)
  assert.ok(!outlet.offer(Buffer.alloc(1)))
  assert.equal(outlet.waitingSince, 5)
  assert.ok(!outlet.ponged(123_456), 'an unknown payload')
  for (const mark of wire.marks.splice(0)) outlet.ponged(mark)
  assert.equal(outlet.inFlight, 0)
  assert.equal(outlet.waitingSince, undefined)
  let written = 0
  while (outlet.offer(Buffer.alloc(100))) written += 100
  assert.equal(written, 1_000)
  const [first] = wire.marks
  assert.ok(first !== undefined && outlet.ponged(first))
  assert.equal(outlet.inFlight, 700)
  assert.ok(outlet.offer(Buffer.alloc(300)))
  outlet.closed()
  assert.equal(budget.used, 0)
})

test('I8 outlet: a refused frame asks for a pong, so that what lies behind the last mark does not count for ever', () => {
  const wire = new FakeWire()
  const outlet = new Outlet(
    wire,
    { maxInFlight: 1_000, markBytes: 10_000 },
    new ByteBudget(1e9),
    () => 0.5,
    () => 0,
  )
  assert.ok(outlet.offer(Buffer.alloc(900)))
  assert.equal(wire.marks.length, 0)
  assert.ok(!outlet.offer(Buffer.alloc(200)))
  assert.equal(wire.marks.length, 1)
  assert.ok(!outlet.offer(Buffer.alloc(200)))
  assert.equal(wire.marks.length, 1, 'asked once')
  assert.ok(outlet.ponged(wire.marks[0] as number))
  assert.ok(outlet.offer(Buffer.alloc(200)))
})

test('I8 outlet: the budget of all is never passed by more than one lone frame', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 400 }), fc.boolean()), { maxLength: 80 }),
      (steps) => {
        const budget = new ByteBudget(1_000)
        const wires = Array.from({ length: 4 }, () => new FakeWire())
        let n = 0
        const outlets = wires.map(
          (wire) =>
            new Outlet(
              wire,
              { maxInFlight: 500, markBytes: 50 },
              budget,
              () => (n++ % 1009) / 1009,
              () => 0,
            ),
        )
        for (const [who, bytes, pong] of steps) {
          outlets[who]?.offer(Buffer.alloc(bytes))
          assert.ok(budget.used <= 1_000)
          if (pong) for (const mark of wires[who]?.marks.splice(0) ?? []) outlets[who]?.ponged(mark)
        }
        for (const outlet of outlets) outlet.closed()
        assert.equal(budget.used, 0)
      },
    ),
  )
})

test('frame cache: bounded in bytes and count, oldest first', () => {
  const cache = new FrameCache(1_000, 5)
  const owner = { frames: new Map<number, Frame>() }
  for (let i = 0; i < 20; i++) cache.put(owner, i, { frame: Buffer.alloc(100), events: 1 })
  assert.deepEqual([...owner.frames.keys()], [15, 16, 17, 18, 19])
  cache.put(owner, 99, { frame: Buffer.alloc(5_000), events: 1 })
  assert.equal(owner.frames.size, 0)
  assert.equal(cache.bytes, 0)
})

test('wheel: wakes at the asked slot, over many rounds, and forgets who left', () => {
  const wheel = new TimingWheel(10, 8)
  const woken: string[] = []
  const sleeper = (name: string, again?: number): Sleeper => ({
    slot: -1,
    rounds: 0,
    wake: (now) => {
      woken.push(`${name}@${now}`)
      return again
    },
  })
  const [a, b, c] = [sleeper('a'), sleeper('b', 200), sleeper('c')]
  wheel.add(a, 25)
  wheel.add(b, 300)
  wheel.add(c, 50)
  wheel.remove(c)
  for (let now = 10; now <= 600; now += 10) wheel.advance(now)
  assert.deepEqual(woken, ['a@30', 'b@300', 'b@500'])
})

test('rates: a full bucket, then the rate; a larger frame passes once and leaves a debt', () => {
  const inbound = new InboundRate({ framesPerSecond: 10, burst: 3 }, 0)
  assert.deepEqual(
    [1, 2, 3, 4].map(() => inbound.take(0)),
    [true, true, true, false],
  )
  assert.ok(inbound.take(100))
  assert.ok(!inbound.take(150))
  const limiter = new RateLimiter({ eventsPerSecond: 10, bytesPerSecond: 1_000 }, 0)
  assert.ok(!limiter.takeAll(11, 1, 0))
  assert.ok(limiter.take(25, 10, 0), 'one large transaction')
  assert.ok(!limiter.take(1, 1, 1_000))
  assert.ok(limiter.take(1, 1, 1_700))
  limiter.giveBack(1, 1)
  assert.ok(limiter.takeAll(2, 1, 1_700))
  assert.ok(!limiter.take(1, 1, 1_700))
})

test('vitals: each deadline in its order', () => {
  const vitals = new Vitals({ heartbeatMs: 100, slowReaderMs: 1_000 }, 0, 5_000)
  const base: Reading = { now: 50, expiresInMs: 10_000, waitingSince: undefined, loaded: false }
  assert.deepEqual(vitals.judge(base), { kind: 'well', ask: false, wakeInMs: 100 })
  assert.deepEqual(vitals.judge({ ...base, now: 150 }), { kind: 'well', ask: true, wakeInMs: 100 })
  assert.deepEqual(vitals.judge({ ...base, now: 150, waitingSince: 120 }), { kind: 'well', ask: false, wakeInMs: 100 })
  const codeOf = (over: Partial<Reading>): string => {
    const verdict = vitals.judge({ ...base, ...over })
    return verdict.kind === 'well' ? 'well' : `${verdict.kind} ${verdict.code.name}`
  }
  assert.equal(codeOf({ now: 1_500, waitingSince: 400, loaded: true }), 'reset SlowReader')
  assert.equal(codeOf({ now: 1_500, waitingSince: 400, loaded: false }), 'reset HeartbeatTimeout')
  assert.equal(codeOf({ expiresInMs: 0 }), 'close TokenExpired')
  assert.equal(codeOf({ now: 5_000 }), 'close MaxLifetime')
})

test('origin: what a page may claim, in both modes', () => {
  const open: OriginRules = { allowedOrigins: ['https://app.example'], allowedHosts: [], dev: false }
  const named = { ...open, allowedHosts: ['gw.example'] }
  const dev = { allowedOrigins: ['*'], allowedHosts: [], dev: true }
  const rows: [OriginRules, string | undefined, string | undefined, string][] = [
    [open, undefined, 'gw.example', 'ok'],
    [open, 'https://app.example', 'gw.example', 'ok'],
    [open, 'https://app.example.evil.example', 'gw.example', 'origin'],
    [open, 'https://gw.example', 'gw.example', 'ok'],
    [open, 'null', 'gw.example', 'origin'],
    [open, 'file://', 'gw.example', 'origin'],
    [open, 'https://user@app.example', 'gw.example', 'origin'],
    [named, undefined, 'other.example', 'host'],
    [named, undefined, 'gw.example:443', 'ok'],
    [named, undefined, undefined, 'host'],
    [{ ...open, allowedOrigins: ['*'] }, 'https://anybody.example', 'gw.example', 'ok'],
    [dev, 'https://anybody.example', '127.0.0.1:7400', 'origin'],
    [dev, undefined, '127.0.0.1:7400', 'ok'],
    [dev, undefined, '[::1]:7400', 'ok'],
    [dev, undefined, 'localhost', 'ok'],
    [dev, 'http://rebound.example:7400', 'rebound.example:7400', 'host'],
    [dev, 'http://localhost:5173', 'localhost:7400', 'ok'],
    [dev, undefined, 'localhost.evil.example', 'host'],
    [dev, undefined, '127.0.0.1.evil.example', 'host'],
  ]
  for (const [rules, origin, host, expected] of rows)
    assert.equal(judgeOrigin(rules, origin, host), expected, `${origin} ${host}`)
})

test('queries: the same request a frame makes, and nothing unknown', () => {
  const of = (query: string) => watchFromQuery(new URLSearchParams(query), undefined)
  const made = of('cluster=sz-edge-1&prefix=/a&values=base64&start=now')
  assert.ok(made.ok)
  assert.deepEqual(made.request.clusters, ['sz-edge-1'])
  assert.deepEqual([made.spec.range, made.spec.values, made.request.start], [{ from: '/a', to: '/b' }, 'base64', 'now'])
  const all = of('clusters=*')
  assert.ok(all.ok && all.spec.range.from === '' && all.spec.range.to === undefined)
  for (const bad of [
    'prefx=/a',
    'prefix=a&prefix=b',
    'cluster=a&clusters=b',
    'mode=fast',
    'start=yesterday',
    'from=b&to=a',
  ])
    assert.ok(!of(bad).ok, bad)
})

test('event ids and page tokens: what was given reads back, anything else is refused', () => {
  const id = cursorFromEventId('00000000000000aa:815:0011223344556677', 'sz-edge-1')
  assert.deepEqual([...(id?.positions ?? [])], [['sz-edge-1', { epoch: '00000000000000aa', revision: '815' }]])
  for (const bad of [
    '',
    'a:b:c',
    '00000000000000aa:08:0011223344556677',
    '00000000000000aa:8:00',
    '00000000000000aa:8:0011223344556677:x',
  ]) {
    assert.equal(cursorFromEventId(bad, 'sz-edge-1'), undefined, bad)
  }
  const token = {
    at: { epoch: '00000000000000aa', revision: '9' },
    after: '/k\u00ff' as Key,
    viewTag: '0011223344556677',
    cluster: 'sz-edge-1',
  } as never
  assert.deepEqual(decodePageToken(encodePageToken(token)), token)
  fc.assert(fc.property(fc.string(), (text) => assert.equal(typeof decodePageToken(text), 'string')))
})

test('view tags: a resume learns which half differs', () => {
  assert.equal(viewMismatch('aaaaaaaabbbbbbbb', 'aaaaaaaabbbbbbbb'), undefined)
  assert.equal(viewMismatch('aaaaaaaabbbbbbbb', 'aaaaaaaacccccccc'), 'policy')
  assert.equal(viewMismatch('aaaaaaaabbbbbbbb', 'ccccccccbbbbbbbb'), 'selector')
})

test('metrics of several workers: counters add up, gauges stay apart', () => {
  const text = (n: number): string =>
    `# HELP a_total A.\n# TYPE a_total counter\na_total{code="x"} ${n}\n\n# HELP g G.\n# TYPE g gauge\ng ${n}\ng{c="1"} ${n}\n\n# HELP h H.\n# TYPE h histogram\nh_bucket{le="1"} ${n}\nh_bucket{le="+Inf"} ${n}\nh_sum ${n}\nh_count ${n}\n`
  const merged = mergeMetrics(
    new Map([
      [1, text(2)],
      [2, text(3)],
    ]),
  )
  assert.match(merged, /^a_total\{code="x"\} 5$/m)
  assert.match(merged, /^g\{worker="1"\} 2$/m)
  assert.match(merged, /^g\{c="1",worker="2"\} 3$/m)
  assert.match(merged, /^h_bucket\{le="\+Inf"\} 5$/m)
  assert.equal(merged.match(/# TYPE h histogram/g)?.length, 1)
})

test('a worker of a single executable forgets the script it was forked with; nobody else does', () => {
  const argv = ['/bin/gw', '/bin/gw', '/bin/gw', '--workers', '2']
  forgetForkedScript(argv, { executable: false, worker: true })
  forgetForkedScript(argv, { executable: true, worker: false })
  assert.equal(argv.length, 5)
  forgetForkedScript(argv, { executable: true, worker: true })
  assert.deepEqual(argv, ['/bin/gw', '/bin/gw', '--workers', '2'])
})
