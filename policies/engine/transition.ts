// What a change means for a view: from what was decided on the previous value and what is decided on the new one.
// Owns: put, delete, LEAVE, nothing, or a checkpoint because nobody can say. Does not own: getting the previous value.
//
// The caller decides twice. Agent and gateway alike:
//   previous = the visibility of { op: 'put', key, value: previous bytes } under the same decider, ABSENT when the key did not exist,
//              undefined when the previous value is not known;
//   next     = the decision on the change itself.
// Skip the first when `next` is no denial: its answer cannot matter. A decider with needsPrevValue false decides by the key alone, so there
// the previous value may be left out of `previous` (it must still be said whether the key existed, or LEAVE would name unknown keys).

import type { Decision, Op, Visibility } from './types.ts'

export type Transition = 'put' | 'delete' | 'leave' | 'nothing' | 'unknown-needs-checkpoint'

/** The previous state of a key that did not exist. */
export const ABSENT: Visibility = 'hidden'

export function transition(previous: Decision | Visibility | undefined, next: Decision, op: Op): Transition {
  if (next.effect !== 'deny') return op
  if (next.reason === 'prev-unknown') return 'unknown-needs-checkpoint'
  const before = previous === undefined ? 'unknown' : typeof previous === 'string' ? previous : visibilityOf(previous)
  switch (before) {
    case 'visible':
      return 'leave'
    case 'hidden':
      return 'nothing'
    case 'unknown':
      // LEAVE for a key that was never in view would tell that it exists; nothing for one that was would keep it for ever.
      return 'unknown-needs-checkpoint'
    default: {
      const unknown: never = before
      return unknown
    }
  }
}

export function visibilityOf(decision: Decision): Visibility {
  if (decision.effect !== 'deny') return 'visible'
  return decision.reason === 'prev-unknown' ? 'unknown' : 'hidden'
}
