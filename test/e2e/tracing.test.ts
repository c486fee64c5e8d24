// One event, followed from etcd to the sockets by its spans, across real processes; and a collector that cannot harm.

import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { EtcdHttp } from '../judge/etcd-http.ts'
import { Collector, type CollectedSpan } from '../support/collector.ts'
import { scratchDir } from '../support/process.ts'
import { Recorder } from './recorder.ts'
import { Stack } from './stack.ts'

/** A configuration file with nothing but the tracing section; everything else comes by flags. */
async function tracedBy(collector: Collector, owned: AsyncDisposableStack) {
  const { path } = owned.use(await scratchDir('tracing'))
  const headers = join(path, 'headers')
  await writeFile(headers, 'x-api-key: sesame\n', { mode: 0o600 })
  const section = (canary: boolean): string =>
    [
      'tracing:',
      `  endpoint: ${collector.url}`,
      '  sample: 1',
      '  env: test',
      `  canary: ${canary}`,
      `  headersFile: ${headers}`,
      '',
    ].join('\n')
  const [agent, gateway] = [join(path, 'agent.yaml'), join(path, 'gateway.yaml')]
  await writeFile(agent, section(false))
  await writeFile(gateway, section(true))
  return { agentFlags: ['--config', agent], gatewayFlags: ['--config', gateway] }
}

const SECRET_KEY = '/orders/key-that-stays-here'
const SECRET_VALUE = 'value-that-stays-here'

describe('tracing', () => {
  it('one event is one trace across agent and gateway, its fan-out is linked, and nothing of it but numbers leaves', async () => {
    await using owned = new AsyncDisposableStack()
    const collector = owned.use(await Collector.start())
    const stack = owned.use(await Stack.start(await tracedBy(collector, owned)))
    using etcd = new EtcdHttp(stack.first.etcd.directUrl)
    const recorders = [
      owned.use(new Recorder(stack.url, { prefix: '/', start: 'snapshot' })),
      owned.use(new Recorder(stack.url, { prefix: '/', start: 'snapshot' })),
      owned.use(new Recorder(stack.url, { prefix: '/orders/', start: 'snapshot' })),
    ]
    await Promise.all(recorders.map((recorder) => recorder.change((change) => change.kind === 'snapshot')))
    const { revision } = await etcd.write([{ op: 'put', key: SECRET_KEY, value: Buffer.from(SECRET_VALUE) }])
    await Promise.all(recorders.map((recorder) => recorder.reached(stack.first.cluster, revision)))

    const read = await collector.span(
      ({ name, attributes }) => name === 'read' && attributes['deltawatch.revision'] === String(revision),
    )
    const { traceId } = read
    const writesOf = (): CollectedSpan[] =>
      collector.spans.filter(({ name, links }) => name === 'write' && links.some((l) => l.spanId === read.spanId))
    await collector.until(() => writesOf().length >= 2)
    const inTrace = (name: string): Promise<CollectedSpan> =>
      collector.span((span) => span.traceId === traceId && span.name === name)
    const [relay, append, deliver] = await Promise.all([inTrace('relay'), inTrace('append'), inTrace('deliver')])

    assert.equal(relay.parentSpanId, undefined)
    assert.equal(append.parentSpanId, relay.spanId)
    assert.equal(read.parentSpanId, append.spanId, 'the header carried the append’s context over the hub')
    assert.equal(deliver.parentSpanId, read.spanId)
    assert.deepEqual(
      [relay, append, read, deliver].map(({ service }) => service),
      ['deltawatch-agent', 'deltawatch-agent', 'deltawatch-gateway', 'deltawatch-gateway'],
    )
    const [sent, got] = [append.attributes['deltawatch.seq'], read.attributes['deltawatch.seq']]
    assert.ok(typeof sent === 'number' && sent === got, 'both sides name the same entry')
    for (const span of [relay, append, read, deliver, ...writesOf()]) {
      assert.equal(span.attributes['env'], 'test')
      assert.equal(span.attributes['canary'], span.service === 'deltawatch-gateway')
      assert.ok(span.end >= span.start && !span.failed, span.name)
    }

    // Two channels, three sockets: a span per channel that counts its sockets, linked and no child of anybody.
    const writes = writesOf()
    assert.equal(writes.length, 2)
    assert.ok(writes.every((write) => write.parentSpanId === undefined && write.traceId !== traceId))
    assert.deepEqual(new Set(writes.map((write) => write.attributes['deltawatch.sockets'])), new Set([1, 2]))

    assert.ok(collector.headers.every((headers) => headers['x-api-key'] === 'sesame'))
    const everything = collector.bodies.join('\n')
    for (const kept of ['key-that-stays-here', SECRET_VALUE, '/orders/'])
      assert.ok(!everything.includes(kept), `a span carries ${kept}`)
  })

  it('a collector that hangs, refuses or is away costs spans and nothing else', async () => {
    await using owned = new AsyncDisposableStack()
    const collector = owned.use(await Collector.start())
    const stack = owned.use(await Stack.start(await tracedBy(collector, owned)))
    using etcd = new EtcdHttp(stack.first.etcd.directUrl)
    const recorder = owned.use(new Recorder(stack.url, { prefix: '/', start: 'snapshot' }))
    await recorder.change((change) => change.kind === 'snapshot')
    const write = async (count: number): Promise<void> => {
      let revision = 0
      for (let n = 0; n < count; n++)
        ({ revision } = await etcd.write([{ op: 'put', key: `/k/${n}`, value: Buffer.from('v') }]))
      await recorder.reached(stack.first.cluster, revision, 5_000)
    }
    collector.mood = 'refuse'
    await write(50)
    await collector.until(() => collector.bodies.length > 0)
    collector.mood = 'hang'
    const asked = collector.bodies.length
    await write(50)
    await collector.until(() => collector.bodies.length > asked)
    await write(50)
    // Ending waits for no collector.
    const began = performance.now()
    const exits = await Promise.all([stack.first.agent?.stop(), stack.gateway?.stop()])
    assert.deepEqual(
      exits.map((exit) => exit?.code),
      [0, 0],
    )
    assert.ok(performance.now() - began < 8_000)
    assert.deepEqual(collector.spans, [])
  })
})
