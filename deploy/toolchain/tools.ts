// The real servers deltawatch runs beside: which version is pinned, which versions will do, where each comes from.
// Owns: facts only. Does not own: finding, building or fetching (resolve.ts and its steps).
// A version changes here and in go.mod together; test/unit/toolchain.test.ts compares the two.

export type ToolName = 'etcd' | 'etcdctl' | 'nats-server' | 'k6'

export interface ToolSpec {
  readonly name: ToolName
  readonly version: string
  /** Variable that names a binary to use as it is. */
  readonly env: string
  readonly versionArgs: readonly string[]
  readonly versionPattern: RegExp
  /** Lowest and highest version that is fully supported; `below` is exclusive. */
  readonly supported: { readonly from: string; readonly below: string }
  /** Lowest version that runs at all, and what is said of it; only with a warning. */
  readonly tolerated?: { readonly from: string; readonly verdict: string }
  /** Main package inside the pinned modules. */
  readonly goPackage: string
  /** Other versions that Go can build, for compatibility tests, and the folder here that pins each. */
  readonly alsoPinned?: Readonly<Record<string, string>>
  readonly release: ReleaseSpec
  readonly debian?: { readonly package: string; readonly path: string }
}

export interface ReleaseSpec {
  /** Below the release base URL; `{v}` = version, `{os}` and `{arch}` = the release's own words for them. */
  readonly dir: string
  readonly archive: Readonly<Record<'linux' | 'darwin', string>>
  readonly sums: string
  readonly os: Readonly<Record<'linux' | 'darwin', string>>
  readonly member: string
}

const etcdRelease = (member: string): ReleaseSpec => ({
  dir: 'etcd-io/etcd/releases/download/v{v}',
  archive: { linux: 'etcd-v{v}-{os}-{arch}.tar.gz', darwin: 'etcd-v{v}-{os}-{arch}.zip' },
  sums: 'SHA256SUMS',
  os: { linux: 'linux', darwin: 'darwin' },
  member: `etcd-v{v}-{os}-{arch}/${member}`,
})

const UNORDERED_PROGRESS = 'lacks ordered answers to manual progress requests (etcd 3.4.31, 3.5.13 and newer have them)'

export const TOOLS: Readonly<Record<ToolName, ToolSpec>> = {
  etcd: {
    name: 'etcd',
    version: '3.7.3',
    env: 'DELTAWATCH_ETCD',
    versionArgs: ['--version'],
    versionPattern: /etcd Version: (\d+\.\d+\.\d+\S*)/,
    supported: { from: '3.4.23', below: '3.8.0' },
    goPackage: 'go.etcd.io/etcd/server/v3',
    alsoPinned: { '3.5.35': 'etcd-3.5', '3.6.16': 'etcd-3.6' },
    release: etcdRelease('etcd'),
    debian: { package: 'etcd-server', path: 'usr/bin/etcd' },
  },
  etcdctl: {
    name: 'etcdctl',
    version: '3.7.3',
    env: 'DELTAWATCH_ETCDCTL',
    versionArgs: ['version'],
    versionPattern: /etcdctl version: (\d+\.\d+\.\d+\S*)/,
    supported: { from: '3.4.23', below: '3.8.0' },
    goPackage: 'go.etcd.io/etcd/etcdctl/v3',
    release: etcdRelease('etcdctl'),
    debian: { package: 'etcd-client', path: 'usr/bin/etcdctl' },
  },
  'nats-server': {
    name: 'nats-server',
    version: '2.15.2',
    env: 'DELTAWATCH_NATS_SERVER',
    versionArgs: ['--version'],
    versionPattern: /nats-server: v(\d+\.\d+\.\d+\S*)/,
    supported: { from: '2.10.0', below: '3.0.0' },
    tolerated: { from: '2.9.0', verdict: 'is enough for this demo only; production needs 2.10 or newer' },
    goPackage: 'github.com/nats-io/nats-server/v2',
    release: {
      dir: 'nats-io/nats-server/releases/download/v{v}',
      archive: {
        linux: 'nats-server-v{v}-{os}-{arch}.tar.gz',
        darwin: 'nats-server-v{v}-{os}-{arch}.tar.gz',
      },
      sums: 'SHA256SUMS',
      os: { linux: 'linux', darwin: 'darwin' },
      member: 'nats-server-v{v}-{os}-{arch}/nats-server',
    },
    debian: { package: 'nats-server', path: 'usr/sbin/nats-server' },
  },
  k6: {
    name: 'k6',
    version: '2.2.0',
    env: 'DELTAWATCH_K6',
    versionArgs: ['version'],
    versionPattern: /k6 v(\d+\.\d+\.\d+\S*)/,
    supported: { from: '2.0.0', below: '3.0.0' },
    goPackage: 'go.k6.io/k6/v2',
    release: {
      dir: 'grafana/k6/releases/download/v{v}',
      archive: { linux: 'k6-v{v}-{os}-{arch}.tar.gz', darwin: 'k6-v{v}-{os}-{arch}.zip' },
      sums: 'k6-v{v}-checksums.txt',
      os: { linux: 'linux', darwin: 'macos' },
      member: 'k6-v{v}-{os}-{arch}/k6',
    },
  },
}

export type Support =
  | { kind: 'full' }
  | { kind: 'tolerated'; verdict: string; lastResort: boolean }
  | { kind: 'none'; why: string }

/** Is this version good enough? A last resort runs, but building or fetching a better one is tried first. */
export function judgeVersion(spec: ToolSpec, version: string): Support {
  const { from, below } = spec.supported
  if (compareVersions(version, below) >= 0)
    return { kind: 'none', why: `${version} is newer than tried (below ${below})` }
  if (compareVersions(version, from) >= 0) {
    return hasUnorderedProgress(spec, version)
      ? { kind: 'tolerated', verdict: UNORDERED_PROGRESS, lastResort: false }
      : { kind: 'full' }
  }
  const { tolerated } = spec
  if (tolerated !== undefined && compareVersions(version, tolerated.from) >= 0) {
    return { kind: 'tolerated', verdict: tolerated.verdict, lastResort: true }
  }
  return { kind: 'none', why: `${version} is older than ${from}` }
}

function hasUnorderedProgress(spec: ToolSpec, version: string): boolean {
  if (spec.name !== 'etcd') return false
  const fixedIn = compareVersions(version, '3.5.0') < 0 ? '3.4.31' : '3.5.13'
  return compareVersions(version, fixedIn) < 0
}

/** Orders by major, minor, patch; a pre-release sorts below its release. Other suffixes are ignored. */
export function compareVersions(a: string, b: string): number {
  const left = parseVersion(a)
  const right = parseVersion(b)
  for (const part of ['major', 'minor', 'patch', 'final'] as const) {
    if (left[part] !== right[part]) return left[part] - right[part]
  }
  return 0
}

function parseVersion(text: string): { major: number; minor: number; patch: number; final: number } {
  const match = /^v?(\d+)\.(\d+)(?:\.(\d+))?(-[0-9A-Za-z])?/.exec(text)
  if (match === null) throw new RangeError(`version "${text}" is not of the form 1.2.3`)
  const [, major, minor, patch, pre] = match
  return { major: Number(major), minor: Number(minor), patch: Number(patch ?? 0), final: pre === undefined ? 1 : 0 }
}
