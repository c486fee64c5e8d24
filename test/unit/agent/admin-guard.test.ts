// Who may use /debug, over a real socket: tools on loopback and holders of the token, and no web page.

import assert from 'node:assert/strict'
import { type OutgoingHttpHeaders, request } from 'node:http'
import { describe, it } from 'node:test'
import { type GuardRule, guarded, guardedRaw } from '#agent/admin/guard.ts'
import { createRouter } from '#kit/http/router.ts'
import { startHttpServer } from '#kit/http/server.ts'
import { createLogger } from '#kit/logger.ts'

const ROUTES = [
  ['POST', '/debug/holds/a'],
  ['GET', '/debug/heap'],
] as const

async function serve(rule: GuardRule) {
  const router = createRouter()
    .on(
      'POST',
      '/debug/holds/:cluster',
      guarded(rule, () => ({ status: 200 })),
    )
    .raw(
      'GET',
      '/debug/heap',
      guardedRaw(rule, (_request, response) => void response.end()),
    )
  const logger = createLogger({ service: 'test', level: 'silent' })
  const server = await startHttpServer({ listen: { host: '127.0.0.1', port: 0 }, router, logger })
  const { port } = server.address
  const one = (method: string, path: string, headers: OutgoingHttpHeaders) =>
    new Promise<number | undefined>((resolve, reject) => {
      request({ host: '127.0.0.1', port, method, path, headers }, (response) => {
        response.resume().once('end', () => resolve(response.statusCode))
      })
        .once('error', reject)
        .end()
    })
  return {
    port,
    ask: (headers: OutgoingHttpHeaders = {}) => Promise.all(ROUTES.map(([method, path]) => one(method, path, headers))),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

const LET_IN = [200, 200]
const REFUSED = [403, 403]

describe('the guard of /debug', () => {
  it('lets tools on loopback in, by any of its names', async () => {
    await using server = await serve({ token: undefined, loopback: true })
    const { ask, port } = server
    assert.deepEqual(await ask(), LET_IN)
    for (const host of [
      'localhost',
      `localhost:${port}`,
      'LOCALHOST:1',
      '127.0.0.1:9',
      '127.1.2.3',
      '[::1]:80',
      '[::1]',
    ]) {
      assert.deepEqual(await ask({ host }), LET_IN, host)
      assert.deepEqual(await ask({ host, origin: `http://${host}`, 'sec-fetch-site': 'same-origin' }), LET_IN, host)
    }
  })

  it('refuses a page whose name was re-pointed to loopback', async () => {
    await using server = await serve({ token: undefined, loopback: true })
    const { ask, port } = server
    for (const name of [
      'evil.example',
      'localhost.evil.example',
      '127.0.0.1.evil.example',
      '10.0.0.1',
      'evil@localhost',
    ]) {
      const host = `${name}:${port}`
      assert.deepEqual(await ask({ host }), REFUSED, host)
      assert.deepEqual(await ask({ host, origin: `http://${host}` }), REFUSED, host)
    }
  })

  it('refuses a page of another site, of another local server, and of nobody', async () => {
    await using server = await serve({ token: undefined, loopback: true })
    const { ask, port } = server
    const host = `localhost:${port}`
    for (const origin of ['https://evil.example', 'null', 'http://localhost:1', `http://127.0.0.1:${port}`]) {
      assert.deepEqual(await ask({ host, origin }), REFUSED, origin)
    }
    for (const site of ['cross-site', 'same-site'])
      assert.deepEqual(await ask({ host, 'sec-fetch-site': site }), REFUSED)
  })

  it('asks for the token where one is configured, and then for nothing else', async () => {
    await using server = await serve({ token: 'secret', loopback: true })
    const { ask } = server
    assert.deepEqual(await ask(), REFUSED)
    assert.deepEqual(await ask({ authorization: 'Bearer wrong' }), REFUSED)
    const authorization = 'Bearer secret'
    assert.deepEqual(await ask({ authorization, host: 'agent.internal:9', origin: 'https://ops.example' }), LET_IN)
  })

  it('refuses everybody without a token away from loopback', async () => {
    await using server = await serve({ token: undefined, loopback: false })
    assert.deepEqual(await server.ask(), REFUSED)
  })
})
