// Builds a tool from the modules pinned in go.mod.
// Owns: finding a Go that will do, the build flags, progress. Does not own: the cache or the lock (resolve.ts).
// -mod=readonly and go.sum make the result depend on nothing but the pinned sources; -trimpath keeps machine paths out of it.

import { join } from 'node:path'
import { runCommand } from './command.ts'
import type { Progress } from './progress.ts'
import { compareVersions, type ToolSpec } from './tools.ts'

/** go.mod asks for this version; from 1.21 on an older Go fetches the newer one by itself. */
const GO_WANTED = '1.26.0'
const GO_SELF_UPGRADES = '1.21.0'

export interface GoBuild {
  readonly moduleDir: string
  readonly outputDir: string
  readonly env: NodeJS.ProcessEnv
  readonly progress: Progress
  readonly signal?: AbortSignal | undefined
}

export type GoState = { kind: 'ready'; version: string } | { kind: 'absent'; why: string }

export async function findGo(env: NodeJS.ProcessEnv): Promise<GoState> {
  const hint = `install Go ${GO_WANTED.slice(0, 4)} or newer`
  const answer = await runCommand('go', ['version'], { env, cwd: '/', timeoutMs: 15_000 }).catch(() => undefined)
  const version = answer === undefined ? undefined : /go version go(\d+\.\d+(?:\.\d+)?)/.exec(answer.stdout)?.[1]
  if (version === undefined) return { kind: 'absent', why: `no Go on PATH (${hint})` }
  if (compareVersions(version, GO_WANTED) >= 0) return { kind: 'ready', version }
  const selfUpgrades = compareVersions(version, GO_SELF_UPGRADES) >= 0 && env['GOTOOLCHAIN'] !== 'local'
  return selfUpgrades ? { kind: 'ready', version } : { kind: 'absent', why: `Go ${version} is too old (${hint})` }
}

/** Builds and returns the path of the binary in `outputDir`. The first build takes a minute or two on two cores. */
export async function buildWithGo(spec: ToolSpec, build: GoBuild): Promise<string> {
  const output = join(build.outputDir, spec.name)
  let compiled = 0
  let fetched = 0
  const onLine = (line: string): void => {
    if (line.startsWith('go: downloading ')) fetched += 1
    else compiled += 1
    build.progress.update(`${fetched} modules fetched, ${compiled} packages compiled`)
  }
  const args = ['build', '-v', '-trimpath', '-buildvcs=false', '-ldflags', '-s -w', '-o', output, spec.goPackage]
  await runCommand('go', args, {
    cwd: build.moduleDir,
    // A workspace or flags of the user's own must not change what is built.
    env: { ...build.env, GOFLAGS: '-mod=readonly', GOWORK: 'off', CGO_ENABLED: '0', GOOS: '', GOARCH: '' },
    signal: build.signal,
    onLine,
  })
  return output
}
