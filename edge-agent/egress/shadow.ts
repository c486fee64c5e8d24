// The shadow bundle beside the live one: looked for until there is a usable one, then followed as the live one is.
// Owns: looking again, saying once why there is none. Refuses: making anybody wait: a shadow has no say.

import type { Clock } from '#kit/clock.ts'
import { errorMessage } from '#kit/errors.ts'
import type { Logger } from '#kit/logger.ts'
import type { PolicyBundle } from '#policies/engine/types.ts'
import type { LiveBundle } from '#policies/node/live-bundle.ts'
import { pause } from '../pause.ts'

export type ShadowDeps = { readonly clock: Clock; readonly logger: Logger; readonly pollMs: number }

export interface ShadowBundle extends AsyncDisposable {
  /** Undefined until there is a usable one. */
  readonly bundle: PolicyBundle | undefined
  /** Why there is none, or why the newest was refused; empty when the newest is in force. */
  readonly problem: string
  /** Looks now. What is not usable is told as the problem and holds up no reload. */
  reload(): Promise<void>
}

/** A path that is good is in force when this resolves; anything else is looked for from then on. */
export async function followShadow(
  open: () => Promise<LiveBundle>,
  { clock, logger, pollMs }: ShadowDeps,
): Promise<ShadowBundle> {
  const stop = new AbortController()
  let found: LiveBundle | undefined
  let problem = ''
  let looking: Promise<void> | undefined

  const look = async (): Promise<void> => {
    const opened = await open()
    if (stop.signal.aborted) return opened[Symbol.asyncDispose]()
    found = opened
    problem = ''
  }
  /** One look at a time: two could both find it. */
  const lookOnce = (): Promise<void> => {
    looking ??= look().finally(() => (looking = undefined))
    return looking
  }
  const attempt = async (): Promise<void> => {
    try {
      await lookOnce()
    } catch (e) {
      const reason = errorMessage(e)
      if (reason !== problem && !stop.signal.aborted) logger.error('shadow policy bundle refused', { reason })
      problem = reason
    }
  }
  await Promise.race([attempt(), pause(clock, FIRST_LOOK_MS, stop.signal)])
  const search = async (): Promise<void> => {
    while (found === undefined && (await pause(clock, Math.max(LEAST_MS, pollMs), stop.signal))) {
      if (found === undefined) await attempt()
    }
  }
  const searching = search()
  return {
    get bundle() {
      return found?.bundle
    },
    get problem() {
      return found?.problem ?? problem
    },
    reload: async () => {
      if (found === undefined) return attempt()
      await found
        .reload()
        .catch((err: unknown) => logger.error('shadow policy bundle refused, the old one stays', { err }))
    },
    async [Symbol.asyncDispose]() {
      stop.abort()
      await Promise.allSettled([searching, looking])
      await found?.[Symbol.asyncDispose]()
    },
  }
}

/** A hub that is away must not hold up the start. */
const FIRST_LOOK_MS = 500
const LEAST_MS = 1_000
