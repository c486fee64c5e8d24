// Keeping one watch's position across restarts of the application.
// Owns: when to save (within a second after the consumer took a change, one save at a time) and the last save.
// Refuses: where cursors are kept; that is the application's CursorStore.

import type { Context } from './context.ts'
import type { Advance, PositionVector } from './core/vector.ts'

/** Implemented by the application: localStorage, a file, a table. Both may be slow and may fail. */
export interface CursorStore {
  /** The cursor last saved under this name, or undefined. A failure ends the watch: it must not begin anywhere else. */
  load(name: string): Promise<string | undefined> | string | undefined
  /** A failure is told as a notice; the next save carries a later position. */
  save(name: string, cursor: string): Promise<void> | void
}

const SAVE_AFTER_MS = 1_000

export class CursorKeeper {
  readonly #context: Context
  readonly #store: CursorStore
  readonly #name: string
  readonly #taken: PositionVector
  #saved: string | undefined
  #running: Promise<void> | undefined
  #cancel: (() => void) | undefined

  /** `taken`: where the watch starts, a vector of its own that only {@link took} moves. */
  constructor(context: Context, store: CursorStore, name: string, taken: PositionVector) {
    this.#context = context
    this.#store = store
    this.#name = name
    this.#taken = taken
  }

  /** The consumer came back for the next change, so it is done with this one. */
  took(advances: readonly Advance[]): void {
    this.#taken.apply(advances)
    this.#cancel ??= this.#context.clock.after(SAVE_AFTER_MS, () => {
      this.#running = this.#save()
    })
  }

  /** Saves what was taken and not yet saved. Never rejects. */
  async flush(): Promise<void> {
    this.#cancel?.()
    await this.#running
    await this.#save()
  }

  async #save(): Promise<void> {
    const cursor = this.#taken.cursor()
    try {
      if (cursor !== undefined && cursor !== this.#saved) await this.#store.save(this.#name, cursor)
    } catch (cause) {
      const message = 'the cursor could not be saved'
      this.#context.notice({ code: 'cursor-store-failed', message, watch: this.#name, cause })
    }
    // Also after a failure: the next change saves a later one, and a broken store is not asked in a loop.
    this.#saved = cursor
    this.#cancel = undefined
    // Changes were taken while the store was busy.
    if (this.#taken.cursor() !== cursor) this.took([])
  }
}
