// How a run of appends ends, as a value and as the error of whoever still waits on it.
// Owns: the two shapes. Refuses: ending anything (session.ts).

import { type AppendResult, HubError } from './ports.ts'

export type SessionEnd =
  | { readonly kind: 'lost'; readonly reason: string }
  | { readonly kind: 'refused' }
  | Extract<AppendResult, { kind: 'rejected' }>
  | { readonly kind: 'closed' }

/** What waits on a session that has ended is rejected with this. */
export class SessionEnded extends HubError {
  readonly end: SessionEnd

  constructor(end: SessionEnd) {
    super('disconnected', `the run of appends ended: ${end.kind}`)
    this.end = end
  }
}
