// The enums of log.proto, by number.
// Owns: the one mapping between wire numbers and the names used in code.

import type { CheckpointReason, LogOp, Pending } from './entry.ts'

export const KINDS = ['', 'events', 'chunk', 'progress', 'snapshot-begin', 'snapshot-items', 'snapshot-end'] as const
export const OPS: readonly (LogOp | undefined)[] = [undefined, 'put', 'delete', 'leave']
export const PENDING: readonly Pending[] = ['none', 'epoch', 'gap', 'policy']
export const REASONS: readonly (CheckpointReason | undefined)[] = [undefined, 'epoch', 'gap', 'policy', 'routine']
