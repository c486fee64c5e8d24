// The published schemas, compiled: what captured frames are held against.
// Owns: one validator per frame, chosen by direction and type. Refuses: knowing any schema itself.

import { Ajv } from 'ajv'
import { schemaName, schemas } from '#protocol/schema/asyncapi.ts'

const ajv = new Ajv({ strict: true, strictTypes: false, strictRequired: false, allErrors: false })
ajv.addVocabulary(['components'])
ajv.addSchema({ $id: 'deltawatch', components: { schemas: schemas() } })

/** What is wrong with the frame; undefined when its published schema accepts it. */
export function frameFault(direction: 'client' | 'server', frame: unknown): string | undefined {
  const type = typeof frame === 'object' && frame !== null && 'type' in frame ? String(frame.type) : ''
  const validate = ajv.getSchema(`deltawatch#/components/schemas/${schemaName(direction, type)}`)
  if (type === '' || validate === undefined) return `no ${direction} frame has the type ${JSON.stringify(type)}`
  return validate(frame) === true ? undefined : `${type}: ${ajv.errorsText(validate.errors)}`
}
