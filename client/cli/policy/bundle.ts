// `deltawatch policy bundle` and `sign`: from tested documents to something whose every byte is accounted for.
// Owns: writing manifests, bundle files and signatures. A bundle whose own tests fail is never sealed.

import { stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MANIFEST_NAME, parseManifest, SIGNATURE_NAME } from '#policies/engine/manifest.ts'
import { writeBundleFile } from '#policies/node/bundle-files.ts'
import { testDeps } from '#policies/node/hashing.ts'
import { manifestFor, openFiles } from '#policies/node/open-bundle.ts'
import { readPrivateKey, signManifest } from '#policies/node/signature.ts'
import { CliError, Exit, type ExitCode } from '../failure.ts'
import { note, type Terminal } from '../terminal.ts'
import { bundleLine, readFiles, readOption, refused } from './bundle-input.ts'

/** Of nats-server. */
const DEFAULT_MAX_PAYLOAD = 1024 * 1024

export type BundleOptions = { readonly out?: string; readonly manifest?: boolean }
export type SignOptions = { readonly key: string }

export async function bundle(path: string, options: BundleOptions, io: Terminal): Promise<ExitCode> {
  const files = await readFiles(path)
  const manifest = manifestFor(files.files)
  const opened = openFiles({ files: files.files, manifest }, { deps: testDeps() })
  if (!opened.ok) throw refused(path, opened.error)
  if (options.manifest === true) {
    if (!(await isDirectory(path)))
      throw new CliError(Exit.Usage, `${path} is no directory`, 'a bundle file has its manifest inside')
    await writeFile(join(path, MANIFEST_NAME), manifest)
  }
  if (options.out !== undefined) {
    const sealed = writeBundleFile({ files: files.files, manifest })
    await writeFile(options.out, sealed)
    if (sealed.length > DEFAULT_MAX_PAYLOAD)
      await note(
        io,
        `${options.out} has ${sealed.length} bytes: an entry of a NATS KV bucket holds at most the hub's max_payload (1 MiB unless it is raised); a directory has no such bound`,
      )
  }
  await io.out.write(`${bundleLine(options.out ?? path, opened.value)}\n${opened.value.revision}\n`)
  return Exit.Ok
}

/** Signs what the manifest says, after making sure that the files still are what it says. */
export async function signBundle(path: string, options: SignOptions, io: Terminal): Promise<ExitCode> {
  const key = readPrivateKey(readOption(io, '--key', options.key))
  const files = await readFiles(path)
  if (files.manifest === undefined)
    throw new CliError(
      Exit.Config,
      `${path} has no ${MANIFEST_NAME}`,
      `write one: deltawatch policy bundle ${path} --manifest`,
    )
  const listed = parseManifest(files.manifest)
  if (!listed.ok) throw refused(path, listed.error)
  const opened = openFiles({ files: files.files, manifest: files.manifest }, { deps: testDeps() })
  if (!opened.ok) throw refused(path, opened.error)
  const signature = signManifest(files.manifest, key)
  if (await isDirectory(path)) await writeFile(join(path, SIGNATURE_NAME), signature)
  else await writeFile(path, writeBundleFile({ files: files.files, manifest: files.manifest, signature }))
  await io.out.write(`${path}: signed, revision ${opened.value.revision}\n`)
  return Exit.Ok
}

async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path)).isDirectory()
}
