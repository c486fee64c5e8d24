// The parts of the local stack as one thing: started tier by tier, stopped the other way round.
// Owns: the order and the overall deadline of a stop. Does not own: single processes (part.ts).

import { createPart, type Part, type PartSpec, type PartState } from './part.ts'
import { createReaper } from './reaper.ts'

/** Parts of one tier depend only on earlier tiers and start side by side. */
export type Tier = readonly PartSpec[]

export interface Supervisor {
  readonly parts: readonly Part[]
  /** Starts the next tier. Rejects when one of its parts cannot be brought up. */
  startTier(index: number): Promise<void>
  /** Reverse order, at most `deadlineMs` in all; what is still there then is killed. Idempotent. */
  stop(): Promise<void>
  /** Everything, now. */
  kill(): void
}

export function createSupervisor(
  tiers: readonly Tier[],
  onState: (part: string, state: PartState) => void,
  deadlineMs = 9_000,
): Supervisor {
  const reaper = createReaper()
  const groups = tiers.map((tier) => tier.map((spec) => createPart(spec, reaper, (state) => onState(spec.name, state))))
  const parts = groups.flat()
  let stopped: Promise<void> | undefined

  const kill = (): void => {
    for (const part of parts) part.kill()
  }
  const stopAll = async (): Promise<void> => {
    const deadline = setTimeout(kill, deadlineMs)
    for (const group of groups.toReversed()) await Promise.all(group.map((part) => part.stop()))
    clearTimeout(deadline)
  }
  return {
    parts,
    startTier: async (index) => {
      const group = groups[index] ?? []
      // Wait for all, so that no part is still coming up while the first failure is being handled.
      const results = await Promise.allSettled(group.map((part) => part.start()))
      const failure = results.find((result) => result.status === 'rejected')
      if (failure !== undefined) throw failure.reason
    },
    stop: () => (stopped ??= stopAll()),
    kill,
  }
}
