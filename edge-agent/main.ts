// deltawatch-agent: from a command line to a running agent.
// Owns: the order of start: configuration, logger, admin endpoint, relays. Refuses: everything the parts do.

import { systemClock } from '#kit/clock.ts'
import { configFromProcess } from '#kit/config/process.ts'
import { watchEventLoop } from '#kit/event-loop.ts'
import { mountAdmin } from '#kit/http/admin.ts'
import { createHealth } from '#kit/http/health.ts'
import { createRouter } from '#kit/http/router.ts'
import { startHttpServer } from '#kit/http/server.ts'
import { createLogger } from '#kit/logger.ts'
import { createMetrics } from '#kit/metrics.ts'
import { systemRandom } from '#kit/random.ts'
import { runService } from '#kit/service.ts'
import { VERSION } from '#kit/version.ts'
import { mountDebug, registerHealth } from './admin/admin.ts'
import { startApp } from './app.ts'
import { agentConfig } from './config.ts'

const loaded = configFromProcess(agentConfig)
const { config, warnings } = loaded
const { level, format } = config.log
const logger = createLogger({ service: 'agent', level, ...(format === 'auto' ? {} : { format }) })
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
    logger.info('starting', { version: VERSION, node: process.versions.node, pid: process.pid })
    const clock = systemClock()
    const health = createHealth()
    // Before its own checks are known there is nothing to be ready for.
    const starting = health.register('ready', 'start', () => ({ state: 'failed', detail: 'starting' }))
    await lifecycle.start('event loop', () => watchEventLoop(metrics))
    const router = mountAdmin(createRouter(), { health, metrics })
    const { admin } = config
    if (admin !== undefined) {
      const server = await lifecycle.start('admin', () => startHttpServer({ listen: admin, router, logger }))
      logger.info('admin listening', server.address)
    }
    const app = await startApp(config, { lifecycle, logger, metrics, clock, random: systemRandom() })
    registerHealth(health, app, lifecycle.stopping)
    starting[Symbol.dispose]()
    mountDebug(router, app, { clock, token: config.adminToken, loopback: isLoopback(admin?.host) })
    return { reload: () => app.reload(loaded.reload()) }
  },
)

function isLoopback(host: string | undefined): boolean {
  return host === '127.0.0.1' || host === '::1' || host === 'localhost'
}
