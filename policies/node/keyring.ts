// HMAC keys from files: one file per key, named after its id, as a mounted secret looks.
// Owns: reading them, and refusing keys too short to keep anything secret. Never logs, prints or exports a key.

import { createSecretKey } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { PolicyError } from './errors.ts'

export type Keyring = { readonly keys: ReadonlyMap<string, KeyObject> }

const KEY_ID = /^[a-z0-9][a-z0-9._-]{0,63}$/
const MIN_BYTES = 32
const MAX_BYTES = 4096
const MAX_KEYS = 1024

export const emptyKeyring = (): Keyring => ({ keys: new Map() })

/** Reads every key of a directory; hidden files are not keys. Throws PolicyError when a file cannot serve as one. */
export async function loadKeyring(directory: string): Promise<Keyring> {
  const keys = new Map<string, KeyObject>()
  const names = (await list(directory)).filter((name) => !name.startsWith('.')).sort()
  if (names.length > MAX_KEYS)
    throw new PolicyError('POLICY_KEYS', `${directory} holds more than ${MAX_KEYS} files; is it the key directory?`)
  for (const name of names) {
    const path = join(directory, name)
    const info = await stat(path)
    if (!info.isFile()) continue
    if (!KEY_ID.test(name)) throw new PolicyError('POLICY_KEYS', `${path} is not named like a key id (a-z 0-9 . _ -)`)
    if (info.size > MAX_BYTES)
      throw new PolicyError('POLICY_KEYS', `${path} is larger than ${MAX_BYTES} bytes; a key is not`)
    const bytes = withoutLineEnd(await readFile(path))
    if (bytes.length < MIN_BYTES) {
      throw new PolicyError(
        'POLICY_KEYS',
        `${path} holds ${bytes.length} bytes; an HMAC key needs at least ${MIN_BYTES} (try: openssl rand -hex 32)`,
      )
    }
    keys.set(name, createSecretKey(bytes))
  }
  return { keys }
}

async function list(directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (cause) {
    throw new PolicyError('POLICY_KEYS', `cannot read the key directory ${directory}`, { cause })
  }
}

/** Editors and `echo` end files with a line feed that nobody means as part of the key. */
function withoutLineEnd(bytes: Buffer): Buffer {
  let end = bytes.length
  if (end > 0 && bytes[end - 1] === 0x0a) end--
  if (end > 0 && bytes[end - 1] === 0x0d) end--
  return bytes.subarray(0, end)
}
