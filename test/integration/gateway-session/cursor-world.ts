// A real hub with three logs whose history has everything a cursor can be behind of: a gap, a trimmed part, a cluster
// that was removed; and a gateway on it.
// Owns: making that history, and writing on. Refuses: cursors and verdicts (cursor-matrix.test.ts).

import assert from 'node:assert/strict'
import { decodeCursor, type ViewTag } from '#protocol/cursor.ts'
import type { Epoch } from '#protocol/log/entry.ts'
import type { Revision } from '#protocol/revision.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import { DEFAULT_VIEW_BOUNDS } from '#gateway/upstream/sources.ts'
import {
  caughtUp,
  cluster,
  type Followed,
  type Hub,
  type HubWriter,
  region,
  startHub,
  until,
} from '../gateway-upstream/jetstream.ts'
import { startGateway, type TestGateway } from './gateway.ts'

export const put = (key: string, value: string) => ({ op: 'put', key, value }) as const
export const SZ = cluster('sz-edge-1')
export const GZ = cluster('gz-edge-1')
export const MO = cluster('mo-edge-1')

export type Place = { readonly epoch: Epoch; readonly revision: number }

export class World implements AsyncDisposable {
  readonly hub: Hub
  readonly followed: Followed
  readonly gateway: TestGateway
  readonly writers: ReadonlyMap<ClusterId, HubWriter>
  readonly #owned: AsyncDisposableStack
  viewTag: ViewTag = ''
  /** Revision of the checkpoint that told of the gap. */
  gap = 0
  removed: Place = { epoch: '' as Epoch, revision: 0 }
  #serial = 0

  private constructor(
    owned: AsyncDisposableStack,
    parts: { hub: Hub; followed: Followed; gateway: TestGateway; writers: Map<ClusterId, HubWriter> },
  ) {
    this.#owned = owned
    this.hub = parts.hub
    this.followed = parts.followed
    this.gateway = parts.gateway
    this.writers = parts.writers
  }

  static async start(): Promise<World> {
    await using owned = new AsyncDisposableStack()
    const hub = owned.use(await startHub())
    const followed = owned.use(await hub.sources({ bounds: { ...DEFAULT_VIEW_BOUNDS, ringRevisions: 10 } }))
    const writers = new Map<ClusterId, HubWriter>()
    for (const [n, id] of [SZ, GZ, MO].entries()) {
      await hub.createStream(id, id === GZ ? 300_000 : undefined)
      const writer = hub.writer(id, { epoch: n + 1, seed: n + 1 })
      writer.commit([put('/a', '1')])
      writer.checkpoint('epoch')
      await writer.flush()
      writers.set(id, writer)
      await caughtUp(followed.sources.add(id, region(id.slice(0, 2))), writer)
    }
    const gateway = owned.use(await startGateway({ sources: followed.sources }))
    const world = new World(owned.move(), { hub, followed, gateway, writers })
    await world.#makeHistory()
    return world
  }

  async #makeHistory(): Promise<void> {
    const [sz, gz, mo] = [this.writer(SZ), this.writer(GZ), this.writer(MO)]
    await this.write(SZ, 20)
    // etcd was compacted past the agent: three revisions are gone for good.
    for (let n = 0; n < 3; n++) sz.commit([put(`/lost/${n}`, 'x')])
    sz.pending = 'gap'
    sz.checkpoint('gap')
    sz.pending = 'none'
    this.gap = sz.position
    await sz.flush()
    await this.write(SZ, 10)
    sz.checkpoint('routine')
    await sz.flush()
    await this.write(SZ, 60)
    for (let n = 0; n < 40; n++) gz.events([put('/filler', 'f'.repeat(20_000))])
    gz.checkpoint('routine')
    await gz.flush()
    await this.write(GZ, 20)
    const source = this.followed.sources.get(GZ)
    assert.ok(source !== undefined)
    const trimmed = { epoch: gz.epoch, revision: '3' as Revision }
    // The stream is looked at now and then; until then a search would find out.
    await until(source, () => source.locate(trimmed).kind === 'resync', 'known to be trimmed')
    await this.write(MO, 5)
    this.removed = { epoch: mo.epoch, revision: mo.position }
    const client = await this.gateway.client()
    client.watch({ id: 'tag', prefix: '/', clusters: [SZ] })
    const decoded = decodeCursor((await client.next('bookmark')).cursor)
    assert.ok(decoded.ok)
    this.viewTag = decoded.cursor.viewTag
    client.ws.terminate()
    await this.followed.sources.remove(MO)
  }

  writer(id: ClusterId): HubWriter {
    return this.writers.get(id) as HubWriter
  }

  at(id: ClusterId, offset: number): Place {
    const { epoch, position } = this.writer(id)
    return { epoch, revision: position + offset }
  }

  /** So many revisions of one event each, in the log and in the view. */
  async write(id: ClusterId, count: number): Promise<void> {
    const writer = this.writer(id)
    for (let n = 0; n < count; n++) writer.events([put(`/k/${this.#serial++ % 30}`, `v${this.#serial}`)])
    await writer.flush()
    const source = this.followed.sources.get(id)
    if (source !== undefined) await until(source, () => source.status.revision === String(writer.position), 'written')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync()
  }
}
