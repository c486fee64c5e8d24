// Free loopback ports for servers that must come back on the same port after a kill.
// Owns: a machine-wide list of reserved ports, so that tests running side by side cannot take a port while its server is down.
// Does not own: the listener. Whoever starts the server must still retry on EADDRINUSE (the list binds only those who use it).
// The range lies below the usual ephemeral one (32768 on): an outgoing connection can never sit on a reserved port.

import { randomInt } from 'node:crypto'
import { mkdir, open, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isAlive, isCode } from '#deploy/toolchain/narrow.ts'

const LOW = 20_000
const HIGH = 31_999
const MAX_TRIES = 200
const REGISTRY = join(tmpdir(), 'deltawatch-ports')

export interface PortReservation extends AsyncDisposable {
  readonly port: number
}

/** Reserves one port of 127.0.0.1 until disposed, or until this process has ended. */
export async function reservePort(): Promise<PortReservation> {
  await mkdir(REGISTRY, { recursive: true })
  for (let attempt = 0; attempt < MAX_TRIES; attempt += 1) {
    const port = randomInt(LOW, HIGH + 1)
    const entry = join(REGISTRY, String(port))
    if (!(await claim(entry))) continue
    if (await canListen(port)) {
      return { port, [Symbol.asyncDispose]: () => rm(entry, { force: true }) }
    }
    await rm(entry, { force: true })
  }
  throw new Error(
    `ports: none of ${MAX_TRIES} ports tried between ${LOW} and ${HIGH} is free; remove ${REGISTRY} if nothing runs`,
  )
}

/** Several at once; disposing the result frees them all. */
export async function reservePorts(count: number): Promise<AsyncDisposable & { readonly ports: readonly number[] }> {
  await using stack = new AsyncDisposableStack()
  const ports: number[] = []
  for (let i = 0; i < count; i += 1) ports.push(stack.use(await reservePort()).port)
  const kept = stack.move()
  return { ports, [Symbol.asyncDispose]: () => kept.disposeAsync() }
}

async function claim(entry: string): Promise<boolean> {
  try {
    const file = await open(entry, 'wx')
    await file.writeFile(String(process.pid))
    await file.close()
    return true
  } catch (error) {
    if (!isCode(error, 'EEXIST')) throw error
    // An entry of a dead process is removed but not taken: two of us could see it at once, and other ports are plenty.
    const owner = Number(await readFile(entry, 'utf8').catch(() => ''))
    if (owner > 0 && !isAlive(owner)) await rm(entry, { force: true })
    return false
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer()
    probe.once('error', () => resolve(false))
    probe.listen({ port, host: '127.0.0.1', exclusive: true }, () => probe.close(() => resolve(true)))
  })
}
