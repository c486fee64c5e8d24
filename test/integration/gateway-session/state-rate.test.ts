// The rate of state requests is for those who may ask.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Authenticator } from '#gateway/auth/principal.ts'
import { devAuthenticator } from '#gateway/auth/dev.ts'
import { Close, ErrorCode } from '#protocol/codes.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { startGateway } from './gateway.ts'

/** Knows anna; nobody else. */
function annaAlone(): Authenticator {
  const dev = devAuthenticator('sz')
  return {
    dev: false,
    authenticate: async (token) =>
      token === 'dev:anna:sz'
        ? dev.authenticate(token)
        : { ok: false, close: Close.Unauthorized, error: ErrorCode.Unauthorized, reason: 'nobody knows this token' },
  }
}

test('strangers use up nothing of the rate of state requests; a subscriber beyond it is refused', async () => {
  await using gateway = await startGateway({
    sources: new FakeSources(new FakeSource()),
    authenticator: annaAlone(),
    limits: { statePerSecond: 2 },
  })
  const ask = async (token: string): Promise<number> =>
    (await gateway.get('/v1/state?cluster=sz-edge-1&prefix=/', { authorization: `Bearer ${token}` })).status
  const strangers = await Promise.all(Array.from({ length: 30 }, () => ask('stranger')))
  assert.deepEqual(new Set(strangers), new Set([401]))
  assert.equal(await ask('dev:anna:sz'), 200)
  const many = await Promise.all(Array.from({ length: 30 }, () => ask('dev:anna:sz')))
  assert.ok(many.includes(503), many.join(' '))
  assert.ok((await gateway.metric('deltawatch_session_errors_total', { code: 'SnapshotBusy' })) > 0)
})
