// Being let in by a real etcd, and not any more: roles revoked, tokens run out, certificates and passwords replaced.
// Owns: what an operator sees of it, and that nothing is lost or told twice. The log is held against etcd's history.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { copyFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { EtcdHttp } from '../../judge/etcd-http.ts'
import { Writer } from '../../judge/writer.ts'
import { createAuthority } from '../../support/certificates.ts'
import { startEtcd } from '../../support/etcd.ts'
import { startNats } from '../../support/nats.ts'
import { scratchDir } from '../../support/process.ts'
import { type Agent, type AgentStatus, caughtUp, CLUSTER, judge, startAgent } from './harness.ts'

const ROOT = { name: 'root', password: 'root-of-tests' }
const READER = { name: 'reader', password: 'reads' }
const RANGE = { permission: 'READ', key: '/', rangeEnd: '0' } as const
const base64 = (text: string): string => Buffer.from(text).toString('base64')
const BASE_FLAGS = ['--create-stream', '--log-level', 'info']

const live = (agent: Agent) => agent.until('live', (s) => s.phase === 'live')
/** Sends SIGHUP and returns what came of it. */
async function reload(agent: Agent): Promise<string> {
  const since = agent.process.lineCount()
  agent.process.kill('SIGHUP')
  const [, outcome = ''] = await agent.process.waitForLine(/"event":"(reloaded|reload refused)/, { since })
  return outcome
}

async function otherLog(agent: Agent, cluster: string): Promise<AgentStatus> {
  const response = await fetch(`${agent.adminUrl}/debug/status`, { signal: AbortSignal.timeout(2_000) })
  const { logs } = (await response.json()) as { logs: (AgentStatus & { cluster: string })[] }
  const found = logs.find((log) => log.cluster === cluster)
  assert.ok(found)
  return found
}

/** Every reader may read below "/" at first; tokens unused for two seconds are void. */
const startWithUsers = (...names: string[]) =>
  startEtcd({
    proxyFor: 'clients',
    args: ['--auth-token-ttl', '2'],
    auth: {
      rootPassword: ROOT.password,
      users: names.map((name) => ({ name, password: READER.password, grants: [RANGE] })),
    },
  })

describe('access to etcd', () => {
  it('a revoked role is shown as denied, leaves the other logs of the process alone, and is over when it is granted again', async () => {
    await using etcd = await startWithUsers(READER.name, 'second')
    await using nats = await startNats()
    await using dir = await scratchDir('access')
    using http = new EtcdHttp(etcd.directUrl, 10_000, { login: ROOT })
    await using writer = new Writer({ url: etcd.directUrl, seed: 51, access: { login: ROOT } })
    const config = join(dir.path, 'agent.yaml')
    const second = { endpoints: [etcd.clientUrl], user: 'second', password: READER.password }
    const logs = [{ cluster: 'sz-edge-2', region: 'sz', prefixes: ['/'], etcd: second }]
    await writeFile(config, JSON.stringify({ logs, etcd: { user: READER.name, password: READER.password } }))
    await using agent = await startAgent({
      etcd: etcd.clientUrl,
      nats: nats.clientUrl,
      flags: [...BASE_FLAGS, '--config', config],
    })
    await live(agent)
    await writer.write(40)
    await caughtUp(agent, http)
    const role = `role-of-${READER.name}`
    const range = { key: base64(RANGE.key), range_end: base64(RANGE.rangeEnd) }
    await http.call('auth/role/revoke', { role, ...range })
    await writer.write(20)
    etcd.proxy.cut()
    const denied = await agent.until('denied', (s) => s.phase === 'range-denied')
    assert.match(denied.reason, /permission denied.*grant this user read/)
    await writer.write(40)
    const head = await http.head()
    const until = performance.now() + 10_000
    for (;;) {
      const other = await otherLog(agent, 'sz-edge-2')
      if (other.phase === 'live' && Math.max(Number(other.position), Number(other.proven)) >= head) break
      assert.ok(performance.now() < until, `the other log stands at ${other.position} of ${head}, ${other.phase}`)
      await wait(50)
    }
    await http.call('auth/role/grant', { name: role, perm: { permType: 'READ', ...range } })
    await caughtUp(agent, http)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
  })

  it('I11: read permission on the range suffices; a token that ran out or a changed store of users costs a fresh token, no refusal', async () => {
    await using etcd = await startWithUsers(READER.name)
    await using nats = await startNats()
    await using dir = await scratchDir('access')
    using http = new EtcdHttp(etcd.directUrl, 10_000, { login: ROOT })
    await using writer = new Writer({ url: etcd.directUrl, seed: 52, perSecond: 200, access: { login: ROOT } })
    const file = join(dir.path, 'password')
    await writeFile(file, READER.password, { mode: 0o600 })
    await using agent = await startAgent({
      etcd: etcd.clientUrl,
      nats: nats.clientUrl,
      flags: [...BASE_FLAGS, '--etcd-user', READER.name, '--etcd-password-file', file],
    })
    await live(agent)
    writer.start()
    const since = agent.process.lineCount()
    for (let round = 0; round < 2; round++) {
      await wait(3_000)
      await http.call('auth/user/add', { name: `newcomer-${round}`, password: 'x' })
      etcd.proxy.cut()
      await agent.until('cut', (s) => s.phase !== 'live')
      await live(agent)
    }
    await http.call('auth/user/changepw', { name: READER.name, password: 'reads still' })
    await writeFile(file, 'reads still')
    assert.equal(await reload(agent), 'reloaded')
    etcd.proxy.cut()
    await writer.reached(writer.acknowledged + 100, 20_000)
    await writer.stop()
    await caughtUp(agent, http)
    const told = agent.process.lines().slice(-(agent.process.lineCount() - since))
    assert.deepEqual(
      told.filter((line) => line.includes('range-denied')),
      [],
    )
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
  })

  it('a certificate replaced under load is taken up at SIGHUP, before the old one is given up; one that cannot serve is refused', async () => {
    await using dir = await scratchDir('tls')
    const authority = await createAuthority(dir.path)
    const stranger = await createAuthority(dir.path, 'another authority')
    const own = join(dir.path, 'agent')
    const install = async (from: typeof authority, validForSeconds: number): Promise<void> => {
      const issued = await from.issue({ name: 'agent', validForSeconds })
      await copyFile(issued.cert, `${own}.pem`)
      await copyFile(issued.key, `${own}.key`)
    }
    const seconds = 12
    await install(authority, seconds)
    const expires = performance.now() + seconds * 1_000
    const server = await authority.issue({ name: 'etcd' })
    const judgeFiles = await authority.issue({ name: 'judge' })
    await using etcd = await startEtcd({ proxyFor: 'clients', tls: { ...server, clientAuth: true } })
    await using nats = await startNats()
    const tls = {
      ca: readFileSync(authority.ca),
      cert: readFileSync(judgeFiles.cert),
      key: readFileSync(judgeFiles.key),
    }
    using http = new EtcdHttp(etcd.directUrl, 10_000, { tls })
    await using writer = new Writer({ url: etcd.directUrl, seed: 53, perSecond: 200, access: { tls } })
    await using agent = await startAgent({
      etcd: etcd.clientUrl,
      nats: nats.clientUrl,
      flags: [...BASE_FLAGS, '--etcd-ca', authority.ca, '--etcd-cert', `${own}.pem`, '--etcd-key', `${own}.key`],
    })
    await live(agent)
    writer.start()
    await writer.reached(100, 20_000)
    const attached = await agent.metric('deltawatch_agent_watch_attachments_total')
    await install(stranger, 3_600)
    assert.equal(await reload(agent), 'reload refused', 'etcd does not know who signed it')
    await writer.reached(writer.acknowledged + 50, 20_000)
    assert.equal((await agent.status())?.phase, 'live')
    assert.equal(await agent.metric('deltawatch_agent_watch_attachments_total'), attached, 'the watch was not touched')
    await install(authority, 3_600)
    assert.equal(await reload(agent), 'reloaded')
    await agent.until('a new watch', (s) => s.phase === 'live')
    assert.equal(await agent.metric('deltawatch_agent_watch_attachments_total'), attached + 1)
    await wait(Math.max(0, expires - performance.now() + 500))
    etcd.proxy.cut()
    await writer.reached(writer.acknowledged + 100, 20_000)
    await writer.stop()
    await caughtUp(agent, http)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
    assert.equal((await agent.status())?.phase, 'live', CLUSTER)
  })
})
