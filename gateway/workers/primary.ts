// The primary of a gateway with workers: forks them, keeps them running, and answers operators for all of them.
// Owns: the workers' lives, the shared books, the admin listener, metrics over all. Refuses: subscribers: it serves none.
// Each worker holds the whole state of every cluster: memory is that of one gateway times the number of workers.

import cluster, { type Worker } from 'node:cluster'
import type { Clock } from '#kit/clock.ts'
import { mountAdmin } from '#kit/http/admin.ts'
import { createHealth } from '#kit/http/health.ts'
import { createRouter } from '#kit/http/router.ts'
import { startHttpServer } from '#kit/http/server.ts'
import type { Lifecycle } from '#kit/lifecycle.ts'
import type { Logger } from '#kit/logger.ts'
import type { Metrics } from '#kit/metrics.ts'
import type { Random } from '#kit/random.ts'
import { mountAdminApi } from '../admin/routes.ts'
import type { GatewayConfig } from '../config.ts'
import { mergeMetrics } from './merge-metrics.ts'
import { ProcessLink, STOP_NOTE } from './process-link.ts'
import { SharedBooks } from './shared.ts'
import { WorkersTarget } from './worker-target.ts'

export type PrimaryDeps = {
  readonly lifecycle: Lifecycle
  readonly logger: Logger
  readonly metrics: Metrics
  readonly clock: Clock
  readonly random: Random
}

type Held = { readonly worker: Worker; readonly link: ProcessLink; listening: boolean }

const RESTART_MS = 1_000

export async function startPrimary(config: GatewayConfig, deps: PrimaryDeps): Promise<{ reload(): void }> {
  const { lifecycle, logger, metrics, clock, random } = deps
  const books = new SharedBooks(clock, random)
  const held = new Map<number, Held>()
  const links = (): ProcessLink[] => [...held.values()].map((one) => one.link)
  const restarts = metrics.counter({
    name: 'deltawatch_worker_restarts_total',
    help: 'Workers that ended without being asked to.',
  })

  const fork = (): void => {
    const worker = cluster.fork()
    const link = new ProcessLink(worker, books.methodsFor(worker.id))
    const one: Held = { worker, link, listening: false }
    held.set(worker.id, one)
    worker.on('listening', (address) => {
      one.listening = true
      logger.info('worker listening', { worker: worker.id, pid: worker.process.pid, port: address.port })
    })
    worker.on('exit', (code, signal) => {
      held.delete(worker.id)
      link.close()
      books.forget(worker.id)
      if (lifecycle.stopping.aborted) return
      restarts.inc()
      logger.error('worker ended, starting another', { worker: worker.id, code, signal })
      clock.setTimeout(() => lifecycle.stopping.aborted || fork(), RESTART_MS)
    })
  }

  const all = async (): Promise<string> => {
    const texts = new Map<number, string>([[0, await metrics.expose()]])
    await Promise.all(
      [...held].map(async ([id, { link }]) => {
        const text = await link.call('metrics').catch(() => undefined)
        if (typeof text === 'string') texts.set(id, text)
      }),
    )
    return mergeMetrics(texts)
  }

  await lifecycle.start(
    'workers',
    () => {
      for (let i = 0; i < config.workers; i++) fork()
      return held
    },
    () => () => stopAll(held),
  )
  const { admin, adminToken } = config
  if (admin !== undefined && adminToken !== undefined) {
    const health = createHealth()
    health.register('ready', 'workers', () => {
      const listening = [...held.values()].filter((one) => one.listening).length
      const detail = `${listening} of ${config.workers} listening`
      if (listening === 0) return { state: 'failed', detail }
      return listening === config.workers ? { state: 'ok', detail } : { state: 'degraded', detail }
    })
    const router = mountAdmin(createRouter(), { health, metrics: { ...metrics, expose: all } })
    mountAdminApi(router, { target: new WorkersTarget(links), token: adminToken, logger })
    const server = await lifecycle.start('admin', () => startHttpServer({ listen: admin, router, logger }))
    logger.info('admin listening', server.address)
  }
  return {
    reload: () => {
      for (const { worker } of held.values()) worker.process.kill('SIGHUP')
    },
  }
}

/** Each worker drains by itself; the lifecycle's deadline bounds them all. */
async function stopAll(held: ReadonlyMap<number, Held>): Promise<void> {
  await Promise.all(
    [...held.values()].map(
      ({ worker, link }) =>
        new Promise<void>((resolve) => {
          worker.once('exit', () => resolve())
          // Not by signal: Ctrl-C reaches the whole group, and a second signal would cut the drain short.
          link.note(STOP_NOTE, '')
        }),
    ),
  )
}
