// Rows in columns, for terminals and for text files alike.
// Owns: widths, alignment and the rule for what is cut: the last column, to the width of the terminal.

import { stripVTControlCharacters } from 'node:util'
import { fit } from './printable.ts'

export type Column = { readonly title: string; readonly align?: 'right' }

const lengthOf = (text: string): number => stripVTControlCharacters(text).length

/** One line per row under a line of titles, each ending in a newline. `width` bounds the lines; absent: unbounded. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[], width?: number): string {
  const all = [columns.map(({ title }) => title), ...rows]
  const widths = columns.map((_, i) => Math.max(...all.map((row) => lengthOf(row[i] ?? ''))))
  const last = columns.length - 1
  return all
    .map((row) => {
      let line = ''
      for (const [i, column] of columns.entries()) {
        const cell = row[i] ?? ''
        if (i === last) {
          const room = width === undefined ? cell.length : Math.max(8, width - lengthOf(line))
          // Painted cells are short words; cutting one would cut its colour's end too.
          line += lengthOf(cell) === cell.length ? fit(cell, room) : cell
          continue
        }
        const gap = ' '.repeat((widths[i] ?? 0) - lengthOf(cell))
        line += `${column.align === 'right' ? gap + cell : cell + gap}  `
      }
      return `${line.trimEnd()}\n`
    })
    .join('')
}
