// Takes a tool out of its Debian package without installing the package.
// Owns: apt-get in private directories, so that it needs no root and changes nothing of the system.
// Does not own: trust. apt verifies the package against the distribution's signed index; we add nothing to that.

import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { runCommand } from './command.ts'
import type { Progress } from './progress.ts'
import type { ToolSpec } from './tools.ts'

export interface DebianFetch {
  readonly workDir: string
  readonly env: NodeJS.ProcessEnv
  readonly progress: Progress
  readonly signal?: AbortSignal | undefined
}

const TIMEOUT_MS = 120_000

/** Returns the path of the unpacked binary. Rejects where there is no apt or the distribution has no such package. */
export async function fetchDebian(spec: ToolSpec, options: DebianFetch): Promise<string> {
  const { debian } = spec
  if (debian === undefined) throw new Error(`Debian has no package for ${spec.name}`)
  const { workDir, env, signal } = options
  const lists = join(workDir, 'lists')
  const archives = join(workDir, 'archives')
  const target = join(workDir, 'root')
  for (const dir of [join(lists, 'partial'), join(archives, 'partial'), target]) await mkdir(dir, { recursive: true })
  const apt = [
    ['-o', `Dir::State::lists=${lists}`],
    ['-o', `Dir::Cache::archives=${archives}`],
    ['-o', `Dir::Cache::pkgcache=`],
    ['-o', `Dir::Cache::srcpkgcache=`],
    ['-o', 'APT::Sandbox::User='],
    ['-o', 'Acquire::Languages=none'],
  ].flat()
  const run = { env, signal, timeoutMs: TIMEOUT_MS, cwd: workDir }
  options.progress.update('reading the package index')
  await runCommand('apt-get', [...apt, '-qq', 'update'], run)
  options.progress.update(`downloading ${debian.package}`)
  await runCommand('apt-get', [...apt, '-qq', 'download', debian.package], run)
  const file = (await readdir(workDir)).find((name) => name.endsWith('.deb'))
  if (file === undefined) throw new Error(`apt-get download ${debian.package} left no package file`)
  await runCommand('dpkg-deb', ['-x', join(workDir, file), target], run)
  return join(target, debian.path)
}
