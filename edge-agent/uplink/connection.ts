// The kit's connection to the hub, as the logs of one process share it.
// Owns: counting connections, so that an append of an earlier one is never mistaken for one of this; telling of losses.
// Refuses: dialling (kit/nats.ts).

import type { NatsConnection } from '@nats-io/transport-node'
import type { NatsLink, NatsState } from '#kit/nats.ts'
import type { HubConnection } from './hub.ts'

export type SharedHub = HubConnection & Disposable

export function shareHub(link: NatsLink): SharedHub {
  const stop = new AbortController()
  const lost = new Set<() => void>()
  let generation = 0
  let seen: NatsState = link.state()

  /** Brings what we know up to date. Each state is an object of its own, so a loss too short to be awaited still shows. */
  const observe = (): NatsState => {
    const now = link.state()
    if (now === seen) return now
    const wasUp = seen.kind === 'connected'
    seen = now
    if (wasUp) {
      generation++
      for (const fn of [...lost]) fn()
    }
    return now
  }

  const follow = async (): Promise<void> => {
    for await (const _ of link.status(stop.signal)) observe()
  }
  void follow().catch(() => undefined)

  return {
    get current(): NatsConnection | undefined {
      return observe().kind === 'connected' ? link.connection() : undefined
    },
    get generation() {
      observe()
      return generation
    },
    ready: async (signal) => {
      for await (const _ of link.status(AbortSignal.any([signal, stop.signal]))) {
        if (observe().kind === 'connected') return
      }
      signal.throwIfAborted()
      stop.signal.throwIfAborted()
    },
    onLost: (fn) => {
      lost.add(fn)
      return { [Symbol.dispose]: () => void lost.delete(fn) }
    },
    [Symbol.dispose]: () => stop.abort(),
  }
}
