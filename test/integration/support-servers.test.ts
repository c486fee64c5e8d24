// The launchers themselves, against the real binaries: what other tests stand on must hold first.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createConnection } from 'node:net'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { isAlive } from '#deploy/toolchain/narrow.ts'
import { type Etcd, startEtcd } from '../support/etcd.ts'
import { startNats } from '../support/nats.ts'
import { startProcess } from '../support/process.ts'

const base64 = (text: string): string => Buffer.from(text).toString('base64')

async function call(url: string, path: string, body: object, token?: string): Promise<Record<string, unknown>> {
  const response = await fetch(new URL(path, url), {
    method: 'POST',
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
    ...(token === undefined ? {} : { headers: { authorization: token } }),
  })
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
  return (await response.json()) as Record<string, unknown>
}

const put = (url: string, key: string, value: string, token?: string): Promise<unknown> =>
  call(url, '/v3/kv/put', { key: base64(key), value: base64(value) }, token)

async function get(url: string, key: string): Promise<string | undefined> {
  const answer = (await call(url, '/v3/kv/range', { key: base64(key) })) as { kvs?: { value: string }[] }
  const value = answer.kvs?.[0]?.value
  return value === undefined ? undefined : Buffer.from(value, 'base64').toString()
}

/** That nothing comes can only be seen by waiting a while; both servers answer in a few milliseconds when they can. */
const silence = (): Promise<string> => new Promise((resolve) => setTimeout(resolve, 200, 'silent'))

async function natsInfo(url: string): Promise<string> {
  const { hostname, port } = new URL(url)
  const socket = createConnection({ host: hostname, port: Number(port) })
  const [line] = (await once(createInterface({ input: socket }), 'line')) as [string]
  socket.destroy()
  return line
}

test('etcd: a killed server comes back on its port with its data, and dispose leaves nothing', async () => {
  let dataDir: string
  let pid: number
  {
    await using etcd = await startEtcd()
    dataDir = etcd.dataDir
    await put(etcd.clientUrl, '/a', '1')
    const first = etcd.pid
    await etcd.kill()
    await assert.rejects(get(etcd.clientUrl, '/a'))
    assert.throws(() => etcd.pid, /is down/)
    await etcd.restart()
    pid = etcd.pid
    assert.notEqual(pid, first)
    assert.equal(await get(etcd.clientUrl, '/a'), '1')
  }
  assert.equal(isAlive(pid), false)
  assert.equal(existsSync(dataDir), false)
})

test('etcd: three members write on without one of them, which catches up when it is back', async () => {
  await using etcd = await startEtcd({ members: 3 })
  await put(etcd.clientUrl, '/a', '1')
  const [first, second, third] = etcd.members
  assert.ok(first !== undefined && second !== undefined && third !== undefined)
  await third.kill()
  // The one that was killed may have led: the write under way then is lost, the next one finds the new leader.
  await put(first.clientUrl, '/a', '2').catch(() => put(first.clientUrl, '/a', '2'))
  await third.restart()
  assert.equal(await get(third.clientUrl, '/a'), '2')
})

test('etcd: authentication refuses a write outside the grant', async () => {
  await using etcd = await startEtcd({
    auth: {
      rootPassword: 'root-secret',
      users: [{ name: 'reader', password: 'pw', grants: [{ permission: 'READ', key: '/', rangeEnd: '0' }] }],
    },
  })
  const token = async (name: string, password: string): Promise<string> =>
    String((await call(etcd.clientUrl, '/v3/auth/authenticate', { name, password }))['token'])
  await put(etcd.clientUrl, '/a', '1', await token('root', 'root-secret'))
  await assert.rejects(put(etcd.clientUrl, '/a', '2', await token('reader', 'pw')), /permission denied/)
  await assert.rejects(put(etcd.clientUrl, '/a', '2'), /user name is empty|etcdserver/)
})

test('etcd: through a proxy that is a black hole nothing answers until it heals', async () => {
  await using etcd: Etcd = await startEtcd({ proxyFor: 'clients' })
  assert.notEqual(etcd.clientUrl, etcd.directUrl)
  await put(etcd.clientUrl, '/a', '1')
  etcd.proxy.blackhole()
  const silent = get(etcd.clientUrl, '/a')
  const direct = await get(etcd.directUrl, '/a')
  assert.equal(direct, '1')
  assert.equal(await Promise.race([silent, silence()]), 'silent')
  await etcd.proxy.heal()
  assert.equal(await silent, '1')
})

test('etcd: a paused server answers after it is resumed', async () => {
  await using etcd = await startEtcd()
  await put(etcd.clientUrl, '/a', '1')
  etcd.pause()
  const late = get(etcd.clientUrl, '/a')
  assert.equal(await Promise.race([late, silence()]), 'silent')
  etcd.resume()
  assert.equal(await late, '1')
})

test('nats: JetStream is on, and a killed server comes back on its port', async () => {
  await using nats = await startNats()
  const info = await natsInfo(nats.clientUrl)
  assert.match(info, /"jetstream":true/)
  await nats.kill()
  await assert.rejects(natsInfo(nats.clientUrl))
  await nats.restart()
  assert.match(await natsInfo(nats.clientUrl), /"server_name":"n1"/)
})

test('nats: three servers form one JetStream group', async () => {
  await using nats = await startNats({ cluster: 3 })
  const answer = await fetch(`${nats.monitorUrl}/jsz`)
  const jsz = (await answer.json()) as { meta_cluster?: { cluster_size?: number; leader?: string } }
  assert.equal(jsz.meta_cluster?.cluster_size, 3)
  assert.match(jsz.meta_cluster?.leader ?? '', /^n[123]$/)
})

test('a child does not outlive a test process that is killed', async () => {
  const script = `
    import { startProcess, scratchDir } from './test/support/process.ts'
    const child = await startProcess({ command: 'sleep', args: ['300'] })
    const dir = await scratchDir('reaper')
    console.log(child.pid, dir.path)
    setInterval(() => {}, 1000)`
  const parent = spawn(process.execPath, ['--input-type=module-typescript', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: new URL('../..', import.meta.url),
  })
  const [line] = (await once(createInterface({ input: parent.stdout }), 'line')) as [string]
  const [pid, dir] = line.split(' ')
  assert.ok(dir !== undefined && isAlive(Number(pid)))
  parent.kill('SIGKILL')
  await once(parent, 'exit')
  const deadline = Date.now() + 5_000
  while ((isAlive(Number(pid)) || existsSync(dir)) && Date.now() < deadline)
    await new Promise((next) => setTimeout(next, 20))
  assert.equal(isAlive(Number(pid)), false)
  assert.equal(existsSync(dir), false)
})

test('waitForLine fails at once when the process ends, with the end of its log', async () => {
  await using child = await startProcess({ command: 'sh', args: ['-c', 'echo one; echo two >&2; exit 3'] })
  await assert.rejects(child.waitForLine(/never/), /ended \(code 3\)[\s\S]*one[\s\S]*two|two[\s\S]*one/)
  assert.deepEqual(await child.exited, { code: 3, signal: null })
  assert.match((await child.waitForLine(/^t(w)o$/))[1] ?? '', /w/)
})

test('a command that does not exist is named', async () => {
  await assert.rejects(startProcess({ command: '/no/such/binary' }), /could not start \/no\/such\/binary/)
})
