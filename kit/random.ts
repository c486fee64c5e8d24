// Randomness as a port: one source for production, one that repeats for tests and soak runs.
// Owns: the two sources. Does not own: what the numbers are used for (jitter, ids, fuzzing).

import { randomFillSync } from 'node:crypto'

export interface Random {
  /** A number in [0, 1). For jitter and choices, never for secrets. */
  next(): number
  /** `n` bytes; from the system source they are fit for ids and secrets. */
  bytes(n: number): Uint8Array
}

/** Asking the system costs microseconds however little is asked for, so it is asked for many ids at once. */
const POOL_BYTES = 4_096

export function systemRandom(): Random {
  const pool = new Uint8Array(POOL_BYTES)
  let used = POOL_BYTES
  return {
    next: () => Math.random(),
    bytes(n) {
      if (n > POOL_BYTES / 4) return randomFillSync(new Uint8Array(n))
      if (used + n > POOL_BYTES) {
        randomFillSync(pool)
        used = 0
      }
      const bytes = pool.slice(used, used + n)
      // What was given away is not kept.
      pool.fill(0, used, used + n)
      used += n
      return bytes
    },
  }
}

/** The same seed gives the same sequence on every machine. Print the seed when a test fails. */
export function seededRandom(seed: number): Random {
  // Weyl-sequence generator with a 32-bit avalanche: passes the statistical needs of fuzzing, and fits in four lines.
  let state = seed >>> 0
  const word = (): number => {
    state = (state + 0x9e37_79b9) >>> 0
    let x = state
    x = Math.imul(x ^ (x >>> 16), 0x21f0_aaad)
    x = Math.imul(x ^ (x >>> 15), 0x735a_2d97)
    return (x ^ (x >>> 15)) >>> 0
  }
  return {
    next: () => word() / 0x1_0000_0000,
    bytes: (n) => Uint8Array.from({ length: n }, () => word() & 0xff),
  }
}
