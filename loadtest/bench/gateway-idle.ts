// What an idle subscriber costs: resident memory per connection that is welcomed, watches, and hears nothing but bookmarks.
// Owns: one measurement. Refuses: kernel memory, which RSS does not show (about 4 KB per socket): said here, not hidden.

import { cpuSeconds, endChild, forkHere, forkServer, nextMessage, round, rssBytes, sleep } from './gateway-processes.ts'

export type Idle = { readonly sockets: number; readonly kibPerConnection: number; readonly cores: number }

/** One address has about 28,000 ports to connect from. */
const PER_HERD = 20_000

export async function idle(sockets: number): Promise<Idle> {
  await using server = await forkServer('deltawatch', { bytes: 300, keys: 100 })
  const herd = (count: number, address: number) =>
    forkHere('gateway-client.ts', [
      'deltawatch',
      String(server.port),
      String(count),
      '/microservices/',
      `127.0.0.${address}`,
    ])
  // The first connections pay for code and buffers that all share.
  const warm = herd(200, 2)
  await nextMessage(warm)
  await endChild(warm)
  await sleep(2_000)
  const before = await rssBytes(server.pid)
  const herds = []
  for (let left = sockets; left > 0; left -= PER_HERD) herds.push(herd(Math.min(left, PER_HERD), 2 + herds.length))
  await Promise.all(herds.map((child) => nextMessage(child, 120_000)))
  // Two rounds of idle bookmarks, and time for garbage to be seen as such.
  await sleep(12_000)
  const after = await rssBytes(server.pid)
  const cpuBefore = await cpuSeconds(server.pid)
  await sleep(10_000)
  const cores = ((await cpuSeconds(server.pid)) - cpuBefore) / 10
  await Promise.all(herds.map(endChild))
  return { sockets, kibPerConnection: round((after - before) / sockets / 1024), cores: round(cores) }
}
