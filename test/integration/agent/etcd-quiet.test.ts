// Connections to a real etcd on which nothing happens: kept without offence, and found out when they are dead.
// Owns: the pings of one member's connections. Refuses: the agent around them (etcd-members.test.ts).

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { connectEtcd, type EtcdFailure, type EtcdMember } from '#agent/watch/etcd.ts'
import { agentConfig } from '#agent/config.ts'
import { loadConfigOrThrow } from '#kit/config/load.ts'
import type { Key } from '#protocol/bytes.ts'
import type { Revision } from '#protocol/revision.ts'
import { startEtcd } from '../../support/etcd.ts'

const RANGE = { from: '' as Key, to: undefined }
const DEFAULTS = loadConfigOrThrow(agentConfig, {
  args: ['--cluster', 'c', '--region', 'r', '--etcd', 'http://127.0.0.1:1', '--nats', 'nats://127.0.0.1:1'],
  env: {},
}).etcd

const connectTo = (endpoint: string, keepaliveMs: number, keepaliveTimeoutMs: number): EtcdMember =>
  connectEtcd({
    endpoint,
    credentials: {},
    keepaliveMs,
    keepaliveTimeoutMs,
    callTimeoutMs: 5_000,
    now: () => Date.now(),
  })

type Silent = { readonly ended: Promise<EtcdFailure> }

async function watchSilently(member: EtcdMember): Promise<Silent> {
  const { promise: ended, resolve: closed } = Promise.withResolvers<EtcdFailure>()
  const { promise: created, resolve: message } = Promise.withResolvers<unknown>()
  const request = { range: RANGE, startRevision: '2' as Revision, prevValues: false }
  await member.watch({ ...request, pieces: true, maxResponseBytes: 1 << 20 }, { message, closed })
  await created
  return { ended }
}

describe('quiet connections', () => {
  it('live through many ping intervals at the shortest one etcd allows, with a call and without', async () => {
    await using etcd = await startEtcd({ proxyFor: 'clients', args: ['--grpc-keepalive-min-time', '1s'] })
    using member = connectTo(etcd.clientUrl, 1_000, 500)
    await member.status()
    await member.head(RANGE)
    const watch = await watchSilently(member)
    const { accepted, live, toTarget } = etcd.proxy.stats()
    // Six pings of 17 bytes, on a machine that may be slow to send them.
    const pinged = (): boolean => etcd.proxy.stats().toTarget - toTarget >= 6 * 17
    const deadline = performance.now() + 20_000
    let ended: EtcdFailure | undefined
    while (ended === undefined && !pinged() && performance.now() < deadline)
      ended = (await Promise.race([wait(200), watch.ended])) ?? undefined
    assert.equal(ended, undefined)
    assert.ok(pinged(), 'the watch was pinged all the while')
    const after = etcd.proxy.stats()
    assert.deepEqual([after.accepted, after.live], [accepted, live], 'no connection was closed for its pings')
    await member.head(RANGE)
    assert.equal(etcd.proxy.stats().accepted, accepted, 'and what was idle is still of use')
  })

  it('a half-open line is found within keepalive, timeout and a second', async () => {
    await using etcd = await startEtcd({ proxyFor: 'clients' })
    using member = connectTo(etcd.clientUrl, DEFAULTS.keepalive, DEFAULTS.keepaliveTimeout)
    const watch = await watchSilently(member)
    await wait(500)
    etcd.proxy.blackhole()
    const began = performance.now()
    assert.equal((await watch.ended).kind, 'unavailable')
    const took = performance.now() - began
    const most = DEFAULTS.keepalive + DEFAULTS.keepaliveTimeout + 1_000
    assert.ok(took <= most, `found after ${Math.round(took)} ms, at most ${most}`)
  })
})
