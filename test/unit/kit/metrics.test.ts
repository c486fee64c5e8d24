// Declaring, counting and exposing metrics.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { watchEventLoop } from '#kit/event-loop.ts'
import { createMetrics, MetricsError } from '#kit/metrics.ts'

async function exposed(metrics: ReturnType<typeof createMetrics>, name: string): Promise<string[]> {
  const text = await metrics.expose()
  return text.split('\n').filter((line) => line.startsWith(name))
}

test('counters, gauges and histograms are exposed in Prometheus text', async () => {
  const metrics = createMetrics()
  const events = metrics.counter({ name: 'deltawatch_events_total', help: 'Events.', labels: ['cluster'] })
  const sz = events.with({ cluster: 'sz' })
  sz.inc()
  sz.inc(4)
  events.with({ cluster: 'a"b\\c\n' }).inc()
  const lag = metrics.gauge({ name: 'deltawatch_lag_revisions', help: 'Lag.' })
  lag.set(7)
  lag.dec()
  const delay = metrics.histogram({
    name: 'deltawatch_delay_seconds',
    help: 'Delay.',
    buckets: [0.1, 1],
    labels: ['hop'],
  })
  const hop = delay.with({ hop: 'etcd' })
  for (const v of [0.05, 0.1, 0.5, 3, Number.NaN]) hop.observe(v)

  assert.deepEqual(await exposed(metrics, 'deltawatch_events_total'), [
    'deltawatch_events_total{cluster="sz"} 5',
    'deltawatch_events_total{cluster="a\\"b\\\\c\\n"} 1',
  ])
  assert.deepEqual(await exposed(metrics, 'deltawatch_lag'), ['deltawatch_lag_revisions 6'])
  assert.deepEqual(await exposed(metrics, 'deltawatch_delay'), [
    'deltawatch_delay_seconds_bucket{hop="etcd",le="0.1"} 2',
    'deltawatch_delay_seconds_bucket{hop="etcd",le="1"} 3',
    'deltawatch_delay_seconds_bucket{hop="etcd",le="+Inf"} 4',
    'deltawatch_delay_seconds_sum{hop="etcd"} 3.65',
    'deltawatch_delay_seconds_count{hop="etcd"} 4',
  ])
  const text = await metrics.expose()
  assert.match(text, /# HELP deltawatch_events_total Events\.\n# TYPE deltawatch_events_total counter/)
})

test('an unlabelled metric is exposed as zero from the start', async () => {
  const metrics = createMetrics()
  metrics.counter({ name: 'deltawatch_resyncs_total', help: 'Resyncs.' })
  assert.deepEqual(await exposed(metrics, 'deltawatch_resyncs'), ['deltawatch_resyncs_total 0'])
})

test('declarations are checked', () => {
  const metrics = createMetrics()
  const counter = (name: string, labels?: string[]) =>
    metrics.counter({ name, help: 'Help.', ...(labels === undefined ? {} : { labels }) } as {
      name: string
      help: string
    })
  const refused: (() => unknown)[] = [
    () => counter('events_total'),
    () => counter('deltawatch_events'),
    () => counter('deltawatch_Events_total'),
    () => counter('deltawatch_bad_label_total', ['le']),
    () => counter('deltawatch_bad_label2_total', ['Cluster']),
    () => metrics.gauge({ name: 'deltawatch_state_total', help: 'Help.' }),
    () => metrics.gauge({ name: 'deltawatch_state', help: ' ' }),
    () => metrics.histogram({ name: 'deltawatch_h', help: 'Help.', buckets: [1, 1] }),
    () => metrics.histogram({ name: 'deltawatch_h', help: 'Help.', buckets: [] }),
  ]
  for (const declare of refused) assert.throws(declare, MetricsError)
  counter('deltawatch_once_total')
  assert.throws(() => counter('deltawatch_once_total'), /deltawatch_once_total: declared twice/)
})

test('a counter refuses to go back or to become NaN', () => {
  const counter = createMetrics().counter({ name: 'deltawatch_x_total', help: 'X.' })
  assert.throws(() => counter.inc(-1), /cannot change by -1/)
  assert.throws(() => counter.inc(Number.NaN), MetricsError)
  assert.equal(counter.value, 0)
})

test('I8: label combinations are bounded; the surplus shares one series and shows', async () => {
  const metrics = createMetrics()
  const family = metrics.counter({ name: 'deltawatch_codes_total', help: 'Codes.', labels: ['code'], maxSeries: 2 })
  for (const code of ['a', 'b', 'c', 'd', 'a']) family.with({ code }).inc()
  assert.deepEqual(await exposed(metrics, 'deltawatch_codes'), [
    'deltawatch_codes_total{code="a"} 2',
    'deltawatch_codes_total{code="b"} 1',
    'deltawatch_codes_total{code="other"} 2',
  ])
  assert.deepEqual(await exposed(metrics, 'deltawatch_metric_series_overflow'), ['deltawatch_metric_series_overflow 2'])
})

test('a removed series is gone; a bound handle keeps working without coming back', async () => {
  const metrics = createMetrics()
  const family = metrics.gauge({ name: 'deltawatch_age_seconds', help: 'Age.', labels: ['cluster'] })
  const handle = family.with({ cluster: 'gz' })
  family.remove({ cluster: 'gz' })
  handle.set(3)
  assert.deepEqual(await exposed(metrics, 'deltawatch_age'), [])
})

test('a gauge can be read at exposure, and a broken reader harms only itself', async () => {
  const metrics = createMetrics()
  const gauge = metrics.gauge({ name: 'deltawatch_age_seconds', help: 'Age.', labels: ['cluster'] })
  let age = 1
  const reading = gauge.with({ cluster: 'sz' }).read(() => age)
  gauge.with({ cluster: 'gz' }).read(() => {
    throw new Error('broken')
  })
  age = 5
  assert.deepEqual(await exposed(metrics, 'deltawatch_age'), [
    'deltawatch_age_seconds{cluster="sz"} 5',
    'deltawatch_age_seconds{cluster="gz"} Nan',
  ])
  reading[Symbol.dispose]()
  age = 9
  assert.equal((await exposed(metrics, 'deltawatch_age'))[0], 'deltawatch_age_seconds{cluster="sz"} 5')
})

test('the catalogue lists every declaration by name', () => {
  const metrics = createMetrics()
  metrics.gauge({ name: 'deltawatch_bb', help: 'B.', labels: ['x'] })
  metrics.counter({ name: 'deltawatch_aa_total', help: 'A.' })
  assert.deepEqual(
    metrics.catalogue().map((m) => `${m.type} ${m.name}{${m.labels.join()}}`),
    ['counter deltawatch_aa_total{}', 'gauge deltawatch_bb{x}', 'gauge deltawatch_metric_series_overflow{}'],
  )
})

test('process metrics and the event-loop delay are there when asked for', async () => {
  const metrics = createMetrics({ processMetrics: true })
  using delay = watchEventLoop(metrics)
  assert.equal(delay.p99(), 0)
  const text = await metrics.expose()
  for (const name of [
    'process_resident_memory_bytes',
    'nodejs_eventloop_lag_p99_seconds',
    'nodejs_gc_duration_seconds',
    'deltawatch_event_loop_delay_seconds{stat="p99"} 0',
  ]) {
    assert.ok(text.includes(name), name)
  }
})
