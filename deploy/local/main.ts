// npm start: three regions on this machine, from nothing to a stream that anybody can watch.
// Owns: the order of the whole run and what signals do. Does not own: the parts of it; each has its own file here.
// A first SIGINT or SIGTERM stops everything in reverse order; a second one kills. A reaper does it if we are killed ourselves.

import { mkdir, rm } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createProgress } from '../toolchain/progress.ts'
import { resolveTool, ToolMissingError } from '../toolchain/resolve.ts'
import { followClusters } from './clusters.ts'
import { AlreadyRunningError, lockInstance } from './instance.ts'
import { createDisplay, type Display, type Invitation } from './display.ts'
import { PortBusyError, requireFreePorts } from './free-ports.ts'
import { type LocalOptions, parseOptions, USAGE } from './options.ts'
import { gatewayUrl, sitesOf, tiersOf, wantedPorts } from './stack.ts'
import { createSupervisor } from './supervisor.ts'
import { explainTrouble } from './trouble.ts'
import type { WriterSite } from './writer/sites.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const SELF_CHECK_MS = 30_000
/** A cluster that takes longer than this to be proved live is worth a word; --once gives up then. */
const LIVE_WITHIN_MS = 60_000

async function main(options: LocalOptions): Promise<number> {
  const began = performance.now()
  const stop = stopSignals()
  const dataDir = resolve(options.dir ?? join(ROOT, '.deltawatch', 'local'))
  const logs = join(dataDir, 'logs')
  await requireFreePorts(wantedPorts(options))
  await using cleanup = new AsyncDisposableStack()
  cleanup.use(await lockInstance(dataDir))
  if (options.fresh) await wipe(dataDir, sitesOf(options))
  await mkdir(logs, { recursive: true })

  const progress = createProgress(process.stderr)
  const etcd = await resolveTool('etcd', { progress, signal: stop.first })
  const nats = await resolveTool('nats-server', { progress, signal: stop.first })
  progress.end()

  const sites = sitesOf(options)
  const tiers = tiersOf(options, { etcd: etcd.path, natsServer: nats.path }, { root: ROOT, dataDir })
  const rows = [...tiers.flat().map((spec) => spec.name), ...sites.map((site) => site.cluster)]
  const display = createDisplay(process.stdout, rows)
  display.note(
    `etcd ${etcd.version} (${etcd.source}), nats-server ${nats.version} (${nats.source}); logs in ${relative(process.cwd(), logs) || logs}`,
  )
  const supervisor = createSupervisor(tiers, display.part)
  stop.second.addEventListener('abort', () => supervisor.kill())
  cleanup.defer(() => supervisor.stop())

  const run = async (): Promise<number> => {
    await supervisor.startTier(0)
    await supervisor.startTier(1)
    stop.first.throwIfAborted()
    const clusters = cleanup.use(followClusters(gatewayUrl(options), sites, display.cluster))
    await supervisor.startTier(2)
    const why = async (): Promise<string> => {
      const lines = [...clusters.missing()].map(([cluster, state]) =>
        explainTrouble(cluster, state, [join(logs, `agent-${cluster}.log`), join(logs, 'gateway.log')]),
      )
      return `not live after ${LIVE_WITHIN_MS / 1_000} s:\n${(await Promise.all(lines)).join('\n')}`
    }
    await within(clusters.live, LIVE_WITHIN_MS, options.once, display, why)
    if (options.once) {
      const seen = await clusters.selfCheck(SELF_CHECK_MS)
      for (const [cluster, ms] of seen)
        display.note(`${cluster}: a write and its delete were seen by a subscriber (${ms.toFixed(1)} ms)`)
      display.end(`self-check passed in ${((performance.now() - began) / 1_000).toFixed(1)} s`)
      return 0
    }
    display.ready(performance.now() - began, invitations(options))
    await aborted(stop.first)
    return 0
  }

  try {
    // A stop that comes while things are still starting wins over whatever they are waiting for.
    return await Promise.race([run(), aborted(stop.first).then(() => 0)])
  } catch (error) {
    display.error(error instanceof Error ? error.message : String(error))
    return 1
  } finally {
    const began = performance.now()
    await cleanup.disposeAsync()
    display.end(`stopped in ${((performance.now() - began) / 1_000).toFixed(1)} s`)
  }
}

/** Only what the stack itself puts there: --dir may point anywhere. */
async function wipe(dataDir: string, sites: readonly WriterSite[]): Promise<void> {
  for (const name of ['logs', 'nats', ...sites.map((site) => site.cluster)]) {
    await rm(join(dataDir, name), { recursive: true, force: true })
  }
}

/** Resolves when all are live. Later than the limit: an error when `fatal`, otherwise a word, and the waiting goes on. */
async function within(
  live: Promise<void>,
  ms: number,
  fatal: boolean,
  display: Display,
  why: () => Promise<string>,
): Promise<void> {
  const { promise: failed, reject } = Promise.withResolvers<never>()
  const say = async (): Promise<void> => {
    const text = await why()
    if (fatal) reject(new Error(text))
    else display.note(text)
  }
  const timer = setTimeout(() => void say(), ms)
  try {
    await Promise.race([live, failed])
  } finally {
    clearTimeout(timer)
  }
}

function invitations(options: LocalOptions): Invitation[] {
  const url = gatewayUrl(options)
  const other = options.gatewayPort === 7400 ? '' : ` --url ${url.replace('http', 'ws')}/v1/watch`
  const [sz] = sitesOf(options)
  const base64 = (text: string): string => Buffer.from(text).toString('base64')
  const body = JSON.stringify({ key: base64('/config/greeting'), value: base64('"hello"') })
  return [
    { label: 'health', command: `curl -s '${url}/readyz?verbose'` },
    { label: 'follow', command: `npx deltawatch tail --prefix /microservices/ --from snapshot${other}` },
    { label: 'clusters', command: `npx deltawatch status${other}` },
    { label: 'stream', command: `curl -N '${url}/v1/events?cluster=sz-edge-1&prefix=/config/'` },
    { label: 'write', command: `curl -s ${sz?.url}/v3/kv/put -d '${body}'   # /config/greeting = "hello"` },
    {
      label: 'or',
      command: `${ETCDCTL} --endpoints ${sz?.url} put /config/greeting '"hello"'   # made by npm run toolchain -- --only etcdctl`,
    },
  ]
}

function stopSignals(): { readonly first: AbortSignal; readonly second: AbortSignal } {
  const first = new AbortController()
  const second = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => (first.signal.aborted ? second.abort() : first.abort()))
  }
  // Whoever read our words has gone: as good as Ctrl-C. What is still said on the way out goes nowhere.
  process.stdout.on('error', () => first.abort())
  return { first: first.signal, second: second.signal }
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })

/** From the root of the clone; where another etcdctl is at hand it serves as well. */
const ETCDCTL = '.deltawatch/toolchain/bin/etcdctl'

const isAbort = (error: unknown): boolean => error instanceof Error && error.name === 'AbortError'

/** A mistake in the command line, a busy port or a missing tool is told in a sentence; anything else is a defect. */
function isExpected(error: unknown): error is Error {
  const kinds = [PortBusyError, AlreadyRunningError, ToolMissingError, RangeError]
  return (
    kinds.some((kind) => error instanceof kind) || (error instanceof TypeError && 'code' in error) || isAbort(error)
  )
}

try {
  const options = parseOptions(process.argv.slice(2))
  if (options.help) process.stdout.on('error', () => undefined).write(USAGE)
  else process.exitCode = await main(options)
  // Not left to Node's own teardown, which waits for connections that were cut in the middle of a write.
  process.exit()
} catch (error) {
  const text = isExpected(error) ? error.message : error instanceof Error ? error.stack : String(error)
  process.stderr.write(`${text}\n`)
  process.exitCode = 1
}
