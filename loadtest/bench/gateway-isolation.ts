// Three clusters through one gateway, one of them flooded: what its neighbours notice.
// Owns: two herds, one on the quiet clusters and one on the flooded one, and the comparison. Refuses: floors.

import { cpuSeconds, endChild, forkHere, forkServer, nextMessage, round, sleep } from './gateway-processes.ts'
import type { Row } from './report.ts'

export type Isolation = {
  /** Events per second of every cluster, and what the first one's is multiplied by. */
  readonly rate: number
  readonly flood: number
  /** Subscribers of each herd. */
  readonly sockets: number
  readonly seconds: number
  readonly bytes: number
}
type Herd = { readonly events: number; readonly p50: number; readonly p99: number; readonly cpuSeconds: number }

export async function isolation(
  wanted: Isolation,
): Promise<{ readonly rows: readonly Row[]; readonly addedP99: number }> {
  const { rate, flood, sockets, seconds, bytes } = wanted
  await using server = await forkServer('deltawatch', { bytes, keys: 100 }, 3)
  const herd = (clusters: string) => {
    const place = ['deltawatch', String(server.port), String(sockets), '/microservices/', '127.0.0.1', clusters]
    return forkHere('gateway-client.ts', place)
  }
  const quiet = herd('sz-edge-2,sz-edge-3')
  const flooded = herd('sz-edge-1')
  const herds = [quiet, flooded]
  try {
    await Promise.all(herds.map((child) => nextMessage(child)))
    const rows: (Row & { readonly p99: number })[] = []
    for (const first of [rate, rate * flood]) {
      server.start(first, rate, rate)
      await sleep(1_000)
      for (const child of herds) child.send('reset')
      const cpu = await cpuSeconds(server.pid)
      await sleep(seconds * 1000)
      const serverCores = ((await cpuSeconds(server.pid)) - cpu) / seconds
      for (const child of herds) child.send('report')
      const [calm, loud] = (await Promise.all(herds.map((child) => nextMessage(child)))) as [Herd, Herd]
      server.stop()
      await sleep(300)
      rows.push({
        rates: `${first}, ${rate}, ${rate}`,
        delivered: calm.events,
        p50: round(calm.p50),
        p99: round(calm.p99),
        floodedDelivered: loud.events,
        floodedP99: round(loud.p99),
        serverCores: round(serverCores),
        clientCores: round((calm.cpuSeconds + loud.cpuSeconds) / seconds),
      })
    }
    const [before, after] = rows
    return { rows, addedP99: round((after?.p99 ?? Number.NaN) - (before?.p99 ?? Number.NaN)) }
  } finally {
    await Promise.all(herds.map(endChild))
  }
}
