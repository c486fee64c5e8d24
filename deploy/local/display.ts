// What the reader of `npm start` sees.
// Owns: a table of parts that is redrawn while things come up on a terminal, plain lines afterwards, JSON lines in a pipe.
// Does not own: the facts; it is told every change.

import { stripVTControlCharacters } from 'node:util'
import type { PartState } from './part.ts'

export interface Sink {
  readonly isTTY?: boolean
  readonly columns?: number
  write(text: string): unknown
}

export interface Invitation {
  readonly label: string
  readonly command: string
}

export interface Display {
  readonly part: (name: string, state: PartState) => void
  /** What the gateway says of a cluster, such as "live, revision 812". */
  readonly cluster: (name: string, state: string) => void
  note(text: string): void
  /** Everything serves: the table is final, and this is what to try next. */
  ready(ms: number, next: readonly Invitation[]): void
  error(text: string): void
  end(text: string): void
}

export function createDisplay(sink: Sink, names: readonly string[], now: () => Date = () => new Date()): Display {
  return sink.isTTY === true ? onTerminal(sink, names, now) : onPipe(sink, now)
}

function onPipe(sink: Sink, now: () => Date): Display {
  const line = (event: Readonly<Record<string, unknown>>): void => {
    sink.write(`${JSON.stringify({ at: now().toISOString(), ...event })}\n`)
  }
  return {
    part: (part, { kind, ...detail }) => line({ part, state: kind, ...detail }),
    cluster: (cluster, state) => line({ cluster, state }),
    note: (note) => line({ note }),
    ready: (ms, next) => line({ ready: true, ms, next }),
    error: (error) => line({ error }),
    end: (end) => line({ end }),
  }
}

const COLOUR = { starting: 33, ready: 32, restarting: 31, failed: 31, stopping: 33, stopped: 90 } as const

function onTerminal(sink: Sink, names: readonly string[], now: () => Date): Display {
  const rows = new Map<string, string>(names.map((name) => [name, paint(90, 'waiting')]))
  const width = Math.max(...names.map((name) => name.length)) + 2
  let drawn = 0
  // The table is live until everything serves; from then on what happens is history, one line each.
  let live = true

  const draw = (): void => {
    // A row that wrapped would make the cursor's way back up too short.
    const lines = [...rows].map(([name, text]) => fit(`  ${name.padEnd(width)}${text}`, sink.columns ?? 80))
    sink.write(`${drawn > 0 ? `\x1b[${drawn}A` : ''}${lines.map((line) => `\x1b[2K${line}\n`).join('')}`)
    drawn = lines.length
  }
  const say = (text: string): void => {
    if (live && drawn > 0) {
      // Above the table, which moves down.
      sink.write(`\x1b[${drawn}A\x1b[J`)
      drawn = 0
      sink.write(`${text}\n`)
      draw()
    } else {
      sink.write(`${text}\n`)
    }
  }
  const stamp = (): string => paint(90, now().toTimeString().slice(0, 8))

  return {
    part: (name, state) => {
      rows.set(name, describe(state))
      if (live) draw()
      else say(`${stamp()}  ${name.padEnd(width)}${describe(state)}`)
    },
    cluster: (name, state) => {
      rows.set(name, state)
      if (live) draw()
      else say(`${stamp()}  ${name.padEnd(width)}${state}`)
    },
    note: say,
    ready: (ms, next) => {
      live = false
      const label = Math.max(...next.map((one) => one.label.length)) + 2
      const lines = next.map((one) => `  ${one.label.padEnd(label)}${paint(36, one.command)}`)
      sink.write(`\nReady in ${(ms / 1_000).toFixed(1)} s. Try:\n\n${lines.join('\n')}\n\nCtrl-C stops everything.\n\n`)
    },
    error: (text) => {
      live = false
      sink.write(`\n${paint(31, text)}\n`)
    },
    end: (text) => {
      live = false
      sink.write(`${text}\n`)
    },
  }
}

const paint = (colour: number, text: string): string => `\x1b[${colour}m${text}\x1b[0m`

/** Cut to the width of the terminal; what has to be cut loses its colours. */
function fit(text: string, columns: number): string {
  const plain = stripVTControlCharacters(text)
  return plain.length < columns ? text : plain.slice(0, columns - 1)
}

function describe(state: PartState): string {
  const word = paint(COLOUR[state.kind], state.kind)
  switch (state.kind) {
    case 'ready':
      return `${word}  ${paint(90, `pid ${state.pid}, ${(state.ms / 1_000).toFixed(1)} s`)}`
    case 'restarting':
      return `${word}  it ${state.why}; next try in ${(state.inMs / 1_000).toFixed(2)} s`
    case 'failed':
      return `${word}  it ${state.why}`
    case 'starting':
    case 'stopping':
    case 'stopped':
      return word
    default: {
      const unknown: never = state
      return unknown
    }
  }
}
