// Errors of reading and signing bundles. What is wrong inside documents is a list of PolicyIssue instead.

import { DeltawatchError } from '#kit/errors.ts'

export type PolicyErrorCode = 'POLICY_KEYS' | 'POLICY_SIGNATURE' | 'POLICY_BUNDLE'

export class PolicyError extends DeltawatchError {
  declare readonly code: PolicyErrorCode
}
