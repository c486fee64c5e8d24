// node deploy/local/writer/main.ts --site "cluster|region|city|network|url" … [--rate N]
// Owns: performing the worlds' operations against each etcd, keeping the leases of living instances alive.
// Does not own: the stories (world.ts). An etcd that is away is waited for, with growing pauses; the others go on.

import { parseArgs } from 'node:util'
import { setTimeout as delay } from 'node:timers/promises'
import { createEtcdJson, type EtcdJson } from '../etcd-json.ts'
import { createWorld, type Operation, type World } from './world.ts'
import { parseSite, type WriterSite } from './sites.ts'

const KEEPALIVE_MS = 3_000
const MAX_PAUSE_MS = 5_000

const { values } = parseArgs({ options: { site: { type: 'string', multiple: true }, rate: { type: 'string' } } })
const perSecond = Number(values.rate ?? 4)
if (!(perSecond > 0 && perSecond <= 1_000))
  throw new RangeError(`--rate ${values.rate}: give operations per second, 1 to 1000`)

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort())

await Promise.all((values.site ?? []).map((text) => tell(parseSite(text), stop.signal)))

/** One region's story, from its first registration until the signal. */
async function tell(site: WriterSite, signal: AbortSignal): Promise<void> {
  const etcd = createEtcdJson(site.url, signal)
  const leases = new Map<string, string>()
  const world = createWorld(site, Math.random)
  // Each name's lease is renewed until it crashes or leaves; one that etcd lost meanwhile is forgotten.
  const renew = setInterval(() => void renewAll(etcd, leases), KEEPALIVE_MS)
  try {
    for (const operation of story(world)) {
      await insist(() => perform(etcd, leases, operation), site.cluster, signal)
      await delay(1_000 / perSecond, undefined, { signal })
    }
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    clearInterval(renew)
  }
}

function* story(world: World): Generator<Operation, void> {
  yield* world.open()
  for (;;) yield world.next(new Date())
}

async function perform(etcd: EtcdJson, leases: Map<string, string>, operation: Operation): Promise<void> {
  switch (operation.kind) {
    case 'write':
      await etcd.write(operation)
      return
    case 'register': {
      const id = await etcd.grant(operation.ttlSeconds)
      await etcd.write({ puts: operation.puts }, id)
      leases.set(operation.lease, id)
      return
    }
    case 'crash':
      leases.delete(operation.lease)
      return
    case 'leave': {
      const id = leases.get(operation.lease)
      leases.delete(operation.lease)
      // An instance whose lease ran out while etcd was away has left already.
      if (id !== undefined) await etcd.revoke(id).catch(() => {})
      return
    }
    default: {
      const unknown: never = operation
      return unknown
    }
  }
}

async function renewAll(etcd: EtcdJson, leases: Map<string, string>): Promise<void> {
  for (const [name, id] of leases) {
    const left = await etcd.keepAlive(id).catch(() => undefined)
    if (left === 0) leases.delete(name)
  }
}

/** Tries until it works. A refused operation may have happened; the stories bear being told twice. */
async function insist(act: () => Promise<void>, cluster: string, signal: AbortSignal): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await act()
    } catch (error) {
      signal.throwIfAborted()
      if (attempt === 1) process.stderr.write(`${cluster}: write failed, trying again: ${String(error)}\n`)
      await delay(Math.min(MAX_PAUSE_MS, 100 * 2 ** Math.min(attempt, 10)), undefined, { signal })
    }
  }
}
