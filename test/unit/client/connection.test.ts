// The connection shell under a clock that only the test moves: liveness, tokens, time limits, goodbye.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type ConnectionState, DeltaWatch, type DeltaWatchOptions, type Notice } from '#client/deltawatch.ts'
import type { ClientClock, SocketEvents, SocketLike } from '#client/ports.ts'
import { toBase64Url } from '#protocol/bytes.ts'
import type { ClientFrame } from '#protocol/frames.ts'
import { ManualClock } from '#test/support/manual-clock.ts'

class FakeSocket implements SocketLike {
  static made: FakeSocket[] = []
  readyState = 0
  readonly sent: ClientFrame[] = []
  readonly protocols: readonly string[]
  closedWith: number | undefined
  readonly #listeners = new Map<string, (event: never) => void>()

  constructor(_url: string, protocols: string[]) {
    this.protocols = protocols
    FakeSocket.made.push(this)
  }
  static get last(): FakeSocket {
    const socket = FakeSocket.made.at(-1)
    assert.ok(socket !== undefined, 'no socket was made')
    return socket
  }

  addEventListener<K extends keyof SocketEvents>(type: K, listener: (event: SocketEvents[K]) => void): void {
    this.#listeners.set(type, listener)
  }
  send(data: string): void {
    this.sent.push(JSON.parse(data) as ClientFrame)
  }
  close(code = 1005): void {
    this.closedWith = code
  }

  open(): void {
    this.readyState = 1
    this.#emit('open', {})
  }
  say(frame: object): void {
    this.#emit('message', { data: JSON.stringify(frame) })
  }
  welcome(heartbeatMs = 15_000): void {
    this.open()
    this.say({ type: 'welcome', version: 1, session: 's', heartbeatMs, limits: {}, clusters: {} })
  }
  end(code: number, reason = ''): void {
    this.readyState = 3
    this.#emit('close', { code, reason })
  }
  types(): string[] {
    return this.sent.map(({ type }) => type)
  }
  #emit(type: string, event: object): void {
    this.#listeners.get(type)?.(event as never)
  }
}

function setUp(options: Partial<DeltaWatchOptions> = {}) {
  FakeSocket.made = []
  const manual = new ManualClock()
  const clock: ClientClock = {
    now: () => manual.monotonic(),
    wall: () => manual.now(),
    after: (ms, fn) => {
      const timer = manual.setTimeout(fn, ms)
      return () => timer[Symbol.dispose]()
    },
  }
  const dw = new DeltaWatch({ url: 'ws://x', WebSocket: FakeSocket, clock, random: () => 0.5, ...options })
  const states: ConnectionState[] = []
  const notices: Notice[] = []
  dw.on('state', (state) => states.push(state))
  dw.on('notice', (notice) => notices.push(notice))
  const connected = dw.connect().then(
    () => undefined,
    (error: unknown) => error,
  )
  return { dw, manual, states, notices, connected, phases: () => states.map(({ phase }) => phase).join(' ') }
}

describe('a connection', () => {
  it('says hello with the subprotocol, and is open at the welcome', async () => {
    const { manual, connected, phases } = setUp({ app: 'shop/2', token: 't' })
    await manual.advance(0)
    assert.deepEqual(FakeSocket.last.protocols, ['deltawatch.v1.json'])
    FakeSocket.last.welcome()
    await connected
    assert.deepEqual(FakeSocket.last.sent, [
      { type: 'hello', client: 'shop/2 deltawatch-ts/1', versions: [1], token: 't' },
    ])
    assert.equal(phases(), 'dialing open')
  })

  it('that is quiet is pinged, then given up and dialled again; any frame keeps it', async () => {
    const { manual, phases } = setUp()
    await manual.advance(0)
    FakeSocket.last.welcome(10_000)
    await manual.advance(14_000)
    FakeSocket.last.say({ type: 'heartbeat' })
    await manual.advance(14_000)
    assert.deepEqual(FakeSocket.last.types(), ['hello'])
    await manual.advance(2_000)
    assert.deepEqual(FakeSocket.last.types(), ['hello', 'ping'])
    FakeSocket.last.say({ type: 'pong' })
    await manual.advance(16_000)
    assert.deepEqual(FakeSocket.last.types(), ['hello', 'ping', 'ping'])
    assert.equal(phases(), 'dialing open')
    await manual.advance(5_000)
    assert.equal(FakeSocket.made[0]?.closedWith, 1000)
    await manual.advance(1_000)
    assert.equal(FakeSocket.made.length, 2)
    assert.equal(phases(), 'dialing open waiting dialing')
  })

  it('that never opens, or opens and never welcomes, is given up in time', async () => {
    const { manual, phases } = setUp()
    await manual.advance(15_100)
    assert.equal(phases(), 'dialing waiting')
    await manual.advance(1_000)
    FakeSocket.last.open()
    await manual.advance(9_900)
    assert.equal(phases(), 'dialing waiting dialing')
    await manual.advance(200)
    assert.equal(phases(), 'dialing waiting dialing waiting')
    assert.equal(FakeSocket.last.closedWith, 1000)
  })

  it('what a socket says after it was let go of is not heard', async () => {
    const { manual, phases, notices } = setUp()
    await manual.advance(16_000)
    const [first] = FakeSocket.made
    assert.equal(FakeSocket.made.length, 2)
    first?.welcome()
    first?.end(4003)
    first?.say({ type: 'nonsense' })
    assert.equal(phases(), 'dialing waiting dialing')
    assert.deepEqual(notices, [])
  })

  it('that was told goodbye comes back when it was asked to', async () => {
    const { manual, states } = setUp()
    await manual.advance(0)
    FakeSocket.last.welcome()
    await manual.advance(20_000)
    FakeSocket.last.say({ type: 'heartbeat' })
    FakeSocket.last.say({ type: 'goodbye', code: 4201, reason: 'draining', retryAfterMs: 1_200 })
    FakeSocket.last.end(1006)
    const waiting = states.at(-1)
    assert.ok(waiting?.phase === 'waiting' && waiting.retryInMs === 1_325 && waiting.ended.code === 4201)
    await manual.advance(1_300)
    assert.equal(FakeSocket.made.length, 1)
    await manual.advance(50)
    assert.equal(FakeSocket.made.length, 2)
  })

  it('a gateway that sends it away again and again is named', async () => {
    const { manual, notices } = setUp()
    for (let n = 0; n < 5; n++) {
      await manual.advance(9_000)
      FakeSocket.last.welcome()
      FakeSocket.last.end(4200, 'slow reader')
    }
    assert.equal(notices[0]?.code, 'fast-loop')
    assert.match(notices[0]?.message ?? '', /5 connections in a row ended early: 4200 slow reader/)
  })

  it('close() forgets every timer', async () => {
    const { dw, manual, connected } = setUp()
    await manual.advance(0)
    FakeSocket.last.welcome()
    await dw.close()
    assert.equal(await connected, undefined)
    assert.equal(manual.pending, 0)
    assert.equal(dw.connection.phase, 'closed')
    await assert.rejects(dw.connect(), { code: 'client.closed' })
  })

  it('a listener that throws harms nobody', async () => {
    const { dw, manual, notices, connected } = setUp()
    dw.on('state', () => {
      throw new Error('the listener failed')
    })
    const late: string[] = []
    dw.on('state', ({ phase }) => late.push(phase))
    await manual.advance(0)
    FakeSocket.last.welcome()
    await connected
    assert.deepEqual(late, ['open'])
    assert.equal(notices[0]?.code, 'listener-failed')
  })
})

describe('a token', () => {
  const jwt = (expiresAtMs: number): string =>
    `e30.${toBase64Url(new TextEncoder().encode(JSON.stringify({ exp: expiresAtMs / 1000 })))}.x`

  it('is refreshed in band before it expires, and again after the gateway took it', async () => {
    const manual = { clock: undefined as ManualClock | undefined }
    let calls = 0
    const world = setUp({
      token: () => {
        calls += 1
        return jwt((manual.clock?.now() ?? Date.UTC(2026, 0, 1)) + 100_000)
      },
    })
    manual.clock = world.manual
    await world.manual.advance(0)
    FakeSocket.last.welcome()
    const alive = async (ms: number): Promise<void> => {
      for (let passed = 0; passed < ms; passed += 10_000) {
        await world.manual.advance(10_000)
        FakeSocket.last.say({ type: 'heartbeat' })
      }
    }
    await alive(70_000)
    assert.equal(calls, 1)
    await alive(20_000)
    assert.equal(calls, 2)
    assert.deepEqual(FakeSocket.last.types(), ['hello', 'auth'])
    FakeSocket.last.say({ type: 'authed' })
    await alive(90_000)
    assert.equal(calls, 3)
    assert.equal(FakeSocket.made.length, 1)
  })

  it('whose hook fails is asked for again, and the connection lives on', async () => {
    let calls = 0
    const world = setUp({
      token: async () => {
        calls += 1
        if (calls === 2) throw new Error('the identity provider is away')
        return jwt(Date.UTC(2026, 0, 1) + 50_000)
      },
    })
    await world.manual.advance(0)
    FakeSocket.last.welcome(60_000)
    await world.manual.advance(40_000)
    assert.deepEqual(
      world.notices.map(({ code }) => code),
      ['token-failed'],
    )
    await world.manual.advance(5_000)
    assert.deepEqual(FakeSocket.last.types(), ['hello', 'auth'])
  })

  it('that arrives after the dial was given up opens nothing', async () => {
    const waiting: ((token: string) => void)[] = []
    const world = setUp({ token: () => new Promise((resolve) => waiting.push(resolve)) })
    await world.manual.advance(16_000)
    waiting[0]?.('late')
    await world.manual.advance(0)
    assert.equal(FakeSocket.made.length, 0)
    waiting[1]?.('in time')
    await world.manual.advance(0)
    FakeSocket.last.welcome()
    const [hello] = FakeSocket.last.sent
    assert.ok(hello?.type === 'hello' && hello.token === 'in time')
  })
})
