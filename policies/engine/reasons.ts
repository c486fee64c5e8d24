// Why a decision is not a plain allow: the words that stand in decisions, the decision log, metrics and `policy explain`.
// Owns: the words and what they mean; docs/reference/policy.md is made from them.

export const DENY_REASONS = {
  'default-deny': 'No rule allows it.',
  'deny-rule': 'A deny rule matches.',
  'basis-expired': 'The legal basis of a matching allow rule has lapsed.',
  'condition-error': 'The condition of a matching deny rule failed to evaluate, which counts as a match.',
  'prev-unknown':
    'The outcome depends on a previous value nobody can get any more: the caller takes a checkpoint, never a guess.',
  quarantined: 'The value fails a JSON Schema whose outcome is `quarantine`.',
  'key-transform-conflict': 'Matching rules ask for different transforms of the same key.',
  'key-transform-failed': 'The key has no such segment, or the HMAC key is missing.',
  'key-reserved': 'The key already looks like the outcome of a keyTransform, so that two keys could map to one.',
  'key-too-long': 'The key is longer (4096 bytes) or deeper (64 segments) than any rule is evaluated for.',
  'unknown-source': 'No document of the bundle speaks for the source region.',
  error: 'The engine failed. No error ever yields allow.',
} as const
export type DenyReason = keyof typeof DENY_REASONS

export const WITHHOLD_REASONS = {
  'not-json': 'A field rule needs JSON and the value is none (strict, UTF-8, at most 64 deep).',
  'not-text': 'The value is neither JSON nor plain text, so that nothing can be detected in it.',
  'missing-field': 'A required field is missing.',
  'missing-key': 'The HMAC key is not there.',
  'schema-invalid': 'The value fails a JSON Schema whose outcome is `withhold`.',
  rule: 'A field is there whose action is `withhold`.',
  detected: 'Something was detected whose action is `withhold`.',
  'too-large': 'The value is larger (4 MiB) than any rule transforms.',
  egress: 'The agent withheld it; there is nothing to deliver.',
  error: 'The engine failed on this value.',
} as const
export type WithholdReason = keyof typeof WITHHOLD_REASONS
