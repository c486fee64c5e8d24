// When a checkpoint is due, and whether the hub's stream can hold it.
// Owns: the arithmetic between the stream's byte limit, the newest checkpoint and what was appended since.
// Refuses: I/O. A stream below four checkpoints would trim the newest complete one while the next is being written.

import type { StreamInfo } from './ports.ts'

/** Of max_bytes: what the stream must hold of the newest checkpoint's size. */
const CHECKPOINTS_HELD = 4
/** Without a byte limit the log is refreshed by size all the same, so that a fresh reader's way stays bounded. */
const UNLIMITED_REFRESH_BYTES = 1024 * 1024 * 1024
/** JetStream's own record framing per message, generously. */
const FRAMING = 1.05

export type Fit =
  | { readonly fits: true }
  | { readonly fits: false; readonly neededBytes: number; readonly maxBytes: number }

export function fits(info: StreamInfo, checkpointBytes: number): Fit {
  if (info.maxBytes < 0) return { fits: true }
  const neededBytes = Math.ceil(checkpointBytes * CHECKPOINTS_HELD * FRAMING)
  return neededBytes <= info.maxBytes ? { fits: true } : { fits: false, neededBytes, maxBytes: info.maxBytes }
}

export function checkpointDue(info: StreamInfo, checkpointBytes: number, bytesSinceBegin: number): boolean {
  if (info.maxBytes < 0) return bytesSinceBegin > Math.max(UNLIMITED_REFRESH_BYTES, 4 * checkpointBytes)
  const allowed = (info.maxBytes - 2 * checkpointBytes * FRAMING) / 2
  return bytesSinceBegin * FRAMING > Math.max(0, allowed)
}

/**
 * Whether a routine checkpoint still has time. From the moment it is due the newest complete one stands for another half of
 * the stream; a quarter of that may pass in rests.
 */
export function mayRest(info: StreamInfo, checkpointBytes: number, bytesSinceBegin: number): boolean {
  if (info.maxBytes < 0) return true
  const allowed = (info.maxBytes - 2 * checkpointBytes * FRAMING) / 2
  return (bytesSinceBegin - checkpointBytes) * FRAMING <= Math.max(0, allowed) + info.maxBytes / 8
}

/** Bytes of the log from `beginSeq` on, estimated from the stream's average entry: exact enough to schedule by. */
export function bytesSince(info: StreamInfo, beginSeq: number): number {
  if (info.messages === 0 || beginSeq === 0) return info.bytes
  const entries = info.lastSeq - Math.max(beginSeq, info.firstSeq) + 1
  return Math.min(info.bytes, Math.round((info.bytes / info.messages) * entries))
}

/** A checkpoint's size from one page of it: hidden keys cost nothing. */
export function estimateCheckpoint(sampleBytes: number, sampleKeys: number, totalKeys: number): number {
  return sampleKeys === 0 ? 0 : Math.ceil((sampleBytes / sampleKeys) * Math.max(totalKeys, sampleKeys))
}

/** Largest entry: what the server and the stream accept, with room for headers and protocol. */
export function entryLimit(maxPayload: number, info: StreamInfo): number {
  const accepted = info.maxMessageBytes > 0 ? Math.min(maxPayload, info.maxMessageBytes) : maxPayload
  const bounded = info.maxBytes > 0 ? Math.min(accepted, Math.floor(info.maxBytes / 16)) : accepted
  return Math.max(8 * 1024, bounded - Math.min(64 * 1024, Math.floor(bounded / 8)))
}
