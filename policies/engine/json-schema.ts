// JSON Schema of the documents, made from the very schemas that check them.
// Owns: the two generated schemas. policies/schema/*.json hold them for editors; a test fails when they differ.

import * as z from 'zod'
import { regionPolicySchema } from './document.ts'
import { policySuiteSchema } from './suite-document.ts'

export function documentSchema(kind: 'policy' | 'tests'): Readonly<Record<string, unknown>> {
  return z.toJSONSchema(kind === 'policy' ? regionPolicySchema : policySuiteSchema, {
    io: 'input',
    target: 'draft-2020-12',
    reused: 'inline',
  })
}
