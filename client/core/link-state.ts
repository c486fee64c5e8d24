// One connection's life as a state machine: dial, greet, open, wait, closed.
// Owns: time limits, liveness by any frame, what each close code means for the next attempt, and the fast-loop count.
// Refuses: sockets, timers and tokens; link.ts performs the effects and feeds the inputs. Times are monotonic ms.
//
//   idle --start--> dialing --welcomed--> open
//                    ^   |                 |
//                 tick   ended             |          ended in the `never` band, stop --> closed
//                    |   v                 |
//                   waiting <--- ended ----+

import { type Retry, retryFor } from '../../protocol/codes.ts'
import { UNAUTHORIZED } from '../errors.ts'
import { type BackoffOptions, LOOP_AFTER, retryDelay } from './backoff.ts'

/** Why a connection ended. `code` is a WebSocket close code, or 0 when this side gave up on it. */
export type Ended = { readonly code: number; readonly reason: string; readonly retryAfterMs?: number | undefined }

export type LinkState =
  | { readonly phase: 'idle' }
  /** Getting a token, an open socket and the gateway's welcome. `refusals`: tokens refused in a row. */
  | { readonly phase: 'dialing'; readonly attempt: number; readonly refusals: number; readonly deadline: number }
  | {
      readonly phase: 'open'
      readonly attempt: number
      readonly session: string
      readonly dev: boolean
      readonly openedAt: number
      readonly heartbeatMs: number
      readonly lastFrameAt: number
      /** When the quiet connection was asked for a sign of life; undefined while it is not in doubt. */
      readonly pingedAt?: number | undefined
      readonly goodbye?: Ended
    }
  | {
      readonly phase: 'waiting'
      readonly attempt: number
      readonly refusals: number
      readonly until: number
      readonly retryInMs: number
      readonly ended: Ended
      /** The gateway was reached several times in a row and each time for a moment only. */
      readonly looping: boolean
    }
  | { readonly phase: 'closed'; readonly ended: Ended | undefined }

export type LinkInput =
  | { readonly kind: 'start' }
  | { readonly kind: 'opened' }
  | {
      readonly kind: 'welcomed'
      readonly open: { readonly session: string; readonly heartbeatMs: number; readonly dev: boolean }
    }
  | { readonly kind: 'frame' }
  | { readonly kind: 'goodbye'; readonly ended: Ended }
  /** The socket closed, could not be opened, or `link.ts` gave up on it. */
  | { readonly kind: 'ended'; readonly ended: Ended }
  | { readonly kind: 'tick' }
  /** The platform says that there is a network again. */
  | { readonly kind: 'online' }
  | { readonly kind: 'stop' }

export type LinkEffect = 'dial' | 'ping' | 'abandon'
export type LinkOptions = {
  readonly backoff: BackoffOptions
  /** Milliseconds for getting a token and an open socket. */
  readonly dialMs: number
  /** Milliseconds from open socket to welcome. */
  readonly welcomeMs: number
  /** True when a fresh token can be had, so that one refused token is no reason to give up. */
  readonly renewable: boolean
}
export type LinkStep = { readonly state: LinkState; readonly effects: readonly LinkEffect[] }

/** Quiet for longer than this many heartbeats puts a connection in doubt. */
const QUIET_HEARTBEATS = 1.5
const MIN_PONG_MS = 3_000

export function stepLink(
  state: LinkState,
  input: LinkInput,
  now: number,
  random: number,
  options: LinkOptions,
): LinkStep {
  if (state.phase === 'closed') return same(state)
  switch (input.kind) {
    case 'stop':
      return { state: { phase: 'closed', ended: undefined }, effects: ['abandon'] }
    case 'start':
      return state.phase === 'idle' ? dial(0, 0, now, options) : same(state)
    case 'opened':
      return same(state.phase === 'dialing' ? { ...state, deadline: now + options.welcomeMs } : state)
    case 'welcomed':
      if (state.phase !== 'dialing') return same(state)
      return same({ ...input.open, phase: 'open', attempt: state.attempt, openedAt: now, lastFrameAt: now })
    case 'frame':
      return state.phase === 'open' ? same({ ...state, lastFrameAt: now, pingedAt: undefined }) : same(state)
    case 'goodbye':
      return state.phase === 'open' ? same({ ...state, goodbye: input.ended }) : same(state)
    case 'ended':
      return end(state, input.ended, now, random, options)
    case 'tick':
      return tick(state, now, random, options)
    case 'online':
      // What the gateway asked for still holds; what only the network broke is tried again at once.
      return state.phase === 'waiting' && state.ended.code < 4000
        ? dial(state.attempt, state.refusals, now, options)
        : same(state)
    default:
      return input satisfies never
  }
}

/** When {@link stepLink} next wants a tick; undefined for never. */
export function wakeAt(state: LinkState): number | undefined {
  switch (state.phase) {
    case 'dialing':
      return state.deadline
    case 'waiting':
      return state.until
    case 'open':
      return state.pingedAt === undefined
        ? state.lastFrameAt + state.heartbeatMs * QUIET_HEARTBEATS
        : state.pingedAt + pongMs(state.heartbeatMs)
    case 'idle':
    case 'closed':
      return undefined
    default:
      return state satisfies never
  }
}

const same = (state: LinkState): LinkStep => ({ state, effects: [] })
const pongMs = (heartbeatMs: number): number => Math.max(MIN_PONG_MS, heartbeatMs / 2)

const dial = (attempt: number, refusals: number, now: number, options: LinkOptions): LinkStep => ({
  state: { phase: 'dialing', attempt, refusals, deadline: now + options.dialMs },
  effects: ['dial'],
})

function tick(state: LinkState, now: number, random: number, options: LinkOptions): LinkStep {
  const due = wakeAt(state)
  if (due === undefined || now < due) return same(state)
  if (state.phase === 'waiting') return dial(state.attempt, state.refusals, now, options)
  // A browser tab that slept wakes with frames still queued behind this timer: doubt first, and give up only when the
  // answer to a ping is late too.
  if (state.phase === 'open' && state.pingedAt === undefined) {
    return { state: { ...state, pingedAt: now }, effects: ['ping'] }
  }
  const ended = { code: 0, reason: `no answer from the gateway while ${state.phase}` }
  return { state: end(state, ended, now, random, options).state, effects: ['abandon'] }
}

function end(state: LinkState, ended: Ended, now: number, random: number, options: LinkOptions): LinkStep {
  if (state.phase === 'idle' || state.phase === 'waiting' || state.phase === 'closed') return same(state)
  const said = state.phase === 'open' ? state.goodbye : undefined
  // Proxies often lose close codes, so what the gateway said in its goodbye counts for more.
  const known: Ended = said ?? ended
  const reached = state.phase === 'open'
  const stable = reached && now - state.openedAt >= options.backoff.stableMs
  const before = stable ? 0 : state.attempt
  const refusals = reached ? 0 : state.refusals
  const retry = verdict(known.code, refusals, options.renewable)
  if (retry === 'never') return same({ phase: 'closed', ended: known })
  const delay = retryDelay(options.backoff, {
    retry,
    attempt: before,
    floor: known.code >= 4100 && known.code <= 4199,
    random,
    retryAfterMs: known.retryAfterMs,
  })
  const attempt = before + 1
  return same({
    phase: 'waiting',
    attempt,
    refusals: known.code === UNAUTHORIZED ? refusals + 1 : refusals,
    until: now + delay,
    retryInMs: delay,
    ended: known,
    looping: reached && !stable && attempt >= LOOP_AFTER,
  })
}

const verdict = (code: number, refusals: number, renewable: boolean): Retry =>
  // The token may have expired on the way here; the hook is asked for another one, once.
  code === UNAUTHORIZED && renewable && refusals === 0 ? 'backoff' : retryFor(code)
