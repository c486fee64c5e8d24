// What a command needs of the process it runs in, so that a test can be the process.
// Owns: the port, the two output streams with back-pressure, colour, and the signal that Ctrl-C gives.
// Refuses: the environment (kit/config reads it) and ending the process (main.ts).

import { once } from 'node:events'
import type { WriteStream } from 'node:tty'

export interface Output {
  readonly isTTY: boolean
  readonly columns: number
  /** Resolves when the reader can take more. */
  write(text: string | Uint8Array): Promise<void>
}

export interface Terminal {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly out: Output
  readonly err: Output
  /** Aborts at the first Ctrl-C or SIGTERM; a second one ends the process as if nobody listened. */
  readonly stop: AbortSignal
  readFile(path: string): string
  writeFile(path: string, text: string): void
  /** For tests of what a terminal shows. */
  readonly colour: boolean
}

type Files = Pick<Terminal, 'readFile' | 'writeFile'>

export function processTerminal(env: Terminal['env'], files: Files): Terminal {
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())
  const out = outputOf(process.stdout)
  return { env, ...files, out, err: outputOf(process.stderr), stop: stop.signal, colour: out.isTTY && !env['NO_COLOR'] }
}

function outputOf(stream: WriteStream): Output {
  // `deltawatch tail | head` closes the pipe: that is the end, and no failure.
  stream.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))
  return {
    isTTY: stream.isTTY,
    get columns() {
      return stream.columns ?? 120
    },
    async write(text) {
      if (!stream.write(text)) await once(stream, 'drain')
    },
  }
}

const CODES = { red: 31, green: 32, yellow: 33, blue: 34, magenta: 35, cyan: 36, grey: 90, bold: 1 } as const
export type Colour = keyof typeof CODES
export type Paint = (colour: Colour, text: string) => string

export const painter =
  (enabled: boolean): Paint =>
  (colour, text) =>
    enabled && text !== '' ? `\x1b[${CODES[colour]}m${text}\x1b[0m` : text

/** A line for people, on stderr, so that a pipe carries data alone. */
export const note = (io: Terminal, text: string): Promise<void> => io.err.write(`deltawatch: ${text}\n`)
