// SIGHUP on real servers: what is taken up while running, in every phase, without a revision lost or told twice.

import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { EtcdHttp } from '../../judge/etcd-http.ts'
import { Writer } from '../../judge/writer.ts'
import { startEtcd } from '../../support/etcd.ts'
import { startNats } from '../../support/nats.ts'
import { reservePort } from '../../support/ports.ts'
import { scratchDir } from '../../support/process.ts'
import { type Agent, caughtUp, judge, startAgent } from './harness.ts'

const ROOT = { name: 'root', password: 'root-of-tests' }
/** Waits between attempts so long that only a reload can end them within a test. */
const PATIENT = { DELTAWATCH_WATCH_BACKOFF_BASE: '5m', DELTAWATCH_WATCH_BACKOFF_CAP: '5m' }
const FLAGS = ['--create-stream', '--log-level', 'info']
const SOON_MS = 15_000

/** Sends SIGHUP and returns what came of it. */
async function reload(agent: Agent): Promise<string> {
  const since = agent.process.lineCount()
  agent.process.kill('SIGHUP')
  const [, outcome = ''] = await agent.process.waitForLine(/"event":"(reloaded|reload refused)/, { since })
  return outcome
}

const live = (agent: Agent, timeoutMs = 20_000) => agent.until('live', (s) => s.phase === 'live', timeoutMs)

describe('a reload', () => {
  it('ends the wait of a log that etcd refuses: the right password, and the right endpoint, are used at once', async () => {
    const grants = [{ permission: 'READ', key: '/', rangeEnd: '0' }] as const
    const users = [{ name: 'reader', password: 'right', grants }]
    await using etcd = await startEtcd({ auth: { rootPassword: ROOT.password, users } })
    await using nats = await startNats()
    await using dir = await scratchDir('reload')
    await using nobody = await reservePort()
    using http = new EtcdHttp(etcd.clientUrl, 10_000, { login: ROOT })
    await using writer = new Writer({ url: etcd.clientUrl, seed: 91, access: { login: ROOT } })
    await writer.write(20)
    const config = join(dir.path, 'agent.yaml')
    const configure = (password: string, endpoint: string): Promise<void> =>
      writeFile(config, JSON.stringify({ etcd: { user: 'reader', password, endpoints: [endpoint] } }))
    await configure('wrong', etcd.clientUrl)
    const flags = [...FLAGS, '--config', config]
    await using agent = await startAgent({ etcd: null, nats: nats.clientUrl, flags, env: PATIENT })
    await agent.until('refused', (s) => s.phase === 'range-denied' || s.phase === 'etcd-unreachable')
    await configure('right', `http://127.0.0.1:${nobody.port}`)
    assert.equal(await reload(agent), 'reloaded')
    await agent.until('nobody there', (s) => s.phase === 'etcd-unreachable' && /ECONNREFUSED/.test(s.reason))
    await configure('right', etcd.clientUrl)
    assert.equal(await reload(agent), 'reloaded')
    await live(agent, SOON_MS)
    await caughtUp(agent, http)
    await judge(nats.clientUrl, http, writer.acks.byRevision)
  })

  it('I2: moves a live watch to another endpoint under load once that serves, and keeps the old one when it does not', async () => {
    await using etcd = await startEtcd({ proxyFor: 'clients' })
    await using nats = await startNats()
    await using dir = await scratchDir('reload')
    await using nobody = await reservePort()
    using http = new EtcdHttp(etcd.directUrl)
    await using writer = new Writer({ url: etcd.directUrl, seed: 92, perSecond: 200 })
    const config = join(dir.path, 'agent.yaml')
    const configure = (endpoint: string, more: object = {}): Promise<void> =>
      writeFile(config, JSON.stringify({ etcd: { endpoints: [endpoint], ...more } }))
    await configure(etcd.clientUrl)
    const flags = [...FLAGS, '--config', config]
    await using agent = await startAgent({ etcd: null, nats: nats.clientUrl, flags })
    await live(agent)
    writer.start()
    await writer.reached(100, 20_000)
    await configure(`http://127.0.0.1:${nobody.port}`)
    assert.equal(await reload(agent), 'reload refused')
    assert.equal((await agent.status())?.etcd.endpoint, etcd.clientUrl)
    const since = agent.process.lineCount()
    await configure(etcd.directUrl, { keepalive: '7s' })
    assert.equal(await reload(agent), 'reloaded')
    await agent.process.waitForLine(/reload: etcd.keepalive needs a restart/, { since })
    await agent.until('moved', (s) => s.phase === 'live' && s.etcd.endpoint === etcd.directUrl)
    etcd.proxy.cut()
    await writer.reached(writer.acknowledged + 100, 20_000)
    await writer.stop()
    await caughtUp(agent, http)
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
  })

  it('I2: takes up another user of the hub under load, and keeps the old one when the hub refuses the new', async () => {
    await using etcd = await startEtcd()
    const accounts =
      'accounts { A { jetstream: enabled, users: [{user: one, password: one}, {user: two, password: two}] } }'
    await using nats = await startNats({ config: `${accounts}\nno_auth_user: one` })
    await using dir = await scratchDir('reload')
    using http = new EtcdHttp(etcd.clientUrl)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 93, perSecond: 200 })
    const config = join(dir.path, 'agent.yaml')
    const configure = (user: string, password: string): Promise<void> =>
      writeFile(config, JSON.stringify({ nats: { user, password } }))
    await configure('one', 'one')
    const flags = [...FLAGS, '--config', config]
    await using agent = await startAgent({ etcd: etcd.clientUrl, nats: nats.clientUrl, flags })
    await live(agent)
    writer.start()
    await writer.reached(100, 20_000)
    await configure('two', 'wrong')
    assert.equal(await reload(agent), 'reload refused')
    assert.equal((await agent.status())?.hub.connected, true)
    await configure('two', 'two')
    const since = agent.process.lineCount()
    assert.equal(await reload(agent), 'reloaded')
    await agent.process.waitForLine(/"event":"nats connected"/, { since })
    await writer.reached(writer.acknowledged + 100, 20_000)
    await writer.stop()
    await caughtUp(agent, http)
    const { connections } = (await (await fetch(`${nats.monitorUrl}/connz?auth=1`)).json()) as {
      connections: { authorized_user: string }[]
    }
    assert.deepEqual([...new Set(connections.map((one) => one.authorized_user))], ['two'])
    const { verdict } = await judge(nats.clientUrl, http, writer.acks.byRevision)
    assert.equal(verdict.total('checkpoints'), 1)
  })
})
