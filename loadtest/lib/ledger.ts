// What one socket has received, held against what a writer must have sent.
// Owns: gaps, repeats and order, judged from the sequence numbers inside the values and from the frames' revisions.
// Refuses: trust in cursors or bookmarks; those are what is being tested. Survives reconnects of its socket.
//
// Writers number their puts 1, 2, 3 … per key and never skip: a larger step is a gap, a smaller one a repeat.

export type Finding = 'gap' | 'duplicate' | 'order'

export class Ledger {
  readonly #last = new Map<string, number>()
  readonly #revisions = new Map<string, bigint>()
  received = 0

  /** One frame of one cluster; its epoch belongs to the order, a new one starts over. */
  frame(cluster: string, epoch: string, revision: string, report: (finding: Finding) => void): void {
    const lineage = `${cluster}/${epoch}`
    const at = BigInt(revision)
    const before = this.#revisions.get(lineage)
    if (before !== undefined && at <= before) report('order')
    this.#revisions.set(lineage, at)
  }

  put(cluster: string, key: string, sequence: number, report: (finding: Finding) => void): void {
    const name = `${cluster}${key}`
    const last = this.#last.get(name) ?? 0
    if (sequence <= last) {
      report('duplicate')
      return
    }
    for (let missing = last + 1; missing < sequence; missing++) report('gap')
    this.#last.set(name, sequence)
    this.received += 1
  }
}
