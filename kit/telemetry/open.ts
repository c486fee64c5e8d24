// Tracing of a service, when its configuration names a collector.
// Owns: the decision, and loading OpenTelemetry only then: a service that is not traced pays neither start nor memory.
// Refuses: spans and exporting (otlp.ts).

import type { Clock } from '../clock.ts'
import type { TracingSection } from '../config/sections.ts'
import type { Logger } from '../logger.ts'
import type { Metrics } from '../metrics.ts'
import type { Random } from '../random.ts'
import { parseCollectorHeaders } from './headers.ts'
import type { Tracer } from './tracer.ts'

export type TracingDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly metrics: Metrics
}

export interface Tracing extends AsyncDisposable {
  /** Undefined: nothing is traced, and nothing is to be done for it. */
  readonly tracer: Tracer | undefined
}

const OFF: Tracing = { tracer: undefined, [Symbol.asyncDispose]: () => Promise.resolve() }

/** `service`: the name under which the collector lists this process. */
export async function openTracing(section: TracingSection, service: string, deps: TracingDeps): Promise<Tracing> {
  const { endpoint, sample, env, canary, headers } = section
  if (endpoint === undefined || sample === 0) return OFF
  const { openOtlp } = await import('./otlp.ts')
  deps.logger.info('tracing', { sample, canary, ...(env === undefined ? {} : { env }) })
  return openOtlp(
    {
      url: tracesUrl(endpoint),
      service,
      share: sample,
      env,
      canary,
      headers: headers === undefined ? {} : parseCollectorHeaders(headers),
    },
    deps,
  )
}

/** A collector's bare address is understood. */
export function tracesUrl(endpoint: string): string {
  const url = new URL(endpoint)
  if (url.pathname === '/') url.pathname = '/v1/traces'
  return url.href
}
