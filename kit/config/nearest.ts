// The nearest valid name to a mistyped one.
// Owns: the distance (insert, delete, replace, swap of neighbours each cost 1) and how near is near enough to suggest.

/** The closest candidate, or undefined when none is close enough to be what was meant. */
export function nearest(name: string, candidates: Iterable<string>): string | undefined {
  const wanted = normalize(name)
  let best: string | undefined
  let bestDistance = Number.POSITIVE_INFINITY
  for (const candidate of candidates) {
    const letters = normalize(candidate)
    const distance = editDistance(wanted, letters)
    // A third of the letters may be wrong, at least one and at most three: beyond that a guess misleads.
    const limit = Math.min(3, Math.max(1, Math.floor(Math.max(wanted.length, letters.length) / 3)))
    if (distance <= limit && distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

/** Case and word separators are style, not spelling: `keep_alive` and `keepAlive` are the same word. */
function normalize(name: string): string {
  return name.toLowerCase().replaceAll(/[_-]/g, '')
}

export function editDistance(a: string, b: string): number {
  let twoBack: number[] = []
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const replace = at(previous, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1)
      let cost = Math.min(at(previous, j) + 1, at(row, j - 1) + 1, replace)
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      if (swapped) cost = Math.min(cost, at(twoBack, j - 2) + 1)
      row.push(cost)
    }
    twoBack = previous
    previous = row
  }
  return at(previous, b.length)
}

function at(row: readonly number[], i: number): number {
  return row[i] ?? Number.POSITIVE_INFINITY
}
