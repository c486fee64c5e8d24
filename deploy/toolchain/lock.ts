// One builder at a time, across processes.
// Owns: a lock file that its holder keeps fresh; a file left by a dead or stuck holder is taken over.
// Does not own: correctness. Two holders would only build the same thing twice, because installation is atomic (cache.ts);
// the lock saves minutes of work, and is therefore allowed to be simple.

import { randomBytes } from 'node:crypto'
import { mkdir, open, readFile, rm, stat, utimes } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { isAlive, isCode } from './narrow.ts'

const FRESHEN_MS = 2_000
const STALE_MS = 20_000
const LOOK_MS = 250

/** Waits for the lock and holds it until disposed. `onWait` is told once, with the holder's process id. */
export async function takeLock(
  path: string,
  signal?: AbortSignal,
  onWait: (holder: string) => void = () => {},
): Promise<AsyncDisposable> {
  await mkdir(dirname(path), { recursive: true })
  const token = `${process.pid} ${randomBytes(6).toString('hex')}`
  let waited = false
  while (!(await create(path, token))) {
    signal?.throwIfAborted()
    if (await isStale(path)) {
      await rm(path, { force: true })
      continue
    }
    if (!waited) onWait((await readFile(path, 'utf8').catch(() => '?')).split(' ')[0] ?? '?')
    waited = true
    await delay(LOOK_MS, undefined, signal === undefined ? {} : { signal })
  }
  const freshen = setInterval(() => {
    const now = new Date()
    utimes(path, now, now).catch(() => {}) // somebody took it over; see the header for why that is harmless
  }, FRESHEN_MS)
  freshen.unref()
  return {
    [Symbol.asyncDispose]: async () => {
      clearInterval(freshen)
      const mine = (await readFile(path, 'utf8').catch(() => '')) === token
      if (mine) await rm(path, { force: true })
    },
  }
}

async function create(path: string, token: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx')
    await file.writeFile(token)
    await file.close()
    return true
  } catch (error) {
    if (isCode(error, 'EEXIST')) return false
    throw error
  }
}

async function isStale(path: string): Promise<boolean> {
  const seen = await stat(path).catch(() => undefined)
  if (seen === undefined) return false
  if (Date.now() - seen.mtimeMs > STALE_MS) return true
  const pid = Number((await readFile(path, 'utf8').catch(() => '')).split(' ')[0])
  return pid > 0 && !isAlive(pid)
}
