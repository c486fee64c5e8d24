// A server that calls every token invalid, the fresh ones too: asked twice per read, and no more.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { Server, ServerCredentials, type ServiceDefinition, type sendUnaryData, status } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { connectEtcd } from '#agent/watch/etcd.ts'
import type { Key } from '#protocol/bytes.ts'

const protos = join(dirname(createRequire(import.meta.url).resolve('etcd3/package.json')), 'proto')
const definitions = loadSync(join(protos, 'rpc.proto'), { keepCase: true, longs: String, includeDirs: [protos] })
const service = (name: string): ServiceDefinition => definitions[`etcdserverpb.${name}`] as ServiceDefinition

describe('a token that is never valid', () => {
  it('is refreshed once; the second refusal is the answer', async () => {
    let [reads, logins] = [0, 0]
    const server = new Server()
    server.addService(service('KV'), {
      Range: (_call: unknown, reply: sendUnaryData<object>) => {
        reads++
        reply({ code: status.UNAUTHENTICATED, details: 'etcdserver: invalid auth token' })
      },
    })
    server.addService(service('Auth'), {
      Authenticate: (_call: unknown, reply: sendUnaryData<object>) => reply(null, { token: `fresh.${++logins}` }),
    })
    const bind = promisify(server.bindAsync.bind(server))
    const port = await bind('127.0.0.1:0', ServerCredentials.createInsecure())
    using member = connectEtcd({
      endpoint: `http://127.0.0.1:${port}`,
      credentials: { user: { username: 'agent', password: 'secret' } },
      keepaliveMs: 5_000,
      keepaliveTimeoutMs: 2_000,
      callTimeoutMs: 2_000,
      now: () => Date.now(),
    })
    try {
      const range = { from: '/' as Key, to: undefined }
      await assert.rejects(member.head(range), { kind: 'auth' })
      assert.deepEqual([reads, logins], [2, 2])
      await assert.rejects(member.head(range), { kind: 'auth' })
      assert.equal(reads, 4, 'the next read is a new question')
    } finally {
      server.forceShutdown()
    }
  })
})
