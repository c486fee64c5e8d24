// Turns for everyone who has to catch up: snapshots, ring, differences, replays.
// Owns: the queue of subscribers and the length of a turn, so that ten thousand snapshots never starve a heartbeat.
// Refuses: what a turn does (subscriber.ts). Those without room come back by a pong; those the global budget or a rate
// holds back are tried again by `retry`.

import type { Subscriber } from './subscriber.ts'

export interface PumpDeps {
  readonly now: () => number
  readonly soon: (fn: () => void) => void
}

const STEPS = 4
const SLICE_MS = 5

export class Pump {
  readonly #deps: PumpDeps
  #queue: Subscriber[] = []
  #head = 0
  #running = false
  readonly #held = new Set<Subscriber>()

  constructor(deps: PumpDeps) {
    this.#deps = deps
  }

  get queued(): number {
    return this.#queue.length - this.#head
  }

  add(subscriber: Subscriber): void {
    if (subscriber.queued || subscriber.closed) return
    subscriber.queued = true
    this.#queue.push(subscriber)
    if (this.#running) return
    this.#running = true
    this.#deps.soon(this.#run)
  }

  /** Called a few times per second: nobody's pong frees what others hold. */
  retry(): void {
    for (const subscriber of this.#held) this.add(subscriber)
    this.#held.clear()
  }

  remove(subscriber: Subscriber): void {
    this.#held.delete(subscriber)
  }

  readonly #run = (): void => {
    const until = this.#deps.now() + SLICE_MS
    while (this.#head < this.#queue.length) {
      const subscriber = this.#queue[this.#head++] as Subscriber
      subscriber.queued = false
      if (subscriber.closed) continue
      const result = subscriber.pump(STEPS)
      if (result === 'again') this.add(subscriber)
      else if (result === 'full') this.#held.add(subscriber)
      if (this.#deps.now() >= until) break
    }
    if (this.#head === this.#queue.length) {
      this.#queue = []
      this.#head = 0
      this.#running = false
      return
    }
    if (this.#head > 1024) {
      this.#queue = this.#queue.slice(this.#head)
      this.#head = 0
    }
    this.#deps.soon(this.#run)
  }
}
