// What a gateway tells of itself, to whom: metrics and the details of probes name every cluster and its activity.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { startGateway } from './gateway.ts'

const PATHS = ['/metrics', '/readyz?verbose', '/livez?verbose']

test('P2: on loopback, under a loopback name, an operator reads everything; a page of elsewhere reads nothing', async () => {
  await using gateway = await startGateway({ sources: new FakeSources(new FakeSource()) })
  assert.match((await gateway.get('/metrics')).body, /deltawatch_connections/)
  assert.match((await gateway.get('/readyz?verbose')).body, /accepting ok/)
  for (const headers of [{ host: 'evil.example' }, { origin: 'https://evil.example' }]) {
    for (const path of PATHS) {
      const { status, body } = await gateway.get(path, headers)
      assert.ok(path === '/metrics' ? status === 404 : body === 'ok\n', `${path} ${JSON.stringify(headers)}: ${body}`)
    }
  }
})

test("P2: beside an admin listener the subscribers' one says no more than whether it is well", async () => {
  await using gateway = await startGateway({ sources: new FakeSources(new FakeSource()), details: false })
  const metrics = await gateway.get('/metrics')
  assert.equal(metrics.status, 404)
  assert.match(metrics.body, /--admin/)
  for (const path of ['/readyz?verbose', '/livez?verbose', '/readyz']) {
    const { status, body } = await gateway.get(path)
    assert.deepEqual([status, body], [200, 'ok\n'], path)
  }
  await gateway.front.drain(AbortSignal.timeout(1_000))
  const { status, body } = await gateway.get('/readyz?verbose')
  assert.deepEqual([status, body], [503, 'failed\n'])
})
