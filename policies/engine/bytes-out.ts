// Small byte arrays cut from a shared block: allocating one costs several times as much as masking a field.
// Owns: the block. A block is never reused, so the arrays stay valid and may be kept; a kept one keeps its block (8 KiB) alive.

const BLOCK = 8192
const SMALL = 1024

export class BytesOut {
  #block = new Uint8Array(0)
  #at = BLOCK

  /** Zeroed, or never written before, which is the same. */
  take(size: number): Uint8Array {
    if (size > SMALL) return new Uint8Array(size)
    if (this.#at + size > BLOCK) {
      this.#block = new Uint8Array(BLOCK)
      this.#at = 0
    }
    const start = this.#at
    this.#at += size
    return this.#block.subarray(start, start + size)
  }
}

/** Copies source[start, end) to target at `to`; byte by byte below the size where a call pays. */
export function copyBytes(source: Uint8Array, start: number, end: number, target: Uint8Array, to: number): void {
  if (end - start > 256) target.set(source.subarray(start, end), to)
  else for (let i = start; i < end; i++) target[to++] = source[i] as number
}
