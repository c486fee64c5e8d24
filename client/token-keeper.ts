// The token of one connection.
// Owns: fetching it for the dial, refreshing it in band before it expires, and trying again when the hook fails.
// Refuses: judging it. A token that is refused ends the connection, and the next dial fetches another one.

import type { Context } from './context.ts'
import { expiryOf, refreshIn } from './core/token.ts'

const RETRY_MS = 5_000

export class TokenKeeper {
  readonly #context: Context
  readonly #send: (token: string) => void
  #expiresAt: number | undefined
  #cancel: (() => void) | undefined
  #generation = 0

  /** `send` puts a refreshed token on the open connection. */
  constructor(context: Context, send: (token: string) => void) {
    this.#context = context
    this.#send = send
  }

  /** The token for a new connection. Rejects with what the hook threw. */
  async current(): Promise<string | undefined> {
    const { token: source } = this.#context
    const token = typeof source === 'function' ? await source() : source
    this.#expiresAt = token === undefined ? undefined : expiryOf(token)
    return token
  }

  /** The gateway took the refreshed token. `expiresAt` is RFC 3339. */
  accepted(expiresAt: string | undefined): void {
    // NaN, which is falsy, when it was not told or is no time.
    this.#expiresAt = Date.parse(expiresAt ?? '') || this.#expiresAt
    this.plan()
  }

  stop(): void {
    this.#generation += 1
    this.#cancel?.()
    this.#cancel = undefined
  }

  /** Sets the time of the next refresh; called when the connection is welcomed with the token of {@link current}. */
  plan(): void {
    const { renewable, clock } = this.#context
    if (!renewable || this.#expiresAt === undefined) return
    this.#refreshAfter(refreshIn(this.#expiresAt, clock.wall()))
  }

  #refreshAfter(ms: number): void {
    this.stop()
    const generation = this.#generation
    this.#cancel = this.#context.clock.after(ms, () => void this.#refresh(generation))
  }

  async #refresh(generation: number): Promise<void> {
    try {
      const token = await this.current()
      if (generation === this.#generation && token !== undefined) this.#send(token)
    } catch (cause) {
      if (generation !== this.#generation) return
      this.#context.notice({ code: 'token-failed', message: 'the token hook failed', cause })
      this.#refreshAfter(RETRY_MS)
    }
  }
}
