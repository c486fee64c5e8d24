// What can go wrong for good, and what is only worth mentioning.
// Owns: WatchError, which ends an iteration, and Notice, which ends nothing. Refuses: retry rules (core/link-state.ts).

import type { Ended } from './core/link-state.ts'

/**
 * Ends a watch. `code` is stable: `DW` + a number from the gateway's published codes, or one of this client's own:
 * `client.closed`, `client.bad-option`, `client.snapshot-too-large`, `client.cursor-store`.
 */
export class WatchError extends Error {
  readonly code: string
  /** True when the same request may succeed later. */
  readonly temporary: boolean

  constructor(code: string, message: string, temporary = false, options?: ErrorOptions) {
    super(message, options)
    this.name = 'WatchError'
    this.code = code
    this.temporary = temporary
  }
}

/** The few codes a client acts on; spelled out, so that a bundle does not carry the whole table of the protocol. */
export const UNAUTHORIZED = 4003
export const Refused = { TooManyWatches: 'DW4007', BadCursor: 'DW4012', DuplicateChannel: 'DW4014' } as const

/** Something that was dealt with, told once so that it can be logged or counted. */
export type Notice = {
  readonly code:
    | 'slow-consumer'
    | 'fast-loop'
    | 'violation'
    | 'gateway-error'
    | 'token-failed'
    | 'cursor-store-failed'
    | 'stored-cursor-unusable'
    | 'listener-failed'
  readonly message: string
  /** Name of the watch it concerns. */
  readonly watch?: string
  readonly cause?: unknown
}

/** The error of a connection that is closed: by the gateway for good, or with undefined by this client. */
export function closedFor(ended: Ended | undefined): WatchError {
  if (ended === undefined) return new WatchError('client.closed', 'this DeltaWatch was closed')
  const { code, reason } = ended
  return new WatchError(
    code >= 4000 ? `DW${code}` : `WS${code}`,
    `the gateway closed for good (${code}: ${reason || 'no reason given'})`,
  )
}
