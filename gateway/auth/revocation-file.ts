// Revocations from a file of JSON lines, looked at every second.
// Owns: noticing changes and refusing a damaged file as a whole: half a list would let half of the revoked in.

import { readFile, stat } from 'node:fs/promises'
import type { Clock } from '#kit/clock.ts'
import { errorMessage } from '#kit/errors.ts'
import { parseRevocation, type Revocation, type Revocations } from './revocations.ts'

const POLL_MS = 500
const MAX_BYTES = 64 * 1024 * 1024

export async function followRevocationFile(path: string, into: Revocations, clock: Clock): Promise<AsyncDisposable> {
  const stop = new AbortController()
  let seen = ''
  const look = async (): Promise<void> => {
    try {
      const info = await stat(path)
      const now = `${info.size}:${info.mtimeMs}:${info.ino}`
      if (now === seen) return into.confirm()
      if (info.size > MAX_BYTES) throw new RangeError(`larger than ${MAX_BYTES} bytes`)
      into.replace(parse(await readFile(path, 'utf8')))
      seen = now
    } catch (e) {
      seen = ''
      into.fail(`${path}: ${errorMessage(e)}`)
    }
  }
  await look()
  const loop = (async () => {
    for (;;) {
      await clock.sleep(POLL_MS, stop.signal)
      await look()
    }
  })().catch(() => undefined)
  return {
    async [Symbol.asyncDispose]() {
      stop.abort()
      await loop
    },
  }
}

function parse(text: string): Revocation[] {
  return text.split('\n').flatMap((line, i) => {
    if (line.trim() === '' || line.startsWith('#')) return []
    const one = parseRevocation(line)
    if (one === undefined) throw new RangeError(`line ${i + 1} is no revocation`)
    return one
  })
}
