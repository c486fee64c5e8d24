// An etcd member that feeds no more: told once per reason, counted each time.
// Owns: the words for operators. Refuses: deciding what comes next (term.ts).

import type { Clock } from '#kit/clock.ts'
import type { Logger } from '#kit/logger.ts'
import { causeOf, describeEnd, type LocalEnd } from './ends.ts'
import type { RelayCounters } from './relay-metrics.ts'
import type { RelayStatus } from './relay-status.ts'

type Deps = {
  readonly clock: Clock
  readonly status: RelayStatus
  readonly counters: RelayCounters
  readonly logger: Logger
}

export function reportEnd(deps: Deps, endpoint: string, end: LocalEnd, livedMs: number): void {
  const { clock, status, counters, logger } = deps
  const { phase, reason } = describeEnd(end)
  counters.detached(causeOf(end))
  if (!status.enter(phase, clock.monotonic(), reason)) return
  logger.warn('etcd detached', { endpoint, phase, reason, livedMs: Math.round(livedMs) })
}
