// `deltawatch policy fmt`: one way to write a document, comments kept.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CST, Lexer, parseDocument } from 'yaml'
import { parseYaml } from '#policies/node/yaml.ts'
import { CliError, Exit, type ExitCode } from '../failure.ts'
import type { Terminal } from '../terminal.ts'
import { readFiles } from './bundle-input.ts'

export type FormatOptions = { readonly check?: boolean }

export async function format(path: string, options: FormatOptions, io: Terminal): Promise<ExitCode> {
  const { files, manifest } = await readFiles(path)
  if (manifest !== undefined && options.check !== true)
    throw new CliError(Exit.Config, `${path} is sealed by a manifest`, 'format first, then seal')
  let changed = 0
  for (const file of files) {
    if (file.path.endsWith('.json')) continue
    const before = new TextDecoder().decode(file.bytes)
    const after = formatted(before)
    if (after === undefined)
      throw new CliError(Exit.Config, `${file.path}: is no YAML the services would read`, 'see deltawatch policy check')
    if (after === before) continue
    changed++
    await io.out.write(`${file.path}\n`)
    if (options.check !== true) await writeFile(join(path, file.path), after)
  }
  return options.check === true && changed > 0 ? Exit.Found : Exit.Ok
}

/** The text in its one form, or undefined when it is refused. Formatting twice changes nothing. */
export function formatted(text: string): string | undefined {
  if (!parseYaml(text).ok) return undefined
  const document = parseDocument(text, { version: '1.2', schema: 'core', merge: false, keepSourceTokens: false })
  const out = tightLists(document.toString({ indent: 2, lineWidth: 0, flowCollectionPadding: true, singleQuote: null }))
  // Values decide, never their spelling: a formatter that changed one would be worse than none.
  const [was, is] = [parseYaml(text), parseYaml(out)]
  return was.ok && is.ok && JSON.stringify(was.value) === JSON.stringify(is.value) ? out : undefined
}

/** `{ a: [b, c] }`: padding inside braces, none inside brackets, which the printer only offers together. */
function tightLists(text: string): string {
  let out = ''
  let opened = false
  let gap = ''
  let scalar = false
  for (const token of new Lexer().lex(text)) {
    const type: string | null = scalar ? 'scalar' : CST.tokenType(token)
    scalar = type === 'scalar' && token.length === 1 && token.charCodeAt(0) === 0x1f
    // The lexer's own marks are no text: what begins a document, what announces a scalar.
    if (scalar || type === 'doc-mode' || type === 'flow-error-end') continue
    if (type === 'space') {
      gap = opened ? '' : token
      continue
    }
    out += type === 'flow-seq-end' ? token : gap + token
    gap = ''
    opened = type === 'flow-seq-start'
  }
  return out + gap
}
