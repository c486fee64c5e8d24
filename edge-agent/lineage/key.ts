// The agents' secret: what makes digests unguessable at the hub.
// Owns: reading a key file (one key per line, the first signs, all verify), key ids, the loud default of development.
// Refuses: logging or sending a key; its id is a truncated hash of a hash.

import { createHash, createHmac } from 'node:crypto'
import { DeltawatchError } from '#kit/errors.ts'
import { type DigestRevision, keyedDigest } from './digest.ts'

export type LineageKey = { readonly id: string; readonly digest: DigestRevision; readonly secret: Uint8Array }

export type LineageKeys = {
  readonly current: LineageKey
  readonly byId: ReadonlyMap<string, LineageKey>
  /** No key file: the key is known to everybody, so digests of withheld values can be guessed at the hub. */
  readonly isDefault: boolean
}

const MIN_KEY_CHARS = 16
const DEVELOPMENT_KEY = 'deltawatch development lineage key, public on purpose'

/** `text` is the key file's content; undefined takes the development key. Throws DW_LINEAGE_KEY. */
export function lineageKeys(text: string | undefined): LineageKeys {
  const lines = (text ?? DEVELOPMENT_KEY)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
  const keys = lines.map((line, i) => {
    if (line.length < MIN_KEY_CHARS) {
      const hint = 'use at least 16 characters, for example the output of "openssl rand -hex 32"'
      throw new DeltawatchError(
        'DW_LINEAGE_KEY',
        `lineage key file: key ${i + 1} has ${line.length} characters; ${hint}`,
      )
    }
    return lineageKey(line)
  })
  const [current] = keys
  if (current === undefined)
    throw new DeltawatchError('DW_LINEAGE_KEY', 'lineage key file: it holds no key; put one per line')
  return { current, byId: new Map(keys.map((key) => [key.id, key])), isDefault: text === undefined }
}

function lineageKey(line: string): LineageKey {
  const secret = createHash('sha256').update(line, 'utf8').digest()
  const id = createHmac('sha256', secret).update('key id').digest('hex').slice(0, 12)
  return { id, digest: keyedDigest(secret), secret }
}
