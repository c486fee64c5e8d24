// The one door to the process's command line and environment.
// Owns: process.argv, process.env, and ending the process with the text that loading asked for.
// Does not own: anything that could be tested without a process (load.ts).

import { writeSync } from 'node:fs'
import type * as z from 'zod'
import type { ConfigDefinition } from './definition.ts'
import { loadConfig, loadConfigOrThrow } from './load.ts'

export interface ProcessConfig<T> {
  readonly config: T
  readonly warnings: readonly string[]
  /** Reads everything anew, for SIGHUP. Throws a ConfigError and changes nothing when it is not valid. */
  readonly reload: () => T
}

/** Returns only with a valid configuration; prints and exits otherwise. */
export function configFromProcess<S extends z.ZodObject>(definition: ConfigDefinition<S>): ProcessConfig<z.output<S>> {
  const from = { args: process.argv.slice(2), env: process.env }
  const loaded = loadConfig(definition, from)
  if (loaded.kind === 'exit') {
    writeAll(1, loaded.stdout)
    writeAll(2, loaded.stderr)
    process.exit(loaded.code)
  }
  const { config, warnings } = loaded
  return { config, warnings, reload: () => loadConfigOrThrow(definition, from) }
}

/** For tools that are not services, such as the command line client. */
export function environment(): Readonly<Record<string, string | undefined>> {
  return process.env
}

function writeAll(fd: 1 | 2, text: string): void {
  let rest = Buffer.from(text)
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest))
    } catch (e) {
      // A full pipe says "again"; anything else means nobody reads.
      if (!(e instanceof Error && 'code' in e && e.code === 'EAGAIN')) return
    }
  }
}
