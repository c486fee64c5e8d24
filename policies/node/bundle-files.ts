// Where the files of a bundle come from: a directory (mounted by GitOps), one bundle file, or bytes somebody else fetched (NATS KV).
// Owns: bounded reading. Symbolic links are followed only inside the directory, so that a mount can swap versions but not show
// other files of the machine. Does not own: what the files say (open-bundle.ts).

import { open, readdir, realpath, stat } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { MAX_BUNDLE_BYTES, MAX_DOCUMENT_BYTES, MAX_DOCUMENTS } from '../engine/bounds.ts'
import { decodeJson } from '../engine/json-decode.ts'
import { MANIFEST_NAME, SIGNATURE_NAME } from '../engine/manifest.ts'
import type { PolicyIssue, Result } from '../engine/types.ts'

export type BundleFile = { readonly path: string; readonly bytes: Uint8Array }
export type BundleFiles = {
  /** Documents only, sorted by path. */
  readonly files: readonly BundleFile[]
  readonly manifest?: string
  readonly signature?: string
}
type Read = Result<BundleFiles, PolicyIssue[]>

const DOCUMENT = /\.(?:ya?ml|json)$/
/** No part starts with a dot: neither hidden files nor a way out. */
const PATH = /^\w[\w.-]*(?:\/\w[\w.-]*){0,3}$/
const MAX_DEPTH = 4
const MAX_ENTRIES = 4096

const refuse = (file: string, code: PolicyIssue['code'], message: string): Read => ({
  ok: false,
  error: [{ level: 'error', code, file, message }],
})

/** A directory, or a bundle file when `path` is one. */
export async function readBundleFiles(path: string): Promise<Read> {
  let root: string
  try {
    root = await realpath(path)
    if (!(await stat(root)).isDirectory()) return readBundleFile(await bounded(root, MAX_BUNDLE_BYTES * 2), path)
  } catch (e) {
    return refuse(path, 'bad-document', `cannot be read (${reason(e)})`)
  }
  try {
    return await readDirectory(root)
  } catch (e) {
    return e instanceof TooLarge
      ? refuse(e.path, 'too-large', e.message)
      : refuse(path, 'bad-document', `cannot be read (${reason(e)})`)
  }
}

/**
 * With a `regions` folder the bundle is what lies below `regions` and `tests`; without one it is the documents of the directory itself
 * (which is how a mounted ConfigMap looks) and of its folders `schemas` and `tests`.
 */
async function readDirectory(root: string): Promise<Read> {
  const top = await readdir(root)
  const folders = top.includes('regions') ? ['regions', ...(top.includes('tests') ? ['tests'] : [])] : ['']
  const files: BundleFile[] = []
  let entries = 0
  let total = 0
  const walk = async (folder: string, depth: number): Promise<void> => {
    if (depth > MAX_DEPTH) throw new TooLarge(folder, `is nested deeper than ${MAX_DEPTH} folders`)
    for (const name of (await readdir(join(root, folder))).sort()) {
      if (name.startsWith('.')) continue
      if (++entries > MAX_ENTRIES) throw new TooLarge(folder, `holds more than ${MAX_ENTRIES} entries`)
      const path = folder === '' ? name : `${folder}/${name}`
      const real = await realpath(join(root, path))
      const inside = relative(root, real)
      if (inside.startsWith(`..${sep}`) || inside === '..' || inside === '')
        throw new TooLarge(path, 'leads out of the bundle')
      const info = await stat(real)
      if (info.isDirectory()) {
        if (folder !== '' || name === 'schemas' || name === 'tests') await walk(path, depth + 1)
      } else if (info.isFile() && DOCUMENT.test(name)) {
        if (!PATH.test(path)) throw new TooLarge(path, 'must be named with letters, digits, . _ - only')
        if (files.length >= MAX_DOCUMENTS) throw new TooLarge(path, `is one of more than ${MAX_DOCUMENTS} documents`)
        const bytes = await bounded(real, MAX_DOCUMENT_BYTES, path)
        total += bytes.length
        if (total > MAX_BUNDLE_BYTES) throw new TooLarge(path, `makes the bundle larger than ${MAX_BUNDLE_BYTES} bytes`)
        files.push({ path, bytes })
      }
    }
  }
  for (const folder of folders) await walk(folder, 1)
  const text = async (name: string): Promise<string | undefined> =>
    top.includes(name) ? new TextDecoder().decode(await bounded(join(root, name), MAX_DOCUMENT_BYTES, name)) : undefined
  const manifest = await text(MANIFEST_NAME)
  const signature = await text(SIGNATURE_NAME)
  files.sort((a, b) => (a.path < b.path ? -1 : 1))
  return {
    ok: true,
    value: {
      files,
      ...(manifest === undefined ? {} : { manifest }),
      ...(signature === undefined ? {} : { signature }),
    },
  }
}

class TooLarge extends Error {
  readonly path: string
  constructor(path: string, message: string) {
    super(message)
    this.path = path
  }
}

/** Reads at most `limit` bytes of a file, and notices when there are more even if it grows meanwhile. */
async function bounded(path: string, limit: number, shown = path): Promise<Uint8Array> {
  await using file = await open(path, 'r')
  const { size } = await file.stat()
  if (size > limit) throw new TooLarge(shown, `is larger than ${limit} bytes`)
  const buffer = new Uint8Array(size + 1)
  let length = 0
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length)
    if (bytesRead === 0) break
    length += bytesRead
  }
  if (length > size) throw new TooLarge(shown, 'grew while it was read')
  return buffer.subarray(0, length)
}

const FORMAT = 'deltawatch-policy-bundle/1'

/** One file that holds a whole bundle: what `policy bundle` writes and what a NATS KV entry holds, so that a change is atomic. */
export function writeBundleFile({
  files,
  manifest,
  signature,
}: BundleFiles & { readonly manifest: string }): Uint8Array {
  const contents = Object.fromEntries(
    files.map(({ path, bytes }) => [path, new TextDecoder('utf-8', { fatal: true }).decode(bytes)]),
  )
  return new TextEncoder().encode(
    `${JSON.stringify({ format: FORMAT, manifest, ...(signature === undefined ? {} : { signature }), files: contents }, undefined, 1)}\n`,
  )
}

export function readBundleFile(bytes: Uint8Array, name = 'bundle'): Read {
  let raw: unknown
  try {
    raw = decodeJson(bytes, MAX_BUNDLE_BYTES * 2)
  } catch {
    return refuse(name, 'bad-document', 'is no bundle file: not JSON, too large, or with repeated names')
  }
  if (typeof raw !== 'object' || raw === null) return refuse(name, 'bad-document', 'is no bundle file')
  const { format, manifest, signature, files: contents, ...rest } = raw as Record<string, unknown>
  if (format !== FORMAT) return refuse(name, 'bad-document', `is no ${FORMAT} file`)
  if (Object.keys(rest).length > 0)
    return refuse(name, 'bad-document', `has an unknown field ${JSON.stringify(Object.keys(rest)[0]?.slice(0, 64))}`)
  if (
    typeof manifest !== 'string' ||
    (signature !== undefined && typeof signature !== 'string') ||
    typeof contents !== 'object' ||
    contents === null
  ) {
    return refuse(name, 'bad-document', 'must hold manifest and files')
  }
  const files: BundleFile[] = []
  for (const [path, text] of Object.entries(contents)) {
    if (typeof text !== 'string' || !PATH.test(path))
      return refuse(name, 'bad-document', `holds ${JSON.stringify(path.slice(0, 64))}, which is no document`)
    files.push({ path, bytes: new TextEncoder().encode(text) })
  }
  if (files.length > MAX_DOCUMENTS) return refuse(name, 'too-many', `holds more than ${MAX_DOCUMENTS} documents`)
  files.sort((a, b) => (a.path < b.path ? -1 : 1))
  return { ok: true, value: { files, manifest, ...(signature === undefined ? {} : { signature }) } }
}

function reason(e: unknown): string {
  return e instanceof Error && 'code' in e && typeof e.code === 'string' ? e.code : 'unknown reason'
}
