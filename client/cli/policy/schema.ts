// `deltawatch policy schema`: the JSON Schema by which editors complete and check documents.

import { documentSchema } from '#policies/engine/json-schema.ts'
import { Exit, type ExitCode } from '../failure.ts'
import type { Terminal } from '../terminal.ts'

export async function schema({ kind }: { readonly kind: 'policy' | 'tests' }, io: Terminal): Promise<ExitCode> {
  await io.out.write(`${JSON.stringify(documentSchema(kind), undefined, 2)}\n`)
  return Exit.Ok
}
