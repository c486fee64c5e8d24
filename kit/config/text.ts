// Text from flags and environment variables, turned into what a file would have held.
// Owns: lists (`a,b`), maps (`a=1,b=2`), booleans and numbers as text. Text that does not fit is passed on unchanged, so
// that the schema refuses it with the same words as in a file.
// Does not own: durations, sizes and addresses, whose text form the schema itself reads.

import type { Field, FieldKind } from './shape.ts'

const BOOLEANS: Readonly<Record<string, boolean>> = {
  true: true,
  yes: true,
  on: true,
  1: true,
  false: false,
  no: false,
  off: false,
  0: false,
}

export function fromText(field: Pick<Field, 'kind' | 'itemKind'>, texts: readonly string[]): unknown {
  switch (field.kind) {
    case 'list':
      return texts.flatMap(items).map((item) => scalar(field.itemKind ?? 'text', item))
    case 'map':
      return mapFrom(field.itemKind ?? 'text', texts.flatMap(items)) ?? texts.join(',')
    default:
      // A scalar given twice: the last one counts, as everywhere on a command line.
      return scalar(field.kind, texts.at(-1) ?? '')
  }
}

function scalar(kind: FieldKind, text: string): unknown {
  if (kind === 'boolean') return BOOLEANS[text.trim().toLowerCase()] ?? text
  if (kind === 'number' && /^\s*[+-]?\d+(\.\d+)?\s*$/.test(text)) return Number(text)
  return text
}

function items(text: string): string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
}

function mapFrom(kind: FieldKind, pairs: readonly string[]): Record<string, unknown> | undefined {
  const map: [string, unknown][] = []
  for (const pair of pairs) {
    const split = pair.indexOf('=')
    if (split < 1) return undefined
    map.push([pair.slice(0, split).trim(), scalar(kind, pair.slice(split + 1).trim())])
  }
  return Object.fromEntries(map)
}
