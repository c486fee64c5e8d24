// The health registry of a service: named checks, each ok, degraded or failed, and the answers of /livez and /readyz.
// Owns: the checks, their evaluation and the text that an operator reads.
// Does not own: HTTP (admin.ts) or the facts (whoever registers a check).
// Degraded never flips readiness: an unreachable etcd or region is shown, alarmed and counted, but taking the gateway
// out of rotation for it would turn one cluster's trouble into everybody's.

import { errorMessage } from '../errors.ts'

export type HealthState =
  | { readonly state: 'ok'; readonly detail?: string }
  | { readonly state: 'degraded'; readonly detail: string }
  | { readonly state: 'failed'; readonly detail: string }

/** Synchronous on purpose: a probe reads what is already known and never waits for another system. */
export type HealthCheck = () => HealthState

export type Probe = 'live' | 'ready'

export interface HealthReport {
  readonly ok: boolean
  readonly checks: readonly { readonly name: string; readonly result: HealthState }[]
}

export interface Health {
  /** `live` checks ask for a restart when failed, `ready` checks for no new work. A name can be registered once per probe. */
  register(probe: Probe, name: string, check: HealthCheck): Disposable
  report(probe: Probe, exclude?: ReadonlySet<string>): HealthReport
}

export const OK: HealthState = { state: 'ok' }

export function createHealth(): Health {
  const checks: Record<Probe, Map<string, HealthCheck>> = { live: new Map(), ready: new Map() }
  return {
    register(probe, name, check) {
      if (checks[probe].has(name)) throw new RangeError(`health check ${probe}/${name} is registered twice`)
      checks[probe].set(name, check)
      return { [Symbol.dispose]: () => void checks[probe].delete(name) }
    },
    report(probe, exclude) {
      const wanted = [...checks[probe]].filter(([name]) => exclude?.has(name) !== true)
      const results = wanted.map(([name, check]) => ({ name, result: evaluate(check) }))
      return { ok: results.every(({ result }) => result.state !== 'failed'), checks: results }
    },
  }
}

function evaluate(check: HealthCheck): HealthState {
  try {
    return check()
  } catch (e) {
    return { state: 'failed', detail: `the check itself failed: ${errorMessage(e)}` }
  }
}

/** One line per check, `[+]name ok`, `[!]name degraded: why`, `[-]name failed: why`, and a verdict. */
export function renderReport(report: HealthReport, probe: Probe): string {
  const lines = report.checks.map(({ name, result }) => {
    switch (result.state) {
      case 'ok':
        return `[+]${name} ok${result.detail === undefined ? '' : `: ${result.detail}`}`
      case 'degraded':
        return `[!]${name} degraded: ${result.detail}`
      case 'failed':
        return `[-]${name} failed: ${result.detail}`
      default: {
        const unknown: never = result
        return unknown
      }
    }
  })
  return `${[...lines, `${probe}z check ${report.ok ? 'passed' : 'failed'}`].join('\n')}\n`
}
