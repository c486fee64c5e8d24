// Fetches a tool from its official release and proves it against the release's own checksum file.
// Owns: names of archives, bounded download, verification, unpacking one member.
// Does not own: any checksum. If the release's file cannot be read or does not list the archive, there is no binary.

import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { join } from 'node:path'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { runCommand } from './command.ts'
import type { Progress } from './progress.ts'
import type { ToolSpec } from './tools.ts'

export const RELEASE_BASE = 'https://github.com/'
const MAX_ARCHIVE = 256 * 1024 * 1024
const MAX_SUMS = 1024 * 1024
const SUMS_TIMEOUT_MS = 20_000

export interface ReleaseFetch {
  /** Where releases live; default the official site. A mirror or a test server may stand in. */
  readonly base?: string | undefined
  readonly workDir: string
  /** Time for the checksum file, which is asked for first. */
  readonly sumsTimeoutMs?: number
  readonly env: NodeJS.ProcessEnv
  readonly progress: Progress
  readonly signal?: AbortSignal | undefined
}

export interface ReleaseNames {
  readonly archiveUrl: string
  readonly sumsUrl: string
  readonly archive: string
  readonly member: string
}

/** undefined where the project publishes nothing for this platform. */
export function releaseNames(
  spec: ToolSpec,
  version: string,
  base: string = RELEASE_BASE,
  platform: string = process.platform,
  arch: string = process.arch,
): ReleaseNames | undefined {
  if (platform !== 'linux' && platform !== 'darwin') return undefined
  const cpu = arch === 'x64' ? 'amd64' : arch === 'arm64' ? 'arm64' : undefined
  if (cpu === undefined) return undefined
  const { release } = spec
  const fill = (text: string): string =>
    text.replaceAll('{v}', version).replaceAll('{os}', release.os[platform]).replaceAll('{arch}', cpu)
  const archive = fill(release.archive[platform])
  const dir = new URL(`${fill(release.dir)}/`, base.endsWith('/') ? base : `${base}/`)
  return {
    archive,
    archiveUrl: new URL(archive, dir).href,
    sumsUrl: new URL(fill(release.sums), dir).href,
    member: fill(release.member),
  }
}

/** Downloads, verifies, unpacks; returns the path of the binary inside `workDir`. */
export async function fetchRelease(spec: ToolSpec, version: string, options: ReleaseFetch): Promise<string> {
  const names = releaseNames(spec, version, options.base)
  if (names === undefined) {
    throw new Error(`${spec.name} publishes no binary for ${process.platform}/${process.arch}`)
  }
  const expected = await readChecksum(names, options)
  const file = join(options.workDir, names.archive)
  const actual = await download(names.archiveUrl, file, options)
  if (actual !== expected) {
    throw new Error(
      `${names.archiveUrl}: SHA-256 is ${actual}, but ${names.sumsUrl} says ${expected}; nothing was kept`,
    )
  }
  const run = { env: options.env, signal: options.signal }
  const unpack = names.archive.endsWith('.zip')
    ? runCommand('unzip', ['-q', file, names.member, '-d', options.workDir], run)
    : runCommand('tar', ['-xzf', file, '-C', options.workDir, names.member], run)
  await unpack
  return join(options.workDir, names.member)
}

/** Finds the archive's line in a sums file: `<64 hex>  <name>`, the name optionally marked `*` as binary. */
export function checksumFor(sums: string, archive: string): string | undefined {
  for (const line of sums.split('\n')) {
    const match = /^([0-9a-f]{64})\s+\*?(?:\.\/)?(\S+)\s*$/i.exec(line)
    if (match?.[2] === archive) return match[1]?.toLowerCase()
  }
  return undefined
}

async function readChecksum(names: ReleaseNames, { signal, sumsTimeoutMs }: ReleaseFetch): Promise<string> {
  const limit = AbortSignal.timeout(sumsTimeoutMs ?? SUMS_TIMEOUT_MS)
  const response = await get(names.sumsUrl, signal === undefined ? limit : AbortSignal.any([signal, limit]))
  const sums = await response.text()
  const sum = sums.length <= MAX_SUMS ? checksumFor(sums, names.archive) : undefined
  if (sum === undefined) throw new Error(`${names.sumsUrl} has no SHA-256 for ${names.archive}`)
  return sum
}

async function download(url: string, file: string, options: ReleaseFetch): Promise<string> {
  const response = await get(url, options.signal)
  if (response.body === null) throw new Error(`${url}: empty answer`)
  const total = Number(response.headers.get('content-length') ?? 0)
  const hash = createHash('sha256')
  let bytes = 0
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      if (bytes > MAX_ARCHIVE) return done(new Error(`${url}: larger than ${MAX_ARCHIVE} bytes`))
      hash.update(chunk)
      options.progress.update(total > 0 ? `${megabytes(bytes)} of ${megabytes(total)} MB` : `${megabytes(bytes)} MB`)
      done(null, chunk)
    },
  })
  await pipeline(Readable.fromWeb(response.body), meter, createWriteStream(file))
  return hash.digest('hex')
}

async function get(url: string, signal?: AbortSignal): Promise<Response> {
  let response: Response
  try {
    response = await fetch(url, { redirect: 'follow', ...(signal === undefined ? {} : { signal }) })
  } catch (cause) {
    throw new Error(`${url}: not reachable (${reason(cause)})`, { cause })
  }
  if (!response.ok) throw new Error(`${url}: HTTP ${response.status}`)
  return response
}

function reason(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error
  return cause instanceof Error ? cause.message : String(cause)
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1)
