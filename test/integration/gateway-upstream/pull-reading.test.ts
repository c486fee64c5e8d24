// The pull consumer on a real hub, with requests so small that many are used up to the byte.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AckPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream'
import { connect, createInbox } from '@nats-io/transport-node'
import { PullReading } from '#gateway/upstream/pull-reading.ts'
import { systemClock } from '#kit/clock.ts'
import { seededRandom } from '#kit/random.ts'
import { startNats } from '#test/support/nats.ts'

const MESSAGES = 20_000
/** Far beyond the test's own limit: a hub that is not asked again would be found by silence, and that late. */
const HEARTBEAT_MS = 14_000

test('I9: a request used up to the byte, which the hub ends without a word, delays nothing', {
  timeout: 13_000,
}, async () => {
  await using nats = await startNats()
  const nc = await connect({ servers: nats.clientUrl })
  try {
    const manager = await jetstreamManager(nc)
    await manager.streams.add({ name: 'S', subjects: ['s'] })
    const random = seededRandom(5)
    const js = jetstream(nc)
    for (let sent = 0; sent < MESSAGES; sent += 1_000) {
      await Promise.all(
        Array.from({ length: 1_000 }, () => js.publish('s', random.bytes(1 + Math.floor(random.next() * 40)))),
      )
    }
    const { name } = await manager.consumers.add('S', { ack_policy: AckPolicy.None, mem_storage: true })
    let seen = 0
    const reading = new PullReading({
      nc,
      inboxPrefix: createInbox(),
      stream: 'S',
      consumer: name,
      sink: ({ seq }) => {
        assert.equal(seq, ++seen)
        return seen === MESSAGES
      },
      bounds: { requestBytes: 1_000, requestMessages: 4_096, heartbeatMs: HEARTBEAT_MS },
      clock: systemClock(),
    })
    assert.deepEqual(await reading.done, { end: 'stopped' })
  } finally {
    await nc.close()
  }
})
