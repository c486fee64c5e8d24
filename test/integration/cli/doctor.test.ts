// `deltawatch doctor` before real servers: right, wrong, and away.

import assert from 'node:assert/strict'
import { createServer, type Socket } from 'node:net'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { connect } from '@nats-io/transport-node'
import { Command } from 'commander'
import { registerDoctorCommand } from '#client/cli/doctor.ts'
import type { Finding } from '#client/cli/doctor/finding.ts'
import { registerHubCommands } from '#client/cli/hub.ts'
import { ONE, Stack } from '../../e2e/stack.ts'
import { startEtcd } from '../../support/etcd.ts'
import { startNats } from '../../support/nats.ts'
import { scratchDir } from '../../support/process.ts'

async function deltawatch(args: readonly string[], isTTY = false) {
  const ran = { code: -1, out: '', err: '' }
  const terminal = {
    isTTY,
    columns: 100,
    out: (text: string) => void (ran.out += text),
    err: (text: string) => void (ran.err += text),
    code: (code: number) => void (ran.code = code),
  }
  const program = new Command('deltawatch')
  registerDoctorCommand(program, terminal)
  registerHubCommands(program, terminal)
  await program.parseAsync([...args], { from: 'user' })
  return ran
}

async function doctor(...args: readonly string[]) {
  const { code, out, err } = await deltawatch(['doctor', ...args])
  assert.equal(err, '')
  const { findings } = JSON.parse(out) as { findings: readonly Finding[] }
  const of = (check: string): Finding =>
    findings.find((one) => one.check === check) ?? assert.fail(`${check} in ${out}`)
  return { code, findings, of }
}

test('a whole stack that works has no failure, and a table says so', async () => {
  await using stack = await Stack.start({ clusters: ONE })
  const args = [
    ...['--etcd', stack.first.etcd.directUrl, '--nats', stack.nats.clientUrl],
    ...['--clusters', stack.first.cluster, '--gateway', stack.httpUrl],
  ]
  const { code, of, findings } = await doctor(...args)
  assert.equal(code, 0, JSON.stringify(findings))
  for (const check of [
    'reachable',
    'version',
    'clock',
    'health',
    'can read',
    'jetstream',
    'log sz-edge-1',
    'rights sz-edge-1',
  ]) {
    assert.equal(of(check).verdict, 'ok', check)
  }
  assert.equal(of('cannot write').verdict, 'warn')
  const shown = await deltawatch(['doctor', ...args], true)
  assert.match(shown.out, /\n {2}ok +version +\d/)
  assert.match(shown.out, /, 0 failed\n$/)
  // Asking whether it could write wrote nothing.
  const answer = await fetch(new URL('/v3/kv/range', stack.first.etcd.directUrl), {
    method: 'POST',
    body: JSON.stringify({ key: btoa('\0'), range_end: btoa('\0') }),
  })
  const { header, count } = (await answer.json()) as { header: { revision: string }; count?: string }
  assert.deepEqual([header.revision, count], ['1', undefined])
})

test('everything down is answered soon, with what to do for each', async () => {
  // Takes connections and never says a word, as a hung server does.
  const held = new Set<Socket>()
  const mute = createServer((socket) => void held.add(socket.on('error', () => undefined)))
  await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve))
  const address = mute.address()
  const port = typeof address === 'object' && address !== null ? address.port : assert.fail()
  try {
    const before = performance.now()
    const { code, findings } = await doctor(
      ...['--etcd', `http://127.0.0.1:1,http://127.0.0.1:${port}`, '--nats', `nats://127.0.0.1:${port}`],
      ...['--clusters', 'sz-edge-1', '--gateway', `http://127.0.0.1:${port}`, '--timeout', '1'],
    )
    assert.ok(performance.now() - before < 5_000)
    assert.equal(code, 1)
    assert.equal(findings.length, 4)
    for (const finding of findings) {
      assert.equal(finding.verdict, 'fail')
      assert.ok(finding.next !== undefined && finding.next !== '', finding.at)
    }
  } finally {
    for (const socket of held) socket.destroy()
    mute.close()
  }
})

test('rights at etcd: read only is right, none names the grant, no user and a wrong password are told apart', async () => {
  await using dir = await scratchDir('doctor')
  const password = join(dir.path, 'password')
  await writeFile(password, 'pw\n')
  const users = [
    { name: 'reader', password: 'pw', grants: [{ permission: 'READ', key: '/', rangeEnd: '0' }] },
    { name: 'elsewhere', password: 'pw', grants: [{ permission: 'READ', key: '/other/', rangeEnd: '/other0' }] },
    { name: 'other', password: 'not pw', grants: [] },
  ] as const
  await using etcd = await startEtcd({ auth: { rootPassword: 'secret', users } })
  const as = (user: string) => doctor('--etcd', etcd.clientUrl, '--etcd-user', user, '--etcd-password-file', password)
  const reader = await as('reader')
  assert.equal(reader.code, 0)
  assert.deepEqual([reader.of('can read').verdict, reader.of('cannot write').verdict], ['ok', 'ok'])
  const elsewhere = await as('elsewhere')
  assert.equal(elsewhere.code, 1)
  assert.match(elsewhere.of('can read').next ?? '', /etcdctl role grant-permission/)
  assert.match((await as('other')).of('permissions').detail, /login refused/)
  assert.match((await doctor('--etcd', etcd.clientUrl)).of('can read').next ?? '', /--etcd-user/)
})

test('the oldest supported etcd is examined like the newest', async () => {
  await using etcd = await startEtcd({ version: '3.4.23' })
  const { code, of } = await doctor('--etcd', etcd.clientUrl)
  assert.equal(code, 0)
  assert.deepEqual([of('version').detail, of('can read').verdict], ['3.4.23', 'ok'])
})

test('logs at the hub: missing, right, and differing are told apart', async () => {
  await using nats = await startNats()
  const ask = () => doctor('--nats', nats.clientUrl, '--clusters', 'sz-edge-1')
  const missing = await ask()
  assert.equal(missing.code, 1)
  assert.match(missing.of('log sz-edge-1').next ?? '', /hub apply/)
  await deltawatch(['hub', 'apply', '--nats', nats.clientUrl, '--clusters', 'sz-edge-1', '--hub-region', 'sz'])
  const right = await ask()
  assert.equal(right.code, 0)
  assert.match(right.of('log sz-edge-1').detail, /hub region sz/)
  assert.match(right.of('rights sz-edge-1').detail, /see the stream, read entries, hear bookmarks/)
  const nc = await connect({ servers: nats.clientUrl })
  try {
    const { config } = (await nc.request('$JS.API.STREAM.INFO.DW_sz-edge-1')).json<{ config: object }>()
    await nc.request('$JS.API.STREAM.UPDATE.DW_sz-edge-1', JSON.stringify({ ...config, max_age: 3_600e9 }))
  } finally {
    await nc.close()
  }
  const differing = await ask()
  assert.equal(differing.code, 1)
  assert.match(differing.of('log sz-edge-1').detail, /max_age/)
  await using plain = await startNats({ jetstream: false })
  const off = await doctor('--nats', plain.clientUrl, '--clusters', 'sz-edge-1')
  assert.match(off.of('jetstream').next ?? '', /store_dir/)
})
