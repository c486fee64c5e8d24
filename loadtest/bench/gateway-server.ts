// The measured server of loadtest/bench/gateway.ts: the gateway's real subscriber side, or a plain `ws` broadcast.
// Owns: one process per measured server, so that its CPU is its own. Refuses: measuring; it is told what to send and when.
//
//   node loadtest/bench/gateway-server.ts <deltawatch|ws> [clusters] [policies]
// Forked by the bench. Messages: {rates, bytes, keys} starts sending, one rate per cluster; 'stop' ends it.

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { WebSocket, WebSocketServer } from 'ws'
import { devAuthenticator } from '#gateway/auth/dev.ts'
import { EnginePolicy } from '#gateway/delivery/engine-policy.ts'
import { DEFAULT_DELIVERY, openFront } from '#gateway/session/front.ts'
import { DEFAULT_LIMITS } from '#gateway/session/limits.ts'
import { systemClock } from '#kit/clock.ts'
import { createHealth } from '#kit/http/health.ts'
import { silentLogger } from '#kit/logger.ts'
import { createMetrics } from '#kit/metrics.ts'
import { systemRandom } from '#kit/random.ts'
import { policyDeps } from '#policies/node/hashing.ts'
import { emptyKeyring } from '#policies/node/keyring.ts'
import { openBundle } from '#policies/node/open-bundle.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'

export type Send = { readonly rates: readonly number[]; readonly bytes: number; readonly keys: number }

const [kind, clusters = '1', policies = 'policies/regions'] = process.argv.slice(2)
const nowUs = (): string => String(process.hrtime.bigint() / 1000n).padStart(16, '0')

/** About `size` bytes of JSON with the time in it. */
function valueOf(size: number): string {
  const head = `{"t":"${nowUs()}","service":"orders","zone":"sz-b","addr":"10.0.4.17:8443","meta":"`
  return `${head}${'x'.repeat(Math.max(0, size - head.length - 2))}"}`
}

/** Calls `emit` with how many events are due, every millisecond. */
function pace(rate: number, emit: (due: number) => void): () => void {
  const started = performance.now()
  let sent = 0
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - started) / 1000) * rate) - sent
    if (due <= 0) return
    sent += due
    emit(due)
  }, 1)
  return () => clearInterval(timer)
}

async function deltawatch(): Promise<{ readonly port: number; send(n: number, what: Send, cluster: number): void }> {
  const clock = systemClock()
  const bundle = await openBundle(policies, { deps: policyDeps(emptyKeyring()) })
  if (!bundle.ok) throw new Error(bundle.error.map((issue) => issue.message).join('; '))
  const sources = Array.from(
    { length: Number(clusters) },
    (_, i) => new FakeSource({ cluster: `sz-edge-${i + 1}`, ring: 4096, now: () => clock.monotonic() }),
  )
  const front = await openFront(
    {
      listen: { host: '127.0.0.1', port: 0 },
      limits: {
        ...DEFAULT_LIMITS,
        connectsPerSecond: 1e6,
        maxPerSubject: 1e6,
        maxUnauthenticatedPerAddress: 1e6,
        maxPerAddress: 1e6,
      },
      delivery: DEFAULT_DELIVERY,
      origin: { allowedOrigins: [], allowedHosts: [], dev: true },
      drainMs: 0,
      details: true,
    },
    {
      sources: new FakeSources(...sources),
      policy: new EnginePolicy(bundle.value, clock, () => []),
      authenticator: devAuthenticator('sz'),
      clock,
      random: systemRandom(),
      logger: silentLogger(),
      metrics: createMetrics(),
      health: createHealth(),
    },
  )
  let n = 0
  return {
    port: front.address.port,
    send(due, what, cluster) {
      const source = sources[cluster]
      if (source === undefined) throw new RangeError(`there is no cluster ${cluster}`)
      for (let i = 0; i < due; i++)
        source.commit({ put: `/microservices/${n++ % what.keys}/a`, value: valueOf(what.bytes) })
      // The fake keeps its whole log; a benchmark has no use for it.
      source.log.length = 0
    },
  }
}

async function plain(): Promise<{ readonly port: number; send(n: number, what: Send, cluster: number): void }> {
  const http = createServer()
  const server = new WebSocketServer({ server: http, perMessageDeflate: false })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  let n = 0
  return {
    port: (http.address() as AddressInfo).port,
    send(due, what) {
      for (let i = 0; i < due; i++) {
        const event = {
          op: 'put',
          key: `/microservices/${n++ % what.keys}/a`,
          json: JSON.parse(valueOf(what.bytes)) as unknown,
        }
        const frame = {
          type: 'events',
          ch: 1,
          cluster: 'sz-edge-1',
          epoch: '00000000000000aa',
          revision: String(n),
          events: [event],
        }
        const bytes = Buffer.from(JSON.stringify(frame))
        for (const client of server.clients)
          if (client.readyState === WebSocket.OPEN) client.send(bytes, { binary: false })
      }
    },
  }
}

const server = await (kind === 'ws' ? plain() : deltawatch())
let stops: readonly (() => void)[] = []
process.on('message', (message) => {
  for (const stop of stops) stop()
  stops = []
  if (message === 'stop') return
  const what = message as Send
  stops = what.rates.map((rate, cluster) => pace(rate, (due) => server.send(due, what, cluster)))
})
process.on('disconnect', () => process.exit())
process.send?.({ port: server.port })
