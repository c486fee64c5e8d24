// deltawatch-gateway: from a command line to a running gateway, in one process or as a primary with workers.
// Owns: the order of start: configuration, logger, role, app, admin listener. Refuses: everything the parts do.

import cluster from 'node:cluster'
import { type Clock, systemClock } from '#kit/clock.ts'
import { configFromProcess } from '#kit/config/process.ts'
import { watchEventLoop } from '#kit/event-loop.ts'
import { mountAdmin } from '#kit/http/admin.ts'
import { createHealth } from '#kit/http/health.ts'
import { createRouter } from '#kit/http/router.ts'
import { startHttpServer } from '#kit/http/server.ts'
import type { Lifecycle } from '#kit/lifecycle.ts'
import { createLogger } from '#kit/logger.ts'
import { createMetrics } from '#kit/metrics.ts'
import { type Random, systemRandom } from '#kit/random.ts'
import { runService } from '#kit/service.ts'
import { VERSION } from '#kit/version.ts'
import { persisting } from './admin/local-target.ts'
import { mountAdminApi } from './admin/routes.ts'
import { type App, startApp } from './app.ts'
import { gatewayConfig } from './config.ts'
import { forgetForkedScript } from './workers/executable.ts'
import { type Channel, ProcessLink, STOP_NOTE } from './workers/process-link.ts'
import { startPrimary } from './workers/primary.ts'
import { workerMethods } from './workers/worker-target.ts'

forgetForkedScript()
const loaded = configFromProcess(gatewayConfig)
const { config, warnings } = loaded
const { level, format } = config.log
const worker = cluster.worker?.id ?? 0
const base = createLogger({ service: 'gateway', level, ...(format === 'auto' ? {} : { format }) })
const logger = worker === 0 ? base : base.child({ worker })
const metrics = createMetrics({ processMetrics: true })
const stray = metrics.counter({
  name: 'deltawatch_stray_errors_total',
  help: 'Errors nobody caught, survived.',
  labels: ['kind', 'code'],
  maxSeries: 64,
})
const clock: Clock = systemClock()
const random: Random = systemRandom()

await runService(
  {
    logger,
    deadlineMs: config.process.stopDeadline,
    // A worker whose primary died would serve nobody's operator.
    parentDeath: config.process.exitWithParent || cluster.isWorker,
    onStray: (kind, code) => stray.with({ kind, code }).inc(),
  },
  async (lifecycle) => {
    for (const warning of warnings) logger.warn('configuration', { warning })
    const primary = config.workers > 0 && cluster.isPrimary
    logger.info('starting', {
      version: VERSION,
      node: process.versions.node,
      pid: process.pid,
      workers: config.workers,
    })
    if (primary) {
      const running = await startPrimary(config, { lifecycle, logger, metrics, clock, random })
      return { reload: () => running.reload() }
    }
    const app = await serve(lifecycle)
    return { reload: () => app.reload(loaded.reload()) }
  },
)

async function serve(lifecycle: Lifecycle): Promise<App> {
  const health = createHealth()
  const delay = await lifecycle.start('event loop', () => watchEventLoop(metrics))
  health.register('live', 'event-loop', () => {
    const p99 = delay.p99()
    return p99 < 5 ? { state: 'ok' } : { state: 'failed', detail: `delayed by ${p99.toFixed(1)} s` }
  })
  const running: { app: App | undefined } = { app: undefined }
  const link = cluster.isWorker ? linkToPrimary(running) : undefined
  link?.onNote(STOP_NOTE, () => void lifecycle.stop('the primary stops'))
  const app = await startApp(config, { lifecycle, logger, metrics, clock, random, health, link, worker })
  running.app = app
  logger.info('listening', app.front.address)
  const { admin, adminToken } = config
  if (admin !== undefined && adminToken !== undefined && cluster.isPrimary) {
    const { target, persist } = app
    const router = mountAdmin(createRouter(), { health, metrics })
    mountAdminApi(router, { target: persisting(target, persist), token: adminToken, logger })
    const server = await lifecycle.start('admin', () => startHttpServer({ listen: admin, router, logger }))
    logger.info('admin listening', server.address)
  }
  return app
}

function linkToPrimary(running: { readonly app: App | undefined }): ProcessLink {
  const channel: Channel = {
    send: (message) => process.send?.(message) ?? false,
    on: (event, listener) => process.on(event, listener),
  }
  const link: ProcessLink = new ProcessLink(
    channel,
    workerMethods(
      () => running.app?.target,
      async (revocation) => running.app?.persist(revocation),
      () => metrics.expose(),
      (name, value) => link.note(name, value),
    ),
  )
  return link
}
