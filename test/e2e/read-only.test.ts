// The watched etcd is only read: an agent with read permission on its range, and not one write more.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { EtcdHttp } from '../judge/etcd-http.ts'
import { Recorder } from './recorder.ts'
import { Stack } from './stack.ts'
import { scratchDir } from '../support/process.ts'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'

it('I11: an agent with read-only credentials relays, and etcd’s revision and leases stay the writer’s alone', async () => {
  await using dir = await scratchDir('credentials')
  const passwordFile = join(dir.path, 'password')
  await writeFile(passwordFile, 'read-only-password\n', { mode: 0o600 })
  const everything = { permission: 'READ', key: '\0', rangeEnd: '\0' } as const
  const users = [{ name: 'agent', password: 'read-only-password', grants: [everything] }]
  await using stack = await Stack.start({
    etcd: { auth: { rootPassword: 'root-password', users } },
    agentFlags: ['--etcd-user', 'agent', '--etcd-password-file', passwordFile],
  })
  const { cluster, etcd } = stack.first
  using root = new EtcdHttp(etcd.directUrl)
  await root.login('root', 'root-password')
  const before = (await root.range({ key: '\0', countOnly: true })).revision
  await using recorder = new Recorder(stack.url, { prefix: '/', start: 'snapshot' })
  await recorder.change((c) => c.kind === 'snapshot')
  for (let n = 1; n <= 20; n++) {
    const { revision } = await root.write([{ op: 'put', key: `/k/${n}`, value: Buffer.from(String(n)) }])
    assert.equal(revision, before + n, 'somebody else writes')
  }
  await recorder.reached(cluster, before + 20)
  await stack.first.agent?.kill()
  await stack.first.agent?.restart()
  const { revision } = await root.write([{ op: 'delete', key: '/k/', rangeEnd: '/k0' }])
  await recorder.reached(cluster, revision)
  assert.equal(revision, before + 21)
  assert.deepEqual(await root.leases(), [])

  using agent = new EtcdHttp(etcd.directUrl)
  await agent.login('agent', 'read-only-password')
  await assert.rejects(agent.write([{ op: 'put', key: '/k/1', value: Buffer.from('x') }]), /permission denied/)
})
