// A server process that can be killed and brought back on the same ports with the same data.
// Owns: the current incarnation, restarts, pausing, and retrying a first start whose reserved port was taken after all.
// Does not own: how a particular server is configured (etcd.ts, nats.ts).

import { type Exit, type RunningProcess, startProcess } from './process.ts'

export interface ServerRecipe {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly env?: NodeJS.ProcessEnv
  /** Resolves when this incarnation serves; must await an event, never sleep. */
  readonly ready: (process: RunningProcess) => Promise<unknown>
}

export interface Server extends AsyncDisposable {
  readonly name: string
  /** Of the current incarnation; throws while the server is down. */
  readonly pid: number
  readonly running: boolean
  /** The current incarnation, or the last one while the server is down. */
  readonly process: RunningProcess
  /** Sends the signal (default SIGKILL) and resolves when the process is gone; `restart` brings it back. */
  kill(signal?: NodeJS.Signals): Promise<Exit>
  /** Orderly end: SIGTERM, then SIGKILL after the grace. A server that is already down stays so. */
  stop(graceMs?: number): Promise<Exit>
  /** Stops if needed, starts again with the same ports and data, resolves when it serves. */
  restart(): Promise<void>
  pause(): void
  resume(): void
  /** Output of all incarnations, bounded per incarnation. */
  log(): string
}

export async function startServer(recipe: ServerRecipe): Promise<Server> {
  const earlier: string[] = []
  let current = await launch(recipe)

  const stop = (graceMs?: number): Promise<Exit> => current.stop(graceMs)
  return {
    name: recipe.name,
    get pid() {
      if (current.exit !== undefined) throw new Error(`${recipe.name} is down: it has no process id`)
      return current.pid
    },
    get running() {
      return current.exit === undefined
    },
    get process() {
      return current
    },
    kill: (signal = 'SIGKILL') => {
      current.kill(signal)
      return current.exited
    },
    stop,
    restart: async () => {
      await stop()
      earlier.push(current.log())
      current = await launch(recipe)
    },
    pause: () => current.pause(),
    resume: () => current.resume(),
    log: () => [...earlier, current.log()].join('\n'),
    [Symbol.asyncDispose]: async () => {
      await stop()
    },
  }
}

async function launch(recipe: ServerRecipe): Promise<RunningProcess> {
  const { command, args, env, name } = recipe
  const process = await startProcess({ command, args, name, ...(env === undefined ? {} : { env }) })
  try {
    await recipe.ready(process)
    return process
  } catch (error) {
    await process.stop(1_000)
    throw error
  }
}

const ADDRESS_TAKEN = /address already in use|EADDRINUSE/i
const START_TRIES = 3

/** Runs `start` again with fresh ports when it failed because somebody outside the port list sat on one. */
export async function retryWhenPortTaken<T>(start: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await start()
    } catch (error) {
      const taken = error instanceof Error && ADDRESS_TAKEN.test(error.message)
      if (!taken || attempt === START_TRIES) throw error
    }
  }
}
