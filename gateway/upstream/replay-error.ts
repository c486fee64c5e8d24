// Why older revisions could not be read from the log.
// Owns: the two codes of the port (`replay-busy`: come again; `trimmed`: never) and what a resync would say.
// Refuses: deciding which it is (replay.ts, segments.ts).

import { DeltawatchError } from '#kit/errors.ts'
import type { ResyncReason } from '#protocol/frames.ts'

export class ReplayError extends DeltawatchError {
  readonly reason: ResyncReason

  constructor(
    code: 'replay-busy' | 'trimmed',
    message: string,
    reason: ResyncReason = 'trimmed',
    options?: ErrorOptions,
  ) {
    super(code, message, options)
    this.reason = reason
  }
}
