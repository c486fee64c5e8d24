// One short conversation with the hub: connect once, ask, leave. Everything is bounded in time.
// Owns: the connection options of the operator's commands, JetStream's API as plain requests, the words for its failures.
// Refuses: reconnecting and retrying; a command says what it found and ends.

import { connect, type NatsConnection } from '@nats-io/transport-node'
import type { Command } from 'commander'
import { errorMessage } from '#kit/errors.ts'
import { clientOptions, hostOf } from '#kit/nats-options.ts'
import { CommandError, list } from './terminal.ts'
import { OPERATOR_INBOX } from './users.ts'

const TIMEOUT_MS = 5_000

export type HubOptions = {
  readonly nats: readonly string[]
  readonly user?: string
  readonly passwordFile?: string
  readonly credsFile?: string
  readonly nkeyFile?: string
  readonly natsCa?: string
  readonly natsCert?: string
  readonly natsKey?: string
}

/** The options of every command that talks to the hub. */
export function hubOptions(command: Command): Command {
  return command
    .option('--user <name>', 'user at the hub')
    .option('--password-file <file>', 'file with the password of that user')
    .option('--creds-file <file>', 'credentials file (JWT and seed) as made by nsc')
    .option('--nkey-file <file>', 'file with an nkey seed')
    .option('--nats-ca <file>', 'PEM file of the authorities that may sign the hub')
    .option('--nats-cert <file>', 'PEM file of the client certificate')
    .option('--nats-key <file>', 'PEM file of the key of the client certificate')
}

export const NATS_OPTION = ['--nats <urls>', 'servers of the hub, nats://host:port or tls://host:port', list] as const

export interface HubSession extends AsyncDisposable {
  readonly server: string
  readonly version: string
  readonly maxPayload: number
  /** One call of the JetStream API. Rejects with a CommandError that says what to do. */
  call(api: string, body?: object): Promise<Readonly<Record<string, unknown>>>
  /** Whether this user may subscribe to a subject. */
  hears(subject: string): Promise<boolean>
}

/** JetStream said no; its codes are stable between versions, its descriptions are not. */
export class ApiFailure extends CommandError {
  readonly errCode: number

  constructor(errCode: number, message: string) {
    super('DW_HUB_API', message)
    this.errCode = errCode
  }
}

export const STREAM_NOT_FOUND = 10_059
export const NAME_IN_USE = 10_058
export const NO_MESSAGE = 10_037

export async function openHub(
  options: HubOptions,
  password: string | undefined,
  timeoutMs = TIMEOUT_MS,
): Promise<HubSession> {
  const { nats: servers, natsCa: caFile, natsCert: certFile, natsKey: keyFile } = options
  const where = servers.map(hostOf).join(', ')
  const bad = servers.find((server) => !/^(nats|tls):\/\/[^\s/@]+$/.test(server))
  if (servers.length === 0 || bad !== undefined) {
    const given = bad === undefined ? 'is missing' : `= ${hostOf(bad)} has the wrong form`
    throw new CommandError('DW_HUB_ADDRESS', `--nats ${given}; write nats://host:port, without user and password`, 2)
  }
  const tls = caFile === undefined && certFile === undefined ? undefined : { caFile, certFile, keyFile }
  const found: { unusable?: unknown } = {}
  const settings = clientOptions(
    {
      servers,
      name: 'deltawatch-cli',
      inboxPrefix: OPERATOR_INBOX,
      user: options.user,
      password,
      credsFile: options.credsFile,
      nkeySeedFile: options.nkeyFile,
      tls,
      connectTimeoutMs: timeoutMs,
    },
    {
      reconnectDelay: () => 0,
      onCredentialsProblem: (error) => {
        found.unusable = error
      },
    },
  )
  try {
    const nc = await connect({ ...settings, ignoreAuthErrorAbort: false, reconnect: false, maxReconnectAttempts: 0 })
    return session(nc, where, timeoutMs)
  } catch (cause) {
    const why = errorMessage(found.unusable ?? cause)
    const text = `no connection to the hub at ${where}: ${why}; ${connectAdvice(why)}`
    throw new CommandError('DW_HUB_UNREACHABLE', text)
  }
}

function connectAdvice(why: string): string {
  if (/authoriz|authentic|credential|ENOENT|nkey/i.test(why)) {
    return 'check --user and --password-file, --creds-file or --nkey-file'
  }
  if (/certificate|tls|ssl/i.test(why)) return 'check tls:// in --nats, --nats-ca, --nats-cert and --nats-key'
  return 'check --nats and that nats-server is running there'
}

function session(nc: NatsConnection, where: string, timeoutMs: number): HubSession {
  const { version = 'unknown', max_payload: maxPayload = 0 } = nc.info ?? {}
  return {
    server: where,
    version,
    maxPayload,
    call: async (api, body) => {
      const subject = `$JS.API.${api}`
      let reply: unknown
      try {
        const payload = body === undefined ? '' : JSON.stringify(body)
        reply = (await nc.request(subject, payload, { timeout: timeoutMs })).json()
      } catch (cause) {
        throw unanswered(subject, cause)
      }
      if (!isRecord(reply)) throw new ApiFailure(0, `${subject} answered something that is not a JSON object`)
      const { error } = reply
      if (!isRecord(error)) return reply
      const code = typeof error['err_code'] === 'number' ? error['err_code'] : 0
      const text = typeof error['description'] === 'string' ? error['description'] : 'no description'
      throw new ApiFailure(code, `${text} (${code})`)
    },
    hears: async (subject) => {
      let allowed = true
      const callback = (error: Error | null): void => {
        if (error !== null) allowed = false
      }
      const subscription = nc.subscribe(subject, { callback })
      // The refusal, if there is one, arrives before the answer to this ping.
      await nc.flush()
      if (!subscription.isClosed()) subscription.unsubscribe()
      return allowed
    },
    [Symbol.asyncDispose]: () => nc.close(),
  }
}

/** By name: several copies of the client's classes may exist in one process. */
function unanswered(subject: string, cause: unknown): CommandError {
  const names = [cause, cause instanceof Error ? cause.cause : undefined].map((e) => (e instanceof Error ? e.name : ''))
  const text = errorMessage(cause)
  if (names.includes('NoRespondersError') || /no responders/i.test(text)) {
    const next = 'enable it: a jetstream block with a store_dir in the configuration of nats-server'
    return new CommandError('DW_HUB_JETSTREAM', `nobody answers ${subject}: JetStream is off for this account; ${next}`)
  }
  if (names.includes('PermissionViolationError') || /permissions violation/i.test(text)) {
    const next = 'connect as the user that "deltawatch hub permissions --operator" describes'
    return new CommandError('DW_HUB_DENIED', `this user may not use ${subject}; ${next}`)
  }
  if (names.includes('TimeoutError')) {
    const next = 'a replicated hub without a quorum does not answer: check its members'
    return new CommandError('DW_HUB_TIMEOUT', `no answer to ${subject} in time; ${next}`)
  }
  return new CommandError('DW_HUB_API', `${subject}: ${text}`)
}

export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
