// Credentials for etcd that change while the agent runs: taken up, or refused with the old ones in force.

import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { EtcdAccess } from '#agent/watch/access.ts'
import { createAuthority } from '../../support/certificates.ts'
import { scratchDir } from '../../support/process.ts'

const nothing = (): Promise<void> => Promise.resolve()

describe('credentials for etcd', () => {
  it('are in force as soon as they serve, and nothing moves when they are what they were', async () => {
    const access = new EtcdAccess({ user: 'agent', password: 'first' })
    assert.equal(await access.reload({ user: 'agent', password: 'first' }, () => assert.fail('moved')), 'same')
    let seen: string | undefined
    const moveOver = (): Promise<void> => {
      seen = access.current.user?.password
      return Promise.resolve()
    }
    assert.equal(await access.reload({ user: 'agent', password: 'second' }, moveOver), 'changed')
    assert.equal(seen, 'second', 'what is tried out is the new one')
    assert.equal(access.current.user?.password, 'second')
  })

  it('stay what they were when the new ones do not serve', async () => {
    const access = new EtcdAccess({ user: 'agent', password: 'first' })
    const refused = (): Promise<void> => Promise.reject(new Error('denied'))
    await assert.rejects(access.reload({ user: 'agent', password: 'second' }, refused), /denied/)
    assert.equal(access.current.user?.password, 'first')
  })

  it('are refused when the key is not that of the certificate, or a file is gone, before anything is tried', async () => {
    await using dir = await scratchDir('certificates')
    const authority = await createAuthority(dir.path)
    const [one, two] = [await authority.issue({ name: 'one' }), await authority.issue({ name: 'two' })]
    const files = { caFile: authority.ca, certFile: one.cert, keyFile: one.key }
    const access = new EtcdAccess(files)
    const before = access.current
    const untouched = (): never => assert.fail('tried')
    await assert.rejects(access.reload({ ...files, keyFile: two.key }, untouched), { code: 'DW_CONFIG_ETCD_TLS' })
    await assert.rejects(access.reload({ ...files, certFile: join(dir.path, 'none') }, untouched), /etcd\.certFile/)
    assert.equal(access.current, before)
    await writeFile(one.cert, 'no certificate at all')
    await assert.rejects(access.reload(files, untouched), { code: 'DW_CONFIG_ETCD_TLS' })
    assert.throws(() => new EtcdAccess({ ...files, keyFile: join(dir.path, 'none') }), /etcd\.keyFile/)
    assert.equal(await access.reload({ ...files, certFile: two.cert, keyFile: two.key }, nothing), 'changed')
  })
})
