// What an idle subscriber costs: resident memory per connection that is welcomed, watches, and hears nothing but bookmarks.
// Owns: one measurement. Refuses: kernel memory, which RSS does not show (about 4 KB per socket): said here, not hidden.
//
//   node loadtest/bench/gateway-idle.ts [--sockets 10000] [--floor-kib 12]     exits 1 above the floor; 0 turns it off

import { parseArgs } from 'node:util'
import { cpuSeconds, endChild, forkHere, forkServer, nextMessage, round, rssBytes, sleep } from './gateway-processes.ts'

const { values: args } = parseArgs({
  options: { sockets: { type: 'string', default: '10000' }, 'floor-kib': { type: 'string', default: '12' } },
})
const sockets = Number(args.sockets)
const floor = Number(args['floor-kib'])

await using server = await forkServer('deltawatch', { bytes: 300, keys: 100 })
// The first connections pay for code and buffers that all share.
const warm = forkHere('gateway-client.ts', ['deltawatch', String(server.port), '200', '/microservices/'])
await nextMessage(warm)
await endChild(warm)
await sleep(2_000)
const before = await rssBytes(server.pid)
const herd = forkHere('gateway-client.ts', ['deltawatch', String(server.port), String(sockets), '/microservices/'])
await nextMessage(herd)
// Two rounds of idle bookmarks, and time for garbage to be seen as such.
await sleep(12_000)
const after = await rssBytes(server.pid)
const cpuBefore = await cpuSeconds(server.pid)
await sleep(10_000)
const cpu = ((await cpuSeconds(server.pid)) - cpuBefore) / 10
await endChild(herd)
const perConnection = (after - before) / sockets / 1024
process.stdout.write(
  `${JSON.stringify({ sockets, kibPerConnection: round(perConnection), idleCores: round(cpu), floorKib: floor, node: process.versions.node })}\n`,
)
process.exitCode = floor > 0 && perConnection > floor ? 1 : 0
