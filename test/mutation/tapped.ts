// A member whose watch is tapped: a mutation sees every response and may add some of its own.
// Owns: the wrapping. Refuses: what is added (header-revision.ts, manual-bookmark.ts).

import type { ConnectEtcd, RawWatch } from '#agent/watch/etcd.ts'

export type Response = {
  readonly header: { readonly revision: string }
  readonly watch_id: string
  readonly created: boolean
  readonly canceled: boolean
  readonly events: readonly unknown[]
}
export type Tap = {
  /** After the response itself was handed on. `say` hands on one more. */
  after(response: Response, say: (response: object) => void, watch: RawWatch | undefined): void
  /** What the member says its version is; default what it is. */
  readonly version?: string
}

export const tapped =
  (connect: ConnectEtcd, tap: Tap): ConnectEtcd =>
  (options) => {
    const member = connect(options)
    return {
      ...member,
      status: async () => {
        const status = await member.status()
        return tap.version === undefined ? status : { ...status, version: tap.version }
      },
      watch: async (request, sink) => {
        const opened: { raw?: RawWatch } = {}
        opened.raw = await member.watch(request, {
          message: (response) => {
            sink.message(response)
            tap.after(response as Response, (more) => sink.message(more), opened.raw)
          },
          closed: (failure) => sink.closed(failure),
        })
        return opened.raw
      },
    }
  }
