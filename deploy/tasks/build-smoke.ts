// npm run build:smoke: the executables work where there is nothing else.
// Owns: copying them to an empty directory outside the checkout, asking each for its version, and one run of the whole
// road with them (npm start -- --once). Does not own: building them (build.ts).

import { constants, copyFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PROGRAMS } from '../executable/programs.ts'
import { runCommand } from '../toolchain/command.ts'
import { isRecord } from '../toolchain/narrow.ts'
import { ROOT, runTask } from './spawn.ts'

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
      process.stdout.write(`${name.padEnd(20)} ${stdout.trim()}\n`)
    }
    const [gateway, nats, ...etcd] = await freePorts(5)
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
