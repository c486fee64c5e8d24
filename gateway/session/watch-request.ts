// From a checked `watch` frame to what delivery opens.
// Owns: defaults, the cursor's decoding, and the narrowing of clusters by the credential.
// Refuses: judging positions (each cluster's source does).

import { type Code, ErrorCode } from '#protocol/codes.ts'
import { decodeCursor } from '#protocol/cursor.ts'
import { selectorRange } from '#protocol/decode.ts'
import type { WatchFrame } from '#protocol/frames.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import type { ChannelSpec } from '../delivery/channel.ts'
import type { Begin, WatchRequest } from '../delivery/watch.ts'

export type Wanted =
  | { readonly ok: true; readonly spec: Omit<ChannelSpec, 'policyClass' | 'format'>; readonly request: WatchRequest }
  | { readonly ok: false; readonly code: Code; readonly message: string }

/** `allowed`: clusters the credential is narrowed to; undefined means no narrowing. */
export function toWatch(frame: WatchFrame, allowed: readonly string[] | undefined): Wanted {
  const range = selectorRange(frame)
  if (typeof range === 'string') return { ok: false, code: ErrorCode.BadSelector, message: range }
  const start = beginOf(frame.start)
  if (typeof start === 'object' && 'reason' in start) {
    return {
      ok: false,
      code: ErrorCode.BadCursor,
      message: `watch.start is damaged (${start.reason}); start from "snapshot"`,
    }
  }
  return {
    ok: true,
    spec: { range, mode: frame.mode ?? 'log', values: frame.values ?? 'auto' },
    request: {
      id: frame.id,
      clusters: clustersOf(frame.clusters ?? '*'),
      regions: frame.regions,
      start,
      otherwise: frame.default ?? 'snapshot',
      narrowed: allowed,
    },
  }
}

function beginOf(start: string): Begin | { readonly reason: string } {
  if (start === 'snapshot' || start === 'now') return start
  const decoded = decodeCursor(start)
  return decoded.ok ? decoded.cursor : { reason: decoded.reason }
}

function clustersOf(asked: '*' | readonly string[]): '*' | readonly ClusterId[] {
  // Names that cannot exist are kept: they get the answer of a cluster that is not there.
  return asked === '*' ? asked : ([...new Set(asked)] as ClusterId[])
}
