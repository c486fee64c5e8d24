// Binaries kept between runs, each with a manifest that says what it is.
// Owns: the layout <dir>/<name> + <dir>/<name>.json, atomic installation, and proving a binary against its manifest on every use.
// Does not own: where binaries come from. A binary without a matching manifest, pin and SHA-256 is treated as absent.
// Installation renames a finished file into place, so a reader never sees half a binary and a running one is never overwritten.

import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { chmod, copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { isRecord } from './narrow.ts'

export type CachedSource = 'go-build' | 'release' | 'debian'

export interface Manifest {
  readonly tool: string
  readonly version: string
  readonly source: CachedSource
  /** Digest of everything that decides the binary: see pinOf. */
  readonly pin: string
  readonly sha256: string
}

export interface CachedTool {
  readonly path: string
  readonly manifest: Manifest
}

/** The binary, if it is present, carries the wanted pin and is byte for byte what its manifest says; otherwise undefined. */
export async function findCached(dir: string, name: string, pin: string): Promise<CachedTool | undefined> {
  const path = join(dir, name)
  const manifest = await readManifest(`${path}.json`)
  if (manifest === undefined || manifest.pin !== pin) return undefined
  const actual = await sha256File(path).catch(() => undefined)
  return actual === manifest.sha256 ? { path, manifest } : undefined
}

/** Copies `file` into the cache and returns its place there. Safe beside any number of others doing the same. */
export async function installCached(
  dir: string,
  name: string,
  file: string,
  facts: Omit<Manifest, 'sha256'>,
): Promise<CachedTool> {
  await mkdir(dir, { recursive: true })
  const path = join(dir, name)
  const draft = join(dir, `.${name}.${process.pid}.${randomBytes(4).toString('hex')}`)
  try {
    await copyFile(file, draft)
    await chmod(draft, 0o755)
    const manifest: Manifest = { ...facts, sha256: await sha256File(draft) }
    await writeFile(`${draft}.json`, `${JSON.stringify(manifest, null, 2)}\n`)
    await rename(draft, path)
    await rename(`${draft}.json`, `${path}.json`)
    return { path, manifest }
  } finally {
    await rm(draft, { force: true })
    await rm(`${draft}.json`, { force: true })
  }
}

export async function sha256File(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash)
  return hash.digest('hex')
}

/** Version, Go module pins and platform in one digest: any change makes older binaries invisible. */
export async function pinOf(goModuleDir: string, tool: string, version: string): Promise<string> {
  const hash = createHash('sha256')
  for (const name of ['go.mod', 'go.sum']) hash.update(await readFile(join(goModuleDir, name)))
  hash.update(`${tool} ${version} ${process.platform} ${process.arch}`)
  return hash.digest('hex')
}

async function readManifest(path: string): Promise<Manifest | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  try {
    const value: unknown = JSON.parse(text)
    return isManifest(value) ? value : undefined
  } catch {
    return undefined
  }
}

function isManifest(value: unknown): value is Manifest {
  return (
    isRecord(value) &&
    ['tool', 'version', 'pin', 'sha256'].every((field) => typeof value[field] === 'string') &&
    (value['source'] === 'go-build' || value['source'] === 'release' || value['source'] === 'debian')
  )
}
