// The reference page of policy documents, made from the schemas and the reason words that the engine itself uses.
// Owns: the page's layout. Does not own: the words, which stand beside the fields (document.ts) and reasons (reasons.ts).

import { documentSchema } from './json-schema.ts'
import { DENY_REASONS, WITHHOLD_REASONS } from './reasons.ts'

type Schema = {
  readonly type?: string
  readonly const?: string | boolean
  readonly enum?: readonly string[]
  readonly description?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema
  readonly anyOf?: readonly Schema[]
  readonly additionalProperties?: Schema | boolean
}

/** Markdown. `notice` is the line that says the page is generated. */
export function policyReference(notice: string): string {
  return [
    '# Region policy documents',
    '',
    notice,
    '',
    'One YAML document per source region says what may leave it and who may see it. An unknown field or version refuses the whole bundle.',
    'The guide is [Write your first policy](../guides/first-policy.md). Regimes and bases are labels for lawyers and are no legal advice.',
    '',
    '## `kind: RegionPolicy`',
    '',
    ...objectTables(documentSchema('policy'), ''),
    '## `kind: PolicySuite` (tests)',
    '',
    ...objectTables(documentSchema('tests'), ''),
    '## Why a change is denied',
    '',
    ...reasonTable(DENY_REASONS),
    '## Why a value is withheld',
    '',
    'Key and revision still go; the value does not.',
    '',
    ...reasonTable(WITHHOLD_REASONS),
  ].join('\n')
}

function reasonTable(reasons: Readonly<Record<string, string>>): string[] {
  return [
    '| reason | meaning |',
    '| --- | --- |',
    ...Object.entries(reasons).map(([name, text]) => `| \`${name}\` | ${text} |`),
    '',
  ]
}

/** A table for this object, then one for every object below it. */
function objectTables(schema: Schema, path: string): string[] {
  const lines: string[] = []
  if (path !== '') lines.push(`### \`${path}\``, '')
  if (path !== '' && schema.description !== undefined) lines.push(schema.description, '')
  lines.push('| field | | what it says |', '| --- | --- | --- |')
  const below: string[] = []
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    const need = schema.required?.includes(name) === true ? 'required' : ''
    lines.push(
      `| \`${name}\` | ${need} | ${[shape(field), field.description]
        .filter((part) => part !== undefined && part !== '')
        .join('. ')
        .replaceAll('|', '\\|')} |`,
    )
    below.push(...nested(field, path === '' ? name : `${path}.${name}`))
  }
  return [...lines, '', ...below]
}

function nested(schema: Schema, path: string): string[] {
  if (schema.properties !== undefined) return objectTables(schema, path)
  if (schema.items !== undefined) return nested(schema.items, `${path}[]`)
  if (schema.anyOf === undefined || schema.anyOf.every((one) => one.properties === undefined)) return []
  return [`### \`${path}\``, '', 'One of:', '', ...schema.anyOf.flatMap((one) => [...objectTables(one, '')])]
}

function shape(schema: Schema): string {
  if (schema.const !== undefined) return `\`${schema.const}\``
  if (schema.enum !== undefined) return schema.enum.map((one) => `\`${one}\``).join(' or ')
  if (schema.items !== undefined) {
    const inner = shape(schema.items)
    return inner === '' ? 'list' : `list of ${inner}`
  }
  if (schema.type === 'object' || schema.anyOf !== undefined) return ''
  return schema.type ?? ''
}
