// The hub over NATS: raw JetStream calls of exactly the five subjects an agent may use.
// Owns: request and reply of STREAM.INFO, MSG.GET and appends, their error codes, marks, the connection's generation.
// Refuses: direct gets (stale on replicas), message ids of any kind (they lose batches), stream management, retries.

import { headers, type Msg, type NatsConnection, type Subscription } from '@nats-io/transport-node'
import { errorMessage } from '#kit/errors.ts'
import { injectTrace } from '#kit/tracing.ts'
import { isEntryId, isEpoch, type Mark } from '#protocol/log/entry.ts'
import { HUB_REGION_KEY } from '#protocol/log/stream.ts'
import { parseRevision } from '#protocol/revision.ts'
import { type ClusterId, logSubject, markSubject, parseRegion, streamName } from '#protocol/subjects.ts'
import { type AppendResult, HubError, type HubLog, type StreamInfo } from './ports.ts'

export type HubTimeouts = { readonly readMs: number; readonly appendMs: number }

/** A connection that reconnects for ever, shared by all logs of a process. */
export interface HubConnection {
  /** The current connection, or undefined while there is none. */
  readonly current: NatsConnection | undefined
  readonly generation: number
  ready(signal: AbortSignal): Promise<void>
  onLost(fn: () => void): Disposable
}

const EXPECTED_LAST = 'Nats-Expected-Last-Sequence'
const EXPECTED_STREAM = 'Nats-Expected-Stream'

/** JetStream's own error codes; descriptions differ between versions, these do not. */
const ERR = {
  streamNotFound: 10_059,
  noMessage: 10_037,
  wrongLastSequence: 10_071,
  wrongLastSequenceConstant: 10_164,
  messageTooLarge: 10_054,
  storageExceeded: 10_047,
  accountResourcesExceeded: 10_002,
  insufficientResources: 10_023,
} as const

export function openHubLog(connection: HubConnection, cluster: ClusterId, timeouts: HubTimeouts): HubLog {
  const stream = streamName(cluster)
  const subject = logSubject(cluster)
  const marks = markSubject(cluster)

  const request = async (api: string, payload: string): Promise<Msg> => {
    const nc = connection.current
    if (nc === undefined) throw new HubError('disconnected', 'the hub is not connected')
    try {
      return await nc.request(api, payload, { timeout: timeouts.readMs })
    } catch (cause) {
      throw toHubError(cause, api)
    }
  }
  const call = async (api: string, payload: string): Promise<Fields> => {
    const reply = readJson((await request(api, payload)).data)
    const failure = readFailure(reply)
    if (failure === undefined) return reply
    if (failure.errCode === ERR.streamNotFound) {
      throw new HubError('stream-missing', `the hub has no stream ${stream}: create it with "deltawatch hub apply"`)
    }
    throw new ApiError(failure)
  }

  return {
    get generation() {
      return connection.generation
    },
    get connected() {
      return connection.current !== undefined
    },
    get maxPayload() {
      return connection.current?.info?.max_payload ?? 1024 * 1024
    },
    info: async () => {
      try {
        return readInfo(await call(`$JS.API.STREAM.INFO.${stream}`, ''))
      } catch (e) {
        throw e instanceof ApiError ? new HubError('unexpected', `STREAM.INFO of ${stream}: ${e.message}`) : e
      }
    },
    message: async (seq) => {
      try {
        const reply = await call(`$JS.API.STREAM.MSG.GET.${stream}`, JSON.stringify({ seq }))
        return readStored(reply, seq, stream)
      } catch (e) {
        if (!(e instanceof ApiError)) throw e
        if (e.failure.errCode === ERR.noMessage || e.failure.code === 404) return undefined
        throw new HubError('unexpected', `MSG.GET of ${stream} ${seq}: ${e.message}`)
      }
    },
    append: async (entry, expectedSeq, trace) => {
      const nc = connection.current
      if (nc === undefined) return { kind: 'lost', reason: 'disconnected' }
      const expectation = headers()
      expectation.set(EXPECTED_LAST, String(expectedSeq))
      expectation.set(EXPECTED_STREAM, stream)
      injectTrace(trace, expectation)
      try {
        const reply = await nc.request(subject, entry, { timeout: timeouts.appendMs, headers: expectation })
        return readAck(reply.data)
      } catch (cause) {
        return lostOrRejected(toHubError(cause, subject))
      }
    },
    publishMark: (mark) => {
      try {
        connection.current?.publish(marks, JSON.stringify(mark))
      } catch {
        // The connection closed under us; the next mark covers this one.
      }
    },
    ready: (signal) => connection.ready(signal),
    onLost: (fn) => connection.onLost(fn),
    onMark: (fn) => subscribeMarks(connection, marks, fn),
  }
}

type Fields = Readonly<Record<string, unknown>>
const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

type Failure = { readonly code: number; readonly errCode: number; readonly description: string }
class ApiError extends Error {
  readonly failure: Failure
  constructor(failure: Failure) {
    super(`${failure.description} (${failure.errCode})`)
    this.failure = failure
  }
}

const decoder = new TextDecoder()

function readJson(bytes: Uint8Array): Fields {
  try {
    const value: unknown = JSON.parse(decoder.decode(bytes))
    if (isFields(value)) return value
  } catch {
    // Falls through: not JSON is as unusable as the wrong JSON.
  }
  throw new HubError('unexpected', 'the hub answered something that is not a JSON object')
}

function readFailure(reply: Fields): Failure | undefined {
  const { error } = reply
  if (!isFields(error)) return undefined
  const number = (value: unknown): number => (typeof value === 'number' ? value : 0)
  const description = typeof error.description === 'string' ? error.description : 'no description'
  return { code: number(error.code), errCode: number(error.err_code), description }
}

function statedRegion(config: unknown): string | undefined {
  const metadata = isFields(config) ? config.metadata : undefined
  return parseRegion(isFields(metadata) ? metadata[HUB_REGION_KEY] : undefined)
}

function readInfo(reply: Fields): StreamInfo {
  const { state, config, created } = reply
  const count = (of: unknown, field: string): number | undefined => {
    const value = isFields(of) ? of[field] : undefined
    return typeof value === 'number' && Number.isSafeInteger(value) ? value : undefined
  }
  const firstSeq = count(state, 'first_seq')
  const lastSeq = count(state, 'last_seq')
  if (firstSeq === undefined || lastSeq === undefined || typeof created !== 'string') {
    throw new HubError('unexpected', 'STREAM.INFO lacks first_seq, last_seq or created')
  }
  return {
    created,
    firstSeq,
    lastSeq,
    messages: count(state, 'messages') ?? 0,
    bytes: count(state, 'bytes') ?? 0,
    maxBytes: count(config, 'max_bytes') ?? -1,
    maxMessageBytes: count(config, 'max_msg_size') ?? -1,
    replicas: count(config, 'num_replicas') ?? 1,
    hubRegion: statedRegion(config),
  }
}

function readStored(reply: Fields, seq: number, stream: string): Uint8Array {
  const { message } = reply
  if (!isFields(message) || message.seq !== seq) {
    throw new HubError('unexpected', `MSG.GET of ${stream} answered another message than ${seq}`)
  }
  return typeof message.data === 'string' ? Buffer.from(message.data, 'base64') : new Uint8Array(0)
}

export function readAck(bytes: Uint8Array): AppendResult {
  let reply: Fields
  try {
    reply = readJson(bytes)
  } catch (e) {
    return { kind: 'lost', reason: errorMessage(e) }
  }
  const failure = readFailure(reply)
  if (failure === undefined) {
    // Without message ids nothing can be a duplicate: an ack that says so acknowledges something we did not send.
    if (reply.duplicate === true) return { kind: 'rejected', reason: 'duplicate', detail: 'duplicate:true' }
    const { seq } = reply
    return typeof seq === 'number' && Number.isSafeInteger(seq) && seq > 0
      ? { kind: 'stored', seq }
      : { kind: 'lost', reason: 'an acknowledgement without a sequence' }
  }
  const { errCode, code, description: detail } = failure
  if (errCode === ERR.wrongLastSequence || errCode === ERR.wrongLastSequenceConstant) return { kind: 'refused' }
  if (errCode === ERR.messageTooLarge) return { kind: 'rejected', reason: 'too-large', detail }
  if (errCode === ERR.streamNotFound) return { kind: 'rejected', reason: 'missing', detail }
  const full: readonly number[] = [ERR.storageExceeded, ERR.accountResourcesExceeded, ERR.insufficientResources]
  if (full.includes(errCode) || /maximum (bytes|messages)|no space/i.test(detail)) {
    return { kind: 'rejected', reason: 'full', detail }
  }
  if (code === 429 || code === 503) return { kind: 'rejected', reason: 'overloaded', detail }
  return { kind: 'rejected', reason: 'other', detail: `${detail} (${errCode})` }
}

function lostOrRejected(error: HubError): AppendResult {
  switch (error.kind) {
    case 'stream-missing':
    case 'jetstream-off':
      return { kind: 'rejected', reason: 'missing', detail: error.message }
    case 'denied':
      return { kind: 'rejected', reason: 'denied', detail: error.message }
    case 'disconnected':
    case 'timeout':
    case 'unexpected':
      return { kind: 'lost', reason: error.kind }
    default: {
      const never: never = error.kind
      return never
    }
  }
}

/** By name: several copies of the client's classes may exist in one process. */
function toHubError(cause: unknown, subject: string): HubError {
  if (cause instanceof HubError) return cause
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause
  const names = [cause, inner].map((e) => (e instanceof Error ? e.name : ''))
  const text = errorMessage(cause)
  if (names.includes('TimeoutError')) return new HubError('timeout', `no answer from the hub on ${subject}`, { cause })
  if (names.includes('NoRespondersError')) {
    const log = subject.startsWith('dw.')
    const kind = log ? 'stream-missing' : 'jetstream-off'
    const hint = log ? 'create the stream with "deltawatch hub apply"' : 'is JetStream enabled there?'
    return new HubError(kind, `nobody answers ${subject} at the hub: ${hint}`, { cause })
  }
  if (names.includes('PermissionViolationError') || /permissions violation/i.test(text)) {
    const hint = 'print the needed permissions with "deltawatch hub permissions"'
    return new HubError('denied', `the hub does not let this user use ${subject}: ${hint}`, { cause })
  }
  if (names.some((name) => /Closed|Draining|Connection/.test(name)) || /connection (closed|disconnected)/i.test(text)) {
    return new HubError('disconnected', `the connection to the hub ended: ${text}`, { cause })
  }
  return new HubError('unexpected', `${subject}: ${text}`, { cause })
}

function subscribeMarks(connection: HubConnection, subject: string, fn: (mark: Mark) => void): Disposable {
  const abort = new AbortController()
  let subscription: Subscription | undefined
  const run = async (): Promise<void> => {
    await connection.ready(abort.signal)
    const nc = connection.current
    // The client renews subscriptions by itself when it reconnects.
    subscription = nc?.subscribe(subject, {
      callback: (error, message) => {
        const mark = error === null ? readMark(message.data) : undefined
        if (mark !== undefined) fn(mark)
      },
    })
  }
  void run().catch(() => undefined)
  return {
    [Symbol.dispose]: () => {
      abort.abort()
      subscription?.unsubscribe()
    },
  }
}

const STATES = new Set([
  'live',
  'idle-proved',
  'lagging',
  'unreachable',
  'resyncing',
  'standby',
  'hub-too-small',
  'refused',
])

/** Marks come from whoever may publish there; anything else than a mark is ignored. */
export function readMark(bytes: Uint8Array): Mark | undefined {
  let raw: Fields
  try {
    raw = readJson(bytes)
  } catch {
    return undefined
  }
  const { v, agentId, epoch, seq, entryId, configHash, state, lag, atMs } = raw
  const provenRevision = parseRevision(raw.provenRevision)
  if (v !== 1 || typeof agentId !== 'string' || !isEpoch(epoch) || provenRevision === undefined) return undefined
  if (!isEntryId(entryId) || typeof configHash !== 'string' || typeof state !== 'string' || !STATES.has(state)) {
    return undefined
  }
  if (!isCount(seq) || !isCount(lag) || !isCount(atMs)) return undefined
  return { v: 1, agentId, epoch, provenRevision, seq, entryId, configHash, state: state as Mark['state'], lag, atMs }
}

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
