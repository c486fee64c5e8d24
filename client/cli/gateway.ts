// The gateway as the commands reach it: the options they share, the connection, and what is said about it on stderr.
// Owns: --url and the token's ways in, the first connection's time limit, and the lines about losing and finding it.
// Refuses: what is watched (selection.ts) and what is printed (the commands).

import { type Command, InvalidArgumentError } from 'commander'
import { withoutUserinfo } from '#kit/userinfo.ts'
import { DeltaWatch } from '../deltawatch.ts'
import { CliError, Exit } from './failure.ts'
import { nobodyAt } from './probe.ts'
import { note, type Terminal } from './terminal.ts'

export const DEFAULT_URL = 'ws://127.0.0.1:7400'

export type GatewayOptions = {
  readonly url?: string
  readonly tokenFile?: string
  /** Seconds. */
  readonly timeout: number
}

export const seconds = (text: string): number => {
  const value = Number(text)
  if (!(value > 0 && value <= 86_400)) throw new InvalidArgumentError('write seconds, such as 10')
  return value
}

export function addGatewayOptions(command: Command): Command {
  return command
    .option('-u, --url <url>', `gateway, ws(s):// or http(s):// (DELTAWATCH_URL; default ${DEFAULT_URL})`)
    .option('--token-file <file>', 'file with the token (or DELTAWATCH_TOKEN holds it); read again for each connection')
    .option('--timeout <seconds>', 'give up when the gateway does not answer at first within this', seconds, 10)
}

/** Nothing is dialled yet. */
export function openGateway(options: GatewayOptions, io: Terminal): DeltaWatch {
  const { tokenFile } = options
  const token = io.env['DELTAWATCH_TOKEN']
  return new DeltaWatch({
    url: options.url ?? (io.env['DELTAWATCH_URL'] || DEFAULT_URL),
    app: 'deltawatch-cli',
    // One person waits in front of this, not a fleet behind it.
    backoff: { maxMs: 3_000 },
    ...(tokenFile === undefined ? {} : { token: () => readToken(tokenFile, io) }),
    ...(tokenFile === undefined && token ? { token } : {}),
  })
}

function readToken(path: string, io: Terminal): string {
  try {
    return io.readFile(path).trim()
  } catch (cause) {
    throw new CliError(Exit.Usage, `--token-file ${path} cannot be read`, undefined, { cause })
  }
}

/** Waits for the welcome; after the time limit it fails with what was seen last. */
export async function reach(dw: DeltaWatch, options: GatewayOptions, io: Terminal): Promise<void> {
  if (options.tokenFile !== undefined) readToken(options.tokenFile, io)
  const url = options.url ?? (io.env['DELTAWATCH_URL'] || DEFAULT_URL)
  let last = ''
  let probed = false
  const { promise, reject } = Promise.withResolvers<never>()
  const forget = dw.on('state', (state) => {
    if (state.phase !== 'waiting') return
    last = `${state.ended.code} ${state.ended.reason}`.trim()
    if (!probed && state.ended.code === 1006) void failAtOnce(url, reject)
    probed = true
  })
  const limit = AbortSignal.any([AbortSignal.timeout(options.timeout * 1_000), io.stop])
  const onLimit = (): void => reject(unreached(url, options.timeout, last, io))
  limit.addEventListener('abort', onLimit, { once: true })
  try {
    await Promise.race([dw.connect(), promise])
  } finally {
    forget()
    limit.removeEventListener('abort', onLimit)
  }
  if (dw.connection.phase === 'open' && dw.connection.dev) {
    await note(io, 'the gateway runs without authentication (dev mode)')
  }
}

/** A gateway that is not there is told after the first attempt, not after the time limit. */
async function failAtOnce(url: string, reject: (error: CliError) => void): Promise<void> {
  const nobody = await nobodyAt(url)
  if (nobody !== undefined) reject(new CliError(Exit.Unreachable, `nothing listens at ${nobody}`, START_ONE))
}

const START_ONE = 'is the gateway running there? `npm start` runs a local one; `deltawatch doctor` looks closer'

function unreached(url: string, limit: number, last: string, io: Terminal): CliError {
  if (io.stop.aborted) return new CliError(Exit.Interrupted, 'interrupted')
  const seen = last === '' || last === '1006' ? '' : `; the last attempt ended with ${last}`
  return new CliError(Exit.Unreachable, `no welcome from ${withoutUserinfo(url)} within ${limit} s${seen}`, START_ONE)
}

/** Says on stderr when the connection is lost and found again, and what the client had to deal with. */
export function narrate(dw: DeltaWatch, io: Terminal): void {
  let lost = false
  dw.on('state', (state) => {
    if (state.phase === 'waiting' && !lost) {
      lost = true
      const { code, reason } = state.ended
      const why = reason === '' ? `code ${code}` : reason
      void note(io, `connection lost (${why}); connecting again, the stream goes on where it was`)
    }
    if (state.phase === 'open' && lost) {
      lost = false
      void note(io, 'connected again')
    }
  })
  dw.on('notice', ({ code, message }) => {
    void note(io, `${code}: ${message}`)
  })
}
