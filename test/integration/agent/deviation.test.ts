// The deviation alarm on the whole road: revisions that etcd counted and never told are missed, shown, and over when they end.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { startFakeEtcd } from '../../support/fake-etcd.ts'
import { startNats } from '../../support/nats.ts'
import { type Agent, startAgent } from './harness.ts'

const EVERY_MS = 1_000
/** More than the least advance that says anything, in a burst. */
const BURST = 130
/** Intervals in which the share of the range is learned, before any of them counts. */
const LEARNING = 3

const alarm = (agent: Agent): Promise<number> => agent.metric('deltawatch_agent_deviation_alarm')

describe('deviation', () => {
  it('a server that counts revisions and tells none of them is alarmed about, and no longer once it does', async () => {
    await using etcd = await startFakeEtcd()
    await using nats = await startNats()
    await using agent = await startAgent({
      etcd: etcd.url,
      nats: nats.clientUrl,
      flags: ['--create-stream'],
      env: { DELTAWATCH_WATCH_DEVIATION_EVERY: `${EVERY_MS}ms`, DELTAWATCH_WATCH_PROGRESS_EVERY: '200ms' },
    })
    await agent.until('live', (s) => s.phase === 'live')
    const { store } = etcd
    let n = 0
    /** One interval's worth; each key is new, so that nothing but its number is amiss. */
    const interval = async (told: boolean): Promise<void> => {
      for (let i = 0; i < BURST; i++) {
        const key = `/k/${n++}`
        if (told) store.put(key, 'told')
        else store.write({ op: 'put', key, value: 'never told' })
      }
      const { head } = store
      await agent.until(`proven ${head}`, (s) => BigInt(s.proven ?? '0') >= head)
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS + 100))
    }
    // The first one only opens the first interval.
    for (let i = 0; i <= LEARNING; i++) await interval(true)
    assert.equal(await alarm(agent), 0, 'everything was told')
    for (let i = 0; i < 3; i++) await interval(false)
    assert.equal(await alarm(agent), 1, agent.process.log().slice(-2_000))
    assert.ok((await agent.metric('deltawatch_agent_deviation_ratio')) > 0.3)
    const status = await (await fetch(`${agent.adminUrl}/debug/status`)).json()
    assert.equal((status as { logs: { deviation: { alarm: boolean } }[] }).logs[0]?.deviation.alarm, true)
    assert.match(agent.process.log(), /events relayed deviate from what etcd counts/)
    assert.equal((await agent.status())?.phase, 'live', 'a reason to look, and no verdict')
    for (let i = 0; i < 12 && (await alarm(agent)) === 1; i++) await interval(true)
    assert.equal(await alarm(agent), 0, 'it ends when what was learned fits again')
  })
})
