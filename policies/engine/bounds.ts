// Every bound of the policy engine in one place, so that "how big may it get" has one answer.
// Owns: the numbers. What happens beyond each is said beside it; beyond a bound nothing is ever allowed.

/** A bundle beyond these is refused. */
export const MAX_DOCUMENTS = 256
export const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
export const MAX_BUNDLE_BYTES = 16 * 1024 * 1024
export const MAX_RULES = 20_000
export const MAX_GLOBS_PER_RULE = 64
export const MAX_GLOB_BYTES = 512
export const MAX_GLOB_SEGMENTS = 32
/** `**` costs one try per segment of the key, two of them the square of it. */
export const MAX_DEEP_PER_GLOB = 2
export const MAX_STARS_PER_SEGMENT = 4
/** Different `a*b` segments at one place of the key space; each is tried for each key that comes by. */
export const MAX_PATTERNS_PER_NODE = 1024
export const MAX_TRANSFORMS_PER_RULE = 64
export const MAX_POINTER_SEGMENTS = 16
export const MAX_KEY_TRANSFORMS = 4
/** Each is held against every other rule at load time. */
export const MAX_KEY_TRANSFORM_RULES = 256
export const MAX_SCHEMAS = 256
export const MAX_LIMITS = 256
export const MAX_CASES = 20_000

/** Longer or deeper keys are denied (`key-too-long`): no rule is evaluated for them. */
export const MAX_KEY_BYTES = 4096
export const MAX_KEY_SEGMENTS = 64

/** CEL: larger expressions refuse the bundle. */
export const MAX_EXPRESSION_CHARS = 2048
export const MAX_EXPRESSION_NODES = 200
export const MAX_EXPRESSION_DEPTH = 16
/** Larger values count as a condition that failed: allow rules do not match, deny rules do. */
export const MAX_CONDITION_VALUE_BYTES = 64 * 1024

/** Larger values are withheld by a rule that transforms, and by a schema. */
export const MAX_TRANSFORM_VALUE_BYTES = 4 * 1024 * 1024
/** Deeper JSON is not understood, hence withheld. The same depth the gateway embeds. */
export const MAX_JSON_DEPTH = 64

/** Classes alive under one bundle; a subscriber that would need one more is refused by code. */
export const MAX_CLASSES = 256

/** Decision caches: what is forgotten is computed again on demand. A power of two. */
export const MAX_REMEMBERED_KEYS = 32_768
export const MAX_MATCH_SETS = 65_536
export const MAX_OUTCOMES_PER_PLAN = 256
/** States of one field program; beyond it the program counts as failed (withheld). */
export const MAX_FIELD_STATES = 4096
