// The agent's executable where it may do next to nothing: no home, nowhere to write, not root.
// Owns: that one run: it starts, serves its admin port, says that its servers are away, and stops cleanly.
// Writes are denied twice: by a user who owns nothing, where this can be arranged, and by Node's own permission model.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'

const NOBODY = 65_534
const START_MS = 20_000

export async function runConfined(executable: string, regions: string, dir: string, port: number): Promise<void> {
  const policies = join(dir, 'confined-policies')
  const empty = join(dir, 'confined-empty')
  await cp(regions, policies, { recursive: true })
  await mkdir(empty)
  for (const path of [policies, empty]) await chmod(path, 0o555)
  await chmod(dir, 0o755)
  const isRoot = process.getuid?.() === 0
  const flags = {
    cluster: 'sz-edge-1',
    region: 'sz',
    etcd: 'http://127.0.0.1:1',
    nats: 'nats://127.0.0.1:1',
    'hub-region': 'sz',
    admin: `127.0.0.1:${port}`,
    policies,
  }
  const child = spawn(
    executable,
    Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]),
    {
      cwd: empty,
      env: { NODE_OPTIONS: '--permission --allow-fs-read=* --allow-net --no-warnings' },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(isRoot ? { uid: NOBODY, gid: NOBODY } : {}),
    },
  )
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const exited = once(child, 'exit')
  try {
    await untilSaid(`http://127.0.0.1:${port}/readyz`, /hub-unreachable/)
  } catch (cause) {
    throw new Error(`the confined agent did not start\n${output}`, { cause })
  } finally {
    child.kill('SIGTERM')
  }
  const [code] = (await exited) as [number | null]
  if (code !== 0) throw new Error(`the confined agent ended with ${code}\n${output}`)
  const who = isRoot ? 'as nobody' : 'as this user'
  process.stdout.write(`deltawatch-agent     runs ${who}, in an empty directory, allowed to write nowhere\n`)
}

async function untilSaid(url: string, what: RegExp): Promise<void> {
  const deadline = performance.now() + START_MS
  let last: unknown
  while (performance.now() < deadline) {
    try {
      last = await (await fetch(url)).text()
      if (what.test(String(last))) return
    } catch (e) {
      last = e
    }
    await wait(50)
  }
  throw new Error(`${url} never said ${String(what)}`, { cause: last })
}
