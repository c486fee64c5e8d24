// Events that do not fit together, again and again: each is repaired openly, and none is passed over because one has
// just been repaired.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { decodeRaw, readLog } from '../../judge/log-reader.ts'
import { startFakeEtcd } from '../../support/fake-etcd.ts'
import { startNats } from '../../support/nats.ts'
import { CLUSTER, startAgent } from './harness.ts'

describe('suspicion', () => {
  it('I1: a second event left out soon after a repair waits for its own, and nothing behind it is relayed before', async () => {
    await using etcd = await startFakeEtcd()
    await using nats = await startNats()
    await using agent = await startAgent({
      etcd: etcd.url,
      nats: nats.clientUrl,
      flags: ['--create-stream'],
      env: { DELTAWATCH_UPLINK_RESYNC_EVERY: '3s', DELTAWATCH_WATCH_PROGRESS_EVERY: '200ms' },
    })
    const caughtUp = (): Promise<unknown> => {
      const { head } = etcd.store
      return agent.until(`position ${head}`, (s) => s.phase === 'live' && BigInt(s.position) >= head)
    }
    await agent.until('live', (s) => s.phase === 'live')
    const { store } = etcd
    const checkpoints = async (): Promise<number> => {
      const entries = (await readLog(nats.clientUrl, CLUSTER)).map((message) => decodeRaw(message.data))
      return entries.filter((entry) => entry.kind === 'SNAPSHOT_END').length
    }
    const skip = async (): Promise<void> => {
      store.put('/k', 'seen')
      await caughtUp()
      store.write({ op: 'put', key: '/k', value: 'never told' })
      store.put('/k', 'after it')
    }
    await skip()
    await caughtUp()
    assert.equal(await checkpoints(), 2)
    const first = performance.now()
    await skip()
    const { head } = store
    const { reason, position } = await agent.until('waiting', (s) => /the next resync begins/.test(s.reason))
    assert.ok(BigInt(position) < head - 1n, `${position} of ${head}: ${reason}`)
    await caughtUp()
    assert.equal(await checkpoints(), 3)
    assert.ok(performance.now() - first > 1_500, 'it waited')
  })

  it('I1 I4: what was left out is repaired even if the agent dies before it may', async () => {
    await using etcd = await startFakeEtcd()
    await using nats = await startNats()
    await using agent = await startAgent({
      etcd: etcd.url,
      nats: nats.clientUrl,
      flags: ['--create-stream'],
      env: { DELTAWATCH_UPLINK_RESYNC_EVERY: '1m', DELTAWATCH_WATCH_PROGRESS_EVERY: '200ms' },
    })
    const { store } = etcd
    const caughtUp = (): Promise<unknown> => {
      const { head } = store
      return agent.until(`position ${head}`, (s) => s.phase === 'live' && BigInt(s.position) >= head)
    }
    const checkpoints = async (): Promise<number> => {
      const entries = (await readLog(nats.clientUrl, CLUSTER)).map((message) => decodeRaw(message.data))
      return entries.filter((entry) => entry.kind === 'SNAPSHOT_END').length
    }
    await agent.until('live', (s) => s.phase === 'live')
    /** The gap lies far behind the position when it is noticed: what proves lineage does not reach back to it. */
    const skip = async (): Promise<void> => {
      store.put('/k', 'seen')
      await caughtUp()
      store.write({ op: 'put', key: '/k', value: 'never told' })
      for (let n = 0; n < 100; n++) store.put(`/other/${n}`, 'x')
      await caughtUp()
      store.put('/k', 'after it')
    }
    await skip()
    await caughtUp()
    assert.equal(await checkpoints(), 2)
    await skip()
    await agent.until('waiting', (s) => /the next resync begins/.test(s.reason))
    await agent.kill()
    await agent.restart()
    await caughtUp()
    assert.equal(await checkpoints(), 3, 'whoever continued knew of it')
  })
})
