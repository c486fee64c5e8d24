// The command line of deltawatch as one tree of commands.
// Owns: the root, what --help says first, and running an action to an exit code. Refuses: what commands do (commands/).

import { Command, CommanderError } from 'commander'
import { VERSION } from '#kit/version.ts'
import { getCommand } from './commands/get.ts'
import { statusCommand } from './commands/status.ts'
import { tailCommand } from './commands/tail.ts'
import { Exit, EXIT_HELP, type ExitCode, explain } from './failure.ts'
import { registerConfigCommands } from './config.ts'
import { registerDoctorCommand } from './doctor.ts'
import { registerHubCommands } from './hub.ts'
import type { Terminal as PlainTerminal } from './hub/terminal.ts'
import { registerPolicyCommands } from './policy/commands.ts'
import type { Terminal } from './terminal.ts'

const START = `
Start with a running gateway (\`npm start\` runs a local one):
  deltawatch status
  deltawatch tail --prefix /microservices/ --from snapshot
  deltawatch doctor
`

export type Run = (action: (io: Terminal) => Promise<ExitCode>) => Promise<void>

/** Runs one command line. Never rejects: what went wrong is a sentence on stderr and the exit code. */
export async function runCommandLine(args: readonly string[], io: Terminal): Promise<number> {
  let exit: number = Exit.Ok
  // Writes are collected in order; commander itself cannot wait for a slow reader.
  const pending: Promise<void>[] = []
  const plain: PlainTerminal = {
    isTTY: io.out.isTTY,
    columns: io.out.columns,
    out: (text) => void pending.push(io.out.write(text)),
    err: (text) => void pending.push(io.err.write(text)),
    code: (code) => {
      exit = code
    },
  }
  const program = buildProgram(async (action) => {
    exit = await action(io)
  }, plain)
  const configure = (command: Command): void => {
    command.exitOverride().configureOutput({
      writeOut: (text) => pending.push(io.out.write(text)),
      writeErr: (text) => pending.push(io.err.write(text)),
      getOutHelpWidth: () => Math.min(io.out.columns, 120),
      getErrHelpWidth: () => Math.min(io.err.columns, 120),
    })
    for (const child of command.commands) configure(child)
  }
  configure(program)
  try {
    await program.parseAsync(args, { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) exit = error.exitCode === 0 ? Exit.Ok : Exit.Usage
    else {
      const { text, exit: code } = explain(error)
      exit = code
      pending.push(io.err.write(`deltawatch: ${text}\n`))
    }
  }
  await Promise.all(pending)
  return exit
}

/** `plain` serves the commands that write once and end. */
export function buildProgram(run: Run, plain?: PlainTerminal): Command {
  const program = new Command('deltawatch')
    .description('Watch the changes of many etcd clusters, and look after the parts that deliver them.')
    .version(`deltawatch ${VERSION} (node ${process.versions.node})`, '-V, --version', 'print the version')
    .showHelpAfterError('(add --help for the options and examples)')
    .addHelpText('after', START + EXIT_HELP)
    .configureHelp({ showGlobalOptions: false })
  tailCommand(run, program)
  getCommand(run, program)
  statusCommand(run, program)
  registerDoctorCommand(program, plain)
  registerHubCommands(program, plain)
  registerConfigCommands(program, plain)
  registerPolicyCommands(program, run)
  return program
}
