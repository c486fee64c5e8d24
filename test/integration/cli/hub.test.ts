// `deltawatch hub` on a real nats-server: streams are made once, and the printed users can do their work and no more.
// The server runs with the very snippet; agent and gateway are the real programs.

import assert from 'node:assert/strict'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { after, before, describe, test } from 'node:test'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { Command } from 'commander'
import { registerHubCommands } from '#client/cli/hub.ts'
import { hubUsers, permissionsText } from '#client/cli/hub/users.ts'
import { parseClusterId } from '#protocol/subjects.ts'
import { Recorder } from '../../e2e/recorder.ts'
import { Stack, THREE } from '../../e2e/stack.ts'
import { startNats } from '../../support/nats.ts'
import { scratchDir, type ScratchDir } from '../../support/process.ts'
import { startServer } from '../../support/server.ts'

const TWO = THREE.slice(0, 2)
const root = fileURLToPath(new URL('../../../', import.meta.url))

type Ran = { readonly code: number; readonly out: string; readonly err: string }

async function hub(...args: readonly string[]): Promise<Ran> {
  const ran = { code: -1, out: '', err: '' }
  const program = new Command('deltawatch')
  registerHubCommands(program, {
    isTTY: false,
    columns: 100,
    out: (text) => void (ran.out += text),
    err: (text) => void (ran.err += text),
    code: (code) => void (ran.code = code),
  })
  await program.parseAsync(['hub', ...args], { from: 'user' })
  return ran
}
const outcomes = ({ out }: Ran): string[] =>
  (JSON.parse(out) as { streams: { outcome: string }[] }).streams.map(({ outcome }) => outcome)

describe('hub apply', () => {
  test('is idempotent, changes what was asked for, and refuses what would lose entries or break the log', async () => {
    await using nats = await startNats()
    const apply = (...more: readonly string[]): Promise<Ran> =>
      hub('apply', '--nats', nats.clientUrl, '--clusters', 'sz-edge-1,gz-edge-1', ...more)
    assert.deepEqual(outcomes(await apply('--dry-run')), ['would-create', 'would-create'])
    // Created for real now, so the dry run made nothing.
    assert.deepEqual(outcomes(await apply('--hub-region', 'sz')), ['created', 'created'])
    assert.deepEqual(outcomes(await apply('--hub-region', 'sz')), ['unchanged', 'unchanged'])
    assert.deepEqual(outcomes(await apply('--max-bytes', '2GiB')), ['updated', 'updated'])
    assert.deepEqual(outcomes(await apply()), ['unchanged', 'unchanged'])

    await using nc = await connection(nats.clientUrl)
    const info = async (): Promise<{ config: Record<string, unknown> }> =>
      (await nc.request('$JS.API.STREAM.INFO.DW_sz-edge-1')).json()
    const { config } = await info()
    assert.equal(config['max_bytes'], 2 * 1024 ** 3)
    assert.equal((config['metadata'] as Record<string, string>)['deltawatch.hub-region'], 'sz')

    const moved = await apply('--hub-region', 'gz')
    assert.equal(moved.code, 1)
    assert.deepEqual(outcomes(moved), ['refused', 'refused'])

    await nc.request('$JS.API.STREAM.UPDATE.DW_sz-edge-1', JSON.stringify({ ...config, max_age: 3600e9 }))
    const differing = await apply()
    assert.equal(differing.code, 1)
    assert.deepEqual(outcomes(differing), ['refused', 'unchanged'])
    assert.match(differing.out, /max_age is 3600000000000 and must be 0; apply again with --repair/)
    assert.deepEqual(outcomes(await apply('--repair')), ['updated', 'unchanged'])
    assert.equal((await info()).config['max_age'], 0)

    for (let i = 0; i < 4; i++) await nc.request('dw.log.sz-edge-1', new Uint8Array(900_000))
    const small = ['--max-bytes', '2MiB', '--max-message-bytes', '512KiB']
    assert.deepEqual(outcomes(await apply(...small)), ['refused', 'updated'])
    assert.equal((await info()).config['max_bytes'], 2 * 1024 ** 3)
    assert.deepEqual(outcomes(await apply(...small, '--shrink')), ['updated', 'unchanged'])
  })

  test('says what to do when the hub is away, has no JetStream, or too few servers', async () => {
    const away = await hub('apply', '--nats', 'nats://127.0.0.1:1', '--clusters', 'sz-edge-1')
    assert.equal(away.code, 1)
    assert.match(away.err, /no connection to the hub at 127\.0\.0\.1:1.*check --nats/s)
    await using plain = await startNats({ jetstream: false })
    const off = await hub('apply', '--nats', plain.clientUrl, '--clusters', 'sz-edge-1')
    assert.deepEqual(outcomes(off), ['failed'])
    assert.match(off.out, /JetStream is off.*store_dir/)
    await using one = await startNats()
    const many = await hub('apply', '--nats', one.clientUrl, '--clusters', 'sz-edge-1', '--replicas', '3')
    assert.deepEqual(outcomes(many), ['failed'])
    assert.match(many.out, /--replicas/)
  })
})

describe('hub permissions', () => {
  const agents = TWO.map(({ cluster }) => [parseClusterId(cluster) ?? assert.fail()])
  const options = { agents, auth: 'password', operator: true } as const
  const secretOf = (name: string): string => `secret of ${name}`
  let files: ScratchDir
  let stack: Stack

  before(async () => {
    files = await scratchDir('users')
    // The server takes a variable from its own file as it would from its environment; the snippet itself is untouched.
    const variables = hubUsers(options).map(({ name, variable }) => `${variable}: ${JSON.stringify(secretOf(name))}`)
    const config = `${variables.join('\n')}\n${permissionsText(options)}`
    stack = await Stack.start({ clusters: TWO, nats: { config }, start: { agents: false, gateway: false } })
    const applied = await hub(
      ...['apply', '--nats', stack.nats.clientUrl, '--clusters', TWO.map(({ cluster }) => cluster).join(',')],
      ...['--user', 'deltawatch-operator', '--password-file', await passwordFile('deltawatch-operator')],
    )
    assert.equal(applied.code, 0, applied.err + applied.out)
  })
  after(async () => {
    await stack?.[Symbol.asyncDispose]()
    await files?.[Symbol.asyncDispose]()
  })

  async function passwordFile(user: string): Promise<string> {
    const path = join(files.path, user)
    await writeFile(path, secretOf(user))
    await chmod(path, 0o600)
    return path
  }

  /** The program as an operator starts it, as this user of the hub and without the right to make streams. */
  async function start(name: string, args: readonly string[], user: string, ready: RegExp) {
    const config = join(files.path, `${name}.yaml`)
    await writeFile(config, `nats:\n  user: ${user}\n  passwordFile: ${await passwordFile(user)}\n`)
    const own = args.filter((arg) => !arg.startsWith('--create-stream'))
    return startServer({
      name,
      command: process.execPath,
      args: [...own.map((arg) => (arg.endsWith('/main.ts') ? join(root, arg) : arg)), '--config', config],
      env: { PATH: '/usr/bin:/bin', HOME: '/nonexistent' },
      ready: (running) => running.waitForLine(ready),
    })
  }
  const as = (user: string, inboxPrefix: string): Promise<NatsConnection & AsyncDisposable> =>
    connection(stack.nats.clientUrl, { user, pass: secretOf(user), inboxPrefix })
  const asAgent = (): ReturnType<typeof as> => as('deltawatch-agent-sz-edge-1', '_INBOX_dw_sz-edge-1')

  test('a real agent and a real gateway relay a write under them, and are refused nothing', async () => {
    const { cluster, etcd } = stack.first
    await using gateway = await start('gateway', stack.gatewayArgs(), 'deltawatch-gateway', /"event":"listening"/)
    await using agent = await start(
      'agent',
      stack.agentArgs(stack.first),
      `deltawatch-agent-${cluster}`,
      /"event":"starting"/,
    )
    await using recorder = new Recorder(stack.url, { clusters: [cluster], prefix: '/', start: 'snapshot' })
    const body = JSON.stringify({ key: btoa('/permitted'), value: btoa('{"n":1}') })
    const answer = await fetch(new URL('/v3/kv/put', etcd.directUrl), { method: 'POST', body })
    const { header } = (await answer.json()) as { header: { revision: string } }
    try {
      await recorder.reached(cluster, Number(header.revision))
    } catch (error) {
      throw new Error(`${agent.log().slice(-3000)}\n${gateway.log().slice(-3000)}\n${stack.nats.log().slice(-2000)}`, {
        cause: error,
      })
    }
    const log = `${agent.log()}\n${gateway.log()}`
    assert.doesNotMatch(log, /permissions violation|may not|does not let/i)
    assert.doesNotMatch(stack.nats.log(), /Violation/i)
  })

  test("the operator's user purges, deletes no stream and appends to no log", async () => {
    const clusters = TWO.map(({ cluster }) => cluster).join(',')
    const operator = ['--user', 'deltawatch-operator', '--password-file', await passwordFile('deltawatch-operator')]
    const where = ['--nats', stack.nats.clientUrl, '--clusters', clusters, ...operator]
    assert.deepEqual(outcomes(await hub('purge', ...where)), ['nothing-retained', 'nothing-retained'])
    assert.deepEqual(outcomes(await hub('purge', ...where, '--whole')), ['purged', 'nothing-retained'])
    await using nc = await as('deltawatch-operator', '_INBOX_dw-operator')
    for (const subject of [
      '$JS.API.STREAM.DELETE.DW_sz-edge-1',
      '$JS.API.STREAM.MSG.DELETE.DW_sz-edge-1',
      'dw.log.sz-edge-1',
    ]) {
      await refused(nc, subject)
    }
  })

  test("an agent's user writes to no other log, reads no other stream and manages none", async () => {
    await using nc = await asAgent()
    await allowed(nc, '$JS.API.STREAM.INFO.DW_sz-edge-1')
    for (const subject of [
      'dw.log.gz-edge-1',
      'dw.mark.gz-edge-1',
      '$JS.API.STREAM.INFO.DW_gz-edge-1',
      '$JS.API.STREAM.MSG.GET.DW_gz-edge-1',
      '$JS.API.CONSUMER.CREATE.DW_gz-edge-1',
      '$JS.API.CONSUMER.CREATE.DW_sz-edge-1',
      '$JS.API.STREAM.PURGE.DW_sz-edge-1',
      '$JS.API.STREAM.DELETE.DW_sz-edge-1',
      '$JS.API.STREAM.UPDATE.DW_sz-edge-1',
      '$JS.API.STREAM.NAMES',
    ]) {
      await refused(nc, subject)
    }
  })

  test("an agent's user hears neither others' replies nor any log", async () => {
    await using nc = await asAgent()
    assert.equal(await hears(nc, 'dw.mark.sz-edge-1'), true)
    assert.equal(await hears(nc, '_INBOX_dw_sz-edge-1.x'), true)
    for (const subject of [
      '>',
      '_INBOX.>',
      '_INBOX_dw_gz-edge-1.>',
      '_INBOX_dw_gateway.>',
      '_INBOX_dw-operator.>',
      'dw.>',
      'dw.log.sz-edge-1',
      'dw.mark.gz-edge-1',
    ]) {
      assert.equal(await hears(nc, subject), false, subject)
    }
  })

  test("the gateway's user writes to no log and removes nothing", async () => {
    await using nc = await as('deltawatch-gateway', '_INBOX_dw_gateway')
    await allowed(nc, '$JS.API.STREAM.INFO.DW_gz-edge-1')
    for (const verb of ['PURGE', 'DELETE', 'UPDATE', 'MSG.DELETE'])
      await refused(nc, `$JS.API.STREAM.${verb}.DW_sz-edge-1`)
    for (const subject of ['dw.log.sz-edge-1', 'dw.mark.sz-edge-1']) await refused(nc, subject)
    assert.equal(await hears(nc, '_INBOX_dw_sz-edge-1.>'), false)
  })

  test('nobody gets in without a user', async () => {
    await assert.rejects(connection(stack.nats.clientUrl))
  })
})

async function connection(
  servers: string,
  options: { user?: string; pass?: string; inboxPrefix?: string } = {},
): Promise<NatsConnection & AsyncDisposable> {
  const nc = await connect({ servers, reconnect: false, timeout: 5_000, ...options })
  return Object.assign(nc, { [Symbol.asyncDispose]: () => nc.close() })
}

const allowed = (nc: NatsConnection, subject: string): Promise<unknown> => nc.request(subject, '', { timeout: 2_000 })

/** Refused by the server, and for its permissions: no answer or no responder would not do. */
const refused = (nc: NatsConnection, subject: string): Promise<void> =>
  assert.rejects(
    nc.request(subject, '', { timeout: 2_000 }),
    (error: Error) => /permissions violation/i.test(`${error.message} ${String(error.cause)}`),
    subject,
  )

async function hears(nc: NatsConnection, subject: string): Promise<boolean> {
  let heard = true
  const subscription = nc.subscribe(subject, { callback: (error) => void (heard = error === null && heard) })
  await nc.flush()
  if (!subscription.isClosed()) subscription.unsubscribe()
  return heard
}
