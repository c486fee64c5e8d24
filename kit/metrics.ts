// Metrics behind our own interface; prom-client owns the registry, the default process metrics and the text format.
// Owns: declaration (name, help, bounded labels), bound series that cost one addition on a hot path, and the catalogue
// from which the metrics reference is generated.
// Does not own: what is measured. Nothing here is global: a service creates one `Metrics` and passes it on.
// Overflow rule: a metric holds at most `maxSeries` label combinations; later ones share one series labelled `other`.

import { collectDefaultMetrics, type Metric, Registry } from 'prom-client'
import { DeltawatchError } from './errors.ts'
import { Series, type Sample } from './metric-series.ts'

export interface MetricSpec<L extends string = never> {
  /** Starts with `deltawatch_`; base units; counters end in `_total`. */
  readonly name: string
  readonly help: string
  /** Label names. Values must come from a small closed set: clusters, codes, states; never keys or subscribers. */
  readonly labels?: readonly L[]
  /** Most label combinations kept, default 1,000. */
  readonly maxSeries?: number
}

export interface HistogramSpec<L extends string = never> extends MetricSpec<L> {
  /** Upper bounds in base units, ascending, without +Inf. */
  readonly buckets: readonly number[]
}

export type Labels<L extends string> = Readonly<Record<L, string>>

export interface BoundCounter {
  inc(by?: number): void
  readonly value: number
}
export interface BoundGauge {
  /** Reads the value when metrics are exposed, instead of having it pushed. The last reader wins. */
  read(value: () => number): Disposable
  set(value: number): void
  inc(by?: number): void
  dec(by?: number): void
  readonly value: number
}
export interface BoundHistogram {
  observe(value: number): void
  readonly count: number
  readonly sum: number
}

/** `with` returns the bound series of one label combination; bind once, keep it, and use it on the hot path. */
export interface Family<L extends string, B> {
  with(labels: Labels<L>): B
  /** Drops a series, for example of a cluster that was removed. */
  remove(labels: Labels<L>): void
}
export interface MetricInfo {
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  readonly labels: readonly string[]
}

export interface Metrics {
  counter(spec: MetricSpec): BoundCounter
  counter<L extends string>(spec: MetricSpec<L> & { readonly labels: readonly L[] }): Family<L, BoundCounter>
  gauge(spec: MetricSpec): BoundGauge
  gauge<L extends string>(spec: MetricSpec<L> & { readonly labels: readonly L[] }): Family<L, BoundGauge>
  histogram(spec: HistogramSpec): BoundHistogram
  histogram<L extends string>(spec: HistogramSpec<L> & { readonly labels: readonly L[] }): Family<L, BoundHistogram>
  /** Everything in Prometheus text format 0.0.4. */
  expose(): Promise<string>
  readonly contentType: string
  /** All declared metrics, sorted by name. */
  catalogue(): readonly MetricInfo[]
}

export class MetricsError extends DeltawatchError {}

const NAME = /^deltawatch_[a-z][a-z0-9_]*[a-z0-9]$/
const LABEL = /^[a-z][a-z0-9_]*$/
const DEFAULT_MAX_SERIES = 1000

export interface MetricsOptions {
  /** Also expose `process_*` and `nodejs_*` (memory, CPU, event-loop delay, GC). Once per process. Default false. */
  readonly processMetrics?: boolean
}

export function createMetrics(options: MetricsOptions = {}): Metrics {
  const registry = new Registry()
  const infos = new Map<string, MetricInfo>()
  const overflows = new Map<string, () => number>()

  function declare<B>(
    type: MetricInfo['type'],
    spec: MetricSpec<string>,
    open: () => B & Sampled,
  ): Series<B & Sampled> {
    const labels = spec.labels ?? []
    check(type, spec, infos)
    infos.set(spec.name, { name: spec.name, type, help: spec.help, labels })
    const series = new Series(labels, spec.maxSeries ?? DEFAULT_MAX_SERIES, open)
    overflows.set(spec.name, () => series.overflowed)
    const collector = {
      name: spec.name,
      get: async () => ({
        name: spec.name,
        help: spec.help,
        type,
        aggregator: 'sum',
        values: series.samples(spec.name),
      }),
    }
    // The registry only ever calls `get()` on what it holds; its type asks for its own metric classes.
    registry.registerMetric(collector as unknown as Metric)
    return series
  }

  function counter<L extends string>(spec: MetricSpec<L>): BoundCounter | Family<L, BoundCounter> {
    const series = declare('counter', spec, () => new CounterCell(spec.name))
    return spec.labels === undefined ? series.only() : series
  }
  function gauge<L extends string>(spec: MetricSpec<L>): BoundGauge | Family<L, BoundGauge> {
    const series = declare('gauge', spec, () => new GaugeCell())
    return spec.labels === undefined ? series.only() : series
  }
  function histogram<L extends string>(spec: HistogramSpec<L>): BoundHistogram | Family<L, BoundHistogram> {
    const bounds = Float64Array.from(spec.buckets)
    const series = declare('histogram', spec, () => new HistogramCell(bounds))
    return spec.labels === undefined ? series.only() : series
  }

  if (options.processMetrics === true) collectDefaultMetrics({ register: registry })
  const metrics: Metrics = {
    counter: counter as Metrics['counter'],
    gauge: gauge as Metrics['gauge'],
    histogram: histogram as Metrics['histogram'],
    expose: () => registry.metrics(),
    contentType: registry.contentType,
    catalogue: () => [...infos.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
  }
  const overflow = metrics.gauge({
    name: 'deltawatch_metric_series_overflow',
    help: 'Label combinations that were folded into the series `other`, over all metrics. Above 0 means a label is not bounded.',
  })
  overflow.read(() => [...overflows.values()].reduce((sum, read) => sum + read(), 0))
  return metrics
}

interface Sampled {
  sample(name: string, labels: Readonly<Record<string, string>>): Sample[]
}

class CounterCell implements BoundCounter, Sampled {
  value = 0
  readonly #name: string

  constructor(name: string) {
    this.#name = name
  }

  inc(by = 1): void {
    // `!(by >= 0)` also refuses NaN, which would poison the series for good.
    if (!(by >= 0))
      throw new MetricsError('DW_METRIC_VALUE', `counter ${this.#name} cannot change by ${by}; use a gauge`)
    this.value += by
  }

  sample(_name: string, labels: Readonly<Record<string, string>>): Sample[] {
    return [{ labels, value: this.value }]
  }
}

class GaugeCell implements BoundGauge, Sampled {
  value = 0
  #reader: (() => number) | undefined

  set(value: number): void {
    this.value = value
  }
  inc(by = 1): void {
    this.value += by
  }
  dec(by = 1): void {
    this.value -= by
  }

  read(value: () => number): Disposable {
    this.#reader = value
    return {
      [Symbol.dispose]: () => {
        if (this.#reader === value) this.#reader = undefined
      },
    }
  }

  sample(_name: string, labels: Readonly<Record<string, string>>): Sample[] {
    if (this.#reader !== undefined) this.value = readOrNaN(this.#reader)
    return [{ labels, value: this.value }]
  }
}

/** One broken reader must not take `/metrics` of everything else with it. */
function readOrNaN(read: () => number): number {
  try {
    return read()
  } catch {
    return Number.NaN
  }
}

class HistogramCell implements BoundHistogram, Sampled {
  count = 0
  sum = 0
  readonly #bounds: Float64Array
  readonly #counts: Float64Array

  constructor(bounds: Float64Array) {
    this.#bounds = bounds
    this.#counts = new Float64Array(bounds.length)
  }

  observe(value: number): void {
    if (Number.isNaN(value)) return
    this.count++
    this.sum += value
    const bounds = this.#bounds
    let low = 0
    let high = bounds.length
    while (low < high) {
      const mid = (low + high) >>> 1
      if (value <= (bounds[mid] as number)) high = mid
      else low = mid + 1
    }
    if (low < bounds.length) this.#counts[low] = (this.#counts[low] as number) + 1
  }

  sample(name: string, labels: Readonly<Record<string, string>>): Sample[] {
    const samples: Sample[] = []
    let running = 0
    for (const [i, bound] of this.#bounds.entries()) {
      running += this.#counts[i] ?? 0
      samples.push({ metricName: `${name}_bucket`, labels: { ...labels, le: String(bound) }, value: running })
    }
    samples.push({ metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: this.count })
    samples.push({ metricName: `${name}_sum`, labels, value: this.sum })
    samples.push({ metricName: `${name}_count`, labels, value: this.count })
    return samples
  }
}

function check(type: MetricInfo['type'], spec: MetricSpec<string>, known: ReadonlyMap<string, MetricInfo>): void {
  const refuse = (why: string): never => {
    throw new MetricsError('DW_METRIC_DECLARATION', `metric ${spec.name}: ${why}`)
  }
  if (!NAME.test(spec.name)) refuse('the name must look like deltawatch_<words_in_lower_case>')
  if (known.has(spec.name)) refuse('declared twice; declare it once and pass the handle on')
  if ((type === 'counter') !== spec.name.endsWith('_total')) refuse('counters, and only counters, end in _total')
  if (spec.help.trim() === '') refuse('needs a help text')
  for (const label of spec.labels ?? []) {
    if (!LABEL.test(label) || label === 'le') refuse(`label name ${JSON.stringify(label)} is not allowed`)
  }
  if ('buckets' in spec) {
    const bounds = spec.buckets as readonly number[]
    if (bounds.length === 0 || bounds.some((b, i) => !Number.isFinite(b) || b <= (bounds[i - 1] ?? -Infinity))) {
      refuse(`buckets must be finite and ascending, got ${bounds.join(', ')}`)
    }
  }
}
