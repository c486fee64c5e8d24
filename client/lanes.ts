// Which connection carries which watch.
// Owns: the few connections of one client. Normally one is enough; a gateway binds a channel to one watch per
// connection, so an application's second watch with an equal selector gets a connection of its own.
// Refuses: what goes over them (link.ts), and judging which watches are equal: the gateway says so.
// Overflow rule: beyond `maxConnections` the gateway's refusal stands and ends the watch.

import { closedFor } from './errors.ts'
import { Link, type LinkHost } from './link.ts'
import type { Subscription } from './subscription.ts'

export class Lanes {
  readonly #host: LinkHost
  readonly #links: Link[]
  #closed = false

  constructor(host: LinkHost) {
    this.#host = host
    this.#links = [new Link(host)]
  }

  /** The connection that is made first and stays until the client is closed. */
  get first(): Link {
    return this.#links[0] as Link
  }

  indexOf(link: Link): number {
    return this.#links.indexOf(link)
  }

  place(subscription: Subscription, lane = 0): void {
    const link = (this.#links[lane] ??= new Link(this.#host))
    if (this.#closed || link.state.phase === 'closed') subscription.end(closedFor(link.ended))
    else link.attach(subscription)
  }

  /** Moves a watch to the next connection; false when there is none. */
  move(subscription: Subscription): boolean {
    const next = this.#links.findIndex((link) => link.subscriptions.has(subscription)) + 1
    if (next === 0 || next >= this.#host.context.maxConnections) return false
    this.#links[next - 1]?.detach(subscription)
    subscription.lost()
    this.place(subscription, next)
    return true
  }

  remove(subscription: Subscription): void {
    for (const [lane, link] of this.#links.entries()) {
      link.detach(subscription)
      // Extra connections exist for their watches alone.
      if (lane > 0 && link.subscriptions.size === 0) {
        link.stop()
        this.#links[lane] = new Link(this.#host)
      }
    }
  }

  close(): void {
    this.#closed = true
    for (const link of this.#links) {
      for (const subscription of link.subscriptions) subscription.end()
      link.stop()
    }
  }
}
