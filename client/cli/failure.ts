// How a command ends when it does not succeed: a sentence, what to do next, and an exit code that scripts can rely on.
// Owns: the exit codes, and turning every error a command can meet into one. Refuses: stack traces, and ending the process.

import { errorCode, errorMessage } from '#kit/errors.ts'
import { WatchError } from '../errors.ts'
import { CommandError } from './hub/terminal.ts'

export const Exit = {
  Ok: 0,
  /** A check found a fault, or what was asked for does not exist. */
  Found: 1,
  /** The command line is wrong. */
  Usage: 2,
  /** A server could not be reached in time. */
  Unreachable: 3,
  /** A server answered and refused: credentials, permissions, or a request it does not take. */
  Refused: 4,
  /** A configuration or policy file is wrong (EX_CONFIG of sysexits, as the services use it). */
  Config: 78,
  /** Ended by Ctrl-C. */
  Interrupted: 130,
} as const
export type ExitCode = (typeof Exit)[keyof typeof Exit]

export const EXIT_HELP = `
Exit codes: 0 done · 1 a fault was found, or nothing · 2 wrong command line · 3 a server cannot be reached
            4 a server refused · 78 a configuration file is wrong · 130 interrupted
`

/** `message` says what is wrong with which value; `hint` what to do next. */
export class CliError extends Error {
  readonly exit: ExitCode
  readonly hint: string | undefined

  constructor(exit: ExitCode, message: string, hint?: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'CliError'
    this.exit = exit
    this.hint = hint
  }
}

/** Any error as one to three lines for people, and its exit code. */
export function explain(error: unknown): { readonly text: string; readonly exit: number } {
  if (error instanceof CliError) {
    const hint = error.hint === undefined ? '' : `\n  ${error.hint.replaceAll('\n', '\n  ')}`
    return { text: `${error.message}${hint}`, exit: error.exit }
  }
  if (error instanceof WatchError) return explainWatch(error)
  if (error instanceof CommandError) return { text: `${error.message} (${error.code})`, exit: error.exitCode }
  return { text: `${errorMessage(error)} (${errorCode(error)})`, exit: Exit.Found }
}

const HINTS: Readonly<Record<string, string>> = {
  DW4003: 'give a valid token: --token-file, or DELTAWATCH_TOKEN',
  DW4004: 'this host or origin is not allowed to connect; see hosts and origins of the gateway',
  DW4012: 'start with --from snapshot, or with a cursor that was kept whole',
  DW4105: 'the token expired; give a fresh one',
  'client.snapshot-too-large': 'narrow --prefix, or name fewer clusters with --cluster',
}

function explainWatch(error: WatchError): { readonly text: string; readonly exit: ExitCode } {
  const usage = error.code === 'client.bad-option' || error.code === 'DW4012' || error.code === 'DW4011'
  const hint = HINTS[error.code]
  const text = `${error.message} (${error.code})${hint === undefined ? '' : `\n  ${hint}`}`
  return { text, exit: usage ? Exit.Usage : Exit.Refused }
}
