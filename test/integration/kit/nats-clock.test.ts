// The hub connection and a wall clock that is set back: the client library counts its waits by it, the link must not.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
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

async function openLink(t: TestContext, url: string) {
  const clock = { offset: 0 }
  const trueNow = Date.now
  t.mock.method(Date, 'now', () => trueNow() + clock.offset)
  const logger = createLogger({ service: 'test', level: 'error', format: 'json', destination: () => undefined })
  const backoff = { baseMs: 20, capMs: 100 }
  const link = openNats({ name: 'test', inboxPrefix: '_INBOX.test', backoff, servers: [url] }, { logger })
  await link.connected(AbortSignal.timeout(10_000))
  return { clock, link }
}

test('a clock set back by a month does not keep the link from the hub for a month', async (t) => {
  await using nats = await startNats({ proxyFor: 'clients' })
  const { clock, link } = await openLink(t, nats.clientUrl)
  await using _link = link
  // One attempt is made far in the future; the next one is compared with it.
  clock.offset = 30 * DAY_MS
  await generationAfterCut(link, () => nats.proxy.cut('reset'))
  clock.offset = 0
  await generationAfterCut(link, () => nats.proxy.cut('reset'))
  assert.equal(link.state().kind, 'connected')
})

test('nor does one that is set back while an attempt is under way', async (t) => {
  await using nats = await startNats({ proxyFor: 'clients' })
  const { clock, link } = await openLink(t, nats.clientUrl)
  await using _link = link
  clock.offset = 30 * DAY_MS
  // The attempt reaches the proxy and gets no answer there before the clock is put right.
  nats.proxy.blackhole('toClient')
  const { accepted } = nats.proxy.stats()
  nats.proxy.cut('reset')
  const deadline = performance.now() + 10_000
  while (nats.proxy.stats().accepted === accepted && performance.now() < deadline) await wait(5)
  clock.offset = 0
  await nats.proxy.heal()
  for await (const { kind } of link.status(AbortSignal.timeout(10_000))) if (kind === 'connected') break
  await generationAfterCut(link, () => nats.proxy.cut('reset'))
  assert.equal(link.state().kind, 'connected')
})
