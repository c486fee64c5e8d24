// Are the ports ours to take? Asked before anything starts or is wiped, so that the answer can name the option.
// Owns: the question and the sentence. A part that still finds its port taken later fails with its own message.

import { createServer } from 'node:net'

export interface WantedPort {
  readonly port: number
  readonly part: string
  readonly option: string
}

export class PortBusyError extends Error {
  override readonly name = 'PortBusyError'
}

/** Rejects with PortBusyError that names every busy port, its part and the option that moves it. */
export async function requireFreePorts(wanted: readonly WantedPort[]): Promise<void> {
  const free = await Promise.all(wanted.map(({ port }) => isFree(port)))
  const busy = wanted.filter((_, index) => free[index] === false)
  if (busy.length === 0) return
  const lines = busy.map(
    ({ port, part, option }) => `port ${port} (${part}) is in use; another one: npm start -- ${option}`,
  )
  throw new PortBusyError([...lines, 'If that is an earlier `npm start`, stop it first.'].join('\n'))
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer()
    probe.once('error', () => resolve(false))
    probe.listen({ port, host: '127.0.0.1', exclusive: true }, () => probe.close(() => resolve(true)))
  })
}
