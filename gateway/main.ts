// deltawatch-gateway: from a command line to a running gateway.
// Owns: the order of start: configuration, logger, app. Refuses: everything the parts do.

import { systemClock } from '#kit/clock.ts'
import { ConfigError } from '#kit/config/errors.ts'
import { configFromProcess } from '#kit/config/process.ts'
import { watchEventLoop } from '#kit/event-loop.ts'
import { createHealth } from '#kit/http/health.ts'
import { createLogger } from '#kit/logger.ts'
import { createMetrics } from '#kit/metrics.ts'
import { systemRandom } from '#kit/random.ts'
import { runService } from '#kit/service.ts'
import { VERSION } from '#kit/version.ts'
import { startApp } from './app.ts'
import { contradictions, gatewayConfig } from './config.ts'

const loaded = configFromProcess(gatewayConfig)
const { config, warnings } = loaded
const { level, format } = config.log
const logger = createLogger({ service: 'gateway', level, ...(format === 'auto' ? {} : { format }) })
const metrics = createMetrics({ processMetrics: true })
const stray = metrics.counter({
  name: 'deltawatch_stray_errors_total',
  help: 'Errors nobody caught, survived.',
  labels: ['kind', 'code'],
  maxSeries: 64,
})

await runService(
  {
    logger,
    deadlineMs: config.process.stopDeadline,
    parentDeath: config.process.exitWithParent,
    onStray: (kind, code) => stray.with({ kind, code }).inc(),
  },
  async (lifecycle) => {
    for (const warning of warnings) logger.warn('configuration', { warning })
    const problems = contradictions(config)
    if (problems.length > 0) throw new ConfigError(problems)
    logger.info('starting', { version: VERSION, node: process.versions.node, pid: process.pid })
    const health = createHealth()
    const delay = await lifecycle.start('event loop', () => watchEventLoop(metrics))
    health.register('live', 'event-loop', () => {
      const p99 = delay.p99()
      return p99 < 5 ? { state: 'ok' } : { state: 'failed', detail: `delayed by ${p99.toFixed(1)} s` }
    })
    const app = await startApp(config, {
      lifecycle,
      logger,
      metrics,
      clock: systemClock(),
      random: systemRandom(),
      health,
    })
    logger.info('listening', app.front.address)
    return {
      reload: async () => {
        const next = loaded.reload()
        const faults = contradictions(next)
        if (faults.length > 0) throw new ConfigError(faults)
        await app.reload(next)
      },
    }
  },
)
