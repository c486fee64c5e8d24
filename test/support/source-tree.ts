// The project's own source files and what each of them imports, for the tests of the architecture.
// Owns: finding files, reading import statements, resolving them to paths of this tree.
// Does not own: which imports are allowed (architecture.ts).
// Statements are found by line, which is exact for formatted code: the formatter puts each at the start of a line.
// A dynamic import counts anywhere in a line unless a quote stands before it, as in the texts of a test.

import { glob, readFile } from 'node:fs/promises'
import { posix } from 'node:path'
import { fileURLToPath } from 'node:url'

export interface Import {
  /** As written, such as `#kit/clock.ts` or `ws`. */
  readonly specifier: string
  /** Path within the tree, such as `kit/clock.ts`; undefined for packages and Node's modules. */
  readonly path: string | undefined
  /** `import type`: gone at run time. */
  readonly typeOnly: boolean
}

export interface SourceFile {
  readonly path: string
  readonly text: string
  /** Without comments, for looking for names that code uses. Line numbers are kept. */
  readonly code: string
  readonly imports: readonly Import[]
}

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

const FOLDERS = ['protocol', 'policies', 'kit', 'edge-agent', 'gateway', 'client', 'deploy', 'loadtest', 'test']
const ALIASES: Readonly<Record<string, string>> = { '#agent': 'edge-agent' }

export async function readSourceTree(root: string = ROOT): Promise<SourceFile[]> {
  const paths: string[] = []
  const patterns = FOLDERS.map((folder) => `${folder}/**/*.{ts,tsx,mts,cjs,mjs,js}`)
  for await (const path of glob(patterns, { cwd: root, exclude: (name) => name === 'node_modules' })) {
    paths.push(path.replaceAll('\\', '/'))
  }
  return await Promise.all(
    paths.sort().map(async (path) => parseSource(path, await readFile(posix.join(root, path), 'utf8'))),
  )
}

export function parseSource(path: string, text: string): SourceFile {
  const code = withoutComments(text)
  const statements =
    /^(?:import|export)\b([^;'"`]*?\bfrom\s+|\s+)['"]([^'"]+)['"]|(?<!['"`].*)\bimport\(\s*['"]([^'"]+)['"]\s*\)/gm
  const imports = [...code.matchAll(statements)].map((match): Import => {
    const specifier = match[2] ?? match[3] ?? ''
    const clause = (match[1] ?? '').trim()
    // `import { type A, type B }` also leaves nothing behind; one name without `type` makes it a real import.
    const named = /^\{([\s\S]*)\}\s*from$/.exec(clause)?.[1]
    const allTypes = named !== undefined && named.split(',').every((name) => /^\s*(type\s|$)/.test(name))
    return { specifier, path: resolve(path, specifier), typeOnly: /^type\b/.test(clause) || allTypes }
  })
  return { path, text, code, imports }
}

function resolve(from: string, specifier: string): string | undefined {
  if (specifier.startsWith('.')) return posix.normalize(posix.join(posix.dirname(from), specifier))
  if (!specifier.startsWith('#')) return undefined
  const [head = '', ...rest] = specifier.split('/')
  return posix.join(ALIASES[head] ?? head.slice(1), ...rest)
}

/** Line comments count only at the start of a line or after a blank: `https://` in a string is none. */
function withoutComments(text: string): string {
  const blank = (comment: string): string => comment.replaceAll(/[^\n]/g, ' ')
  return text.replaceAll(/^\s*\/\*[\s\S]*?\*\//gm, blank).replaceAll(/(?<=^|\s)\/\/.*$/gm, blank)
}
