// The agent's executable where nothing can be written at all: every mount read-only, an empty directory, not root.
// Owns: a private mount namespace (util-linux: unshare, mount, setpriv), proof that it holds, and one relayed event.
// Refuses: building; `npm run build:smoke` runs this behind the build. Skipped by name where there is no executable or no
// namespace to be had; without root it takes a user namespace, in which it is root of nothing but its own mounts.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { access, chmod, mkdir, readFile, readlink, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { EtcdHttp } from '../judge/etcd-http.ts'
import { decodeRaw, readLog } from '../judge/log-reader.ts'
import { startEtcd } from '../support/etcd.ts'
import { startNats } from '../support/nats.ts'
import { reservePort } from '../support/ports.ts'
import { scratchDir, startProcess } from '../support/process.ts'

const EXECUTABLE = fileURLToPath(new URL('../../dist/deltawatch-agent', import.meta.url))
const CLUSTER = 'sz-edge-1'
const NOBODY = 65_534
const READY_MS = 20_000
const PATH = '/usr/sbin:/usr/bin:/sbin:/bin'

const isRoot = process.getuid?.() === 0
const NAMESPACE = ['--mount', ...(isRoot ? [] : ['--user', '--map-root-user'])]
/** Nothing is left to whoever runs behind this: no capability, no way to one, and for root no name that owns a file. */
const DROPPED = [
  ...(isRoot ? [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'] : []),
  ...['--inh-caps=-all', '--bounding-set=-all', '--no-new-privs'],
]

/**
 * Turns every mount read-only, deepest first, and runs the rest of the arguments there. What cannot be remounted is
 * tried by hand below: a directory that still takes a file ends it with 90.
 */
const SHUT = `
set -u
mount --make-rprivate / || exit 91
for point in $(cut -d' ' -f5 /proc/self/mountinfo | sort -ru); do mount -o remount,bind,ro "$point" 2>/dev/null; done
for place in . / /tmp /var/tmp /dev/shm /run "$HOME"; do
  if said=$(touch "$place/deltawatch-was-here" 2>&1); then rm -f "$place/deltawatch-was-here"; echo "$place is writable"; exit 90; fi
  case $said in *ead-only*) echo "read-only: $place" ;; *'No such file'*) ;; *) echo "$said"; exit 92 ;; esac
done
exec "$@"`

const POLICY = `
apiVersion: watch-policy/v1
kind: RegionPolicy
metadata: { name: open, owner: tests }
spec:
  source: { region: sz, regime: PIPL }
  mode: enforce
  rules:
    - { id: all, effect: allow, match: { keys: ["/**"] }, basis: { kind: no-personal-data, ref: tests } }
`

test('the executable reaches ready and relays from an empty directory, as nobody, on a read-only file system', async (t) => {
  const missing = await missingHere()
  if (missing !== undefined) return t.skip(missing)
  await using etcd = await startEtcd()
  await using nats = await startNats()
  await using reserved = await reservePort()
  await using dir = await scratchDir('read-only')
  const [empty, policies] = [join(dir.path, 'empty'), join(dir.path, 'policies')]
  for (const path of [empty, policies]) await mkdir(path)
  await writeFile(join(policies, 'sz.yaml'), POLICY, { mode: 0o644 })
  for (const path of [dir.path, empty, policies]) await chmod(path, 0o755)
  using http = new EtcdHttp(etcd.clientUrl)
  const flags = {
    cluster: CLUSTER,
    region: 'sz',
    etcd: etcd.clientUrl,
    nats: nats.clientUrl,
    prefix: '/',
    policies,
    'hub-region': 'sz',
    admin: `127.0.0.1:${reserved.port}`,
    'log-format': 'json',
  }
  const command = [EXECUTABLE, ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])]
  await using agent = await startProcess({
    name: 'agent on a read-only file system',
    command: 'unshare',
    args: [...NAMESPACE, 'sh', '-c', SHUT, 'sh', 'setpriv', ...DROPPED, ...command, '--create-stream'],
    cwd: empty,
    env: { PATH, HOME: empty },
  })
  await agent.waitForLine(/^read-only: \/tmp$/)
  await ready(`http://127.0.0.1:${reserved.port}/readyz`, agent)
  await isShutIn(agent.pid, t)

  const { revision } = await http.write([{ op: 'put', key: '/k', value: Buffer.from('relayed') }])
  const deadline = performance.now() + READY_MS
  const arrived = async (): Promise<boolean> =>
    (await readLog(nats.clientUrl, CLUSTER))
      .flatMap(({ data }) => decodeRaw(data).revisions ?? [])
      .some((one) => Number(one.revision) === revision && one.events[0]?.key.toString('latin1') === '/k')
  while (!(await arrived())) {
    assert.ok(performance.now() < deadline, `the write never arrived\n${agent.log().slice(-2_000)}`)
    await wait(50)
  }
  assert.equal((await agent.stop()).code, 0, agent.log().slice(-2_000))
  assert.doesNotMatch(agent.log(), /EROFS|EACCES|read-only file system/i, 'it tried to write')
})

/** What the kernel says of the process: no mount it could write to, no privilege, not root where we are. */
async function isShutIn(pid: number, t: TestContext): Promise<void> {
  const mounts = (await readFile(`/proc/${pid}/mountinfo`, 'utf8')).trim().split('\n')
  const points = new Map(mounts.map((line) => line.split(' ')).map((fields) => [fields[4], fields[5] ?? '']))
  const writable = [...points].filter(([, options]) => !options.split(',').includes('ro')).map(([point]) => point)
  assert.deepEqual(writable, [])
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const field = (name: string): string => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? ''
  assert.equal(await readlink(`/proc/${pid}/exe`), EXECUTABLE)
  const mine = isRoot ? NOBODY : process.getuid?.()
  assert.deepEqual(new Set(field('Uid').split('\t').map(Number)), new Set([mine]))
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) assert.match(field(set), /^0+$/, set)
  const { mtime } = await stat(EXECUTABLE)
  t.diagnostic(`${points.size} mounts, all read-only; uid ${mine}, no capability; built ${mtime.toISOString()}`)
}

async function ready(url: string, agent: { readonly exit: unknown; log(): string }): Promise<void> {
  const deadline = performance.now() + READY_MS
  for (;;) {
    const answer = await fetch(url).catch(() => undefined)
    if (answer?.status === 200) return
    assert.ok(performance.now() < deadline && agent.exit === undefined, `not ready\n${agent.log().slice(-3_000)}`)
    await wait(20)
  }
}

/** Why it cannot be shown on this machine, and what would show it. */
async function missingHere(): Promise<string | undefined> {
  const proof = '`npm run build:smoke` on Linux as root shows it'
  if (process.platform !== 'linux') return `mount namespaces are Linux's; ${proof}`
  const built = await access(EXECUTABLE).then(
    () => true,
    () => false,
  )
  if (!built) return `no dist/deltawatch-agent here; ${proof}`
  const probe = ['sh', '-c', 'mount --make-rprivate / && mount -o remount,bind,ro /', 'sh']
  try {
    await promisify(execFile)('unshare', [...NAMESPACE, ...probe], { env: { PATH } })
    await promisify(execFile)('setpriv', ['--version'], { env: { PATH } })
  } catch (error) {
    return `no mount namespace of its own (${String(error).split('\n')[0]}); ${proof}`
  }
  return undefined
}
