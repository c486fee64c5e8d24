// How a long job tells its reader that it is alive.
// Owns: the shape of progress and its two voices: one live line on a terminal, one line per step elsewhere.
// Does not own: what is done, nor standard output (that belongs to results); everything here goes to standard error.

export interface Progress {
  /** A new step begins; it stays on record. */
  step(text: string): void
  /** How far the step is; shown live on a terminal, otherwise only every so often. */
  update(text: string): void
  /** A whole sentence on record, such as why a step was of no help. */
  note(text: string): void
  /** Something the reader should know although the job goes on. */
  warn(text: string): void
  /** Ends the live line. */
  end(): void
}

export interface ProgressSink {
  readonly isTTY?: boolean
  readonly columns?: number
  write(text: string): unknown
}

export const SILENT: Progress = { step: () => {}, update: () => {}, note: () => {}, warn: () => {}, end: () => {} }

const QUIET_MS = 5_000

/** `now` is in milliseconds; it decides only how often a pipe gets an update line. */
export function createProgress(sink: ProgressSink, now: () => number = () => performance.now()): Progress {
  return sink.isTTY === true ? onTerminal(sink) : onPipe(sink, now)
}

function onTerminal(sink: ProgressSink): Progress {
  let current = ''
  let open = false
  const paint = (text: string): void => {
    sink.write(`\r\x1b[2K${text.slice(0, (sink.columns ?? 80) - 1)}`)
    open = true
  }
  const end = (): void => {
    if (open) sink.write('\n')
    open = false
  }
  return {
    step: (text) => {
      end()
      current = text
      paint(text)
    },
    update: (text) => paint(`${current}  ${text}`),
    note: (text) => {
      end()
      sink.write(`${text}\n`)
    },
    warn: (text) => {
      end()
      sink.write(`warning: ${text}\n`)
    },
    end,
  }
}

function onPipe(sink: ProgressSink, now: () => number): Progress {
  let current = ''
  let spoke = -Infinity
  const say = (text: string): void => {
    spoke = now()
    sink.write(`${text}\n`)
  }
  return {
    step: (text) => {
      current = text
      say(text)
    },
    update: (text) => {
      if (now() - spoke >= QUIET_MS) say(`${current}  ${text}`)
    },
    note: say,
    warn: (text) => say(`warning: ${text}`),
    end: () => {},
  }
}
