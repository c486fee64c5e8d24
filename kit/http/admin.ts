// The admin endpoints every service has: /livez, /readyz and /metrics.
// Owns: their wording and status codes, after the conventions of Kubernetes (`?verbose`, `?exclude=name`).
// Does not own: the checks and metrics themselves, nor the server they are mounted on.

import type { Metrics } from '../metrics.ts'
import { type Health, type Probe, renderReport } from './health.ts'
import type { Handler, Router } from './router.ts'

export interface AdminOptions {
  readonly health: Health
  readonly metrics: Metrics
}

export function mountAdmin(router: Router, options: AdminOptions): Router {
  return router
    .on('GET', '/livez', probe(options.health, 'live'))
    .on('GET', '/readyz', probe(options.health, 'ready'))
    .on('GET', '/metrics', async () => ({
      status: 200,
      headers: { 'content-type': options.metrics.contentType },
      body: await options.metrics.expose(),
    }))
}

function probe(health: Health, which: Probe): Handler {
  return ({ query }) => {
    const exclude = new Set(query.getAll('exclude').flatMap((names) => names.split(',')))
    const report = health.report(which, exclude)
    // Machines use the status; a failed probe always says why.
    const body = query.has('verbose') || !report.ok ? renderReport(report, which) : 'ok\n'
    return { status: report.ok ? 200 : 503, body }
  }
}
