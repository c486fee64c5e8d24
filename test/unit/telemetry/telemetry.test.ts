// Tracing without processes: what it costs when it is off, which entries and ticks become spans, and every bound.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { EntryTracer } from '#agent/uplink/entry-trace.ts'
import { EventTraces, type ReadEntry } from '#gateway/delivery/event-traces.ts'
import type { Feed } from '#gateway/delivery/feed.ts'
import { silentLogger } from '#kit/logger.ts'
import { createMetrics } from '#kit/metrics.ts'
import { seededRandom } from '#kit/random.ts'
import { parseCollectorHeaders } from '#kit/telemetry/headers.ts'
import { openTracing, tracesUrl } from '#kit/telemetry/open.ts'
import { isFollowed, type SpanAttributes, type SpanStart, type Tracer } from '#kit/telemetry/tracer.ts'
import { newTrace, type TraceContext } from '#kit/tracing.ts'
import type { EntryBody, Epoch, RevisionRecord } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { readSourceTree } from '../../support/source-tree.ts'

type Ended = SpanStart & {
  readonly name: string
  readonly context: TraceContext
  readonly endedAt: number
  readonly failure: string | undefined
  readonly all: SpanAttributes
}

class FakeTracer implements Tracer {
  readonly ended: Ended[] = []
  sampled = true
  readonly #random = seededRandom(7)

  sample(): boolean {
    return this.sampled
  }
  follows(context: TraceContext): boolean {
    return isFollowed(context, 1)
  }
  start(name: string, span: SpanStart) {
    const context = newTrace(this.#random, true)
    return {
      context,
      end: (endedAt: number, more?: SpanAttributes, failure?: string) =>
        void this.ended.push({ ...span, name, context, endedAt, failure, all: { ...span.attributes, ...more } }),
    }
  }
  named(name: string): Ended[] {
    return this.ended.filter((span) => span.name === name)
  }
}

const CLUSTER = 'sz-edge-1' as ClusterId
const EPOCH = '00000000000000aa' as Epoch
const rev = (n: number): Revision => String(n) as Revision
const record = (n: number): RevisionRecord => ({ revision: rev(n), events: [] })
const OFF = { endpoint: undefined, sample: 0.01, env: undefined, canary: false, headers: undefined }

describe('tracing that is off', () => {
  it('makes no tracer and no metric', async () => {
    const metrics = createMetrics()
    const deps = { clock: new ManualClock(), random: seededRandom(1), logger: silentLogger(), metrics }
    const sections = [OFF, { ...OFF, endpoint: 'http://127.0.0.1:4318', sample: 0 }]
    for (const section of sections) {
      await using tracing = await openTracing(section, 'test', deps)
      assert.equal(tracing.tracer, undefined)
    }
    assert.ok(metrics.catalogue().every(({ name }) => !name.includes('trace')))
  })

  it('loads nothing of OpenTelemetry: no service reaches it but by one import() that only a collector’s address leads to', async () => {
    const files = new Map((await readSourceTree()).map((file) => [file.path, file]))
    const users = [...files.values()].filter(
      ({ path, imports }) =>
        !path.startsWith('test/') && imports.some((i) => i.specifier.startsWith('@opentelemetry/')),
    )
    assert.deepEqual(
      users.map(({ path }) => path),
      ['kit/telemetry/otlp.ts'],
    )
    const importers = [...files.values()].filter(({ imports }) =>
      imports.some(({ path, typeOnly }) => path === 'kit/telemetry/otlp.ts' && !typeOnly),
    )
    assert.deepEqual(
      importers.map(({ path }) => path),
      ['kit/telemetry/open.ts'],
    )
    const open = files.get('kit/telemetry/open.ts')?.code ?? ''
    assert.match(open, /await import\('\.\/otlp\.ts'\)/)
    assert.doesNotMatch(open, /from '\.\/otlp\.ts'/)
  })
})

describe('the collector’s headers', () => {
  it('are one a line; a bad line is named by its number and never repeated', () => {
    assert.deepEqual(parseCollectorHeaders('\nauthorization: Bearer a:b==\r\nx-team : edge\n'), {
      authorization: 'Bearer a:b==',
      'x-team': 'edge',
    })
    for (const bad of ['secret', 'a: 1\nse cret: x', 'a: 1\n: x', 'a:', 'a: caf\u00e9']) {
      assert.throws(
        () => parseCollectorHeaders(bad),
        (error: Error) => /line [12] /.test(error.message) && !/secret|se cret|caf/.test(error.message),
      )
    }
  })
})

describe('sampling', () => {
  it('is decided by the agent, and every gateway with the same share follows the same traces', () => {
    fc.assert(
      fc.property(fc.integer(), fc.double({ min: 0, max: 1, noNaN: true }), (seed, share) => {
        const trace = newTrace(seededRandom(seed), true)
        assert.equal(isFollowed(trace, 1), true)
        assert.equal(isFollowed(trace, 0), false)
        if (isFollowed(trace, share)) assert.ok(isFollowed(trace, Math.min(1, share + 0.1)))
        assert.equal(isFollowed({ ...trace, sampled: false }, share), false)
      }),
    )
    const followed = Array.from({ length: 2_000 }, (_, n) => isFollowed(newTrace(seededRandom(n), true), 0.25))
    const share = followed.filter(Boolean).length / followed.length
    assert.ok(share > 0.2 && share < 0.3, String(share))
  })

  it('understands a collector’s bare address', () => {
    assert.equal(tracesUrl('http://c:4318'), 'http://c:4318/v1/traces')
    assert.equal(tracesUrl('https://c/otlp/v1/traces'), 'https://c/otlp/v1/traces')
  })
})

describe('an entry on its way out', () => {
  const facts = { events: 2, bytes: 300, oldestArrival: 10, sentAt: 14 }
  const events: EntryBody = { kind: 'events', prevRevision: rev(1), revisions: [record(2)], throughRevision: rev(2) }

  it('is two spans when it is sampled, and nothing otherwise', () => {
    const tracer = new FakeTracer()
    const traces = new EntryTracer(tracer, CLUSTER, 'sz')
    tracer.sampled = false
    assert.equal(traces.begin(events, facts), undefined)
    tracer.sampled = true
    traces.begin(events, facts)?.end({ kind: 'stored', seq: 9 }, 20)
    const [append, relay] = tracer.ended
    assert.ok(append !== undefined && relay !== undefined)
    assert.deepEqual([relay.name, relay.at, relay.endedAt, relay.failure], ['relay', 10, 20, undefined])
    assert.deepEqual([append.name, append.at, append.endedAt], ['append', 14, 20])
    assert.deepEqual(append.parent, relay.context)
    assert.equal(append.all['deltawatch.seq'], 9)
  })

  it('that was refused or lost says so; what completes no revision is not traced', () => {
    const tracer = new FakeTracer()
    const traces = new EntryTracer(tracer, CLUSTER, 'sz')
    traces.begin(events, facts)?.end({ kind: 'refused' }, 20)
    assert.deepEqual(
      tracer.ended.map(({ failure }) => failure),
      ['refused', 'refused'],
    )
    const chunk = (index: number): EntryBody => ({
      kind: 'chunk',
      prevRevision: rev(1),
      revision: rev(2),
      groupId: 'g',
      index,
      count: 2,
      data: new Uint8Array(1),
    })
    assert.equal(traces.begin(chunk(0), facts), undefined)
    assert.notEqual(traces.begin(chunk(1), facts), undefined)
    assert.equal(traces.begin({ kind: 'progress', prevRevision: rev(1), revision: rev(2) }, facts), undefined)
  })
})

describe('an entry at the gateway', () => {
  function rig() {
    const tracer = new FakeTracer()
    const clock = new ManualClock()
    const traces = new EventTraces(tracer, clock)
    const random = seededRandom(3)
    const source = { cluster: CLUSTER, region: 'sz' as never }
    const read = (from: number, to: number, more: Partial<ReadEntry> = {}): TraceContext => {
      const trace = newTrace(random, true)
      const revisions = Array.from({ length: to - from + 1 }, (_, n) => record(from + n))
      const entry = { trace, seq: 1, bytes: 9, epoch: EPOCH, revisions, arrivedAt: clock.monotonic(), age: 0, ...more }
      traces.read(source, entry, () => undefined)
      return trace
    }
    const tick = (before: number, through: number, epoch = EPOCH): void => {
      const feed = { source, ctx: { ch: 5 } } as unknown as Feed
      const sent = {
        before: { epoch, revision: rev(before) },
        through: rev(through),
        bytes: Buffer.alloc(3),
        events: 1,
      }
      traces.delivered(feed, { ...sent, seq: 1, from: 1, frames: 1, arrivedAt: 0, agentAtMs: 0 }, 7, 1)
    }
    return { tracer, clock, read, tick, traces, source }
  }

  it('is read under the agent’s span; the ticks that carry it are linked, and count their sockets', () => {
    const { tracer, read, tick } = rig()
    const one = read(5, 6)
    read(7, 7)
    tick(3, 4)
    assert.equal(tracer.named('write').length, 0, 'a tick before it')
    tick(5, 7)
    tick(7, 8)
    const [reads, writes, delivers] = ['read', 'write', 'deliver'].map((name) => tracer.named(name))
    assert.deepEqual(reads?.[0]?.parent, one)
    assert.equal(writes?.length, 1, 'a tick behind it')
    assert.deepEqual(
      writes?.[0]?.links,
      reads?.map(({ context }) => context),
    )
    assert.equal(writes?.[0]?.parent, undefined)
    assert.equal(writes?.[0]?.all['deltawatch.sockets'], 7)
    assert.deepEqual(
      delivers?.map(({ parent }) => parent),
      reads?.map(({ context }) => context),
    )
    tick(4, 5)
    assert.equal(tracer.named('deliver').length, 2, 'only the first write ends the delivery')
    assert.equal(tracer.named('write').length, 2)
  })

  it('of another epoch, unsampled, without events, or read late, is not traced', () => {
    const { tracer, read, tick } = rig()
    read(5, 5, { trace: undefined })
    read(5, 5, { trace: newTrace(seededRandom(1), false) })
    read(5, 5, { revisions: [] })
    read(5, 5, { age: 60_000 })
    assert.deepEqual(tracer.ended, [])
    read(5, 5)
    tick(4, 5, '00000000000000bb' as Epoch)
    assert.equal(tracer.named('write').length, 0)
  })

  it('applies the entry whatever happens, and hands on what that threw', () => {
    const { traces, source, tracer } = rig()
    const trace = newTrace(seededRandom(2), true)
    const entry = { trace, seq: 1, bytes: 1, epoch: EPOCH, revisions: [record(1)], arrivedAt: 0, age: 0 }
    assert.equal(
      traces.read(source, entry, () => 'applied'),
      'applied',
    )
    assert.throws(() => traces.read(source, entry, () => assert.fail('from the view')), /from the view/)
    assert.equal(tracer.named('read').length, 2, 'the span ends all the same')
  })

  it('is followed for a while, to a bounded number of ticks, and only the newest entries are', async () => {
    const { tracer, clock, read, tick } = rig()
    read(5, 5)
    for (let n = 0; n < 50; n++) tick(4, 5)
    assert.equal(tracer.named('write').length, 16)
    for (let n = 10; n < 110; n++) read(n, n)
    tick(9, 110)
    assert.equal(tracer.named('write').at(-1)?.links?.length, 32)
    await clock.advance(20_000)
    tick(9, 110)
    assert.equal(tracer.named('write').length, 17, 'forgotten')
  })
})
