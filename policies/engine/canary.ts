// Which of two bundles a subscriber is served by. Deliver only: agents always enforce the stable one, so that the log has one truth.
// Owns: the choice, a pure function of bundle salt and subject, so that every gateway makes the same. Anonymous subscribers are stable.

import type { PolicyDeps, Subscriber } from './types.ts'

export type Canary = {
  /** Part of the hash, so that another rollout picks other subscribers. The candidate bundle's revision is a good one. */
  readonly salt: string
  /** Share of subjects in [0, 1]. */
  readonly share: number
  /** Labels that put a subscriber in, whatever the share: all of them must match. Empty: none. */
  readonly labels: Readonly<Record<string, string>>
}

export function chooseBundle(
  subscriber: Subscriber,
  canary: Canary,
  sha256: PolicyDeps['sha256'],
): 'stable' | 'canary' {
  if (subscriber.anonymous) return 'stable'
  const wanted = Object.entries(canary.labels)
  if (wanted.length > 0 && wanted.every(([name, value]) => subscriber.labels?.[name] === value)) return 'canary'
  const hash = sha256(new TextEncoder().encode(`${canary.salt}|${subscriber.subject}`))
  // The first 48 bits as a fraction: exact in a double, and evenly spread.
  let fraction = 0
  for (let i = 0; i < 6; i++) fraction = fraction * 256 + (hash[i] ?? 0)
  return fraction / 2 ** 48 < canary.share ? 'canary' : 'stable'
}
