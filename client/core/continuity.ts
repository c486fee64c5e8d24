// Where a watch stands in one cluster, and the staging of what may only be applied whole.
// Owns: the Continuity union, Stage with its size limit, and the comparisons of positions that fold.ts needs.
// Refuses: frames and changes.

import type { Position } from '../../protocol/cursor.ts'
import { compareRevisions } from '../../protocol/revision.ts'
import type { Break, Item, Named } from './changes.ts'
import { WatchError } from '../errors.ts'

export type Continuity =
  | { readonly kind: 'at'; readonly position: Position; readonly difference?: Stage & { readonly to: Position } }
  /**
   * No position. `resync`: this live session was told, a full or a diff snapshot repairs it. `lost`: only a full one
   * does. `waiting`: the gateway is behind this client and may still catch up.
   * `held`: where the consumer's state stands, while it was not yet told that continuity is broken.
   */
  | { readonly kind: 'owed'; readonly why: 'resync' | 'lost' | 'waiting'; readonly held: Position | undefined }
  | {
      readonly kind: 'staging'
      readonly base: 'full' | 'diff'
      readonly position: Position
      readonly stage: Stage
      readonly held: Position | undefined
    }

export const heldBy = (now: Continuity | undefined): Position | undefined =>
  now?.kind === 'at' ? now.position : now?.held
/** A live session's state is known to both sides, so that a difference can lead on from it. */
export const isRepairable = (now: Continuity | undefined): boolean =>
  now?.kind === 'at' || (now?.kind === 'owed' && now.why === 'resync')
/** The next revision, or the word that there is none, may follow. A wait for a late gateway ends with it. */
export const mayGoOn = (now: Continuity | undefined): boolean =>
  now?.kind === 'at' || (now?.kind === 'owed' && now.why === 'waiting')
export const isAtOrAfter = (a: Position, b: Position): boolean =>
  a.epoch === b.epoch && compareRevisions(a.revision, b.revision) >= 0
export const isSame = (a: Position, b: Position): boolean => a.epoch === b.epoch && a.revision === b.revision
export const breakBetween = (held: Position, next: Position): Break => (held.epoch === next.epoch ? 'ahead' : 'epoch')

/** Items of one snapshot or difference until its end. */
export type Stage = { items: Item[]; size: number }
export const emptyStage = (): Stage => ({ items: [], size: 0 })

/** Throws above `limit` characters of frames: the same would come again and again, so the watch must end. */
export function stage(into: Stage, items: readonly Item[], size: number, limit: number, of: string): void {
  into.size += size
  if (into.size > limit)
    throw new WatchError(
      'client.snapshot-too-large',
      `${of}: a snapshot exceeds maxSnapshot (${limit}); raise it or narrow the selector`,
    )
  for (const item of items) into.items.push(item)
}

/** Keys that leave while their cluster is being staged must not come back when the stage is applied. */
export function unstage(from: Stage, left: readonly Named[]): void {
  const gone = new Set(left.map(nameId))
  from.items = from.items.filter((item) => !gone.has(nameId(item)))
}
const nameId = (name: Named): string => (name.binary === true ? `b${name.key}` : `t${name.key}`)
