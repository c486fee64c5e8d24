// What a reload says needs a restart: by name, never by value.

import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { AgentConfig } from '#agent/config.ts'
import { needRestart } from '#agent/reload.ts'
import { HubAccess } from '#agent/uplink/access.ts'
import { Endpoints } from '#agent/watch/endpoints.ts'
import type { NatsLink } from '#kit/nats.ts'
import { scratchDir } from '../../support/process.ts'

const config = (etcd: object, nats: object, more: object = {}): AgentConfig =>
  ({ etcd, nats, logs: [], ...more }) as unknown as AgentConfig

describe('a reload', () => {
  it('names what is read at the start alone, and nothing that is taken up', () => {
    const log = (etcd: object, prefixes = ['/']) => ({ cluster: 'b', prefixes, etcd })
    const before = config(
      { endpoints: ['http://a'], password: 'one', keepalive: 5 },
      { servers: ['nats://a'], password: 'one', tls: { caFile: '/a' } },
      { logs: [log({ password: 'one' })], hooks: { onDelete: { maxKeys: 1 } } },
    )
    assert.deepEqual(needRestart(before, structuredClone(before)), [])
    const taken = config(
      { endpoints: ['http://b'], password: 'two', user: 'u', caFile: '/b', keepalive: 5 },
      { servers: ['nats://a'], credsFile: '/creds', tls: { caFile: '/a' } },
      { logs: [log({ password: 'two' })], hooks: { onDelete: { maxKeys: 1 } } },
    )
    assert.deepEqual(needRestart(before, taken), [])
    const others = config(
      { endpoints: ['http://a'], password: 'one', keepalive: 6 },
      { servers: ['nats://b'], password: 'one', tls: { caFile: '/b' } },
      { logs: [log({ password: 'one' }, ['/x'])], hooks: { onDelete: { maxKeys: 2 } }, admin: { host: 'h', port: 1 } },
    )
    assert.deepEqual(needRestart(before, others), [
      'admin.host',
      'admin.port',
      'etcd.keepalive',
      'hooks.onDelete.maxKeys',
      'logs.0.prefixes',
      'nats.servers',
      'nats.tls.caFile',
    ])
  })

  it('while the hub is away new credentials are in force for the next connect, and files that cannot be read are refused', async () => {
    await using dir = await scratchDir('hub-access')
    const first = join(dir.path, 'first')
    await writeFile(first, 'one')
    const access = new HubAccess({ servers: ['nats://a'], name: 'n', inboxPrefix: 'i', credsFile: first })
    const { options } = access
    const away = {
      state: () => ({ kind: 'reconnecting' }),
      connection: () => assert.fail('used'),
    } as unknown as NatsLink
    assert.equal(await access.reload({ credsFile: first }, away), 'same')
    await writeFile(first, 'another')
    assert.equal(await access.reload({ credsFile: first }, away), 'changed', 'what the file holds counts')
    await assert.rejects(access.reload({ credsFile: join(dir.path, 'none') }, away), { code: 'DW_CONFIG_NATS' })
    assert.equal(options.credsFile, first)
    assert.equal(await access.reload({ user: 'u', password: 'p' }, away), 'changed')
    assert.deepEqual([options.credsFile, options.user, options.password], [undefined, 'u', 'p'])
  })

  it('makes the next attempt at etcd a first one, at the endpoints that are in force now', () => {
    const endpoints = new Endpoints(['http://a', 'http://b'], { baseMs: 1_000, capMs: 30_000, stableMs: 1_000 })
    for (let i = 0; i < 3; i++) endpoints.ended(0)
    assert.ok(endpoints.next(() => 0.5).waitMs > 0)
    endpoints.replace(['http://c', 'http://a'])
    assert.deepEqual(
      endpoints.next(() => 0.5),
      { endpoint: 'http://c', waitMs: 0 },
    )
    assert.deepEqual([endpoints.from('http://a'), endpoints.from('http://b')], ['http://a', 'http://c'])
  })
})
