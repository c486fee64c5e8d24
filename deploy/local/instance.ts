// One stack per data directory: two would share etcd's files and each other's history.
// Owns: the lock and its message. The lock is kept fresh while we live and taken over at once when its holder is gone.

import { takeLock } from '../toolchain/lock.ts'

export class AlreadyRunningError extends Error {
  override readonly name = 'AlreadyRunningError'
}

/** Rejects with AlreadyRunningError, naming the process, when another stack runs on this directory. */
export function lockInstance(dataDir: string): Promise<AsyncDisposable> {
  // Beside the directory, not in it, so that --fresh does not wipe it.
  return takeLock(`${dataDir}.lock`, undefined, (pid) => {
    throw new AlreadyRunningError(
      `${dataDir} belongs to a running stack (process ${pid}): stop it, or give this one its own --dir and ports`,
    )
  })
}
