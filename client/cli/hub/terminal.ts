// What the operator's commands write, and where: a table for people, JSON for programs, an exit code for scripts.
// Owns: the choice between the two forms, the table, and the one way a command of these ends.
// Refuses: colours (a word says ok or fail as well) and ending the process: the exit code is set, the loop runs empty.

import type { Command } from 'commander'
import { DeltawatchError, errorMessage } from '#kit/errors.ts'

export interface Terminal {
  readonly isTTY: boolean
  readonly columns: number
  out(text: string): void
  err(text: string): void
  /** Exit code of the process once everything is written. */
  code(code: number): void
}

/** Something the person at the keyboard can put right; ends the command with `exitCode`. */
export class CommandError extends DeltawatchError {
  readonly exitCode: number

  constructor(code: string, message: string, exitCode = 1, options?: ErrorOptions) {
    super(code, message, options)
    this.exitCode = exitCode
  }
}

export function processTerminal(): Terminal {
  return {
    isTTY: process.stdout.isTTY,
    columns: process.stdout.columns ?? 120,
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    code: (code) => {
      process.exitCode = code
    },
  }
}

/** Runs a command's work; whatever it throws becomes one line and an exit code. */
export async function runCommand(terminal: Terminal, name: string, work: () => Promise<number>): Promise<void> {
  try {
    terminal.code(await work())
  } catch (error) {
    const code = error instanceof DeltawatchError ? ` (${error.code})` : ''
    terminal.err(`deltawatch ${name}: ${errorMessage(error)}${code}\n`)
    terminal.code(error instanceof CommandError ? error.exitCode : 1)
  }
}

export const wantsJson = (terminal: Terminal, asked: boolean | undefined): boolean => asked === true || !terminal.isTTY

export const json = (value: unknown): string => `${JSON.stringify(value, undefined, 2)}\n`

const GAP = '  '
const LEAST_LAST = 24

/** Left-aligned columns; the last one is wrapped at words to fit the terminal. */
export function table(all: readonly (readonly string[])[], columns: number): string {
  const last = Math.max(0, ...all.map((row) => row.length)) - 1
  const widths = Array.from({ length: Math.max(0, last) }).map((_, i) =>
    Math.max(...all.map((row) => (row[i] ?? '').length)),
  )
  const used = widths.reduce((sum, width) => sum + width + GAP.length, 0)
  const room = Math.max(LEAST_LAST, columns - used)
  const lines = all.flatMap((row) => {
    const front = widths.map((width, i) => (row[i] ?? '').padEnd(width) + GAP).join('')
    return wrap(row[last] ?? '', room).map((text, i) => (i === 0 ? front : ' '.repeat(used)) + text)
  })
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`
}

function wrap(text: string, width: number): string[] {
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = lines.at(-1) ?? ''
    if (line === '') lines[lines.length - 1] = word
    else if (line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`
    else lines.push(word)
  }
  return lines
}

/** Every command states its complete command lines below its help. */
export function withExamples(command: Command, lines: readonly string[]): Command {
  return command.addHelpText('after', `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`)
}

/** For options that take a list: `--clusters a,b --clusters c`. */
export const list = (text: string, before: readonly string[] | undefined): readonly string[] => [
  ...(before ?? []),
  ...text
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== ''),
]
