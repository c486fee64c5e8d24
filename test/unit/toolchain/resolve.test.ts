// The search for the real servers: its order, its proofs and its last words.
// Binaries here are small shell scripts that answer --version; the release server is a local HTTP server.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { chmod, copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { takeLock } from '#deploy/toolchain/lock.ts'
import { SILENT } from '#deploy/toolchain/progress.ts'
import { checksumFor, releaseNames } from '#deploy/toolchain/release.ts'
import { resolveTool, ToolMissingError } from '#deploy/toolchain/resolve.ts'
import { compareVersions, judgeVersion, TOOLS } from '#deploy/toolchain/tools.ts'
import { scratchDir } from '../../support/process.ts'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

interface Checkout extends AsyncDisposable {
  readonly root: string
  readonly bin: string
  readonly env: NodeJS.ProcessEnv
}

/** A checkout that has only the pins, on a machine without Go, apt or a reachable release. */
async function emptyCheckout(): Promise<Checkout> {
  const dir = await scratchDir('toolchain')
  const bin = join(dir.path, 'path')
  await mkdir(bin)
  for (const name of ['go.mod', 'go.sum']) {
    await mkdir(join(dir.path, 'deploy/toolchain'), { recursive: true })
    await copyFile(join(ROOT, 'deploy/toolchain', name), join(dir.path, 'deploy/toolchain', name))
  }
  const env = { PATH: bin, DELTAWATCH_TOOL_CACHE: 'off', DELTAWATCH_RELEASE_BASE: 'http://127.0.0.1:9/' }
  return { root: dir.path, bin, env, [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose]() }
}

async function fakeBinary(path: string, says: string): Promise<string> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, `#!/bin/sh\necho '${says}'\n`)
  await chmod(path, 0o755)
  return path
}

const etcdSays = (version: string): string => `etcd Version: ${version}`

test('the versions of tools.ts are those of go.mod', async () => {
  const goMod = await readFile(join(ROOT, 'deploy/toolchain/go.mod'), 'utf8')
  for (const tool of Object.values(TOOLS)) {
    assert.match(goMod, new RegExp(`^\\t${tool.goPackage.replaceAll('.', '\\.')} v${tool.version}$`, 'm'))
  }
})

test('versions are ordered by number, and a pre-release sorts before its release', () => {
  assert.ok(compareVersions('3.10.0', '3.9.9') > 0)
  assert.ok(compareVersions('3.7.0-rc.1', '3.7.0') < 0)
  assert.equal(compareVersions('v2.15.2', '2.15.2'), 0)
  assert.throws(() => compareVersions('three', '3.0.0'), RangeError)
})

test('the supported ranges hold at their edges', () => {
  const verdict = (tool: keyof typeof TOOLS, version: string): string => judgeVersion(TOOLS[tool], version).kind
  assert.equal(verdict('etcd', '3.4.22'), 'none')
  assert.equal(verdict('etcd', '3.4.23'), 'tolerated')
  assert.equal(verdict('etcd', '3.4.31'), 'full')
  assert.equal(verdict('etcd', '3.5.12'), 'tolerated')
  assert.equal(verdict('etcd', '3.5.13'), 'full')
  assert.equal(verdict('etcd', '3.7.3'), 'full')
  assert.equal(verdict('etcd', '3.8.0'), 'none')
  assert.equal(verdict('nats-server', '2.8.4'), 'none')
  assert.equal(verdict('nats-server', '2.9.10'), 'tolerated')
  assert.equal(verdict('nats-server', '2.10.0'), 'full')
})

test('a binary named in the environment comes first; an unsupported one is used with a warning', async () => {
  await using checkout = await emptyCheckout()
  const own = await fakeBinary(join(checkout.root, 'own'), etcdSays('3.3.0'))
  await fakeBinary(join(checkout.bin, 'etcd'), etcdSays('3.6.1'))
  const tool = await resolveTool('etcd', { root: checkout.root, env: { ...checkout.env, DELTAWATCH_ETCD: own } })
  assert.deepEqual([tool.source, tool.path, tool.version], ['env', own, '3.3.0'])
  assert.match(tool.warnings.join(), /not supported: 3\.3\.0 is older/)
})

test('a binary named in the environment that does not run is an error, not skipped', async () => {
  await using checkout = await emptyCheckout()
  const env = { ...checkout.env, DELTAWATCH_ETCD: '/no/such/etcd' }
  await assert.rejects(
    resolveTool('etcd', { root: checkout.root, env }),
    /DELTAWATCH_ETCD=\/no\/such\/etcd does not run/,
  )
})

test('PATH serves a supported version and passes over an unsupported one', async () => {
  await using checkout = await emptyCheckout()
  const path = await fakeBinary(join(checkout.bin, 'etcd'), etcdSays('3.6.1'))
  const tool = await resolveTool('etcd', checkout)
  assert.deepEqual([tool.source, tool.path], ['path', path])
  await fakeBinary(path, etcdSays('3.3.9'))
  await assert.rejects(resolveTool('etcd', checkout), /PATH: .*3\.3\.9 is older than 3\.4\.23/)
})

test('an older server that merely runs is the last resort, with a warning', async () => {
  await using checkout = await emptyCheckout()
  await fakeBinary(join(checkout.bin, 'nats-server'), 'nats-server: v2.9.10')
  const tool = await resolveTool('nats-server', checkout)
  assert.deepEqual([tool.source, tool.version], ['path', '2.9.10'])
  assert.deepEqual(tool.warnings, ['nats-server 2.9.10 is enough for this demo only; production needs 2.10 or newer'])
})

/** An apt whose only package is an old server. */
async function withOldPackage({ bin }: Checkout): Promise<void> {
  const apt = '#!/bin/sh\ncase "$*" in *download*) : > server.deb;; esac\n'
  const unpack = `#!/bin/sh
/bin/mkdir -p "$3/usr/sbin"
printf '#!/bin/sh\necho nats-server: v2.9.10\n' > "$3/usr/sbin/nats-server"
/bin/chmod 755 "$3/usr/sbin/nats-server"
`
  await writeFile(join(bin, 'apt-get'), apt, { mode: 0o755 })
  await writeFile(join(bin, 'dpkg-deb'), unpack, { mode: 0o755 })
}

test('a package kept for want of better serves only until a better one can be had', async () => {
  await using checkout = await emptyCheckout()
  await withOldPackage(checkout)
  const notes: string[] = []
  const options = { ...checkout, progress: { ...SILENT, note: (text: string) => void notes.push(text) } }
  assert.equal((await resolveTool('nats-server', options)).source, 'debian')
  assert.match(notes.join('\n'), /^official release: http:.*: not reachable \(.+\); trying the Debian package$/)
  // Nothing better yet: it is not unpacked again.
  await writeFile(join(checkout.bin, 'apt-get'), '#!/bin/sh\nexit 1\n', { mode: 0o755 })
  assert.deepEqual(await resolveTool('nats-server', options).then(({ source, version }) => [source, version]), [
    'cache',
    '2.9.10',
  ])
  assert.match(notes[1] ?? '', /not reachable .*; using nats-server 2\.9\.10 \(cache\)$/)
  const newer = await fakeBinary(join(checkout.bin, 'nats-server'), 'nats-server: v2.11.0')
  assert.equal((await resolveTool('nats-server', options)).path, newer)
})

test('where nothing helps, the error lists every attempt and what to install', async () => {
  await using checkout = await emptyCheckout()
  await assert.rejects(resolveTool('etcd', checkout), (error: unknown) => {
    assert.ok(error instanceof ToolMissingError)
    for (const part of [
      /DELTAWATCH_ETCD: not set/,
      /no Go on PATH/,
      /127\.0\.0\.1:9.*not reachable/,
      /Debian package/,
    ]) {
      assert.match(error.message, part)
    }
    assert.match(error.message, /install Go 1\.26 or newer; allow access to the official releases; set DELTAWATCH_ETCD/)
    return true
  })
})

interface FakeRelease extends AsyncDisposable {
  readonly base: string
  readonly requests: string[]
}

/** Serves one archive that holds a fake etcd, and a sums file that `sums` may falsify. */
async function fakeRelease(work: string, sums: (honest: string) => string): Promise<FakeRelease> {
  const names = releaseNames(TOOLS.etcd, TOOLS.etcd.version)
  assert.ok(names !== undefined, 'this platform has official releases')
  await fakeBinary(join(work, names.member), etcdSays(TOOLS.etcd.version))
  const file = join(work, names.archive)
  execFileSync('tar', ['-czf', file, '-C', work, names.member])
  const archive = await readFile(file)
  const digest = createHash('sha256').update(archive).digest('hex')
  const requests: string[] = []
  const server = createServer((request, response) => {
    const url = request.url ?? ''
    requests.push(url)
    if (url.endsWith(names.archive)) response.end(archive)
    else if (url.endsWith('SHA256SUMS')) response.end(sums(`${digest}  ${names.archive}\n`))
    else response.writeHead(404).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  return {
    base: `http://127.0.0.1:${address.port}/`,
    requests,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** tar and gzip are needed to unpack; nothing else of the system is. */
async function withTar(checkout: Checkout): Promise<void> {
  for (const name of ['tar', 'gzip']) {
    const real = execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim()
    await writeFile(join(checkout.bin, name), `#!/bin/sh\nexec ${real} "$@"\n`, { mode: 0o755 })
  }
}

test('an official release is taken when its own checksum file vouches for it, then served from the cache', async () => {
  await using checkout = await emptyCheckout()
  await withTar(checkout)
  await using work = await scratchDir('release')
  await using release = await fakeRelease(work.path, (honest) => `${'0'.repeat(64)}  other.tar.gz\n${honest}`)
  const options = { root: checkout.root, env: { ...checkout.env, DELTAWATCH_RELEASE_BASE: release.base } }
  const first = await resolveTool('etcd', options)
  assert.deepEqual([first.source, first.version], ['release', TOOLS.etcd.version])
  const asked = release.requests.length
  const second = await resolveTool('etcd', options)
  assert.deepEqual([second.source, second.path], ['cache', first.path])
  assert.equal(release.requests.length, asked)
})

test('a release that its checksum file does not vouch for leaves nothing behind', async () => {
  const lies = [(honest: string) => honest.replace(/^./, (c) => (c === '0' ? '1' : '0')), () => 'no sums here\n']
  for (const lie of lies) {
    await using checkout = await emptyCheckout()
    await withTar(checkout)
    await using work = await scratchDir('release')
    await using release = await fakeRelease(work.path, lie)
    const env = { ...checkout.env, DELTAWATCH_RELEASE_BASE: release.base }
    await assert.rejects(resolveTool('etcd', { root: checkout.root, env }), /SHA-256 is|has no SHA-256/)
    assert.deepEqual(await readdir(join(checkout.root, '.deltawatch/toolchain')), [])
  }
})

test('a cached binary that changed, or whose pins changed, is not used', async () => {
  for (const harm of ['binary', 'pins'] as const) {
    await using checkout = await emptyCheckout()
    await withTar(checkout)
    await using work = await scratchDir('release')
    await using release = await fakeRelease(work.path, (honest) => honest)
    const options = { root: checkout.root, env: { ...checkout.env, DELTAWATCH_RELEASE_BASE: release.base } }
    const { path } = await resolveTool('etcd', options)
    if (harm === 'binary') await writeFile(path, '#!/bin/sh\necho evil\n')
    else await writeFile(join(checkout.root, 'deploy/toolchain/go.sum'), 'changed\n')
    assert.equal((await resolveTool('etcd', options)).source, 'release')
    assert.equal((await resolveTool('etcd', options)).source, 'cache')
  }
})

test('a second checkout finds the binary in the user-wide cache', async () => {
  await using first = await emptyCheckout()
  await using second = await emptyCheckout()
  await withTar(first)
  await using work = await scratchDir('release')
  await using release = await fakeRelease(work.path, (honest) => honest)
  const shared = { DELTAWATCH_TOOL_CACHE: join(work.path, 'cache') }
  const made = await resolveTool('etcd', {
    root: first.root,
    env: { ...first.env, ...shared, DELTAWATCH_RELEASE_BASE: release.base },
  })
  assert.equal(made.source, 'release')
  const found = await resolveTool('etcd', { root: second.root, env: { ...second.env, ...shared } })
  assert.equal(found.source, 'user-cache')
  assert.ok(found.path.startsWith(second.root))
})

test('several that need the same tool at once make it once', async () => {
  await using checkout = await emptyCheckout()
  await withTar(checkout)
  await using work = await scratchDir('release')
  await using release = await fakeRelease(work.path, (honest) => honest)
  const options = { root: checkout.root, env: { ...checkout.env, DELTAWATCH_RELEASE_BASE: release.base } }
  const tools = await Promise.all(Array.from({ length: 4 }, () => resolveTool('etcd', options)))
  assert.equal(new Set(tools.map((tool) => tool.path)).size, 1)
  assert.equal(release.requests.filter((url) => url.endsWith('.tar.gz')).length, 1)
})

test('the lock of a process that is gone is taken over', async () => {
  await using dir = await scratchDir('lock')
  const path = join(dir.path, 'tool.lock')
  const dead = execFileSync('sh', ['-c', 'echo $$'], { encoding: 'utf8' }).trim()
  await writeFile(path, `${dead} token`)
  await using held = new AsyncDisposableStack()
  held.use(await takeLock(path, AbortSignal.timeout(5_000)))
  assert.match(await readFile(path, 'utf8'), new RegExp(`^${process.pid} `))
})

test('checksum files are read by exact name', () => {
  const sum = 'ab'.repeat(32)
  assert.equal(checksumFor(`${sum}  etcd.tar.gz.asc\n${sum.toUpperCase()} *etcd.tar.gz\n`, 'etcd.tar.gz'), sum)
  assert.equal(checksumFor(`${sum}  ./etcd.tar.gz`, 'etcd.tar.gz'), sum)
  assert.equal(checksumFor(`${sum}  not-etcd.tar.gz`, 'etcd.tar.gz'), undefined)
  assert.equal(checksumFor(`abc  etcd.tar.gz`, 'etcd.tar.gz'), undefined)
})

test('release names follow each project', () => {
  const url = (tool: keyof typeof TOOLS, platform: string, arch: string): string | undefined =>
    releaseNames(TOOLS[tool], '1.2.3', 'https://r/', platform, arch)?.archiveUrl
  assert.equal(
    url('etcd', 'linux', 'x64'),
    'https://r/etcd-io/etcd/releases/download/v1.2.3/etcd-v1.2.3-linux-amd64.tar.gz',
  )
  assert.equal(url('k6', 'darwin', 'arm64'), 'https://r/grafana/k6/releases/download/v1.2.3/k6-v1.2.3-macos-arm64.zip')
  assert.equal(
    url('nats-server', 'linux', 'arm64'),
    'https://r/nats-io/nats-server/releases/download/v1.2.3/nats-server-v1.2.3-linux-arm64.tar.gz',
  )
  assert.equal(url('etcd', 'win32', 'x64'), undefined)
})
