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
  let seen: NatsState | undefined

  const isUp = (): boolean => seen?.kind === 'connected' && link.state().kind === 'connected'

  const follow = async (): Promise<void> => {
    for await (const state of link.status(stop.signal)) {
      const wasUp = seen?.kind === 'connected'
      // Every connected state is an object of its own, so a loss that was too short to be seen still shows.
      if (state === seen) continue
      seen = state
      if (wasUp) {
        generation++
        for (const fn of [...lost]) fn()
      }
    }
  }
  void follow().catch(() => undefined)

  return {
    get current(): NatsConnection | undefined {
      return isUp() ? link.connection() : undefined
    },
    get generation() {
      return generation
    },
    ready: async (signal) => {
      for await (const state of link.status(AbortSignal.any([signal, stop.signal]))) {
        if (state.kind !== 'connected') continue
        // The follower may not have seen this state yet; what comes after this call must find it seen.
        if (seen?.kind !== 'connected') await Promise.resolve()
        if (isUp()) return
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
