// Structured logs behind our own small interface; pino is the writer.
// Owns: one JSON line per event on stdout (one readable line on a terminal), levels, and what may never be logged:
// secrets by field name at any depth, byte arrays, and long strings.
// Does not own: who logs what. Callers name an event in a few stable words and pass facts as fields, never watched values.
// Overflow rule: a stdout that does not drain may hold 4 MiB; further lines are dropped and counted, the service goes on.

import { type DestinationStream, pino } from 'pino'
import { errorCode, errorMessage, redactText } from './errors.ts'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent'
export type LogFields = Readonly<Record<string, unknown>>

export interface Logger {
  debug(event: string, fields?: LogFields): void
  info(event: string, fields?: LogFields): void
  warn(event: string, fields?: LogFields): void
  /** Put what was caught under `err`; it is written as `{code, message}`. */
  error(event: string, fields?: LogFields): void
  /** A logger that adds `fields` to every line. */
  child(fields: LogFields): Logger
  /** Writes out what is still in memory. Blocks, and may overtake a write in flight: for a process that must end now. */
  flush(): void
  /** Resolves when everything logged so far is written, in order; for an end with a moment to spare. */
  settled(): Promise<void>
}

export interface LoggerOptions {
  readonly service: string
  readonly level?: LogLevel
  /** Where lines go. Default: stdout, readable on a terminal and JSON otherwise. */
  readonly destination?: (line: string) => void
  readonly format?: 'json' | 'pretty'
}

const MAX_BUFFERED_BYTES = 4 * 1024 * 1024
const MAX_STRING = 512
const MAX_ITEMS = 32
const MAX_DEPTH = 4
// By ending, so that `natsToken` and `shared_secret` are caught and `tokenFile` (a path) is not.
const SECRET_NAME =
  /(pass|passwd|password|token|secrets?|jwt|seed|nkey|creds|credentials|authorization|cookie|ticket|apikey|privatekey)$/i
// Fields with these names would carry what subscribers watch. Nobody needs them in a log.
const PAYLOAD_NAMES: ReadonlySet<string> = new Set(['value', 'values', 'payload', 'body', 'json', 'prevValue'])

export function createLogger(options: LoggerOptions): Logger {
  const format = options.format ?? (process.stdout.isTTY && options.destination === undefined ? 'pretty' : 'json')
  const sink = options.destination === undefined ? stdoutSink() : callbackSink(options.destination)
  const stream: DestinationStream = format === 'pretty' ? { write: (line) => sink.write(prettyLine(line)) } : sink
  const root = pino(
    {
      level: options.level ?? 'info',
      base: { service: options.service },
      messageKey: 'event',
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      // Errors arrive cleaned; pino's own serializer would add a stack.
      serializers: { err: (err: unknown) => err },
      formatters: { level: (label) => ({ level: label }) },
    },
    stream,
  )
  return wrap(root, sink)
}

/** A logger that writes nothing, for tests and tools that report in their own way. */
export function silentLogger(): Logger {
  return createLogger({ service: 'silent', level: 'silent', destination: () => undefined })
}

/** What is used of pino's logger. */
interface Writer {
  debug(fields: object, event: string): void
  info(fields: object, event: string): void
  warn(fields: object, event: string): void
  error(fields: object, event: string): void
  child(fields: Record<string, unknown>): Writer
  isLevelEnabled(level: string): boolean
}

function wrap(writer: Writer, sink: Sink): Logger {
  const at =
    (level: Exclude<LogLevel, 'silent'>) =>
    (event: string, fields?: LogFields): void => {
      if (writer.isLevelEnabled(level)) writer[level](cleanFields(fields ?? {}), event)
    }
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => wrap(writer.child(cleanFields(fields)), sink),
    flush: () => sink.flush(),
    settled: () => sink.settled(),
  }
}

interface Sink extends DestinationStream {
  flush(): void
  settled(): Promise<void>
}

function callbackSink(write: (line: string) => void): Sink {
  return { write, flush: () => undefined, settled: () => Promise.resolve() }
}

function stdoutSink(): Sink {
  // A length of 1 writes at once like 0 does, but only then does flush() wait for the write in flight.
  const out = pino.destination({ fd: 1, sync: false, minLength: 1, maxLength: MAX_BUFFERED_BYTES })
  let dropped = 0
  out.on('drop', () => {
    dropped++
  })
  out.on('drain', () => {
    if (dropped === 0) return
    const lines = dropped
    dropped = 0
    out.write(`${JSON.stringify({ level: 'warn', event: 'log lines dropped', lines })}\n`)
  })
  // A reader that went away (EPIPE) must not take the service with it.
  out.on('error', () => undefined)
  return {
    write: (line) => void out.write(line),
    settled: () => new Promise((resolve) => out.flush(() => resolve())),
    flush: () => {
      try {
        out.flushSync()
      } catch {
        // The descriptor is closed or was never ready: nothing left to say it to.
      }
    },
  }
}

function cleanFields(fields: LogFields): Record<string, unknown> {
  const clean: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(fields)) clean[name] = cleanField(name, value, 0)
  return clean
}

function cleanField(name: string, value: unknown, depth: number): unknown {
  if (value === undefined || value === null) return value
  if (SECRET_NAME.test(name)) return '***'
  if (PAYLOAD_NAMES.has(name)) return '(withheld)'
  return clean(value, depth)
}

function clean(value: unknown, depth: number): unknown {
  switch (typeof value) {
    case 'string': {
      const text = redactText(value)
      return text.length > MAX_STRING ? `${text.slice(0, MAX_STRING)}…(${text.length} characters)` : text
    }
    case 'bigint':
      return value.toString()
    case 'number':
    case 'boolean':
      return value
    case 'object':
      return value === null ? null : cleanObject(value, depth)
    default:
      return `(${typeof value})`
  }
}

function cleanObject(value: object, depth: number): unknown {
  if (value instanceof Error) return { code: errorCode(value), message: errorMessage(value) }
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `(${value.byteLength} bytes)`
  if (depth >= MAX_DEPTH) return '(nested)'
  if (value instanceof Date) return value.toISOString()
  if (Array.isArray(value) || value instanceof Set) {
    const items = [...value]
    const shown = items.slice(0, MAX_ITEMS).map((item) => clean(item, depth + 1))
    return items.length > MAX_ITEMS ? [...shown, `(${items.length - MAX_ITEMS} more)`] : shown
  }
  const entries = value instanceof Map ? [...value].map(([k, v]) => [String(k), v] as const) : Object.entries(value)
  return Object.fromEntries(entries.slice(0, MAX_ITEMS).map(([k, v]) => [k, cleanField(k, v, depth + 1)]))
}

const COLOURS: Readonly<Record<string, string>> = {
  debug: '\u001b[90m',
  info: '\u001b[36m',
  warn: '\u001b[33m',
  error: '\u001b[31m',
}
const DIM = '\u001b[90m'
const RESET = '\u001b[0m'

/** `14:03:07.120 info  agent  stream opened  cluster=sz-edge-1 revision=812` */
export function prettyLine(line: string): string {
  const { time, level, service, event, ...fields } = JSON.parse(line) as Record<string, unknown>
  const label = prettyText(level)
  const at = typeof time === 'string' ? time.slice(11, 23) : ''
  const facts = Object.entries(fields).map(([k, v]) => `${DIM}${k}=${RESET}${prettyValue(v)}`)
  const head = `${DIM}${at}${RESET} ${COLOURS[label] ?? ''}${label.padEnd(5)}${RESET} ${DIM}${prettyText(service)}${RESET}`
  return `${[head, prettyText(event), facts.join(' ')].filter((part) => part !== '').join('  ')}\n`
}

function prettyText(v: unknown): string {
  return typeof v === 'string' ? v : ''
}

function prettyValue(v: unknown): string {
  if (typeof v === 'string') return /[\s"=]/.test(v) ? JSON.stringify(v) : v
  return JSON.stringify(v)
}
