// The policy document, `kind: RegionPolicy`: its strict shape, as zod, from which the editors' JSON Schema and the reference are generated.
// Owns: what a document may say. An unknown version or field refuses it, so that skew between versions can never drop a rule silently.
// Does not own: whether the globs, expressions and schemas inside make sense together (compile.ts).

import * as z from 'zod'
import {
  MAX_EXPRESSION_CHARS,
  MAX_GLOB_BYTES,
  MAX_GLOBS_PER_RULE,
  MAX_KEY_SEGMENTS,
  MAX_KEY_TRANSFORMS,
  MAX_LIMITS,
  MAX_RULES,
  MAX_SCHEMAS,
  MAX_TRANSFORMS_PER_RULE,
} from './bounds.ts'
import type { PolicyIssue, Result } from './types.ts'

export const API_VERSION = 'watch-policy/v1'
/** The one kind of basis that needs no end: the author states that no personal data is in what the rule matches. */
export const NO_PERSONAL_DATA = 'no-personal-data'
export const DETECTORS = ['cn-id', 'hkid', 'mo-id', 'phone', 'email', 'bank-card'] as const
export type Detector = (typeof DETECTORS)[number]

const slug = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'must be 1-64 of a-z 0-9 . _ - and start with a letter or digit')
const regionId = z.string().regex(/^[a-z0-9-]{1,32}$/, 'must be 1-32 of a-z 0-9 -')
const regime = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$/, 'must be a short label such as PIPL')
const keyId = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'must name a key file: 1-64 of a-z 0-9 . _ -')
const audience = z.string().regex(/^[\x21-\x7e]{1,128}$/, 'must be 1-128 printable ASCII characters without blanks')
const glob = z.string().min(1).max(MAX_GLOB_BYTES)
const globs = z.array(glob).min(1).max(MAX_GLOBS_PER_RULE)
const prose = z.string().max(4096)
const expression = z.string().min(1).max(MAX_EXPRESSION_CHARS)
const pointer = z
  .string()
  .max(512)
  .regex(
    /^(?:\/(?:[^~/]|~0|~1)*)+$/,
    'must be a JSON Pointer such as /person/phone; a segment may be * (any one) or ** (any depth)',
  )
const count = z.int().min(1).max(4096)

export const OPS = ['put', 'delete'] as const

const destinations = z
  .strictObject({
    regions: z
      .array(regionId)
      .min(1)
      .max(256)
      .optional()
      .meta({ description: 'Regions the data goes to. Absent: any region.' }),
    audience: z
      .array(audience)
      .min(1)
      .max(256)
      .optional()
      .meta({ description: 'Subscribers holding one of these (org:<name> comes from the token). Absent: anyone.' }),
  })
  .meta({ description: 'Where to. At the agent the destination is the hub region.' })

const match = z
  .strictObject({
    keys: globs.meta({
      description:
        'Key globs. * = within one segment, ** = whole segments (one or more at the end, none or more elsewhere).',
    }),
    except: globs.optional().meta({ description: 'Key globs taken out again.' }),
    ops: z.array(z.enum(OPS)).min(1).max(2).optional().meta({ description: 'Absent: put and delete.' }),
    to: destinations.optional(),
  })
  .meta({ description: 'What the rule is about.' })

const fieldBase = {
  field: pointer.meta({ description: 'JSON Pointer into the value; * = any one segment, ** = any depth.' }),
  required: z
    .boolean()
    .optional()
    .meta({ description: 'Withhold the value when the field is missing. Not with wildcards.' }),
}
export const transformSchema = z.union([
  z.strictObject({
    ...fieldBase,
    action: z.enum(['mask', 'drop', 'hash', 'withhold']).meta({
      description:
        'mask: the field says ***. drop: it goes (in a list, null). hash: its SHA-256, which trying all values undoes. withhold: the whole value stays.',
    }),
  }),
  z.strictObject({
    ...fieldBase,
    action: z.enum(['keepFirst', 'keepLast', 'truncate']),
    n: count.meta({ description: 'Characters kept; keepFirst and keepLast never show more than half.' }),
  }),
  z.strictObject({
    ...fieldBase,
    action: z.literal('hmac'),
    key: keyId.meta({ description: 'Id of a key file; the key itself is never in the bundle.' }),
  }),
  z.strictObject({
    detect: z
      .array(z.enum(DETECTORS))
      .min(1)
      .max(DETECTORS.length)
      .meta({ description: 'Kinds of personal data to look for anywhere in the value.' }),
    action: z.enum(['mask', 'withhold']),
  }),
])
export type Transform = z.infer<typeof transformSchema>

const keyTransform = z
  .strictObject({
    segment: z
      .int()
      .min(0)
      .max(MAX_KEY_SEGMENTS - 1)
      .meta({ description: 'Which segment: the number of slashes before it.' }),
    action: z.literal('hmac'),
    key: keyId,
  })
  .meta({ description: 'Replaces one segment of the key by its HMAC, the same one every time.' })
export type KeyTransform = z.infer<typeof keyTransform>

const EXPIRES = /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?(?:Z|[+-]\d{2}:\d{2}))?$/
const basis = z
  .strictObject({
    kind: slug.meta({
      description: `A label for lawyers, such as gba-standard-contract; ${NO_PERSONAL_DATA} states that none is in what the rule matches.`,
    }),
    ref: z.string().min(1).max(256).meta({ description: 'Where the paper is.' }),
    expires: z
      .string()
      .regex(EXPIRES, 'must be a date (the last day it holds) or an instant with an offset')
      .optional()
      .meta({
        description:
          'A date (its last valid day, at the source’s utcOffset) or an instant with an offset. From then on the rule denies what it matched.',
      }),
  })
  .refine((b) => b.expires !== undefined || b.kind === NO_PERSONAL_DATA, {
    path: ['expires'],
    message: `is required unless kind is ${NO_PERSONAL_DATA}`,
  })
  .meta({ description: 'Legal basis. Required on an allow rule that reaches a region of another regime.' })

const rule = z
  .strictObject({
    id: slug.meta({ description: 'Unique among the rules of one source region.' }),
    effect: z.enum(['allow', 'deny']).meta({ description: 'Deny beats allow; what nothing allows is denied.' }),
    description: prose.optional(),
    match,
    when: expression
      .optional()
      .meta({ description: 'CEL over op, key and value. An error: an allow rule does not match, a deny rule does.' }),
    whenSubscriber: expression.optional().meta({ description: 'CEL over subscriber alone; evaluated once per class.' }),
    transform: z.array(transformSchema).min(1).max(MAX_TRANSFORMS_PER_RULE).optional().meta({
      description:
        'What happens to the value. The transforms of all matching rules apply; per field the strictest wins.',
    }),
    keyTransform: z
      .array(keyTransform)
      .min(1)
      .max(MAX_KEY_TRANSFORMS)
      .optional()
      .meta({ description: 'For keys that are personal data themselves. Applies to every operation.' }),
    basis: basis.optional(),
  })
  .superRefine((r, ctx) => {
    if (r.effect === 'allow') return
    for (const field of ['transform', 'keyTransform', 'basis'] as const) {
      if (r[field] !== undefined)
        ctx.addIssue({
          code: 'custom',
          path: [field],
          message: 'belongs to allow rules only: a deny rule lets nothing through',
        })
    }
  })
export type Rule = z.infer<typeof rule>

const RATE = /^([1-9]\d{0,8})\/s$/
const BYTE_RATE = /^([1-9]\d{0,8})(B|KiB|MiB|GiB)\/s$/
const limit = z
  .strictObject({
    to: destinations.optional(),
    events: z.string().regex(RATE, 'must look like 200/s').optional().meta({
      description:
        'Such as 200/s: changes the class may see. Snapshots and differences after a resync are not counted.',
    }),
    bytes: z
      .string()
      .regex(BYTE_RATE, 'must look like 64KiB/s')
      .optional()
      .meta({ description: 'Such as 64KiB/s: the bytes of the frames that carry those changes.' }),
  })
  .refine((l) => l.events !== undefined || l.bytes !== undefined, { message: 'must set events or bytes' })
  .meta({
    description:
      'Rate per session, over all its clusters. The strictest that applies wins; it pauses the reader, it never drops, and state mode conflates meanwhile.',
  })

const schemaUse = z
  .strictObject({
    keys: globs,
    schema: z.string().min(1).max(256).meta({ description: 'Path of a JSON Schema, relative to this document.' }),
    onInvalid: z
      .enum(['withhold', 'quarantine'])
      .meta({ description: 'withhold: key and revision go, the value stays. quarantine: nothing goes.' }),
  })
  .meta({ description: 'What values under these keys must look like when they leave. Checked at the agent.' })

const activity = z
  .strictObject({ to: destinations.optional(), hide: z.literal(true) })
  .meta({ description: 'Subscribers it applies to learn nothing of when hidden changes happen.' })

export const regionPolicySchema = z
  .strictObject({
    apiVersion: z.literal(API_VERSION),
    kind: z.literal('RegionPolicy'),
    metadata: z.strictObject({
      name: slug,
      owner: z.string().min(1).max(128),
      change: z.string().max(128).optional(),
      description: prose.optional(),
    }),
    spec: z.strictObject({
      source: z.strictObject({
        region: regionId.meta({ description: 'The region the data comes from.' }),
        regime: regime.meta({ description: 'A label for lawyers: PIPL, HK-PDPO, MO-PDPA, …' }),
        utcOffset: z
          .string()
          .regex(/^[+-](?:0\d|1[0-4]):[0-5]\d$/, 'must look like +08:00')
          .optional()
          .meta({ description: 'Where days end for basis.expires. Absent: +08:00.' }),
      }),
      mode: z
        .enum(['enforce', 'shadow'])
        .meta({ description: 'shadow: evaluated beside the live rules, never enforced.' }),
      schemas: z.array(schemaUse).max(MAX_SCHEMAS).optional(),
      rules: z.array(rule).max(MAX_RULES).meta({ description: 'In any order.' }),
      limits: z.array(limit).max(MAX_LIMITS).optional(),
      activity: z.array(activity).max(MAX_LIMITS).optional(),
    }),
  })
  .meta({ title: 'deltawatch region policy' })
export type RegionPolicy = z.infer<typeof regionPolicySchema>

/** Checks one document. Never throws; every issue names where. */
export function parsePolicy(raw: unknown, file: string): Result<RegionPolicy, PolicyIssue[]> {
  const parsed = regionPolicySchema.safeParse(raw)
  if (parsed.success) return { ok: true, value: parsed.data }
  return { ok: false, error: zodIssues(parsed.error, file) }
}

/** At most 50 issues, so that a hostile document cannot make a report of its own size. */
export function zodIssues(error: z.ZodError, file: string): PolicyIssue[] {
  return error.issues.slice(0, 50).map((issue) => {
    const at = pathText(issue.path)
    return {
      level: 'error',
      code: 'bad-document',
      file,
      ...(at === '' ? {} : { at }),
      message: issue.message.slice(0, 300),
    }
  })
}

function pathText(path: readonly PropertyKey[]): string {
  let text = ''
  for (const part of path)
    text += typeof part === 'number' ? `[${part}]` : `${text === '' ? '' : '.'}${String(part).slice(0, 64)}`
  return text
}

/** The instant (ms since 1970) from which the basis no longer holds, or undefined when the text names no real day. */
export function expiryInstant(expires: string, utcOffset = '+08:00'): number | undefined {
  const day = expires.slice(0, 10)
  const midnight = Date.parse(`${day}T00:00:00Z`)
  // Date.parse turns 31 February into March; a contract that ends on no real day is refused.
  if (Number.isNaN(midnight) || new Date(midnight).toISOString().slice(0, 10) !== day) return undefined
  if (expires.length > 10) {
    const instant = Date.parse(expires)
    return Number.isNaN(instant) ? undefined : instant
  }
  const minutes = Number(utcOffset.slice(1, 3)) * 60 + Number(utcOffset.slice(4, 6))
  return midnight + 86_400_000 - (utcOffset.startsWith('-') ? -minutes : minutes) * 60_000
}

export function eventRate(text: string): number {
  return Number(RATE.exec(text)?.[1] ?? 0)
}

const UNITS = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const
export function byteRate(text: string): number {
  const found = BYTE_RATE.exec(text)
  return found === null ? 0 : Number(found[1]) * UNITS[found[2] as keyof typeof UNITS]
}
