// npm start as its user meets it: one command, a proof, a kill that heals, an end that leaves nothing.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { isAlive } from '#deploy/toolchain/narrow.ts'
import { reservePorts } from '../support/ports.ts'
import { type RunningProcess, scratchDir, startProcess } from '../support/process.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PARTS = [
  ...['sz', 'gz', 'mo'].flatMap((region) => [`etcd ${region}-edge-1`, `agent ${region}-edge-1`]),
  'nats-server',
  'gateway',
  'writer',
]
const START_MS = 60_000

interface Stack extends AsyncDisposable {
  readonly process: RunningProcess
  readonly dir: string
  readonly ports: readonly number[]
  readonly args: readonly string[]
  /** Process ids of the parts' latest incarnations. */
  pids(): Map<string, number>
}

async function startStack(...extra: string[]): Promise<Stack> {
  await using stack = new AsyncDisposableStack()
  const { ports } = stack.use(await reservePorts(5))
  const dir = stack.use(await scratchDir('start')).path
  const args = [
    join(ROOT, 'deploy/bootstrap/run.cjs'),
    'deploy/local/main.ts',
    `--dir=${dir}`,
    ...portFlags(ports),
    ...extra,
  ]
  const child = stack.use(await startProcess({ name: 'npm start', command: process.execPath, args, cwd: ROOT }))
  const owned = stack.move()
  return {
    process: child,
    dir,
    ports,
    args,
    pids: () => {
      const found = new Map<string, number>()
      for (const line of child.lines()) {
        const event = line.startsWith('{') ? (JSON.parse(line) as { part?: string; state?: string; pid?: number }) : {}
        if (event.part !== undefined && event.state === 'ready' && event.pid !== undefined)
          found.set(event.part, event.pid)
      }
      return found
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

function portFlags([gateway, nats, ...etcd]: readonly number[]): string[] {
  return [`--gateway-port=${gateway}`, `--nats-port=${nats}`, `--etcd-ports=${etcd.join(',')}`]
}

async function untilGone(pids: Iterable<number>): Promise<void> {
  const deadline = Date.now() + 10_000
  for (const pid of pids) {
    while (isAlive(pid) && Date.now() < deadline) await new Promise((next) => setTimeout(next, 20))
    assert.equal(isAlive(pid), false, `process ${pid} is left over`)
  }
}

const ready = (stack: Stack): Promise<unknown> => stack.process.waitForLine(/"ready":true/, { timeoutMs: START_MS })

test('--once proves that a write in every region reaches a subscriber, and exits 0 with nothing left', async () => {
  await using stack = await startStack('--once')
  const { code } = await stack.process.exited
  assert.equal(code, 0, stack.process.log())
  for (const cluster of ['sz-edge-1', 'gz-edge-1', 'mo-edge-1']) {
    assert.match(stack.process.log(), new RegExp(`${cluster}: a write and its delete were seen by a subscriber`))
  }
  assert.deepEqual([...stack.pids().keys()].sort(), [...PARTS].sort())
  await untilGone(stack.pids().values())
})

test('a killed part is named and restarted; SIGINT then ends everything in order, within 10 s', async () => {
  await using stack = await startStack()
  await ready(stack)
  for (const part of ['agent gz-edge-1', 'etcd mo-edge-1', 'nats-server', 'gateway']) {
    const since = stack.process.lineCount()
    const pid = stack.pids().get(part)
    assert.ok(pid !== undefined)
    process.kill(pid, 'SIGKILL')
    await stack.process.waitForLine(new RegExp(`"part":"${part}","state":"restarting","why":"was ended by SIGKILL"`), {
      since,
    })
    await stack.process.waitForLine(new RegExp(`"part":"${part}","state":"ready"`), { since, timeoutMs: START_MS })
  }
  const pids = stack.pids()
  const since = stack.process.lineCount()
  const began = performance.now()
  stack.process.kill('SIGINT')
  const { code } = await stack.process.exited
  assert.ok(performance.now() - began < 10_000)
  assert.equal(code, 0)
  const stops = stack.process
    .lines()
    .slice(since)
    .flatMap((line) => /"part":"([^"]+)","state":"stopped"/.exec(line)?.[1] ?? [])
  assert.equal(stops[0], 'writer')
  assert.ok(stops.indexOf('gateway') < stops.indexOf('nats-server'))
  await untilGone(pids.values())
})

test('killed outright, it leaves no process behind, and its data serve the next start', async () => {
  await using stack = await startStack('--no-writer')
  await ready(stack)
  const pids = stack.pids()
  assert.equal(pids.has('writer'), false)
  const supervisor = Number((await readFile(`${stack.dir}.lock`, 'utf8')).split(' ')[0])
  process.kill(supervisor, 'SIGKILL')
  await stack.process.exited
  await untilGone(pids.values())
  await using again = await startProcess({ command: process.execPath, args: [...stack.args, '--once'], cwd: ROOT })
  assert.equal((await again.exited).code, 0, again.log())
})

test('a busy port and a second stack on the same data are refused in a sentence', async () => {
  await using stack = await startStack('--no-writer')
  await ready(stack)
  const run = async (...extra: string[]): Promise<[number | null, string]> => {
    await using child = await startProcess({ command: process.execPath, args: [...stack.args, ...extra], cwd: ROOT })
    const { code } = await child.exited
    return [code, child.log()]
  }
  const [busyCode, busy] = await run()
  assert.equal(busyCode, 1)
  assert.match(busy, new RegExp(`port ${stack.ports[0]} \\(gateway\\) is in use.*--gateway-port`))
  await using other = await reservePorts(5)
  const [sameCode, same] = await run(...portFlags(other.ports))
  assert.equal(sameCode, 1)
  assert.match(same, /belongs to a running stack \(process \d+\)/)
})
