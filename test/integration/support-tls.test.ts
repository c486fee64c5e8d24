// TLS of the launchers: the throw-away certificates are good enough for real servers, and bad ones are refused.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { get } from 'node:https'
import { test } from 'node:test'
import { createAuthority, type CertificateFiles } from '../support/certificates.ts'
import { startEtcd } from '../support/etcd.ts'
import { enableEtcdAuth } from '../support/etcd-auth.ts'
import { scratchDir } from '../support/process.ts'

async function healthStatus(url: string, files: Partial<CertificateFiles>): Promise<number | undefined> {
  const read = (path: string | undefined): Promise<Buffer> | undefined =>
    path === undefined ? undefined : readFile(path)
  const options = {
    ca: await read(files.ca),
    cert: await read(files.cert),
    key: await read(files.key),
    agent: false as const,
  }
  return new Promise((resolve, reject) => {
    get(new URL('/health', url), options, (response) => {
      response.resume()
      resolve(response.statusCode)
    }).on('error', reject)
  })
}

test('etcd over TLS serves clients that trust its authority, by address and by name', async () => {
  await using dir = await scratchDir('tls')
  const authority = await createAuthority(dir.path)
  const server = await authority.issue({ name: 'etcd' })
  await using etcd = await startEtcd({ tls: server })
  assert.equal(await healthStatus(etcd.clientUrl, { ca: authority.ca }), 200)
  assert.equal(await healthStatus(etcd.clientUrl.replace('127.0.0.1', 'localhost'), { ca: authority.ca }), 200)
  await assert.rejects(healthStatus(etcd.clientUrl, {}), { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' })
  const stranger = await createAuthority(dir.path, 'stranger')
  await assert.rejects(healthStatus(etcd.clientUrl, { ca: stranger.ca }), { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' })
})

test('etcd that asks for client certificates refuses one that expired or that another authority signed', async () => {
  await using dir = await scratchDir('tls')
  const authority = await createAuthority(dir.path)
  const stranger = await createAuthority(dir.path, 'stranger')
  const server = await authority.issue({ name: 'etcd' })
  await using etcd = await startEtcd({ tls: { ...server, clientAuth: true } })
  const good = await authority.issue({ name: 'agent' })
  assert.equal(await healthStatus(etcd.clientUrl, good), 200)
  const expired = await authority.issue({ name: 'agent', validForSeconds: -60 })
  const foreign = { ...(await stranger.issue({ name: 'agent' })), ca: authority.ca }
  for (const bad of [expired, foreign, { ca: authority.ca }]) await assert.rejects(healthStatus(etcd.clientUrl, bad))
})

test('authentication can be turned on over TLS', async () => {
  await using dir = await scratchDir('tls')
  const authority = await createAuthority(dir.path)
  const tls = { ...(await authority.issue({ name: 'root' })), clientAuth: true }
  await using etcd = await startEtcd({ tls, auth: { rootPassword: 'secret' } })
  // Now that it is on, nobody without a user may do it again.
  await assert.rejects(enableEtcdAuth(etcd.clientUrl, { rootPassword: 'other' }, tls), /answered 4\d\d/)
})
