// TLS between the agent's client and a real etcd: by address and by name, with users, and with whom not to talk.
// Owns: single connections. Refuses: rotation in a running agent (etcd-access.test.ts).

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { EtcdAccess } from '#agent/watch/access.ts'
import { connectEtcd } from '#agent/watch/etcd.ts'
import type { Key } from '#protocol/bytes.ts'
import type { Revision } from '#protocol/revision.ts'
import { type CertificateFiles, createAuthority } from '../../support/certificates.ts'
import { startEtcd } from '../../support/etcd.ts'
import { scratchDir } from '../../support/process.ts'

const RANGE = { from: '/' as Key, to: '0' as Key }
const filesOf = ({ ca, cert, key }: CertificateFiles) => ({ caFile: ca, certFile: cert, keyFile: key })

const connectWith = (endpoint: string, access: EtcdAccess) =>
  connectEtcd({
    endpoint,
    credentials: access.current,
    keepaliveMs: 5_000,
    keepaliveTimeoutMs: 2_000,
    callTimeoutMs: 3_000,
    now: () => Date.now(),
  })

async function headAt(endpoint: string, access: EtcdAccess): Promise<string> {
  using member = connectWith(endpoint, access)
  return (await member.head(RANGE)).revision
}

/** The same etcd at an address that its certificate does not name. */
async function elsewhere(url: string): Promise<Disposable & { readonly url: string }> {
  const server = createServer((socket) => {
    const target = connect(Number(new URL(url).port), '127.0.0.1')
    socket.on('error', () => target.destroy()).pipe(target)
    target.on('error', () => socket.destroy()).pipe(socket)
  }).listen(0, '127.0.0.2')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  return { url: `https://127.0.0.2:${address.port}`, [Symbol.dispose]: () => server.close() }
}

describe('TLS to etcd', () => {
  it('serves reads, watches and logins by address and by name, and no address the certificate does not hold', async () => {
    await using dir = await scratchDir('tls')
    const authority = await createAuthority(dir.path)
    const server = { ...(await authority.issue({ name: 'root' })), clientAuth: true }
    const users = [
      { name: 'reader', password: 'reads', grants: [{ permission: 'READ' as const, key: '/', rangeEnd: '0' }] },
    ]
    await using etcd = await startEtcd({ tls: server, auth: { rootPassword: 'root-of-tests', users } })
    const client = await authority.issue({ name: 'agent' })
    const access = new EtcdAccess({ ...filesOf(client), user: 'reader', password: 'reads' })
    assert.match(await headAt(etcd.clientUrl, access), /^\d+$/)
    assert.match(await headAt(etcd.clientUrl.replace('127.0.0.1', 'localhost'), access), /^\d+$/)
    using member = connectWith(etcd.clientUrl, access)
    const { promise, resolve } = Promise.withResolvers<unknown>()
    const request = { range: RANGE, startRevision: '1' as Revision, prevValues: false, pieces: true }
    const sink = { message: resolve, closed: resolve }
    await member.watch({ ...request, maxResponseBytes: 1 << 20 }, sink)
    assert.equal(((await promise) as { created?: boolean }).created, true)
    using wrong = await elsewhere(etcd.clientUrl)
    await assert.rejects(headAt(wrong.url, access), /127\.0\.0\.2 is not in the cert's list/)
  })

  it('an expired certificate and a stranger are refused; a new one serves, without a restart', async () => {
    await using dir = await scratchDir('tls')
    const authority = await createAuthority(dir.path)
    const stranger = await createAuthority(dir.path, 'another authority')
    const server = { ...(await authority.issue({ name: 'etcd' })), clientAuth: true }
    await using etcd = await startEtcd({ tls: server })
    const short = await authority.issue({ name: 'agent', validForSeconds: 3 })
    const access = new EtcdAccess(filesOf(short))
    const serves = async (): Promise<void> => void (await headAt(etcd.clientUrl, access))
    await serves()
    const foreign = { ...(await stranger.issue({ name: 'agent' })), ca: authority.ca }
    await assert.rejects(access.reload(filesOf(foreign), serves), { kind: 'unavailable' })
    await wait(3_500)
    await assert.rejects(serves(), { kind: 'unavailable' })
    assert.equal(await access.reload(filesOf(await authority.issue({ name: 'agent' })), serves), 'changed')
    await serves()
  })
})
