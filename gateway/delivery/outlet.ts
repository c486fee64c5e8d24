// One subscriber's connection as delivery sees it: bytes go in, in-flight bytes are bounded.
// Owns: in-flight accounting by ping marks, the share of the global byte budget, and when more may be written.
// Refuses: sockets (a Wire writes) and what the bytes say.
//
// In-flight = bytes written since the newest mark the peer has ponged. A mark (a WebSocket ping with an unguessable
// payload) joins the stream every `markBytes`. Kernel buffers hide megabytes per stalled reader; a pong cannot lie.
// Overflow rule: `offer` writes nothing and says so when the frame would pass `maxInFlight`, unless nothing is in flight
// (one frame may be larger). The caller keeps an index, never a copy.

export interface Wire {
  /** True while writing makes sense. */
  readonly open: boolean
  write(bytes: Buffer): void
  /** Joins a mark to the stream; undefined when the transport has none, then `pending` bounds it. */
  readonly mark: ((payload: number) => void) | undefined
  /** Bytes this process still holds for the peer. */
  readonly pending: number
  cork(): void
  uncork(): void
}

/** Bytes in flight over all outlets of this process. */
export class ByteBudget {
  readonly limit: number
  used = 0

  constructor(limit: number) {
    this.limit = limit
  }
}

export type OutletLimits = {
  readonly maxInFlight: number
  readonly markBytes: number
}

const WORTHWHILE = 16 * 1024

type Mark = { readonly payload: number; readonly written: number; readonly at: number }

export class Outlet {
  readonly wire: Wire
  /** Sees everything written, while somebody traces this connection. */
  tap: ((bytes: Buffer) => void) | undefined
  readonly #limits: OutletLimits
  readonly #budget: ByteBudget
  readonly #random: () => number
  readonly #now: () => number
  #written = 0
  #acked = 0
  #marked = 0
  #marks: Mark[] | undefined
  #charged = 0
  #ended = false

  constructor(wire: Wire, limits: OutletLimits, budget: ByteBudget, random: () => number, now: () => number) {
    this.wire = wire
    this.#limits = limits
    this.#budget = budget
    this.#random = random
    this.#now = now
  }

  /** Bytes written since this connection began. */
  get written(): number {
    return this.#written
  }

  get inFlight(): number {
    return this.wire.mark === undefined ? this.wire.pending : this.#written - this.#acked
  }

  /** How much `offer` would take now; a single frame may exceed it when nothing is in flight. */
  get room(): number {
    const { inFlight } = this
    const room = this.#limits.maxInFlight - inFlight
    const left = this.#budget.limit - this.#budget.used
    if (left < room) return inFlight === 0 && this.#budget.used === 0 ? room : left
    return room
  }

  /** Monotonic ms of the oldest mark without a pong; undefined when all is answered. */
  get waitingSince(): number | undefined {
    return this.#marks?.[0]?.at
  }

  /** False: nothing was written, the reader is behind now. */
  offer(bytes: Buffer): boolean {
    if (!this.wire.open) return false
    if (!this.fits(bytes.length)) {
      this.#ask()
      return false
    }
    this.#put(bytes)
    return true
  }

  /** Whether a frame of this size may go out now; if not, the peer is asked for a pong, so that room comes back. */
  hasRoom(bytes: number): boolean {
    if (this.fits(bytes)) return true
    this.#ask()
    return false
  }

  /** Room worth starting a chunk for. */
  get worthwhile(): number {
    return Math.min(WORTHWHILE, this.#limits.maxInFlight / 2)
  }

  fits(bytes: number): boolean {
    const { inFlight } = this
    if (inFlight > 0 && inFlight + bytes > this.#limits.maxInFlight) return false
    return this.#budget.used === 0 || this.#budget.used + bytes <= this.#budget.limit
  }

  /** Bytes behind the last mark would otherwise count as in flight until somebody writes more. */
  #ask(): void {
    if (this.#written > this.#marked) this.mark()
  }

  /** Control frames: always written, their number is bounded by the inbound rate. */
  force(bytes: Buffer): void {
    if (this.wire.open) this.#put(bytes)
  }

  #put(bytes: Buffer): void {
    this.#written += bytes.length
    this.wire.write(bytes)
    if (this.tap !== undefined) this.tap(bytes)
    if (this.wire.mark === undefined) return this.settle()
    this.#charged += bytes.length
    this.#budget.used += bytes.length
    if (this.#written - this.#marked >= this.#limits.markBytes) this.mark()
  }

  /** Without marks the budget is charged with what this process holds: call it whenever some of that has left. */
  settle(): void {
    if (this.#ended || this.wire.mark !== undefined) return
    const held = this.wire.pending
    this.#budget.used += held - this.#charged
    this.#charged = held
  }

  /** Joins a mark now, also as a sign of life to be answered. */
  mark(): void {
    const { wire } = this
    if (wire.mark === undefined || !wire.open) return
    const payload = Math.floor(this.#random() * 0x1_0000_0000)
    this.#marked = this.#written
    ;(this.#marks ??= []).push({ payload, written: this.#written, at: this.#now() })
    wire.mark(payload)
  }

  /** The peer answered a mark. True when that freed room; unknown payloads are ignored. */
  ponged(payload: number): boolean {
    const marks = this.#marks
    if (marks === undefined) return false
    const at = marks.findIndex((mark) => mark.payload === payload)
    if (at < 0) return false
    const freed = (marks[at] as Mark).written - this.#acked
    marks.splice(0, at + 1)
    if (marks.length === 0) this.#marks = undefined
    this.#acked += freed
    this.#release(freed)
    return freed > 0
  }

  /** The connection ended: its share of the budget returns. */
  closed(): void {
    this.#release(this.#charged)
    this.#marks = undefined
    this.#ended = true
  }

  #release(bytes: number): void {
    const back = Math.min(bytes, this.#charged)
    this.#charged -= back
    this.#budget.used -= back
  }
}
