// The bootstrap behaves as if the script had been started directly: arguments, streams, signals, exit codes, no orphans.

import assert from 'node:assert/strict'
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { join, relative } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import type { Readable } from 'node:stream'
import { writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { isAlive } from '#deploy/toolchain/narrow.ts'
import { scratchDir } from '../support/process.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const RUN = join(ROOT, 'deploy/bootstrap/run.cjs')
const require = createRequire(import.meta.url)

interface Started extends AsyncDisposable {
  readonly child: ChildProcessByStdio<null, Readable, null>
  readonly exited: Promise<[number | null, NodeJS.Signals | null]>
  line(): Promise<string>
}

async function start(
  code: string,
  args: readonly string[] = [],
  env: NodeJS.ProcessEnv = process.env,
): Promise<Started> {
  const dir = await scratchDir('bootstrap')
  const script = join(dir.path, 'script.ts')
  await writeFile(
    script,
    `const told: (value: unknown) => void = (value) => console.log(JSON.stringify(value))\n${code}`,
  )
  const child = spawn(process.execPath, [RUN, relative(ROOT, script), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: dir.path,
    env,
  })
  const lines: Interface = createInterface({ input: child.stdout })
  const iterator = lines[Symbol.asyncIterator]()
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
  return {
    child,
    exited,
    line: async () => {
      const next = await iterator.next()
      assert.ok(next.done !== true, 'the script ended without another line')
      return next.value
    },
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGTERM')
      await exited
      await dir[Symbol.asyncDispose]()
    },
  }
}

const WAIT = `
let count = 0
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {
  count += 1
  told([signal, count])
  if (signal === 'SIGTERM') process.exit(7)
})
setInterval(() => {}, 1000)
told(process.pid)`

test('arguments, working directory, exit code and main-ness are those of a direct start', async () => {
  await using it = await start('told([process.argv.slice(2), process.cwd(), import.meta.main]); process.exit(5)', [
    'a',
    'b c',
    '--x',
  ])
  const [args, cwd, main] = JSON.parse(await it.line()) as [string[], string, boolean]
  assert.deepEqual(args, ['a', 'b c', '--x'])
  assert.match(cwd, /deltawatch-bootstrap-/)
  assert.equal(main, true)
  assert.deepEqual(await it.exited, [5, null])
})

test('the script runs on a Node that strips types, and so do the tools it starts', async () => {
  await using it = await start(`
    import { execSync } from 'node:child_process'
    told([process.version, execSync('node --version', { encoding: 'utf8' }).trim()])`)
  const [own, found] = JSON.parse(await it.line()) as [string, string]
  assert.equal(own, found)
})

test('one request is passed on once, however many copies of it arrive', async () => {
  await using it = await start(WAIT)
  await it.line()
  for (let i = 0; i < 3; i += 1) {
    it.child.kill('SIGINT')
    // Apart, because the kernel itself merges equal signals that are pending together.
    await new Promise((next) => setTimeout(next, 25))
  }
  assert.equal(await it.line(), '["SIGINT",1]')
  it.child.kill('SIGHUP')
  assert.equal(await it.line(), '["SIGHUP",2]')
  it.child.kill('SIGTERM')
  assert.equal(await it.line(), '["SIGTERM",3]')
  assert.deepEqual(await it.exited, [7, null])
})

test('a script that dies by a signal looks so from outside', async () => {
  await using it = await start("process.kill(process.pid, 'SIGKILL')")
  assert.deepEqual(await it.exited, [null, 'SIGKILL'])
})

test('a bootstrap that is killed takes the script along, by SIGTERM', async () => {
  await using it = await start(WAIT)
  const pid = Number(await it.line())
  it.child.kill('SIGKILL')
  assert.equal(await it.line(), '["SIGTERM",1]')
  const deadline = Date.now() + 5_000
  while (isAlive(pid) && Date.now() < deadline) await new Promise((next) => setTimeout(next, 20))
  assert.equal(isAlive(pid), false)
})

test("the script's own children are not told of the lifeline", async () => {
  await using it = await start("told(process.env['DELTAWATCH_LIFELINE_FD'] ?? null)")
  assert.equal(await it.line(), 'null')
})

test('an installation counts when it is exactly what the lock asks for on this platform', () => {
  const { sameTree } = require('../../deploy/bootstrap/install.cjs') as {
    sameTree: (lock: string, record: string) => boolean
  }
  const tree = (packages: object): string => JSON.stringify({ packages })
  const a = { version: '1.0.0', integrity: 'sha512-a' }
  const lock = tree({ '': {}, 'node_modules/a': a, 'node_modules/other-os': { ...a, optional: true } })
  assert.equal(sameTree(lock, tree({ 'node_modules/a': a })), true)
  assert.equal(sameTree(lock, tree({})), false)
  assert.equal(sameTree(lock, tree({ 'node_modules/a': { ...a, version: '1.0.1' } })), false)
  assert.equal(sameTree(lock, tree({ 'node_modules/a': { ...a, integrity: 'sha512-b' } })), false)
  assert.equal(sameTree(lock, tree({ 'node_modules/a': a, 'node_modules/stray': a })), false)
  assert.equal(sameTree(lock, 'not json'), false)
})

test('the Node a machine brings is used only when it is new enough', () => {
  const { isEnough } = require('../../deploy/bootstrap/find-node.cjs') as { isEnough: (version: string) => boolean }
  assert.deepEqual(['18.20.0', '24.11.9', '24.12.0', '26.0.0'].map(isEnough), [false, false, true, true])
})
