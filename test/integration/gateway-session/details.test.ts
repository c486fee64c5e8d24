// What a gateway tells of itself, to whom: metrics and the details of probes name every cluster and its activity.

import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
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

test('P2: a proxy on this host makes nobody local: a forwarded request is told no more than whether all is well', async () => {
  await using gateway = await startGateway({ sources: new FakeSources(new FakeSource()) })
  for (const name of ['forwarded', 'via', 'x-forwarded-for', 'x-real-ip']) {
    for (const path of PATHS) {
      const { status, body } = await gateway.get(path, { [name]: '127.0.0.1' })
      assert.ok(path === '/metrics' ? status === 404 : body === 'ok\n', `${path} ${name}: ${body}`)
    }
  }
})

test('P2: behind the PROXY protocol the named address is judged; whom the balancer does not name is told nothing', async () => {
  await using gateway = await startGateway({ sources: new FakeSources(new FakeSource()), proxyProtocol: true })
  const ask = async (header: string, path: string): Promise<string> => {
    const socket = connect({ host: '127.0.0.1', port: gateway.port })
    socket.write(`${header}\r\nGET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`)
    return text(socket)
  }
  for (const header of ['PROXY TCP4 203.0.113.7 127.0.0.1 56324 443', 'PROXY UNKNOWN']) {
    for (const path of PATHS) {
      const answer = await ask(header, path)
      assert.ok(!/accepting|deltawatch_connections/.test(answer), `${path} ${header}: ${answer}`)
    }
  }
  assert.match(await ask('PROXY TCP4 127.0.0.1 127.0.0.1 56324 443', '/readyz?verbose'), /accepting ok/)
  assert.match(await ask('PROXY TCP6 ::1 ::1 56324 443', '/metrics'), /deltawatch_connections/)
})
