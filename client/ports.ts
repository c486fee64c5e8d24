// What the client needs of its platform, as small as it is used.
// Owns: the socket and clock ports, the clock every platform has, and listening to an AbortSignal and for the network.
// Refuses: everything else of a platform.

export type SocketEvents = {
  readonly open: unknown
  readonly message: { readonly data: unknown }
  readonly close: { readonly code: number; readonly reason: string }
  readonly error: unknown
}

/** The part of a standard WebSocket that is used. */
export interface SocketLike {
  readonly readyState: number
  addEventListener<K extends keyof SocketEvents>(type: K, listener: (event: SocketEvents[K]) => void): void
  send(data: string): void
  close(code?: number): void
}
export type SocketConstructor = new (url: string, protocols: string[]) => SocketLike

export interface ClientClock {
  /** Milliseconds that never go back. */
  now(): number
  /** Milliseconds since 1970; for expiry times only. */
  wall(): number
  /** Calls `fn` once after at least `ms`, which may be negative; the result cancels. */
  after(ms: number, fn: () => void): () => void
}

/** Browsers and Node fire longer timers at once. */
const MAX_TIMER_MS = 0x7fff_ffff

export const platformClock = (): ClientClock => ({
  now: () => performance.now(),
  wall: () => Date.now(),
  after: (ms, fn) => {
    const timer = setTimeout(fn, Math.min(Math.max(0, ms), MAX_TIMER_MS))
    return () => clearTimeout(timer)
  },
})

export type Source = { readonly addEventListener?: Listening; readonly removeEventListener?: Listening }
type Listening = (type: string, fn: () => void) => void

/** Calls `fn` on each event of a source that tells of such events; the result stops listening. */
export function listen(source: Source | undefined, type: string, fn: () => void): () => void {
  source?.addEventListener?.(type, fn)
  return () => source?.removeEventListener?.(type, fn)
}

/** Calls `fn` when `signal` aborts, in a moment if it already has; the result stops listening. */
export function onAbort(signal: AbortSignal | undefined, fn: () => void): () => void {
  if (signal?.aborted === true) queueMicrotask(fn)
  return listen(signal, 'abort', fn)
}
