// Behind a balancer: the peer's address is the one the balancer names, and a connection without a header is nobody's.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseProxyHeader } from '#gateway/session/proxy-header.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { startGateway } from './gateway.ts'

const V2_HEAD = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0, 12])
const V2 = Buffer.concat([V2_HEAD, Buffer.from([203, 0, 113, 9, 10, 0, 0, 1, 0x1f, 0x90, 0x01, 0xbb])])

test('headers of both versions are read from any pieces', () => {
  const v1 = Buffer.from('PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n')
  const v6 = Buffer.from('PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n')
  for (const [bytes, address] of [
    [v1, '203.0.113.7'],
    [v6, '2001:db8::1'],
    [V2, '203.0.113.9'],
  ] as const) {
    for (let i = 1; i < bytes.length; i++) assert.equal(parseProxyHeader(bytes.subarray(0, i)).kind, 'more')
    assert.deepEqual(parseProxyHeader(Buffer.concat([bytes, Buffer.from('GET /')])), {
      kind: 'ok',
      length: bytes.length,
      address,
    })
  }
  assert.deepEqual(parseProxyHeader(Buffer.from('PROXY UNKNOWN\r\n')), { kind: 'ok', length: 15, address: undefined })
  for (const bad of [
    'GET / HTTP/1.1\r\n',
    'PROXY TCP4 evil 10.0.0.1 1 2\r\n',
    'PROXY TCP4 1.2.3.4\r\n',
    `PROXY ${'x'.repeat(120)}`,
  ]) {
    assert.equal(parseProxyHeader(Buffer.from(bad)).kind, 'bad', bad)
  }
})

test('no bytes make the parser throw or read beyond them', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (tail, v2) => {
      const header = parseProxyHeader(Buffer.concat([v2 ? V2_HEAD.subarray(0, 12) : Buffer.from('PROXY '), tail]))
      if (header.kind === 'ok') assert.ok(header.length <= tail.length + 12)
    }),
  )
})

async function ask(port: number, header: Buffer | string): Promise<string> {
  const socket: Socket = connect({ host: '127.0.0.1', port })
  socket.on('error', () => undefined)
  socket.write(
    Buffer.concat([
      Buffer.from(header),
      Buffer.from('GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'),
    ]),
  )
  let text = ''
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  await once(socket, 'close')
  return text.split('\r\n')[0] ?? ''
}

test('limits count the address the balancer names; without a header there is no service', async () => {
  await using gateway = await startGateway({
    sources: new FakeSources(new FakeSource()),
    limits: { maxPerAddress: 1, headersTimeoutMs: 500 },
    proxyProtocol: true,
  })
  assert.match(await ask(gateway.port, 'PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n'), /200/)
  assert.match(await ask(gateway.port, V2), /200/)
  assert.equal(await ask(gateway.port, ''), '')
  const silent = connect({ host: '127.0.0.1', port: gateway.port })
  silent.on('error', () => undefined)
  await once(silent, 'close')
  assert.equal(await gateway.metric('deltawatch_connections_refused_total', { code: 'ProxyHeader' }), 2)
  const upgrade = async (address: string): Promise<string> => {
    const socket = connect({ host: '127.0.0.1', port: gateway.port })
    socket.on('error', () => undefined)
    socket.write(
      `PROXY TCP4 ${address} 10.0.0.1 1 2\r\nGET /v1/watch HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: deltawatch.v1.json\r\n\r\n`,
    )
    const [first] = (await once(socket, 'data')) as [Buffer]
    return first.toString().split(' ')[1] ?? ''
  }
  assert.equal(await upgrade('203.0.113.1'), '101')
  assert.equal(await upgrade('203.0.113.2'), '101')
  assert.equal(await upgrade('203.0.113.1'), '429')
})
