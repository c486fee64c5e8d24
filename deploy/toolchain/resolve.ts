// Finds or makes one of the real servers, in a fixed order, and says where it came from.
// Owns: the order (environment, cache, PATH, Go build, official release, an older one from PATH or cache, Debian package),
// the version verdict, the final error. What is merely tolerated is never preferred to what could be made or fetched.
// Does not own: how each step works. A step that cannot help says why; the reasons make up the error when none can.

import { access, constants, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { delimiter, isAbsolute, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type CachedSource, type CachedTool, findCached, installCached, type Manifest, pinOf } from './cache.ts'
import { runCommand } from './command.ts'
import { fetchDebian } from './debian.ts'
import { buildWithGo, findGo } from './go-build.ts'
import { takeLock } from './lock.ts'
import { type Progress, SILENT } from './progress.ts'
import { fetchRelease } from './release.ts'
import { judgeVersion, TOOLS, type ToolName, type ToolSpec } from './tools.ts'

export type Source = 'env' | 'cache' | 'user-cache' | 'path' | CachedSource

export interface ResolvedTool {
  readonly name: ToolName
  readonly path: string
  readonly version: string
  readonly source: Source
  /** What is missing with this version; empty when it is fully supported. */
  readonly warnings: readonly string[]
}

export interface ResolveOptions {
  readonly progress?: Progress
  readonly signal?: AbortSignal
  /** Variables that steer the search: those of tools.ts, PATH, XDG_CACHE_HOME, DELTAWATCH_TOOL_CACHE, DELTAWATCH_RELEASE_BASE. */
  readonly env?: NodeJS.ProcessEnv
  /** Root of the checkout; default: this one. */
  readonly root?: string
  /** Exactly this version instead of the pinned one (a compatibility test); those pinned here are built, others come from the release or a package. */
  readonly version?: string
}

export class ToolMissingError extends Error {
  readonly code = 'TOOL_MISSING'
  override readonly name = 'ToolMissingError'
}

const RETRY_TIMEOUT_MS = 3_000

type Step = { kind: 'found'; tool: ResolvedTool } | { kind: 'no'; why: string }

interface Search {
  readonly spec: ToolSpec
  readonly wanted: string | undefined
  readonly env: NodeJS.ProcessEnv
  readonly progress: Progress
  readonly signal: AbortSignal | undefined
  readonly moduleDir: string
  readonly stateDir: string
  readonly cacheDir: string
  readonly userCacheDir: string | undefined
  readonly cacheName: string
  readonly pin: string
}

/** Resolves to a verified binary. Rejects with ToolMissingError, whose message says exactly what to install. */
export async function resolveTool(name: ToolName, options: ResolveOptions = {}): Promise<ResolvedTool> {
  const search = await prepare(name, options)
  const reasons: string[] = []
  const attempt = async (label: string, step: Promise<Step>): Promise<ResolvedTool | undefined> => {
    const result = await step
    if (result.kind === 'found') return announce(search, result.tool)
    reasons.push(`${label}: ${result.why}`)
    return undefined
  }
  const quick =
    (await attempt(search.spec.env, fromEnv(search))) ??
    (await attempt('cache', fromCache(search, 'supported'))) ??
    (await attempt('PATH', fromPath(search, 'supported')))
  if (quick !== undefined) return quick

  await using held = new AsyncDisposableStack()
  const onWait = (pid: string): void => search.progress.step(`${name}: waiting for process ${pid}, which is making it`)
  held.use(await takeLock(join(search.stateDir, `${search.cacheName}.lock`), search.signal, onWait))
  // Whoever held the lock before us may have left the binary in the cache.
  const made = await fromCache(search, 'supported')
  if (made.kind === 'found') return announce(search, made.tool)
  const best =
    (await attempt('Go build', inWorkDir(search, 'go-build', viaGo))) ??
    (await attempt('official release', inWorkDir(search, 'release', viaRelease)))
  if (best !== undefined) return best

  const failed = reasons.at(-1) ?? ''
  for (const [label, look] of [['PATH, older', fromPath] as const, ['cache, older', fromCache] as const]) {
    const older = await look(search, 'tolerated')
    if (older.kind === 'no') {
      reasons.push(`${label}: ${older.why}`)
      continue
    }
    search.progress.note(`${failed}; using ${name} ${older.tool.version} (${older.tool.source})`)
    return announce(search, older.tool)
  }
  if (search.spec.debian !== undefined) search.progress.note(`${failed}; trying the Debian package`)
  const packaged = await attempt('Debian package', inWorkDir(search, 'debian', viaDebian))
  if (packaged !== undefined) return packaged
  throw new ToolMissingError(explain(search, reasons))
}

async function prepare(name: ToolName, options: ResolveOptions): Promise<Search> {
  const spec = TOOLS[name]
  const env = options.env ?? process.env
  const root = options.root ?? fileURLToPath(new URL('../..', import.meta.url))
  const moduleDir = join(root, 'deploy', 'toolchain', spec.alsoPinned?.[options.version ?? ''] ?? '')
  const stateDir = join(root, '.deltawatch', 'toolchain')
  const pin = await pinOf(moduleDir, name, options.version ?? spec.version)
  const shared = env['DELTAWATCH_TOOL_CACHE'] ?? join(env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'deltawatch')
  const usesShared = shared !== 'off' && isAbsolute(shared)
  return {
    spec,
    wanted: options.version,
    env,
    progress: options.progress ?? SILENT,
    signal: options.signal,
    moduleDir,
    stateDir,
    cacheDir: join(stateDir, 'bin'),
    userCacheDir: usesShared ? join(shared, 'toolchain', pin.slice(0, 16)) : undefined,
    cacheName: options.version === undefined || options.version === spec.version ? name : `${name}-${options.version}`,
    pin,
  }
}

async function fromEnv(search: Search): Promise<Step> {
  const path = search.env[search.spec.env]
  if (path === undefined || path === '') return no('not set')
  if (search.wanted !== undefined) return no(`names one binary, version ${search.wanted} was asked for`)
  const version = await versionOf(search.spec, path).catch((cause: unknown) => {
    throw new ToolMissingError(`${search.spec.env}=${path} does not run: correct or unset it`, { cause })
  })
  const support = judgeVersion(search.spec, version)
  // Explicitly chosen means used, whatever its version, but never silently.
  const warnings = support.kind === 'none' ? [`${search.spec.name} ${version} is not supported: ${support.why}`] : []
  return found(search, path, version, 'env', warnings)
}

type Accept = 'supported' | 'tolerated'

async function fromCache(search: Search, accept: Accept): Promise<Step> {
  const own = await findCached(search.cacheDir, search.cacheName, search.pin)
  // A package or an older server was kept for want of better; what was missing then may be there now.
  const better = own === undefined ? undefined : whyLookOn(search, own.manifest)
  if (own !== undefined && (better === undefined || accept === 'tolerated'))
    return found(search, own.path, own.manifest.version, 'cache')
  const shared =
    search.userCacheDir === undefined ? undefined : await findCached(search.userCacheDir, search.cacheName, search.pin)
  if (shared === undefined) return no(better ?? 'empty')
  const { sha256: _sha256, ...facts } = shared.manifest
  const copy = await installCached(search.cacheDir, search.cacheName, shared.path, facts)
  return found(search, copy.path, facts.version, 'user-cache')
}

function whyLookOn({ spec, wanted }: Search, { version, source }: Manifest): string | undefined {
  if (wanted !== undefined) return undefined // exactly this version was asked for
  if (source === 'debian') return `holds ${version} from the Debian package; a newer one is tried first`
  const support = judgeVersion(spec, version)
  return support.kind === 'tolerated' && support.lastResort ? `${version} ${support.verdict}` : undefined
}

async function fromPath(search: Search, accept: Accept): Promise<Step> {
  const { spec } = search
  for (const dir of (search.env['PATH'] ?? '').split(delimiter)) {
    if (!isAbsolute(dir)) continue
    const path = join(dir, spec.name)
    const version = await access(path, constants.X_OK)
      .then(() => versionOf(spec, path))
      .catch(() => undefined)
    if (version === undefined) continue
    if (search.wanted !== undefined && version !== search.wanted) return no(`${path} is ${version}`)
    const support = judgeVersion(spec, version)
    if (support.kind === 'none') return no(`${path}: ${support.why}`)
    const older = search.wanted === undefined && support.kind === 'tolerated' && support.lastResort
    if (older && accept === 'supported') return no(`${path}: ${version} ${support.verdict}`)
    return found(search, path, version, 'path')
  }
  return no('not there')
}

type Maker = (search: Search, workDir: string) => Promise<string>

const viaGo: Maker = async (search, workDir) => {
  const { spec, wanted = spec.version } = search
  if (wanted !== spec.version && spec.alsoPinned?.[wanted] === undefined)
    throw new Error(`only ${[spec.version, ...Object.keys(spec.alsoPinned ?? {})].join(', ')} are pinned`)
  const go = await findGo(search.env)
  if (go.kind === 'absent') throw new Error(go.why)
  search.progress.step(`${spec.name} ${wanted}: building with Go ${go.version} (once; about a minute)`)
  return await buildWithGo(spec, { ...search, outputDir: workDir })
}

const viaRelease: Maker = async (search, workDir) => {
  const version = search.wanted ?? search.spec.version
  search.progress.step(`${search.spec.name} ${version}: fetching the official release`)
  // With something to fall back on nobody should wait long for a site that does not answer.
  const fallback = await findCached(search.cacheDir, search.cacheName, search.pin)
  const limit = fallback === undefined ? {} : { sumsTimeoutMs: RETRY_TIMEOUT_MS }
  const base = search.env['DELTAWATCH_RELEASE_BASE']
  return await fetchRelease(search.spec, version, { ...search, ...limit, workDir, base })
}

const viaDebian: Maker = async (search, workDir) => {
  search.progress.step(`${search.spec.name}: taking it from the Debian package`)
  return await fetchDebian(search.spec, { ...search, workDir })
}

/** Runs a maker in a scratch directory inside the cache, checks what came out and keeps it. */
async function inWorkDir(search: Search, source: CachedSource, make: Maker): Promise<Step> {
  const { spec } = search
  await mkdir(search.stateDir, { recursive: true })
  const workDir = await mkdtemp(join(search.stateDir, `${search.cacheName}-`))
  try {
    const file = await make(search, workDir)
    const version = await versionOf(spec, file)
    const expected = search.wanted ?? (source === 'debian' ? undefined : spec.version)
    if (expected !== undefined && version !== expected) return no(`is ${version}, not ${expected}`)
    const support = judgeVersion(spec, version)
    if (support.kind === 'none') return no(support.why)
    const facts = { tool: spec.name, version, source, pin: search.pin }
    const kept: CachedTool = await installCached(search.cacheDir, search.cacheName, file, facts)
    if (search.userCacheDir !== undefined && source !== 'debian') {
      await installCached(search.userCacheDir, search.cacheName, file, facts).catch(() => {}) // a convenience only
    }
    return found(search, kept.path, version, source)
  } catch (error) {
    search.signal?.throwIfAborted()
    return no(error instanceof Error ? error.message : String(error))
  } finally {
    await rm(workDir, { recursive: true, force: true })
  }
}

async function versionOf(spec: ToolSpec, path: string): Promise<string> {
  const { stdout, stderr } = await runCommand(path, spec.versionArgs, { timeoutMs: 15_000 })
  const version = spec.versionPattern.exec(`${stdout}\n${stderr}`)?.[1]
  if (version === undefined)
    throw new Error(`${path} ${spec.versionArgs.join(' ')}: no version of ${spec.name} in its answer`)
  return version
}

const no = (why: string): Step => ({ kind: 'no', why })

function found(search: Search, path: string, version: string, source: Source, warnings?: readonly string[]): Step {
  const support = judgeVersion(search.spec, version)
  const lacks = support.kind === 'tolerated' ? [`${search.spec.name} ${version} ${support.verdict}`] : []
  return {
    kind: 'found',
    tool: { name: search.spec.name, path, version, source, warnings: [...lacks, ...(warnings ?? [])] },
  }
}

function announce(search: Search, tool: ResolvedTool): ResolvedTool {
  for (const warning of tool.warnings) search.progress.warn(warning)
  return tool
}

function explain(search: Search, reasons: readonly string[]): string {
  const { spec } = search
  const version = search.wanted ?? spec.version
  const apt =
    spec.debian === undefined ? '' : `, or work on a Debian-family system whose apt has ${spec.debian.package}`
  return [
    `${spec.name} ${version} is needed and could not be found or made.`,
    ...reasons.map((reason) => `  - ${reason.replaceAll('\n', '\n    ')}`),
    `Do one of these: install Go 1.26 or newer; allow access to the official releases; set ${spec.env} to a ${spec.name} binary`,
    `(${spec.supported.from} or newer, below ${spec.supported.below})${apt}.`,
  ].join('\n')
}
