// The hub connection and a wall clock that is set back: the client library counts its waits by it, the link must not.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLogger } from '#kit/logger.ts'
import { type NatsLink, openNats } from '#kit/nats.ts'
import { startNats } from '#test/support/nats.ts'

const DAY_MS = 86_400_000

async function generationAfterCut(link: NatsLink, cut: () => void): Promise<void> {
  const lost = (async () => {
    for await (const { kind } of link.status(AbortSignal.timeout(10_000))) if (kind !== 'connected') return
  })()
  cut()
  await lost
  for await (const { kind } of link.status(AbortSignal.timeout(10_000))) if (kind === 'connected') return
  assert.fail(`still ${link.state().kind}`)
}

test('a clock set back by a month does not keep the link from the hub for a month', async (t) => {
  await using nats = await startNats({ proxyFor: 'clients' })
  let offset = 0
  const trueNow = Date.now
  t.mock.method(Date, 'now', () => trueNow() + offset)
  const logger = createLogger({ service: 'test', level: 'error', format: 'json', destination: () => undefined })
  await using link = openNats(
    { name: 'test', inboxPrefix: '_INBOX.test', backoff: { baseMs: 20, capMs: 100 }, servers: [nats.clientUrl] },
    { logger },
  )
  await link.connected(AbortSignal.timeout(10_000))
  // One attempt is made far in the future; the next one is compared with it.
  offset = 30 * DAY_MS
  await generationAfterCut(link, () => nats.proxy.cut('reset'))
  offset = 0
  await generationAfterCut(link, () => nats.proxy.cut('reset'))
  assert.equal(link.state().kind, 'connected')
})
