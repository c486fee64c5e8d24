// The clusters as a subscriber sees them: through the gateway, by the SDK, like any application.
// Owns: waiting until every cluster is proved live, telling changes of state, and the self-check of --once.
// Does not own: processes. That an agent runs is nothing; that its cluster's changes arrive is what counts.

import { setTimeout as delay } from 'node:timers/promises'
import { DeltaWatch } from '#client/deltawatch.ts'
import { createEtcdJson } from './etcd-json.ts'
import type { WriterSite } from './writer/sites.ts'

const PREFIX = '/config/self-check/'
const LIVE = new Set<string>(['live', 'idle-proved'])

export interface Clusters extends AsyncDisposable {
  /** Resolves when every cluster has been proved live at least once. */
  readonly live: Promise<void>
  /** Clusters that were not proved live yet, and what the gateway says of each. */
  missing(): ReadonlyMap<string, string>
  /**
   * Writes one key in every etcd and waits until each write, and then its delete, came back through the gateway.
   * Resolves to the milliseconds from the write to the event, by cluster. Rejects after `timeoutMs`, naming what is missing.
   */
  selfCheck(timeoutMs: number): Promise<ReadonlyMap<string, number>>
}

export function followClusters(
  url: string,
  sites: readonly WriterSite[],
  onState: (cluster: string, text: string) => void,
): Clusters {
  const watch = new DeltaWatch({ url: `${url.replace(/^http/, 'ws')}/v1/watch` })
  const pending = new Set(sites.map((site) => site.cluster))
  const { promise: live, resolve: allLive } = Promise.withResolvers<void>()
  const told = new Map<string, string>()
  const expected = new Map<string, () => void>()

  const tell = (cluster: string, state: string, revision?: string): void => {
    // The revision moves all the time, and idle is as good as busy: only trouble and its end are news.
    const news = LIVE.has(state) ? 'live' : state
    if (told.get(cluster) === news) return
    told.set(cluster, news)
    onState(cluster, revision === undefined ? news : `${news}, revision ${revision}`)
  }

  const read = async (): Promise<void> => {
    for await (const change of watch.watch({ prefix: PREFIX, start: 'now' })) {
      if (change.kind === 'cluster') tell(change.cluster, change.state, change.lastRevision)
      if (change.kind === 'bookmark') {
        for (const [cluster, mark] of Object.entries(change.clusters)) {
          tell(cluster, mark.state, mark.revision)
          if (LIVE.has(mark.state)) pending.delete(cluster)
        }
        if (pending.size === 0) allLive()
      }
      if (change.kind === 'events') {
        for (const event of change.events) expected.get(`${change.cluster} ${event.op} ${event.key}`)?.()
      }
    }
  }
  const reading = read()
  reading.catch(() => {}) // ends with close(); until then the SDK reconnects by itself

  return {
    live,
    missing: () => new Map([...pending].map((cluster) => [cluster, told.get(cluster) ?? 'not known to the gateway'])),
    selfCheck: async (timeoutMs) => {
      const timeout = AbortSignal.timeout(timeoutMs)
      const missing = new Set<string>()
      const check = async (site: WriterSite): Promise<[string, number]> => {
        const key = `${PREFIX}${process.pid}-${Date.now()}`
        const etcd = createEtcdJson(site.url, timeout)
        const seen = (op: 'put' | 'delete'): Promise<void> => {
          const what = `${site.cluster} ${op} ${key}`
          missing.add(what)
          return new Promise((resolve) => {
            expected.set(what, () => {
              missing.delete(what)
              expected.delete(what)
              resolve()
            })
          })
        }
        const put = seen('put')
        const began = performance.now()
        await etcd.write({ puts: [{ key, value: '{"self":"check"}' }] })
        await put
        const took = performance.now() - began
        const deleted = seen('delete')
        await etcd.write({ puts: [], deletes: [key] })
        await deleted
        return [site.cluster, took]
      }
      const late = delay(timeoutMs, undefined, { ref: false }).then((): never => {
        throw new Error(`not seen through the gateway within ${timeoutMs / 1_000} s: ${[...missing].join(', ')}`)
      })
      return new Map(await Promise.race([Promise.all(sites.map(check)), late]))
    },
    [Symbol.asyncDispose]: async () => {
      await watch[Symbol.asyncDispose]()
      await reading.catch(() => {})
    },
  }
}
