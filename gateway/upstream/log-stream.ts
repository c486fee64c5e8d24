// What following a log needs of the hub, as a port.
// Owns: the words (stored message, stream facts, the ways a reading ends).
// Refuses: NATS. jetstream-log.ts is the real one; tests of the follower use one in memory.

import type { DeltawatchError } from '#kit/errors.ts'
import type { TraceContext } from '#kit/tracing.ts'

export type StoredMessage = {
  readonly seq: number
  /** Valid only while the sink runs: copy what you keep. */
  readonly data: Uint8Array
  /** Hub wall clock, Unix ms. */
  readonly storedAtMs: number
  /** Messages the hub knew behind this one when it sent it. */
  readonly pending: number
  /** Of a sampled entry, when the reading was asked for it. */
  readonly trace?: TraceContext | undefined
}

export type StreamFacts = {
  /** Changes when the stream was deleted and made again. */
  readonly created: string
  readonly firstSeq: number
  /** Of the newest message ever stored; 0 when there was none. */
  readonly lastSeq: number
  readonly bytes: number
  readonly maxBytes: number
}

/** Why a reading stopped by itself; each is answered by opening a new one where it stopped. */
export type ReadingEnd =
  /** A message is missing between two that arrived. */
  | 'gap'
  /** Neither message nor heartbeat for too long. */
  | 'stalled'
  /** The hub gave up the reading: server restarted, consumer or stream deleted. */
  | 'dropped'
  | 'disconnected'
  /** The sink said so. */
  | 'stopped'

export type ReadingResult = { readonly end: ReadingEnd; readonly error?: DeltawatchError }

/** Called for each message in order; true stops the reading. */
export type Sink = (message: StoredMessage) => boolean

export interface LogStream {
  /** Resolves as soon as the hub is reachable; rejects when the signal aborts. */
  reachable(signal: AbortSignal): Promise<void>
  /** Undefined when the stream does not exist. Rejects when the hub does not answer. */
  facts(signal: AbortSignal): Promise<StreamFacts | undefined>
  /** Asks the leader; undefined when there is no such message. */
  get(seq: number, signal: AbortSignal): Promise<Pick<StoredMessage, 'seq' | 'data'> | undefined>
  /** Everything from `fromSeq` on, as fast as the sink takes it, bounded in flight; then waits for more. */
  follow(fromSeq: number, sink: Sink, signal: AbortSignal): Promise<ReadingResult>
  /** The same in batches, each fetched when the one before was taken. Ends when the log has no more at the moment. */
  batches(fromSeq: number, signal: AbortSignal): AsyncIterable<readonly StoredMessage[]>
  /** Bookmarks beside the log, as they arrive; survives reconnects. */
  marks(listener: (data: Uint8Array) => void): Disposable
  /** Creates the stream when it is missing; resolves to whether it was. For the dev mode only. */
  create(signal: AbortSignal): Promise<boolean>
}
