// The fault proxy does exactly what it says, because every fault test believes it.
// Bounds on time are one-sided where only one side is a promise: never early, never more than the line allows.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { createLine, planArrival, windowOf } from '../../support/tcp-line.ts'
import { startTcpProxy } from '../../support/tcp-proxy.ts'

interface Echo extends AsyncDisposable {
  readonly port: number
  readonly sockets: Socket[]
  nextConnection(): Promise<Socket>
}

async function startEcho(): Promise<Echo> {
  const sockets: Socket[] = []
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.pipe(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new TypeError('echo: not a TCP server')
  return {
    port: address.port,
    sockets,
    nextConnection: async () => {
      const [socket] = (await once(server, 'connection')) as [Socket]
      return socket
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

async function dial(port: number): Promise<Socket & AsyncDisposable> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  return Object.assign(socket, {
    [Symbol.asyncDispose]: () => {
      socket.destroy()
      return Promise.resolve()
    },
  })
}

async function readBytes(socket: Socket, count: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    size += chunk.length
    if (size >= count) return Buffer.concat(chunks)
  }
  throw new Error(`ended after ${size} of ${count} bytes`)
}

async function roundTrip(socket: Socket, text: string): Promise<number> {
  const began = performance.now()
  socket.write(text)
  assert.equal((await readBytes(socket, text.length)).toString(), text)
  return performance.now() - began
}

const codeOf = async (socket: Socket): Promise<unknown> => {
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
  return error.code
}

/** events.once rejects on 'error'; here an error is just one way to close. */
const closed = (socket: Socket): Promise<void> => new Promise((resolve) => void socket.once('close', () => resolve()))

const quiet = (): Promise<string> => new Promise((resolve) => setTimeout(resolve, 100, 'quiet'))

test('passes every byte both ways, in order, and an orderly end', async () => {
  await using echo = await startEcho()
  await using proxy = await startTcpProxy(echo)
  await using socket = await dial(proxy.port)
  const sent = Buffer.alloc(3_000_000, 'abcdefg')
  socket.end(sent)
  assert.ok((await readBytes(socket, sent.length)).equals(sent))
  await once(socket, 'end')
  assert.deepEqual(proxy.stats().toTarget, sent.length)
  assert.deepEqual(proxy.stats().toClient, sent.length)
})

test('cut resets both sides, and the next connection works', async () => {
  await using echo = await startEcho()
  await using proxy = await startTcpProxy(echo)
  await using socket = await dial(proxy.port)
  await roundTrip(socket, 'one')
  const [far] = echo.sockets
  assert.ok(far !== undefined)
  const seen = Promise.all([codeOf(socket), closed(far)])
  assert.equal(proxy.cut(), 1)
  assert.equal((await seen)[0], 'ECONNRESET')
  await using again = await dial(proxy.port)
  await roundTrip(again, 'two')
})

test("cut('end') closes in order, without an error", async () => {
  await using echo = await startEcho()
  await using proxy = await startTcpProxy(echo)
  await using socket = await dial(proxy.port)
  await roundTrip(socket, 'one')
  proxy.cut('end')
  socket.resume()
  await once(socket, 'end')
})

test('refuse gives ECONNREFUSED and leaves open connections alone; accept takes the same port again', async () => {
  await using echo = await startEcho()
  await using proxy = await startTcpProxy(echo)
  await using socket = await dial(proxy.port)
  await proxy.refuse()
  await assert.rejects(dial(proxy.port), { code: 'ECONNREFUSED' })
  await roundTrip(socket, 'still here')
  await proxy.accept()
  await using again = await dial(proxy.port)
  await roundTrip(again, 'back')
})

test('a black hole shows nothing, not even the end of a connection, and loses nothing', async () => {
  await using echo = await startEcho()
  await using proxy = await startTcpProxy(echo)
  await using socket = await dial(proxy.port)
  await roundTrip(socket, 'one')
  const [far] = echo.sockets
  assert.ok(far !== undefined)
  proxy.blackhole()
  socket.write('held')
  far.destroy()
  const outcome = Promise.race([once(socket, 'data'), once(socket, 'close'), once(socket, 'end')])
  assert.equal(await Promise.race([outcome, quiet()]), 'quiet')
  const healed = Promise.race([once(socket, 'close'), once(socket, 'end')])
  await proxy.heal()
  socket.on('error', () => {})
  await healed
})

test('the sender into a black hole feels back-pressure, so that nothing grows without bound', async () => {
  await using echo = await startEcho()
  await using proxy = await startTcpProxy(echo)
  await using socket = await dial(proxy.port)
  await roundTrip(socket, 'one')
  proxy.blackhole()
  const size = 32 * 1024 * 1024
  socket.write(Buffer.alloc(size))
  const drained = once(socket, 'drain')
  assert.equal(await Promise.race([drained, quiet()]), 'quiet')
  await proxy.heal()
  await Promise.all([drained, readBytes(socket, size)])
})

test('a one-way black hole lets the other direction through', async () => {
  await using echo = await startEcho()
  await using proxy = await startTcpProxy(echo)
  await using socket = await dial(proxy.port)
  await roundTrip(socket, 'one')
  const [far] = echo.sockets
  assert.ok(far !== undefined)
  proxy.blackhole('toClient')
  const arrived = once(far, 'data')
  socket.write('two')
  assert.equal(String((await arrived)[0]), 'two')
  const answer = readBytes(socket, 3)
  assert.equal(await Promise.race([answer, quiet()]), 'quiet')
  await proxy.heal()
  assert.equal(String(await answer), 'two')
})

test('delay holds every byte for its time each way, and does not narrow the line', async () => {
  await using echo = await startEcho()
  await using proxy = await startTcpProxy(echo)
  await using socket = await dial(proxy.port)
  proxy.delay(40)
  assert.ok((await roundTrip(socket, 'ping')) >= 79.5)
  const began = performance.now()
  for (let i = 0; i < 50; i += 1) socket.write('x'.repeat(1_000))
  await readBytes(socket, 50_000)
  const took = performance.now() - began
  assert.ok(took >= 79.5 && took < 50 * 40, `50 writes together took ${took} ms, one after another would be 4,000`)
  proxy.delay(0)
  assert.ok((await roundTrip(socket, 'ping')) < 79.5)
})

test('throttle never lets more through than the line carries', async () => {
  await using echo = await startEcho()
  await using proxy = await startTcpProxy(echo)
  await using first = await dial(proxy.port)
  await using second = await dial(proxy.port)
  proxy.throttle(400_000, 'toTarget')
  const began = performance.now()
  first.write(Buffer.alloc(60_000))
  second.write(Buffer.alloc(60_000))
  await Promise.all([readBytes(first, 60_000), readBytes(second, 60_000)])
  const took = performance.now() - began
  assert.ok(took >= 299, `120,000 bytes at 400,000 bytes/s shared by two connections took ${took} ms`)
  assert.throws(() => proxy.throttle(0), RangeError)
})

test('healing a slow line frees what is already on its way', async () => {
  await using echo = await startEcho()
  await using proxy = await startTcpProxy(echo)
  await using socket = await dial(proxy.port)
  proxy.delay(60_000)
  socket.write('late')
  const answer = readBytes(socket, 4)
  assert.equal(await Promise.race([answer, quiet()]), 'quiet')
  await proxy.heal()
  assert.equal(String(await answer), 'late')
})

test('flap cuts, refuses and comes back, the given number of times', async () => {
  await using echo = await startEcho()
  await using proxy = await startTcpProxy(echo)
  await using socket = await dial(proxy.port)
  const reset = codeOf(socket)
  const flapping = proxy.flap({ upMs: 20, downMs: 30, cycles: 2 })
  assert.throws(() => proxy.flap({ upMs: 1, downMs: 1 }), /flapping already/)
  assert.equal(await reset, 'ECONNRESET')
  await assert.rejects(dial(proxy.port), { code: 'ECONNREFUSED' })
  await flapping.done
  assert.equal(flapping.downs, 2)
  await using again = await dial(proxy.port)
  await roundTrip(again, 'up')
})

test('a target that is down resets the client; a new target is used by the next connection', async () => {
  await using echo = await startEcho()
  await using proxy = await startTcpProxy({ port: 1 })
  const socket = connect(proxy.port, '127.0.0.1')
  assert.equal(await codeOf(socket), 'ECONNRESET')
  proxy.retarget(echo)
  await using again = await dial(proxy.port)
  await roundTrip(again, 'there')
})

test('dispose frees the port and leaves no connection', async () => {
  await using echo = await startEcho()
  let port: number
  {
    await using proxy = await startTcpProxy(echo)
    port = proxy.port
    const far = echo.nextConnection()
    const socket = await dial(port)
    socket.on('error', () => {})
    const gone = closed(await far)
    await proxy[Symbol.asyncDispose]()
    await gone
  }
  await assert.rejects(dial(port), { code: 'ECONNREFUSED' })
})

test('the plan keeps order, never beats the delay, and never exceeds the rate', () => {
  const parcel = fc.record({ gap: fc.nat(50), bytes: fc.nat(20_000) })
  fc.assert(
    fc.property(
      fc.array(parcel, { minLength: 1 }),
      fc.nat(200),
      fc.integer({ min: 1, max: 10_000_000 }),
      (parcels, delayMs, rate) => {
        const line = { ...createLine(), delayMs, bytesPerSecond: rate }
        let at = 0
        let last = 0
        let total = 0
        for (const { gap, bytes } of parcels) {
          at += gap
          total += bytes
          const due = planArrival(line, at, bytes)
          assert.ok(due >= last)
          assert.ok(due + 1e-6 >= at + delayMs + (bytes / rate) * 1_000)
          assert.ok(due + 1e-6 >= delayMs + (total / rate) * 1_000)
          last = due
        }
      },
    ),
  )
  assert.ok(windowOf({ ...createLine(), bytesPerSecond: 1 }) > 0)
})
