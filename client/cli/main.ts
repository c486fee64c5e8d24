// `deltawatch`: from a process to a command line and back to an exit code.
// Owns: the process: arguments, environment, streams, files, the end. Refuses: everything else (program.ts).

import { readFileSync, writeFileSync } from 'node:fs'
import { environment } from '#kit/config/process.ts'
import { runCommandLine } from './program.ts'
import { processTerminal } from './terminal.ts'

const io = processTerminal(environment(), {
  readFile: (path) => readFileSync(path, 'utf8'),
  writeFile: (path, text) => writeFileSync(path, text, { mode: 0o600 }),
})
// Connections that are still closing must not keep a finished command alive.
process.exit(await runCommandLine(process.argv.slice(2), io))
