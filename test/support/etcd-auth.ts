// Turns etcd's authentication on: root, users, one role per user with its grants.
// Owns: the few calls of etcd's JSON gateway that this takes. Does not own: what tests then do as those users.

import { readFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'

export interface EtcdGrant {
  readonly permission: 'READ' | 'WRITE' | 'READWRITE'
  readonly key: string
  /** Exclusive end; "\0" means every key from `key` on; absent means the one key. */
  readonly rangeEnd?: string
}

export interface EtcdUser {
  readonly name: string
  readonly password: string
  readonly grants: readonly EtcdGrant[]
}

interface ClientTls {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

export async function enableEtcdAuth(
  url: string,
  auth: { readonly rootPassword: string; readonly users?: readonly EtcdUser[] },
  tls?: ClientTls,
): Promise<void> {
  const call = (path: string, body: object): Promise<void> => post(new URL(`/v3/auth/${path}`, url), body, tls)
  await call('user/add', { name: 'root', password: auth.rootPassword })
  await call('role/add', { name: 'root' })
  await call('user/grant', { user: 'root', role: 'root' })
  for (const user of auth.users ?? []) {
    const role = `role-of-${user.name}`
    await call('user/add', { name: user.name, password: user.password })
    await call('role/add', { name: role })
    for (const grant of user.grants) {
      const perm = {
        permType: grant.permission,
        key: base64(grant.key),
        ...(grant.rangeEnd === undefined ? {} : { range_end: base64(grant.rangeEnd) }),
      }
      await call('role/grant', { name: role, perm })
    }
    await call('user/grant', { user: user.name, role })
  }
  await call('enable', {})
}

const base64 = (text: string): string => Buffer.from(text, 'utf8').toString('base64')

async function post(url: URL, body: object, tls?: ClientTls): Promise<void> {
  const secure =
    tls === undefined
      ? {}
      : { ca: await readFile(tls.ca), cert: await readFile(tls.cert), key: await readFile(tls.key) }
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest
  await new Promise<void>((resolve, reject) => {
    const request = send(url, { method: 'POST', timeout: 10_000, agent: false, ...secure }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => {
        if (response.statusCode === 200) resolve()
        else reject(new Error(`etcd: ${url.pathname} answered ${response.statusCode}: ${text}`))
      })
    })
    request.on('timeout', () => request.destroy(new Error(`etcd: ${url.pathname} took more than 10 s`)))
    request.on('error', reject)
    request.end(JSON.stringify(body))
  })
}
