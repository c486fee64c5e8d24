// A TCP proxy that stands in for a bad network: cut, refused, black hole, slow, narrow, flapping.
// Owns: one listening port on loopback, its connections to one target, and the faults between them.
// Does not own: what flows through (bytes are never looked at), nor loss inside a connection: TCP hides that from programs.
// Faults hold until heal(). Each direction is one line shared by all connections, as a real link is.
// What it cannot show: a delayed or unanswered connect. The kernel completes the handshake before the proxy hears of it.

import { createServer, type Server, type Socket, connect } from 'node:net'
import { once } from 'node:events'
import { setTimeout as wait } from 'node:timers/promises'
import { reservePort } from './ports.ts'
import { carry, createLine, type Flow, type Line } from './tcp-line.ts'

export interface Target {
  readonly host?: string
  readonly port: number
}

export type Direction = 'toTarget' | 'toClient' | 'both'

export interface ProxyStats {
  /** Connections accepted since the start, and those open now. */
  readonly accepted: number
  readonly live: number
  /** Bytes handed on, per direction. */
  readonly toTarget: number
  readonly toClient: number
}

export interface FlapOptions {
  readonly upMs: number
  readonly downMs: number
  /** Ends by itself after so many downs; default: when disposed. */
  readonly cycles?: number
  /** 0..1; stretches every phase by 0.5 to 1.5. Pass a seeded one for a repeatable test; default: no jitter. */
  readonly random?: () => number
}

export interface Flapping extends AsyncDisposable {
  /** Resolves after the last cycle or dispose, with the port listening again. */
  readonly done: Promise<void>
  readonly downs: number
}

export interface TcpProxy extends AsyncDisposable {
  readonly host: '127.0.0.1'
  /** Stays the same through refuse() and accept(). */
  readonly port: number
  /** Breaks the open connections on both sides, by reset or by an orderly end. New ones are still accepted. Returns how many. */
  cut(how?: 'reset' | 'end'): number
  /** Closes the port, so that connecting fails with ECONNREFUSED. Open connections live on. */
  refuse(): Promise<void>
  /** Opens the port again. */
  accept(): Promise<void>
  /** Connections stay open and silent: nothing arrives any more, not even their end. Nothing is lost when it heals. */
  blackhole(direction?: Direction): void
  /** Every byte arrives this many milliseconds later (each way), or as given per direction. 0 ends it. */
  delay(ms: number, direction?: Direction): void
  /** Bytes per second of the whole line. Infinity ends it. */
  throttle(bytesPerSecond: number, direction?: Direction): void
  /** Up, then cut and refused, then up again, until it is disposed. */
  flap(options: FlapOptions): Flapping
  /** Ends every fault but does not mend connections that were cut. */
  heal(): Promise<void>
  /** From now on new connections lead here. */
  retarget(target: Target): void
  stats(): ProxyStats
}

interface Pair {
  readonly client: Socket
  readonly target: Socket
  readonly flows: readonly Flow[]
}

export async function startTcpProxy(target: Target): Promise<TcpProxy> {
  await using stack = new AsyncDisposableStack()
  const { port } = stack.use(await reservePort())
  const proxy = createProxy(port, target)
  await proxy.accept()
  const owned = stack.move()
  const close = proxy[Symbol.asyncDispose]
  return Object.assign(proxy, {
    [Symbol.asyncDispose]: async () => {
      await close()
      await owned.disposeAsync()
    },
  })
}

function createProxy(port: number, firstTarget: Target): TcpProxy {
  const lines: Record<'toTarget' | 'toClient', Line> = { toTarget: createLine(), toClient: createLine() }
  const bytes = { toTarget: 0, toClient: 0 }
  const pairs = new Set<Pair>()
  let target = firstTarget
  let accepted = 0
  let listener: Server | undefined
  let flapping: Flapping | undefined

  const serve = (client: Socket): void => {
    accepted += 1
    const upstream = connect({ host: target.host ?? '127.0.0.1', port: target.port, allowHalfOpen: true })
    for (const socket of [client, upstream]) socket.setNoDelay(true)
    const flows = [
      carry(client, upstream, lines.toTarget, (count) => {
        bytes.toTarget += count
      }),
      carry(upstream, client, lines.toClient, (count) => {
        bytes.toClient += count
      }),
    ]
    const pair: Pair = { client, target: upstream, flows }
    pairs.add(pair)
    const closed = (): void => {
      if (!client.destroyed || !upstream.destroyed) return
      for (const flow of flows) flow[Symbol.dispose]()
      pairs.delete(pair)
    }
    client.on('close', closed)
    upstream.on('close', closed)
  }

  const accept = async (): Promise<void> => {
    if (listener !== undefined) return
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, serve)
    listener = server
    server.listen({ port, host: '127.0.0.1', exclusive: true })
    await once(server, 'listening')
  }

  const refuse = (): Promise<void> => {
    const server = listener
    listener = undefined
    // close() stops listening at once; its callback would wait for the open connections, which live on.
    server?.close()
    return Promise.resolve()
  }

  const cut = (how: 'reset' | 'end' = 'reset'): number => {
    const open = [...pairs]
    for (const { client, target: upstream, flows } of open) {
      for (const flow of flows) flow[Symbol.dispose]()
      for (const socket of [client, upstream]) {
        if (how === 'reset') socket.resetAndDestroy()
        else socket.destroySoon()
      }
    }
    return open.length
  }

  const change = (direction: Direction, apply: (line: Line) => void): void => {
    for (const name of ['toTarget', 'toClient'] as const) {
      if (direction !== 'both' && direction !== name) continue
      const line = lines[name]
      apply(line)
      line.busyUntil = 0 // parcels under way are planned anew, from the moment they were handed in
      for (const { flows } of pairs) flows[name === 'toTarget' ? 0 : 1]?.refresh()
    }
  }

  const flap = (options: FlapOptions): Flapping => {
    if (flapping !== undefined) throw new Error('tcp-proxy: it is flapping already; dispose the first flap()')
    const stop = new AbortController()
    const { random } = options
    const phase = (ms: number): Promise<unknown> =>
      wait(random === undefined ? ms : ms * (0.5 + random()), undefined, { signal: stop.signal }).catch(() => undefined)
    let downs = 0
    const run = async (): Promise<void> => {
      while (!stop.signal.aborted && downs < (options.cycles ?? Infinity)) {
        await phase(options.upMs)
        if (stop.signal.aborted) break
        downs += 1
        await refuse()
        cut()
        await phase(options.downMs)
        await accept()
      }
      flapping = undefined
    }
    const done = run()
    flapping = {
      done,
      get downs() {
        return downs
      },
      [Symbol.asyncDispose]: () => {
        stop.abort()
        return done
      },
    }
    return flapping
  }

  return {
    host: '127.0.0.1',
    port,
    cut,
    refuse,
    accept,
    blackhole: (direction = 'both') => change(direction, (line) => void (line.hole = true)),
    delay: (ms, direction = 'both') => change(direction, (line) => void (line.delayMs = ms)),
    throttle: (rate, direction = 'both') => {
      if (!(rate > 0))
        throw new RangeError(`tcp-proxy: throttle(${rate}) must be above 0; blackhole() is what stops a line`)
      change(direction, (line) => void (line.bytesPerSecond = rate))
    },
    flap,
    heal: async () => {
      await flapping?.[Symbol.asyncDispose]()
      change('both', (line) => Object.assign(line, createLine()))
      await accept()
    },
    retarget: (next) => {
      target = next
    },
    stats: () => ({ accepted, live: pairs.size, toTarget: bytes.toTarget, toClient: bytes.toClient }),
    [Symbol.asyncDispose]: async () => {
      await flapping?.[Symbol.asyncDispose]()
      await refuse()
      cut()
    },
  }
}
