// The fields by which both services say where their policy comes from and where their decisions are recorded.
// Owns: names, defaults and words, equal in both files. Refuses: reading configuration (kit/config).

import * as z from 'zod'
import { duration, field } from '#kit/config/fields.ts'
import type { DecisionLogOptions } from './decision-log.ts'

const MINUTE_MS = 60_000

/** A path, or an entry of a NATS KV bucket. */
export const bundlePlace = field(z.string().min(1), {
  expect: 'a directory, a bundle file, or kv://bucket/key',
  example: 'kv://deltawatch-policies/sz',
})

export const policyPoll = duration({ min: 100, max: MINUTE_MS })
  .default(500)
  .describe('how often the bundle and the key directory are looked at for changes')

export function decisionsSection(fallbackShare: number) {
  return z
    .strictObject({
      nats: z.boolean().default(true).describe('publish the decision log on dw.decision.<cluster>'),
      file: z.string().optional().describe('file that the decision log is appended to, one JSON object per line'),
      share: field(z.number().min(0).max(1), { expect: 'a share from 0 to 1', example: '0.01' })
        .default(fallbackShare)
        .describe('share of the decisions other than denials that is recorded; of denials all are'),
      perSecond: z
        .int()
        .min(1)
        .max(100_000)
        .default(1_000)
        .describe('most records per second; what is beyond is counted and not recorded'),
      keyFile: z
        .string()
        .optional()
        .describe(
          'file with the secret (32 bytes or more) under which keys are hashed; absent: another one at each start',
        ),
    })
    .prefault({})
}

export type DecisionsSection = z.output<ReturnType<typeof decisionsSection>>

export const decisionLogOptions = (
  section: DecisionsSection,
  stage: DecisionLogOptions['stage'],
): DecisionLogOptions => ({ ...section, file: section.file, keyFile: section.keyFile, stage })
