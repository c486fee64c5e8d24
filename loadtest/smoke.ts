// npm run loadtest:smoke [-- --against ws://… --clusters id=http://etcd,…] [--rate N] [--seconds N] [--sockets N]
// Owns: a stack of its own (unless told to use a running one), k6, and the one judgement thresholds cannot make: that
// deliveries equal writes times subscribers. Refuses: leaving anything running.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { reservePorts } from '../test/support/ports.ts'
import { createProgress } from '../deploy/toolchain/progress.ts'
import { resolveTool, ToolMissingError } from '../deploy/toolchain/resolve.ts'
import { ROOT } from '../deploy/tasks/spawn.ts'
import { readSummary, renderSummary, type SmokeResult } from './report/smoke.ts'

const STACK_READY_MS = 90_000
const STACK_END_MS = 20_000
const OUT = join(ROOT, '.deltawatch', 'loadtest')

type Target = { readonly gateway: string; readonly clusters: string }

const { values } = parseArgs({
  options: {
    against: { type: 'string' },
    clusters: { type: 'string' },
    rate: { type: 'string', default: '60' },
    seconds: { type: 'string', default: '20' },
    sockets: { type: 'string', default: '20' },
  },
})

/** A local stack without its sample writer, on free ports, stopped when disposed. */
async function ownStack(owned: AsyncDisposableStack): Promise<Target> {
  const { ports } = owned.use(await reservePorts(5))
  const [gateway, nats, ...etcd] = ports
  const args = ['--fresh', '--no-writer', '--dir', join(OUT, 'stack')]
  args.push('--gateway-port', String(gateway), '--nats-port', String(nats), '--etcd-ports', etcd.join(','))
  const child = spawn(process.execPath, [join(ROOT, 'deploy/local/main.ts'), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  owned.defer(() => endOf(child))
  const ready = async (): Promise<void> => {
    for await (const line of createInterface({ input: child.stdout })) {
      const event = JSON.parse(line) as { ready?: boolean; error?: string }
      if (event.error !== undefined) throw new Error(event.error)
      if (event.ready === true) return
    }
    throw new Error('the local stack ended before it was ready')
  }
  await Promise.race([ready(), rejectAfter(STACK_READY_MS, 'the local stack was not ready in time')])
  // Nobody reads on: what the stack says later must not fill the pipe.
  child.stdout.resume()
  const ids = ['sz-edge-1', 'gz-edge-1', 'mo-edge-1']
  return {
    gateway: `ws://127.0.0.1:${gateway}`,
    clusters: ids.map((id, i) => `${id}=http://127.0.0.1:${etcd[i]}`).join(','),
  }
}

async function rejectAfter(ms: number, message: string): Promise<never> {
  await new Promise((resolve) => setTimeout(resolve, ms).unref())
  throw new Error(message)
}

async function endOf(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  const late = setTimeout(() => child.kill('SIGKILL'), STACK_END_MS)
  await gone
  clearTimeout(late)
}

async function runK6(k6: string, target: Target, summary: string): Promise<number> {
  const env: Record<string, string> = {
    GATEWAY: target.gateway,
    CLUSTERS: target.clusters,
    RUN: Date.now().toString(36),
    RATE: values.rate,
    SECONDS: values.seconds,
    SOCKETS: values.sockets,
    SUMMARY: summary,
  }
  const flags = Object.entries(env).flatMap(([name, value]) => ['-e', `${name}=${value}`])
  const quiet = process.stdout.isTTY ? [] : ['--quiet', '--no-color']
  const child = spawn(
    k6,
    ['run', '--no-usage-report', ...quiet, ...flags, join(ROOT, 'loadtest/scenarios/smoke.ts')],
    // Anything k6 sends anywhere else is none of this run's business.
    { stdio: ['ignore', 'inherit', 'inherit'], env: { PATH: process.env.PATH ?? '', HOME: OUT } },
  )
  const stop = (): void => void child.kill('SIGINT')
  process.once('SIGINT', stop).once('SIGTERM', stop)
  const [code] = (await once(child, 'exit')) as [number | null]
  process.off('SIGINT', stop).off('SIGTERM', stop)
  return code ?? 1
}

async function main(): Promise<number> {
  if ((values.against === undefined) !== (values.clusters === undefined)) {
    throw new RangeError('--against and --clusters go together: the gateway to watch, and where to write')
  }
  await mkdir(OUT, { recursive: true })
  const progress = createProgress(process.stderr)
  const k6 = await resolveTool('k6', { progress })
  progress.end()
  await using owned = new AsyncDisposableStack()
  const { against, clusters } = values
  const target =
    against === undefined || clusters === undefined ? await ownStack(owned) : { gateway: against, clusters }
  const summary = join(OUT, 'smoke.json')
  const code = await runK6(k6.path, target, summary)
  const result: SmokeResult = readSummary(JSON.parse(await readFile(summary, 'utf8')), Number(values.sockets), code)
  const text = renderSummary(result, k6.version)
  await writeFile(join(OUT, 'smoke.md'), text)
  process.stdout.write(`\n${text}`)
  return result.passed ? 0 : 1
}

try {
  process.exitCode = await main()
} catch (error) {
  if (!(error instanceof Error)) throw error
  process.stderr.write(`loadtest:smoke: ${error.message}\n`)
  process.exitCode = error instanceof ToolMissingError ? 2 : 1
}
