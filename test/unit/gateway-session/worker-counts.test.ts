// Sessions per subject, counted by the primary for all workers: what is taken is given back, however late the answer.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '#kit/clock.ts'
import { systemRandom } from '#kit/random.ts'
import { type Channel, type Methods, ProcessLink, TIMEOUT_MS } from '#gateway/workers/process-link.ts'
import { RemoteSubjectCounts, SharedBooks } from '#gateway/workers/shared.ts'

/** Two ends of one channel, in order; what is sent to the primary is held while it is busy. */
class Wire {
  busy = false
  readonly #held: unknown[] = []
  #toPrimary: (message: unknown) => void = () => undefined
  #toWorker: (message: unknown) => void = () => undefined

  readonly worker: Channel = {
    send: (message) => {
      if (this.busy) this.#held.push(message)
      else this.#toPrimary(message)
      return true
    },
    on: (_event, listener) => void (this.#toWorker = listener),
  }
  readonly primary: Channel = {
    send: (message) => {
      this.#toWorker(message)
      return true
    },
    on: (_event, listener) => void (this.#toPrimary = listener),
  }

  release(): void {
    this.busy = false
    for (const message of this.#held.splice(0)) this.#toPrimary(message)
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

function workerOf(books: SharedBooks, id: number): { readonly wire: Wire; readonly counts: RemoteSubjectCounts } {
  const wire = new Wire()
  const methods: Methods = books.methodsFor(id)
  // It serves the channel for as long as the test lasts.
  void new ProcessLink(wire.primary, methods)
  return { wire, counts: new RemoteSubjectCounts(new ProcessLink(wire.worker, {})) }
}

test('a place that is granted after the worker gave up waiting is given back, and one that is refused is not', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const books = new SharedBooks(systemClock(), systemRandom())
  const one = workerOf(books, 1)
  const other = workerOf(books, 2)
  const LIMIT = 2
  one.wire.busy = true
  const late = [1, 2, 3].map(() => one.counts.take('anna', LIMIT))
  t.mock.timers.tick(TIMEOUT_MS)
  assert.deepEqual(await Promise.all(late), [false, false, false])
  one.wire.release()
  for (let i = 0; i < 5; i++) await turn()
  // The books are empty again: both places are there, and no third.
  assert.equal(await other.counts.take('anna', LIMIT), true)
  assert.equal(await one.counts.take('anna', LIMIT), true)
  assert.equal(await other.counts.take('anna', LIMIT), false)
  // Another late one is refused there too, so nobody's place is given away.
  one.wire.busy = true
  const refused = one.counts.take('anna', LIMIT)
  t.mock.timers.tick(TIMEOUT_MS)
  assert.equal(await refused, false)
  one.wire.release()
  for (let i = 0; i < 5; i++) await turn()
  assert.equal(await other.counts.take('anna', LIMIT), false)
  one.counts.give('anna')
  await turn()
  assert.equal(await other.counts.take('anna', LIMIT), true)
})
