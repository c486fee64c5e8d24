// The test document beside a policy, `kind: PolicySuite`: given an event, a subscriber and a time, what must come out.
// Owns: its strict shape. Running it is suite.ts.

import * as z from 'zod'
import { MAX_CASES } from './bounds.ts'
import { API_VERSION, OPS, zodIssues } from './document.ts'
import type { PolicyIssue, Result } from './types.ts'

const text = z.string().max(512)
/** A value in a test: JSON as YAML, or exact text, or exact bytes. */
const content = {
  value: z.json().optional(),
  text: z.string().max(65_536).optional(),
  base64: z.string().max(131_072).optional(),
}
const previous = z.strictObject({ ...content, unknown: z.literal(true).optional() })

const given = z.strictObject({
  at: z.iso.datetime({ offset: true }).optional(),
  op: z.enum(OPS).optional(),
  key: z.string().min(1).max(4096).optional(),
  ...content,
  prev: previous
    .optional()
    .meta({ description: 'The value before: absent means the key did not exist, unknown: true that nobody can say.' }),
  subscriber: z
    .strictObject({
      subject: text.optional(),
      region: z.string().max(32),
      org: text.optional(),
      audiences: z.array(text).max(64).optional(),
      scopes: z.array(text).max(64).optional(),
      anonymous: z.boolean().optional(),
      labels: z.record(z.string().max(128), text).optional(),
    })
    .optional()
    .meta({
      description:
        'Absent: the case ends at the agent. Present: the event passes the agent, then the gateway for this subscriber.',
    }),
})

const expected = z.strictObject({
  effect: z.enum(['allow', 'withhold', 'deny']),
  rule: text.optional(),
  rules: z.array(text).max(64).optional(),
  reason: text.optional(),
  stage: z.enum(['egress', 'deliver']).optional(),
  key: z.string().max(4096).optional(),
  value: z.json().optional(),
  text: z.string().max(65_536).optional(),
  change: z.enum(['put', 'delete', 'leave', 'nothing', 'unknown-needs-checkpoint']).optional(),
})

const testCase = z.strictObject({
  name: z.string().min(1).max(256),
  like: z
    .string()
    .max(256)
    .optional()
    .meta({ description: 'Name of an earlier case whose given this one starts from.' }),
  about: z
    .array(z.string().max(64))
    .max(16)
    .optional()
    .meta({ description: 'Rules this case counts for in coverage, beside those it plainly exercises.' }),
  given: given.optional(),
  expect: expected,
})
export type SuiteCase = z.infer<typeof testCase>
export type SuiteGiven = z.infer<typeof given>
export type SuiteExpect = z.infer<typeof expected>

export const policySuiteSchema = z
  .strictObject({
    apiVersion: z.literal(API_VERSION),
    kind: z.literal('PolicySuite'),
    policy: z.string().max(64).meta({ description: 'metadata.name of the document under test.' }),
    hub: z.string().max(32).meta({ description: 'Region the hub stands in, for the egress step.' }),
    at: z.iso.datetime({ offset: true }).optional().meta({ description: 'Time of every case that names none.' }),
    cases: z.array(testCase).min(1).max(MAX_CASES),
  })
  .meta({ title: 'deltawatch policy tests' })
export type PolicySuite = z.infer<typeof policySuiteSchema>

export function parseSuite(raw: unknown, file: string): Result<PolicySuite, PolicyIssue[]> {
  const parsed = policySuiteSchema.safeParse(raw)
  return parsed.success ? { ok: true, value: parsed.data } : { ok: false, error: zodIssues(parsed.error, file) }
}
