// The manifest of a bundle: one line per file, in the form `sha256sum -c` reads, sorted bytewise by path.
// Owns: the text, whose SHA-256 is the bundle's revision. Signing it is policies/node.

import { keyFromText } from '#protocol/bytes.ts'
import type { PolicyIssue, Result } from './types.ts'

export const MANIFEST_NAME = 'MANIFEST.sha256'
export const SIGNATURE_NAME = 'MANIFEST.sha256.sig'

export function manifestOf(files: readonly { readonly path: string; readonly digest: string }[]): string {
  const sorted = [...files].sort((a, b) => (keyFromText(a.path) < keyFromText(b.path) ? -1 : 1))
  return sorted.map(({ path, digest }) => `${digest}  ${path}\n`).join('')
}

const LINE = /^([0-9a-f]{64}) {2}([\w./-]{1,256})$/

/** Path to digest. Strict: anything but well-formed, sorted, distinct lines is an issue. */
export function parseManifest(text: string): Result<ReadonlyMap<string, string>, PolicyIssue[]> {
  const bad = (message: string): Result<never, PolicyIssue[]> => ({
    ok: false,
    error: [{ level: 'error', code: 'bad-manifest', file: MANIFEST_NAME, message }],
  })
  if (!text.endsWith('\n')) return bad('must end with a line feed')
  const files = new Map<string, string>()
  let last = ''
  for (const [i, line] of text.slice(0, -1).split('\n').entries()) {
    const found = LINE.exec(line)
    if (found === null) return bad(`line ${i + 1} is not "<sha256>  <path>"`)
    const path = found[2] as string
    if (path <= last) return bad(`line ${i + 1} is out of order or repeated`)
    if (path.split('/').includes('..') || path.startsWith('/')) return bad(`line ${i + 1} leaves the bundle`)
    last = path
    files.set(path, found[1] as string)
  }
  return { ok: true, value: files }
}
