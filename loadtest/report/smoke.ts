// The smoke run's verdict, from k6's summary.
// Owns: reading the figures it needs and saying passed or failed, with the one rule k6 cannot express across metrics:
// every write reaches every subscriber exactly once.

type Metric = { readonly values: Readonly<Record<string, number>> }
type K6Summary = { readonly metrics: Readonly<Record<string, Metric | undefined>> }

export type SmokeResult = {
  readonly passed: boolean
  readonly written: number
  readonly sockets: number
  readonly delivered: number
  readonly gaps: number
  readonly duplicates: number
  readonly disorder: number
  readonly dropped: number
  readonly resumed: number
  readonly latency: { readonly med: number; readonly p99: number; readonly max: number }
  /** k6's exit code; 99 means that a threshold failed. */
  readonly exitCode: number
}

export function readSummary(summary: K6Summary, sockets: number, exitCode: number): SmokeResult {
  const value = (metric: string, field: string): number => summary.metrics[metric]?.values[field] ?? 0
  const count = (metric: string): number => value(metric, 'count')
  const written = count('watch_written_total')
  const delivered = count('watch_delivered_total')
  return {
    passed: exitCode === 0 && written > 0 && delivered === written * sockets,
    written,
    sockets,
    delivered,
    gaps: count('watch_gap_total'),
    duplicates: count('watch_dup_total'),
    disorder: count('watch_order_total'),
    dropped: count('dropped_iterations'),
    resumed: value('resume_ok', 'rate'),
    latency: {
      med: value('watch_delivery', 'med'),
      p99: value('watch_delivery', 'p(99)'),
      max: value('watch_delivery', 'max'),
    },
    exitCode,
  }
}

export function renderSummary(result: SmokeResult, k6Version: string): string {
  const rows: readonly (readonly [string, string])[] = [
    ['writes', String(result.written)],
    ['subscribers', String(result.sockets)],
    ['deliveries', `${result.delivered} of ${result.written * result.sockets}`],
    ['gaps / repeats / out of order', `${result.gaps} / ${result.duplicates} / ${result.disorder}`],
    ['resumed from a cursor', `${(result.resumed * 100).toFixed(0)} %`],
    ['dropped iterations', String(result.dropped)],
    [
      'write to subscriber',
      `p50 ${result.latency.med.toFixed(1)} ms, p99 ${result.latency.p99.toFixed(1)} ms, max ${result.latency.max.toFixed(1)} ms`,
    ],
    ['k6', `${k6Version}, exit code ${result.exitCode}`],
  ]
  const width = Math.max(...rows.map(([name]) => name.length))
  const table = rows.map(([name, text]) => `| ${name.padEnd(width)} | ${text} |`)
  return [
    `# Load smoke: ${result.passed ? 'passed' : 'FAILED'}`,
    '',
    `| ${' '.repeat(width)} | |`,
    '| --- | --- |',
    ...table,
    '',
  ].join('\n')
}
