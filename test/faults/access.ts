// Being let in, and not any more: tokens that expire, a role revoked and granted again, certificates that run out.
// Owns: an etcd with users or TLS, the files the agent reads, and the operator's part in each.

import { readFileSync } from 'node:fs'
import { copyFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { createAuthority } from '../support/certificates.ts'
import { scratchDir } from '../support/process.ts'
import type { Prepared, World } from './world.ts'

const ROOT = { name: 'root', password: 'root-of-tests' }
const READER = { name: 'reader', password: 'reads' }
/** Of etcd's simple tokens; below it every pause of a client is one too many. */
const TOKEN_SECONDS = 2
const RANGE = { permission: 'READ', key: '/', rangeEnd: '0' } as const
const base64 = (text: string): string => Buffer.from(text).toString('base64')

export async function withUsers(owned: AsyncDisposableStack): Promise<Prepared> {
  const { path } = owned.use(await scratchDir('access'))
  const file = join(path, 'password')
  await writeFile(file, READER.password, { mode: 0o600 })
  return {
    stack: {
      etcd: {
        auth: { rootPassword: ROOT.password, users: [{ ...READER, grants: [RANGE] }] },
        args: ['--auth-token-ttl', String(TOKEN_SECONDS)],
      },
      agentFlags: ['--etcd-user', READER.name, '--etcd-password-file', file],
    },
    access: { login: ROOT },
  }
}

/** The token has run out by the time the link breaks, and anything else about users may have changed as well. */
export async function tokenExpiry(world: World): Promise<void> {
  for (let n = 0; n < 2; n++) {
    await world.writes(30)
    await wait(TOKEN_SECONDS * 1_500)
    if (n === 1) await world.judged.http.call('auth/user/add', { name: `other-${world.roll(1e9)}`, password: 'x' })
    world.links.etcd.cut('reset')
    await world.writes(50)
  }
}

/** A watch survives the loss of its role; what comes after it is denied until the role is back. */
export async function roleRevoked(world: World): Promise<void> {
  const { http } = world.judged
  const role = `role-of-${READER.name}`
  const range = { key: base64(RANGE.key), range_end: base64(RANGE.rangeEnd) }
  await world.writes(40)
  await http.call('auth/role/revoke', { role, ...range })
  await world.writes(20)
  await world.said(/"phase":"range-denied"/, async () => void world.links.etcd.cut('reset'))
  await world.writes(40)
  await wait(world.roll(1_500))
  await http.call('auth/role/grant', { name: role, perm: { permType: 'READ', ...range } })
  await world.writes(40)
}

const CERTIFICATE_SECONDS = 12

/** The certificate the agent starts with runs out; a new one is put in its place and the agent told. */
export async function withCertificates(owned: AsyncDisposableStack): Promise<Prepared> {
  const { path } = owned.use(await scratchDir('tls'))
  const authority = await createAuthority(path)
  const server = await authority.issue({ name: 'etcd' })
  const judge = await authority.issue({ name: 'judge' })
  const own = join(path, 'agent')
  const renew = async (seconds: number): Promise<void> => {
    const issued = await authority.issue({ name: 'agent', validForSeconds: seconds })
    await copyFile(issued.cert, `${own}.pem`)
    await copyFile(issued.key, `${own}.key`)
  }
  await renew(CERTIFICATE_SECONDS)
  return {
    stack: {
      etcd: { tls: { ...server, clientAuth: true } },
      agentFlags: ['--etcd-ca', authority.ca, '--etcd-cert', `${own}.pem`, '--etcd-key', `${own}.key`],
    },
    access: {
      tls: { ca: readFileSync(authority.ca), cert: readFileSync(judge.cert), key: readFileSync(judge.key) },
    },
    renew: () => renew(24 * 3_600),
    expires: performance.now() + CERTIFICATE_SECONDS * 1_000,
  }
}

export async function tlsRotation(world: World): Promise<void> {
  const { renew, expires = 0 } = world.prepared
  const { agent } = world.cluster
  await world.writes(50)
  await renew?.()
  if (agent !== undefined) process.kill(agent.pid, 'SIGHUP')
  await world.writes(50)
  // Whoever still shows the old one is turned away from here on.
  await wait(Math.max(0, expires - performance.now() + 500))
  world.links.etcd.cut('reset')
  await world.writes(80)
}
