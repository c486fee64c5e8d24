// The admin endpoints every service has: /livez, /readyz and /metrics.
// Owns: their wording and status codes, after the conventions of Kubernetes (`?verbose`, `?exclude=name`).
// Does not own: the checks and metrics themselves, nor the server they are mounted on.

import type { Metrics } from '../metrics.ts'
import { type Health, type Probe, renderReport } from './health.ts'
import type { Handler, HttpRequest, Router } from './router.ts'

export interface AdminOptions {
  readonly health: Health
  readonly metrics: Metrics
  /** Who may read more than whether the service is well; absent: everybody who reaches the listener. */
  readonly detail?: (request: Pick<HttpRequest, 'headers' | 'remoteAddress'>) => boolean
}

const ELSEWHERE = 'metrics are served on the admin listener (--admin), or on a loopback one that has none beside it\n'

export function mountAdmin(router: Router, options: AdminOptions): Router {
  const { health, metrics, detail = () => true } = options
  return router
    .on('GET', '/livez', probe(health, 'live', detail))
    .on('GET', '/readyz', probe(health, 'ready', detail))
    .on('GET', '/metrics', async (request) =>
      detail(request)
        ? { status: 200, headers: { 'content-type': metrics.contentType }, body: await metrics.expose() }
        : { status: 404, body: ELSEWHERE },
    )
}

function probe(health: Health, which: Probe, detail: NonNullable<AdminOptions['detail']>): Handler {
  return (request) => {
    const { query } = request
    const exclude = new Set(query.getAll('exclude').flatMap((names) => names.split(',')))
    const report = health.report(which, exclude)
    // Machines use the status; a failed probe says why to those who may know.
    const told = detail(request) && (query.has('verbose') || !report.ok)
    const body = told ? renderReport(report, which) : report.ok ? 'ok\n' : 'failed\n'
    return { status: report.ok ? 200 : 503, body }
  }
}
