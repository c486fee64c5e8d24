// The reference page of the configuration, made from the same schemas that check it, so that it cannot be out of date.
// Owns: the Markdown. Does not own: where it is written to (docs/reference/config.md by the docs script).

import type * as z from 'zod'
import type { ConfigDefinition } from './definition.ts'
import { formatValue } from './print.ts'
import { type Field, FILE_SUFFIX } from './shape.ts'

/** One page for all given services, fields grouped by section. */
export function renderReference(definitions: readonly ConfigDefinition<z.ZodObject>[]): string {
  const intro = [
    '# Configuration',
    '',
    '<!-- Generated from the schemas. Do not edit; run the docs script. -->',
    '',
    'Precedence, the later wins: defaults, file (`--config`, YAML), environment (`DELTAWATCH_*`), flags.',
    'Unknown fields are refused with the nearest valid name. `--check-config` checks, `--print-config` prints the result',
    'without secrets and with the origin of every value. A secret can be read from a file: add `File` to its name in the',
    'file, `_FILE` in the environment. Durations are written `250ms`, `5s`, `10m`, `24h`; sizes `64KiB`, `16MiB`.',
    '',
  ]
  return `${[...intro, ...definitions.flatMap(renderService)].join('\n')}\n`
}

function renderService(definition: ConfigDefinition<z.ZodObject>): string[] {
  const sections = Map.groupBy(definition.shape.fields, (f) => f.path.slice(0, -1).join('.'))
  const tables = [...sections].flatMap(([section, fields]) => [
    ...(section === '' ? [] : [`### ${definition.program}: \`${section}\``, '']),
    '| field | default | environment | flag | meaning |',
    '| --- | --- | --- | --- | --- |',
    ...fields.map((field) => renderField(definition, field)),
    '',
  ])
  return [`## ${definition.program}`, '', definition.summary, '', ...tables]
}

function renderField(definition: ConfigDefinition<z.ZodObject>, field: Field): string {
  const flag = definition.flags[field.name] ?? definition.flags[`${field.name}${FILE_SUFFIX}`]
  const settable = field.kind !== 'structure'
  const cells = [
    code(field.name),
    field.required ? 'required' : renderDefault(field),
    settable ? code(field.env + (field.secret ? '`, `…_FILE' : '')) : 'file only',
    flag === undefined ? '' : code(flag),
    meaning(field),
  ]
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
}

function renderDefault(field: Field): string {
  if (field.defaultValue === undefined) return ''
  const value = formatValue(field, field.defaultValue)
  return code(typeof value === 'string' ? value : JSON.stringify(value))
}

function meaning(field: Field): string {
  const parts = [
    field.description,
    ...(field.choices.length === 0 ? [] : [`one of ${field.choices.map(code).join(', ')}`]),
    ...(field.expect === undefined || field.secret ? [] : [field.expect]),
    ...(field.example === undefined ? [] : [`example ${code(field.example)}`]),
  ]
  return parts.filter((part) => part !== '').join('; ')
}

function code(text: string): string {
  return `\`${text}\``
}
