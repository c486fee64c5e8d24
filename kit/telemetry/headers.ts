// The headers a collector asks for, read from the text of a secret file.
// Owns: the format, one `name: value` a line, and errors that name the line and never what it holds.
// Refuses: files; the configuration has read them.

import { DeltawatchError } from '../errors.ts'

const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/
const VALUE = /^[\t\x20-\x7e]{1,4096}$/

/** Empty lines are skipped. Throws {@link DeltawatchError} `DW_TRACING_HEADERS`. */
export function parseCollectorHeaders(text: string): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '') continue
    const colon = line.indexOf(':')
    const [name, value] = [line.slice(0, Math.max(0, colon)).trim(), line.slice(colon + 1).trim()]
    if (!NAME.test(name) || !VALUE.test(value)) {
      throw new DeltawatchError(
        'DW_TRACING_HEADERS',
        `tracing.headers: line ${index + 1} is not "name: value"; write one header a line`,
      )
    }
    headers[name] = value
  }
  return headers
}
