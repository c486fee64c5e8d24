// package-lock.json as data: which packages it asks for and does not hold.
// Owns: resolving names the way Node does, upwards through node_modules, and reading a platform out of a package's name.
// Does not own: files or npm.

import { isRecord } from '../toolchain/narrow.ts'

interface LockEntry {
  version?: string
  optional?: boolean
  dev?: boolean
  os?: string[]
  cpu?: string[]
  libc?: string[]
  dependencies?: Record<string, string>
  devDependencies?: Record<string, string>
  optionalDependencies?: Record<string, string>
}

export interface Lock {
  packages: Record<string, LockEntry>
}

export const isLock = (value: unknown): value is Lock => isRecord(value) && isRecord(value['packages'])

export interface Completion {
  readonly added: readonly string[]
  /** Asked for, absent, and not an optional package of some platform. */
  readonly missing: readonly string[]
}

/** Adds what can be added to `lock` itself. */
export function completeLock(lock: Lock): Completion {
  const added: string[] = []
  const missing: string[] = []
  for (const [place, entry] of Object.entries(lock.packages)) {
    const optional = entry.optionalDependencies ?? {}
    const wanted = { ...entry.dependencies, ...(place === '' ? entry.devDependencies : {}), ...optional }
    for (const [name, version] of Object.entries(wanted)) {
      if (isHeld(lock, place, name)) continue
      const platform = Object.hasOwn(optional, name) ? platformOf(name) : undefined
      if (platform === undefined || !/^\d+\.\d+\.\d+[^ ]*$/.test(version)) {
        missing.push(`${name}@${version} (for ${place || 'the project'})`)
        continue
      }
      lock.packages[`node_modules/${name}`] = {
        version,
        ...platform,
        ...(entry.dev === true ? { dev: true } : {}),
        optional: true,
      }
      added.push(name)
    }
  }
  // npm keeps the places sorted, the project itself first.
  lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
  return { added, missing }
}

function isHeld(lock: Lock, place: string, name: string): boolean {
  for (let at = place; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
    if (Object.hasOwn(lock.packages, `${at === '' ? '' : `${at}/`}node_modules/${name}`)) return true
    if (at === '') return false
  }
}

const SYSTEMS = ['linux', 'darwin', 'win32', 'android', 'freebsd', 'openbsd', 'netbsd', 'sunos', 'aix', 'openharmony']
const PROCESSORS = ['x64', 'arm64', 'arm', 'ia32', 'ppc64', 'riscv64', 's390x', 'loong64', 'mips64el']

/** `@scope/name-linux-arm64-musl` and the like; undefined when the name states no system and processor. */
export function platformOf(name: string): Pick<LockEntry, 'os' | 'cpu' | 'libc'> | undefined {
  const words = name.slice(name.lastIndexOf('/') + 1).split('-')
  const os = words.find((word) => SYSTEMS.includes(word))
  const cpu = words.find((word) => PROCESSORS.includes(word))
  if (os === undefined || cpu === undefined) return undefined
  const abi = words.at(-1) ?? ''
  const libc =
    os !== 'linux' ? undefined : abi.startsWith('musl') ? 'musl' : abi.startsWith('gnu') ? 'glibc' : undefined
  return { os: [os], cpu: [cpu], ...(libc === undefined ? {} : { libc: [libc] }) }
}
