// What runs inside the page: the SDK itself, and a few commands by which a test drives it from outside.
// Owns: the commands and what was seen. Refuses: everything of Node; this file is bundled for browsers as the SDK is.

import {
  type Change,
  DeltaWatch,
  type DeltaWatchOptions,
  type LiveState,
  valueText,
  type WatchRequest,
} from '../../client/deltawatch.ts'

type Storage = { getItem(key: string): string | null; setItem(key: string, value: string): void }
const { localStorage } = globalThis as unknown as { readonly localStorage: Storage }

type Reading = { readonly changes: Change[]; readonly abort: AbortController; readonly ended: Promise<string> }

const readings = new Map<string, Reading>()
const states: string[] = []
const notices: string[] = []
let client: DeltaWatch | undefined
let live: LiveState | undefined
let told: (() => void)[] = []

const tell = (): void => {
  const now = told
  told = []
  for (const wake of now) wake()
}
const next = (): Promise<void> => new Promise((resolve) => told.push(resolve))
const reading = (name: string): Reading => {
  const found = readings.get(name)
  if (found === undefined) throw new Error(`no watch ${name}`)
  return found
}

async function read(name: string, request: WatchRequest, changes: Change[], signal: AbortSignal): Promise<string> {
  if (client === undefined) throw new Error('not open')
  try {
    for await (const change of client.watch({ ...request, name, signal })) {
      changes.push(change)
      tell()
    }
    return 'done'
  } catch (error) {
    return String(error)
  } finally {
    tell()
  }
}

const held = (): Record<string, string | undefined> =>
  Object.fromEntries([...(live?.entries('sz-edge-1') ?? [])].map((entry) => [entry.key, valueText(entry)]))

export const driver = {
  open(options: Pick<DeltaWatchOptions, 'url' | 'backoff'>): void {
    client = new DeltaWatch({
      ...options,
      cursorStore: {
        load: (name) => localStorage.getItem(`cursor:${name}`) ?? undefined,
        save: (name, cursor) => {
          localStorage.setItem(`cursor:${name}`, cursor)
          tell()
        },
      },
    })
    client.on('state', (state) => {
      states.push(state.phase)
      tell()
    })
    client.on('notice', ({ code, message }) => notices.push(`${code}: ${message}`))
  },
  watch(name: string, request: WatchRequest): void {
    const changes: Change[] = []
    const abort = new AbortController()
    readings.set(name, { changes, abort, ended: read(name, request, changes, abort.signal) })
  },
  /** All changes so far, once one of them is of this kind, and at this revision when one is given. */
  async until(name: string, kind: Change['kind'], revision?: string): Promise<readonly Change[]> {
    const { changes } = reading(name)
    const fits = (change: Change): boolean =>
      change.kind === kind && (revision === undefined || ('revision' in change && change.revision === revision))
    while (!changes.some(fits)) await next()
    return changes
  },
  async abort(name: string): Promise<string> {
    reading(name).abort.abort()
    return await reading(name).ended
  },
  /** Resolves when another cursor than `than` is stored; with it. */
  async stored(name: string, than: string | null): Promise<string | null> {
    for (;;) {
      const cursor = localStorage.getItem(`cursor:${name}`)
      if (cursor !== null && cursor !== than) return cursor
      await next()
    }
  },
  state(prefix: string): void {
    if (client === undefined) throw new Error('not open')
    live = client.state({ prefix })
    live.subscribe(tell)
  },
  held,
  /** Resolves as soon as the live map is exactly this; with what every state of it was meanwhile. */
  async holds(wanted: Record<string, string>): Promise<readonly Record<string, string | undefined>[]> {
    const seen = [held()]
    const text = (map: Record<string, string | undefined>): string =>
      JSON.stringify(Object.entries(map).toSorted(([a], [b]) => (a < b ? -1 : 1)))
    while (text(seen.at(-1) ?? {}) !== text(wanted)) {
      await next()
      seen.push(held())
    }
    return seen
  },
  async phase(wanted: string): Promise<void> {
    while (client?.connection.phase !== wanted) await next()
  },
  notices: (): readonly string[] => notices,
  states: (): readonly string[] => states,
  async close(): Promise<void> {
    await client?.close()
  },
}

Object.assign(globalThis, { driver })
