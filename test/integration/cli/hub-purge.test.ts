// `deltawatch hub purge` under a live stack: a policy becomes narrower, everybody says so, what it took away is purged, and
// readers notice nothing but that. Also what is left of it in the files of nats-server.

import assert from 'node:assert/strict'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { Command } from 'commander'
import { registerDoctorCommand } from '#client/cli/doctor.ts'
import type { Finding } from '#client/cli/doctor/finding.ts'
import { registerHubCommands } from '#client/cli/hub.ts'
import type { Purged } from '#client/cli/hub/purge.ts'
import { acquitted, JudgedCluster } from '../../e2e/judged.ts'
import { allow, eventually, policy } from '../../e2e/policy-stack.ts'
import { Recorder } from '../../e2e/recorder.ts'
import { ONE, Stack } from '../../e2e/stack.ts'
import { readLog } from '../../judge/log-reader.ts'
import { reservePort } from '../../support/ports.ts'
import { scratchDir } from '../../support/process.ts'

const CLUSTER = 'sz-edge-1'
const MARKER = 'planted-4711-narrowed-away'
const KEPT = allow('kept', '/kept/**', 'sz')
const WIDE = policy(KEPT, allow('later', '/later/**', 'sz'))
const NARROW = policy(KEPT)
/** After the narrowing; also what a log says that is judged from there on. */
const view = { selects: (key: string) => key.startsWith('/kept/') }

async function run(isTTY: boolean, ...args: readonly string[]) {
  const ran = { code: -1, out: '', err: '' }
  const terminal = {
    isTTY,
    columns: 160,
    out: (text: string) => void (ran.out += text),
    err: (text: string) => void (ran.err += text),
    code: (code: number) => void (ran.code = code),
  }
  const program = new Command('deltawatch')
  registerHubCommands(program, terminal)
  registerDoctorCommand(program, terminal)
  await program.parseAsync([...args], { from: 'user' })
  return ran
}

describe('hub purge after a policy became narrower', () => {
  const owned = new AsyncDisposableStack()
  let stack: Stack
  let judge: JudgedCluster
  let live: Recorder
  let policies: string
  let admin: string

  const where = (): string[] => ['--nats', stack.nats.clientUrl, '--clusters', CLUSTER]
  const purge = async (...more: readonly string[]): Promise<Purged & { exit: number }> => {
    const { code, out, err } = await run(false, 'hub', 'purge', ...where(), ...more)
    assert.equal(err, '')
    const [stream] = (JSON.parse(out) as { streams: Purged[] }).streams
    return { exit: code, ...(stream ?? assert.fail(out)) }
  }
  const doctor = async (): Promise<Finding> => {
    const { out } = await run(false, 'doctor', ...where())
    const { findings } = JSON.parse(out) as { findings: Finding[] }
    return findings.find(({ check }) => check === `retained-wider ${CLUSTER}`) ?? assert.fail(out)
  }
  const agentText = async (path: string): Promise<string> => (await fetch(`${admin}${path}`)).text()
  const says = (state: string): Promise<string> =>
    eventually(() => agentText('/debug/status').catch(String), new RegExp(`"state": "${state}"`))
  const metric = async (): Promise<string | undefined> =>
    /^deltawatch_agent_retained_wider\{.*\} (\d)$/m.exec(await agentText('/metrics'))?.[1]
  const put = (key: string, value: string): Promise<number> =>
    judge.writer.put([{ op: 'put', key, value: Buffer.from(JSON.stringify({ value })) }])
  const log = async (): Promise<Buffer> =>
    Buffer.concat((await readLog(stack.nats.directUrl, CLUSTER)).map((message) => message.data))
  const onDisk = async (): Promise<string> => {
    const files = await readdir(stack.nats.dataDir, { recursive: true, withFileTypes: true })
    const read = files.filter((one) => one.isFile()).map((one) => readFile(join(one.parentPath, one.name), 'latin1'))
    const found = (await Promise.all(read.map((one) => one.catch(() => '')))).some((text) => text.includes(MARKER))
    return found ? 'on disk' : 'gone'
  }
  /** Everything from the checkpoint on, against what etcd holds and the narrow policy shows. */
  const judged = async (): Promise<void> => {
    await judge.learn()
    const verdict = await judge.judgeLog({ trimmed: true, view })
    acquitted(verdict, { checkpoints: 1, revisions: 1 })
  }
  /** A new gateway, and a subscriber of it that knows nothing. */
  const freshReader = async (): Promise<void> => {
    await stack.gateway?.restart()
    await using reader = new Recorder(stack.url, { clusters: [CLUSTER], prefix: '/', start: 'snapshot' })
    acquitted(await judge.judge(reader, { view }), { items: 20 }, () => stack.tail())
  }

  before(async () => {
    policies = owned.use(await scratchDir('purge')).path
    await writeFile(join(policies, 'sz.yaml'), WIDE)
    const { port } = owned.use(await reservePort())
    admin = `http://127.0.0.1:${port}`
    stack = owned.use(
      await Stack.start({
        clusters: ONE,
        policies,
        agentFlags: ['--admin', `127.0.0.1:${port}`],
        agentEnv: { DELTAWATCH_CHECKPOINT_LOOK_EVERY: '200ms' },
      }),
    )
    judge = owned.use(await JudgedCluster.begin(stack, stack.first))
    live = owned.use(new Recorder(stack.url, { clusters: [CLUSTER], prefix: '/', start: 'snapshot' }))
    for (let i = 0; i < 20; i++) await put(`/kept/${i}`, `kept ${i}`)
    for (let i = 0; i < 20; i++) await put(`/later/${i}`, `${MARKER} ${i}`)
    await live.reached(CLUSTER, await put('/kept/last', 'last'))
  })
  after(() => owned.disposeAsync())

  test('before any change nothing is wider, and there is nothing to purge', async () => {
    assert.ok((await log()).includes(MARKER))
    await says('nothing-wider')
    assert.equal(await metric(), '0')
    assert.equal((await doctor()).verdict, 'ok')
    assert.deepEqual([(await purge()).outcome, (await purge('--dry-run')).outcome], Array(2).fill('nothing-retained'))
  })

  test('retained-wider is said by status, metric and doctor, also by an agent that was restarted', async () => {
    await writeFile(join(policies, 'sz.yaml'), NARROW)
    await says('retained-wider')
    assert.equal(await metric(), '1')
    await live.change((change) => change.kind !== 'events' && JSON.stringify(change).includes('/later/7'))
    await stack.first.agent?.restart()
    await says('retained-wider')
    const { verdict, next } = await doctor()
    assert.equal(verdict, 'warn')
    assert.match(next ?? '', /deltawatch hub purge .*--clusters sz-edge-1/)
  })

  test('a dry run names the checkpoint and changes nothing; the purge keeps it, and live subscribers notice nothing', async (t) => {
    const dry = await purge('--dry-run')
    assert.equal(dry.outcome, 'would-purge')
    assert.ok((await log()).includes(MARKER), 'a dry run purges nothing')
    const [changes, connections] = [live.changes.length, live.connections.length]
    const done = await purge()
    assert.deepEqual([done.outcome, done.exit], ['purged', 0])
    assert.deepEqual([done.entries, done.upTo], [dry.entries, dry.upTo])
    const [first] = await readLog(stack.nats.directUrl, CLUSTER)
    assert.equal(first?.seq, done.upTo)
    assert.ok(!(await log()).includes(MARKER), 'nobody can read it any more')
    await says('nothing-wider')
    assert.equal(await metric(), '0')
    assert.equal((await doctor()).verdict, 'ok')
    assert.equal((await purge()).outcome, 'nothing-retained')
    await live.reached(CLUSTER, await put('/kept/after', 'after'))
    // A bookmark may come at any time.
    const kinds = live.changes.slice(changes).map((change) => change.kind)
    const since = kinds.filter((kind) => kind !== 'bookmark')
    assert.deepEqual([...new Set(since)], ['events'])
    assert.equal(live.connections.length, connections)
    await judged()
    await freshReader()
    t.diagnostic(`after the purge up to the checkpoint the bytes are ${await onDisk()}`)
  })

  test('--whole takes the bytes off the disk, and the running agent writes a new checkpoint by itself', async () => {
    const done = await purge('--whole')
    assert.deepEqual([done.outcome, done.exit], ['purged', 0])
    await eventually(onDisk, /^gone$/)
    await says('nothing-wider')
    // Judged once something follows it: a reader starts there.
    await eventually(async () => String((await readLog(stack.nats.directUrl, CLUSTER)).length), /^[2-9]/)
    await put('/kept/at-last', 'at last')
    await live.reached(CLUSTER, await put('/kept/in-the-end', 'in the end'))
    await judged()
    await freshReader()
  })

  test('people get a table, with what to do', async () => {
    const { out } = await run(true, 'hub', 'purge', ...where(), '--dry-run')
    assert.match(out, /dry run: nothing was changed\n\nCLUSTER +STREAM +RESULT +ENTRIES/)
    assert.match(out, /sz-edge-1 +DW_sz-edge-1 +no-policy-checkpoint +0/)
    const missing = await run(true, 'hub', 'purge', '--nats', stack.nats.clientUrl, '--clusters', 'gz-edge-1')
    assert.equal(missing.code, 1)
    assert.match(missing.out, /gz-edge-1 +DW_gz-edge-1 +failed/)
  })
})
