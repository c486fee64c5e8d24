// A worker of a single executable is started with one argument too many.
// Owns: taking it out. `cluster` hands the path of a script to the process it forks; an executable has no script, so
// that path would be read as the first argument. Refuses: everything else about arguments (kit/config).

import cluster from 'node:cluster'
import { isSea } from 'node:sea'

type Facts = { readonly executable: boolean; readonly worker: boolean }

/** Call it before arguments are read. Changes `argv` in a worker of a single executable and nowhere else. */
export function forgetForkedScript(
  argv: string[] = process.argv,
  { executable, worker }: Facts = { executable: isSea(), worker: cluster.isWorker },
): void {
  if (executable && worker) argv.splice(2, 1)
}
