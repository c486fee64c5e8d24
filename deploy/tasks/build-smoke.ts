// npm run build:smoke: the executables work where there is nothing else.
// Owns: copying them to an empty directory outside the checkout, asking each for its version, help and
// configuration, a confined run of the agent, one on a read-only file system, and one run of the whole road with them (npm start -- --once).
// Does not own: building them (build.ts).

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants, copyFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PROGRAMS } from '../executable/programs.ts'
import { runCommand } from '../toolchain/command.ts'
import { isRecord } from '../toolchain/narrow.ts'
import { runConfined } from './smoke-confined.ts'
import { ROOT, runTask } from './spawn.ts'

/** The least that each service must be told. */
const HUB = ['--nats', 'nats://127.0.0.1:7422', '--hub-region', 'sz', '--policies', 'policies']
const SERVICES: Readonly<Record<string, readonly string[]>> = {
  'deltawatch-agent': ['--cluster', 'sz-edge-1', '--region', 'sz', '--etcd', 'http://127.0.0.1:7501', ...HUB],
  'deltawatch-gateway': ['--clusters', 'sz-edge-1=sz', '--auth', 'dev', ...HUB],
}

const READ_ONLY = join(ROOT, 'test/e2e/read-only-root.test.ts')

async function main(): Promise<number> {
  const manifest: unknown = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'))
  const version = isRecord(manifest) ? String(manifest['version']) : ''
  const away = await mkdtemp(join(tmpdir(), 'deltawatch-smoke-'))
  try {
    const bin = join(away, 'bin')
    await mkdir(bin)
    for (const { name } of PROGRAMS) {
      await copyFile(join(ROOT, 'dist', name), join(bin, name), constants.COPYFILE_FICLONE)
      const env = { PATH: '/usr/bin:/bin', HOME: away }
      const { stdout } = await runCommand(join(bin, name), ['--version'], { cwd: bin, env, timeoutMs: 20_000 })
      if (!stdout.includes(version)) throw new Error(`${name} --version said "${stdout.trim()}", not ${version}`)
      const help = await runCommand(join(bin, name), ['--help'], { cwd: bin, env, timeoutMs: 20_000 })
      if (!help.stdout.includes(`Usage: ${name}`)) throw new Error(`${name} --help said "${help.stdout.slice(0, 200)}"`)
      process.stdout.write(`${name.padEnd(20)} ${stdout.trim()}\n`)
    }
    for (const [name, flags] of Object.entries(SERVICES)) {
      const { stdout } = await runCommand(join(bin, name), [...flags, '--print-config'], {
        cwd: bin,
        timeoutMs: 20_000,
      })
      if (!/^nats:$/m.test(stdout)) throw new Error(`${name} --print-config said "${stdout.slice(0, 200)}"`)
    }
    await workersStart(join(bin, 'deltawatch-gateway'), bin)
    const [gateway, nats, confined = 0, ...etcd] = await freePorts(6)
    await runConfined(join(bin, 'deltawatch-agent'), join(ROOT, 'policies/regions'), away, confined)
    // Says itself what it skips, and why: a mount namespace is not to be had everywhere.
    const shut = await runTask(process.execPath, ['--test', '--test-reporter=spec', READ_ONLY], { output: 'inherit' })
    if (shut.code !== 0) throw new Error(`the agent on a read-only file system: ${READ_ONLY} failed`)
    const { code } = await runTask(
      process.execPath,
      [
        join(ROOT, 'deploy/local/main.ts'),
        '--once',
        `--executables=${bin}`,
        `--dir=${join(away, 'data')}`,
        `--gateway-port=${gateway}`,
        `--nats-port=${nats}`,
        `--etcd-ports=${etcd.join(',')}`,
      ],
      { output: 'inherit' },
    )
    return code
  } finally {
    await rm(away, { recursive: true, force: true })
  }
}

/** A gateway of two processes, both of them this very file; without a hub, which it does not need for that. */
async function workersStart(gateway: string, cwd: string): Promise<void> {
  const flags = ['--clusters', 'sz-edge-1=sz', '--nats', 'nats://127.0.0.1:4', '--hub-region', 'sz', '--auth', 'dev']
  const more = ['--listen', '127.0.0.1:0', '--workers', '2', '--log-format', 'json']
  const policies = ['--policies', join(ROOT, 'policies/regions')]
  const child = spawn(gateway, [...flags, ...more, ...policies], { cwd, stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  let said = ''
  const both = new Promise<boolean>((resolve) => {
    const timer = setTimeout(() => resolve(false), 20_000)
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (said.split('"event":"worker listening"').length <= 2) return
      clearTimeout(timer)
      resolve(true)
    })
  })
  const well = await both
  child.kill()
  await exited
  if (!well) throw new Error(`deltawatch-gateway --workers 2 said "${said.slice(-600)}"`)
  process.stdout.write('deltawatch-gateway   two workers listened\n')
}

/** Held together until all are known, so that no two are the same. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer())
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve) => {
          server.listen(0, '127.0.0.1', () => {
            const address = server.address()
            resolve(address !== null && typeof address === 'object' ? address.port : 0)
          })
        }),
    ),
  )
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

process.exitCode = await main()
