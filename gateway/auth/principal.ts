// Who a session speaks for, once checked.
// Owns: the shape of an identity and the port through which sessions get one.
// Refuses: how a token is checked (verifier.ts) and what an identity may see (the policy bundle says).

import type { Code } from '#protocol/codes.ts'
import type { Subscriber } from '#policies/engine/types.ts'

export type Principal = {
  readonly subscriber: Subscriber
  /** Wall clock ms; undefined when the credential does not expire (dev mode). */
  readonly expiresAt: number | undefined
  /** For revocation: the token's own id and when it was issued (ms), if it says. */
  readonly tokenId: string | undefined
  readonly issuedAt: number | undefined
  /** Clusters this credential is narrowed to; undefined means all that policy shows. */
  readonly clusters: readonly string[] | undefined
  readonly dev: boolean
}

export type AuthOutcome =
  | { readonly ok: true; readonly principal: Principal }
  | { readonly ok: false; readonly close: Code; readonly error: Code; readonly reason: string }

export interface Authenticator {
  /** Never rejects. `token` undefined: the client sent none. */
  authenticate(token: string | undefined): Promise<AuthOutcome>
  /** True when sessions are let in without a credential. */
  readonly dev: boolean
}
