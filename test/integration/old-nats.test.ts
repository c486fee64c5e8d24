// The oldest nats-server a demo may meet (Debian's): gateway, agent and `hub apply` make logs there, without metadata, and say so once.
// Skipped where neither an official release nor a package of that version can be had.

import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { Command } from 'commander'
import { createLogStream } from '#agent/uplink/create-stream.ts'
import { registerHubCommands } from '#client/cli/hub.ts'
import { resolveTool, ToolMissingError } from '#deploy/toolchain/resolve.ts'
import { createLogger } from '#kit/logger.ts'
import { HUB_REGION_KEY, streamConfig, streamDifferences } from '#protocol/log/stream.ts'
import { streamName } from '#protocol/subjects.ts'
import { caughtUp, cluster, region, startHub } from './gateway-upstream/jetstream.ts'

const VERSION = '2.9.10'
const [sz, gz, mo, macau] = ['sz-edge-1', 'gz-edge-1', 'mo-edge-1', 'mo-edge-2'].map(cluster)
assert.ok(sz !== undefined && gz !== undefined && mo !== undefined && macau !== undefined)

describe(`on nats-server ${VERSION}`, () => {
  let missing: string | false = false
  before(async () => {
    await resolveTool('nats-server', { version: VERSION }).catch((error: unknown) => {
      if (!(error instanceof ToolMissingError)) throw error
      missing = `no nats-server ${VERSION} here`
    })
  })

  test('the gateway creates its logs, warns once, and follows them', async (t) => {
    if (missing !== false) return t.skip(missing)
    await using hub = await startHub({ version: VERSION })
    const lines: string[] = []
    const logger = createLogger({ service: 'test', format: 'json', destination: (line) => void lines.push(line) })
    await using followed = await hub.sources({ createStreams: { hubRegion: 'sz' }, logger })
    const sources = [followed.sources.add(sz, region('sz')), followed.sources.add(gz, region('gz'))]
    for (const id of [sz, gz]) await exists(hub, id)
    const writer = hub.writer(sz)
    writer.commit([{ op: 'put', key: '/a', value: '1' }])
    writer.checkpoint('epoch')
    await writer.flush()
    assert.ok(sources[0] !== undefined)
    await caughtUp(sources[0], writer)
    const warnings = lines.filter((line) => line.includes('keeps no metadata of streams'))
    assert.equal(warnings.length, 1)
    assert.match(warnings[0] ?? '', /nats-server 2\.9\.10 .*--hub-region/)
  })

  test('an agent creates its log and warns', async (t) => {
    if (missing !== false) return t.skip(missing)
    await using hub = await startHub({ version: VERSION })
    const said: string[] = []
    assert.equal(await createLogStream(hub.nc, mo, 'sz', { warn: (text) => void said.push(text) }), true)
    assert.match(said.join('\n'), /^nats-server 2\.9\.10 keeps no metadata of streams/)
    await exists(hub, mo)
  })

  test('hub apply makes the log, warns, and finds nothing to change afterwards', async (t) => {
    if (missing !== false) return t.skip(missing)
    await using hub = await startHub({ version: VERSION })
    for (const outcome of ['created', 'unchanged']) {
      const ran = { out: '', err: '', code: -1 }
      const program = new Command('deltawatch')
      registerHubCommands(program, {
        isTTY: false,
        columns: 100,
        out: (text) => void (ran.out += text),
        err: (text) => void (ran.err += text),
        code: (code) => void (ran.code = code),
      })
      const args = ['hub', 'apply', '--nats', hub.nats.clientUrl, '--clusters', 'mo-edge-2', '--hub-region', 'sz']
      await program.parseAsync(args, { from: 'user' })
      assert.equal(ran.code, 0, ran.out)
      assert.equal((JSON.parse(ran.out) as { streams: { outcome: string }[] }).streams[0]?.outcome, outcome)
      assert.match(ran.err, /^warning: nats-server 2\.9\.10 keeps no metadata of streams/)
    }
    await exists(hub, macau)
  })
})

/** The log is there as the protocol needs it, and states no region. */
async function exists(hub: Awaited<ReturnType<typeof startHub>>, id: typeof sz): Promise<void> {
  assert.ok(id !== undefined)
  const within = AbortSignal.timeout(15_000)
  for (;;) {
    within.throwIfAborted()
    const found = await hub.jsm.streams.info(streamName(id)).catch(() => undefined)
    if (found === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 20))
      continue
    }
    const wanted = streamConfig({ cluster: id, maxBytes: 0, maxMessageBytes: 0, replicas: 1 })
    assert.deepEqual(streamDifferences(wanted, { ...found.config }), [])
    assert.equal(found.config.metadata?.[HUB_REGION_KEY], undefined)
    return
  }
}
