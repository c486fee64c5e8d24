// A value that changes, and readers that want to know its newest state.
// Owns: the current value and waking its readers. A reader that is slow skips states and never queues them, so memory
// stays constant however many readers stand still.
// Does not own: the meaning of the value. For every change in order use a log, not this.

export interface Latest<T> {
  readonly value: T
  set(value: T): void
  /** The current value, then each newest one, until `close` or the signal aborts. */
  changes(signal?: AbortSignal): AsyncIterableIterator<T>
  /** Resolves with the first value, the current one included, that satisfies the test; rejects when closed or aborted. */
  until<S extends T>(test: (value: T) => value is S, signal?: AbortSignal): Promise<S>
  close(): void
}

export function createLatest<T>(initial: T): Latest<T> {
  let value = initial
  let version = 0
  let closed = false
  let wake = Promise.withResolvers<void>()

  const touch = (): void => {
    const waiting = wake
    wake = Promise.withResolvers<void>()
    waiting.resolve()
  }

  async function* changes(signal?: AbortSignal): AsyncGenerator<T> {
    using gone = whenAborted(signal)
    let seen = -1
    for (;;) {
      if (signal?.aborted === true) return
      if (seen !== version) {
        seen = version
        yield value
        continue
      }
      if (closed) return
      await Promise.race([wake.promise, gone.promise])
    }
  }

  return {
    get value() {
      return value
    },
    set(next) {
      if (closed) return
      value = next
      version++
      touch()
    },
    changes,
    async until(test, signal) {
      for await (const current of changes(signal)) if (test(current)) return current
      signal?.throwIfAborted()
      throw new RangeError('closed before the awaited state was reached')
    },
    close() {
      closed = true
      touch()
    },
  }
}

function whenAborted(signal: AbortSignal | undefined): Disposable & { readonly promise: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>()
  const onAbort = (): void => resolve()
  signal?.addEventListener('abort', onAbort, { once: true })
  return { promise, [Symbol.dispose]: () => signal?.removeEventListener('abort', onAbort) }
}
