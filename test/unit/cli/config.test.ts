// `deltawatch config`: what is said about a file, and with which exit code.

import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { Command } from 'commander'
import { agentConfig } from '#agent/config.ts'
import { registerConfigCommands } from '#client/cli/config.ts'
import { gatewayConfig } from '#gateway/config.ts'
import { loadConfig } from '#kit/config/load.ts'
import { withoutUserinfo } from '#kit/userinfo.ts'
import { scratchDir } from '../../support/process.ts'

async function config(args: readonly string[], isTTY = true) {
  const ran = { code: -1, out: '', err: '' }
  const program = new Command('deltawatch')
  registerConfigCommands(program, {
    isTTY,
    columns: 100,
    out: (text) => void (ran.out += text),
    err: (text) => void (ran.err += text),
    code: (code) => void (ran.code = code),
  })
  await program.parseAsync(['config', ...args], { from: 'user' })
  return ran
}

async function withFile(text: string, use: (path: string) => Promise<void>): Promise<void> {
  await using dir = await scratchDir('config')
  const path = join(dir.path, 'service.yaml')
  await writeFile(path, text)
  await use(path)
}

const GATEWAY = `
nats: { servers: ["nats://127.0.0.1:7422"], user: gw, password: hunter2 }
clusters: { sz-edge-1: sz }
hubRegion: sz
policies: policies/regions
auth: { mode: dev }
`

test('a valid file is valid, and printed without its secrets', () =>
  withFile(GATEWAY, async (path) => {
    const checked = await config(['check', path, '--service', 'gateway'])
    assert.deepEqual([checked.code, checked.err], [0, ''])
    assert.match(checked.out, /valid for the gateway/)
    for (const form of [[], ['--json']]) {
      const printed = await config(['print', path, '--service', 'gateway', ...form])
      assert.equal(printed.code, 0)
      assert.match(printed.out, /sz-edge-1/)
      assert.doesNotMatch(printed.out, /hunter2/)
    }
  }))

test('an unknown field names its nearest valid one, with exit code 78', () =>
  withFile(`${GATEWAY}listn: 127.0.0.1:7400\n`, async (path) => {
    const { code, err } = await config(['check', path, '--service', 'gateway'])
    assert.equal(code, 78)
    assert.match(err, /listn is not a known field; did you mean listen\?/)
  }))

test('a bad value is named with its field and what to write', () =>
  withFile(`${GATEWAY}drain: soon\n`, async (path) => {
    const { code, out, err } = await config(['check', path, '--service', 'gateway'], false)
    assert.equal(code, 78)
    assert.match(err, /drain = .?soon.* is not a duration/)
    const judged = JSON.parse(out) as { valid: boolean; problems: string[] }
    assert.equal(judged.valid, false)
    assert.equal(judged.problems.length, 1)
  }))

test('fields that contradict each other are found too, by check and by print', () =>
  withFile(`${GATEWAY}listen: 0.0.0.0:7400\n`, async (path) => {
    for (const verb of ['check', 'print']) {
      const { code, err } = await config([verb, path, '--service', 'gateway'])
      assert.equal(code, 78, verb)
      assert.match(err, /auth\.mode dev lets everybody in/)
    }
  }))

test('each service refuses at once what it could not start with, on its own command line too', () => {
  const gateway = ['--nats', 'nats://h:1', '--clusters', 'a=sz', '--hub-region', 'sz', '--policies', 'p']
  const agent = ['--cluster', 'a', '--region', 'sz', '--etcd', 'http://h:1', '--nats', 'nats://h:1', '--policies', 'p']
  const load = (service: 'agent' | 'gateway', ...args: readonly string[]): { code: number; said: string } => {
    const from = { env: {}, readFile: () => 'secret text' }
    const loaded =
      service === 'agent'
        ? loadConfig(agentConfig, { ...from, args: [...agent, ...args] })
        : loadConfig(gatewayConfig, { ...from, args: [...gateway, ...args] })
    return loaded.kind === 'exit' ? { code: loaded.code, said: loaded.stdout + loaded.stderr } : { code: 0, said: '' }
  }
  for (const form of ['--check-config', '--print-config', '--log-level=info']) {
    const open = load('gateway', '--auth', 'dev', '--listen', '0.0.0.0:7499', form)
    assert.equal(open.code, 78, form)
    assert.match(open.said, /auth\.mode dev lets everybody in/)
    assert.equal(load('gateway', '--auth', 'dev', form).code, 0)
    const half = load('agent', '--etcd-cert', 'a.pem', form)
    assert.equal(half.code, 78, form)
    assert.match(half.said, /etcd\.certFile and etcd\.keyFile of a belong together/)
    assert.equal(load('agent', form).code, 0)
  }
})

test('no answer repeats the user and password somebody wrote into an address', () => {
  const texts = ['nats://u:secretpw@h:4222', 'u:secretpw@h:4222', 'nats://u:sec,retpw@h:4222', 'http://u:secretpw']
  for (const text of texts) {
    const args = ['--nats', text, '--etcd', 'http://root:hunter2@h:1', '--cluster', 'a', '--region', 'sz']
    const loaded = loadConfig(agentConfig, { args: [...args, '--policies', 'p'], env: {} })
    assert.equal(loaded.kind, 'exit')
    assert.match(loaded.kind === 'exit' ? loaded.stderr : '', /etcd\.endpoints\.0 = "http:\/\/\*\*\*@h:1"/)
    assert.doesNotMatch(loaded.kind === 'exit' ? loaded.stderr : '', /secretpw|sec"|retpw|hunter2/)
  }
  assert.equal(withoutUserinfo('http://[::1]:2379 nats://h:4222/ plain'), 'http://[::1]:2379 nats://h:4222/ plain')
  return withFile(`${GATEWAY}tracing: { endpoint: "http://me:hunter3@127.0.0.1:4318" }\n`, async (path) => {
    for (const form of [[], ['--json']]) {
      const { out, err } = await config(['print', path, '--service', 'gateway', ...form])
      assert.match(out, /\*\*\*@127/, err)
      assert.doesNotMatch(out + err, /hunter3/)
    }
  })
})

test('a file of the other service and a file that is not there are bad configurations, not crashes', async () => {
  await withFile(GATEWAY, async (path) => {
    const { code, err } = await config(['check', path, '--service', 'agent'])
    assert.equal(code, 78)
    assert.match(err, /cluster is required/)
  })
  const missing = await config(['check', '/nonexistent/agent.yaml', '--service', 'agent'])
  assert.equal(missing.code, 78)
  assert.match(missing.err, /no such file/)
})
