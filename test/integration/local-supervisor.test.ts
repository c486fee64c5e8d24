// The supervisor of npm start, with shell scripts for parts: order, restarts, deadlines, and nothing left behind.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { lockInstance } from '#deploy/local/instance.ts'
import type { PartSpec, PartState } from '#deploy/local/part.ts'
import { createSupervisor, type Supervisor } from '#deploy/local/supervisor.ts'
import { isAlive } from '#deploy/toolchain/narrow.ts'
import { scratchDir } from '../support/process.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const SERVE = 'echo ready; while :; do sleep 0.05; done'
const DEAF = `trap '' TERM; ${SERVE}`

interface Stage extends AsyncDisposable {
  readonly supervisor: Supervisor
  readonly history: string[]
  /** Resolves with the first state, from now on, of this kind for this part. */
  next(part: string, kind: PartState['kind']): Promise<PartState>
  readonly dir: string
}

async function stage(tiers: Record<string, string>[], graceMs = 2_000, deadlineMs?: number): Promise<Stage> {
  const dir = await scratchDir('supervisor')
  const history: string[] = []
  const waiting: { part: string; kind: string; resolve: (state: PartState) => void }[] = []
  const spec = ([name, script]: [string, string]): PartSpec => ({
    name,
    command: '/bin/sh',
    args: ['-c', script],
    env: { PATH: process.env['PATH'] },
    logFile: join(dir.path, `${name}.log`),
    ready: (incarnation) => incarnation.waitForLine(/ready/),
    graceMs,
  })
  const supervisor = createSupervisor(
    tiers.map((tier) => Object.entries(tier).map(spec)),
    (part, state) => {
      history.push(`${part} ${state.kind}`)
      const index = waiting.findIndex((one) => one.part === part && one.kind === state.kind)
      if (index >= 0) waiting.splice(index, 1)[0]?.resolve(state)
    },
    deadlineMs,
  )
  return {
    supervisor,
    history,
    dir: dir.path,
    next: (part, kind) => new Promise((resolve) => waiting.push({ part, kind, resolve })),
    [Symbol.asyncDispose]: async () => {
      await supervisor.stop()
      await dir[Symbol.asyncDispose]()
    },
  }
}

const pidOf = (supervisor: Supervisor, name: string): number => {
  const state = supervisor.parts.find((part) => part.spec.name === name)?.state
  assert.ok(state?.kind === 'ready', `${name} is ${state?.kind}`)
  return state.pid
}

test('tiers start in order and stop in reverse order', async () => {
  await using it = await stage([{ server: SERVE }, { client: SERVE }])
  await it.supervisor.startTier(0)
  await it.supervisor.startTier(1)
  const pids = ['server', 'client'].map((name) => pidOf(it.supervisor, name))
  await it.supervisor.stop()
  assert.deepEqual(it.history, [
    'server starting',
    'server ready',
    'client starting',
    'client ready',
    'client stopping',
    'client stopped',
    'server stopping',
    'server stopped',
  ])
  assert.deepEqual(pids.map(isAlive), [false, false])
})

test('a killed part is named with its signal and comes back', async () => {
  await using it = await stage([{ agent: SERVE }])
  await it.supervisor.startTier(0)
  const first = pidOf(it.supervisor, 'agent')
  const restarting = it.next('agent', 'restarting')
  process.kill(first, 'SIGKILL')
  const state = await restarting
  assert.ok(state.kind === 'restarting')
  assert.equal(state.why, 'was ended by SIGKILL')
  await it.next('agent', 'ready')
  assert.notEqual(pidOf(it.supervisor, 'agent'), first)
})

test('a part that never comes up fails with the end of its output and the place of its log', async () => {
  await using it = await stage([{ gateway: 'echo "no such policy" >&2; exit 3' }])
  await assert.rejects(it.supervisor.startTier(0), (error: unknown) => {
    assert.ok(error instanceof Error)
    assert.match(error.message, /gateway does not start: it ended with code 3\n {2}\| no such policy\n.*gateway\.log/)
    return true
  })
  assert.equal(await readFile(join(it.dir, 'gateway.log'), 'utf8'), 'no such policy\n'.repeat(3))
})

test('a part that ignores SIGTERM is killed after its grace', async () => {
  await using it = await stage([{ deaf: DEAF }], 200)
  await it.supervisor.startTier(0)
  const pid = pidOf(it.supervisor, 'deaf')
  const began = performance.now()
  await it.supervisor.stop()
  assert.ok(performance.now() - began < 2_000)
  assert.equal(isAlive(pid), false)
})

test('the whole stop has a deadline, whatever the parts are granted', async () => {
  await using it = await stage([{ one: DEAF }, { two: DEAF }], 60_000, 300)
  await it.supervisor.startTier(0)
  await it.supervisor.startTier(1)
  const began = performance.now()
  await it.supervisor.stop()
  assert.ok(performance.now() - began < 3_000)
})

test('a stop during a restart pause starts nothing any more', async () => {
  await using it = await stage([{ agent: SERVE }])
  await it.supervisor.startTier(0)
  const restarting = it.next('agent', 'restarting')
  process.kill(pidOf(it.supervisor, 'agent'), 'SIGKILL')
  await restarting
  await it.supervisor.stop()
  assert.equal(it.history.at(-1), 'agent stopped')
})

test('a supervisor that is killed leaves no part behind', async () => {
  await using dir = await scratchDir('supervisor')
  const script = `
    import { createSupervisor } from './deploy/local/supervisor.ts'
    const spec = { name: 'part', command: '/bin/sh', args: ['-c', ${JSON.stringify(DEAF)}], env: { PATH: process.env.PATH },
      logFile: ${JSON.stringify(join(dir.path, 'part.log'))}, ready: (it) => it.waitForLine(/ready/), graceMs: 1000 }
    const supervisor = createSupervisor([[spec]], (part, state) => { if (state.kind === 'ready') console.log(state.pid) })
    await supervisor.startTier(0)`
  const parent = spawn(process.execPath, ['--input-type=module-typescript', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: ROOT,
  })
  const [line] = (await once(createInterface({ input: parent.stdout }), 'line')) as [string]
  assert.ok(isAlive(Number(line)))
  parent.kill('SIGKILL')
  await once(parent, 'exit')
  const deadline = Date.now() + 5_000
  while (isAlive(Number(line)) && Date.now() < deadline) await new Promise((next) => setTimeout(next, 20))
  assert.equal(isAlive(Number(line)), false)
})

test('a second stack on the same data is refused, naming the first', async () => {
  await using dir = await scratchDir('instance')
  {
    await using held = new AsyncDisposableStack()
    held.use(await lockInstance(dir.path))
    await assert.rejects(lockInstance(dir.path), new RegExp(`belongs to a running stack \\(process ${process.pid}\\)`))
  }
  const again = await lockInstance(dir.path)
  await again[Symbol.asyncDispose]()
})
