// Bad and awkward input at every door: a named error or correct delivery, never a crash.

import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { frameFault } from '../contract/protocol/frame-schemas.ts'
import { scratchDir, startProcess } from '../support/process.ts'
import { acquitted, JudgedCluster } from './judged.ts'
import { RawSession } from './raw-session.ts'
import { Recorder } from './recorder.ts'
import { Stack } from './stack.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))

describe('frames and values', () => {
  let stack: Stack
  let judge: JudgedCluster

  before(async () => {
    stack = await Stack.start()
    judge = await JudgedCluster.begin(stack, stack.first)
    await using ready = new Recorder(stack.url, { prefix: '/', start: 'snapshot' })
    await ready.change((c) => c.kind === 'snapshot')
  })
  after(async () => {
    await judge?.[Symbol.asyncDispose]()
    await stack?.[Symbol.asyncDispose]()
  })
  const watch = { type: 'watch', id: 'w', prefix: '/', start: 'now' }

  it('S2: a frame that is no JSON, no object or of no known type is answered by code', async () => {
    await using session = await RawSession.welcomed(stack.url)
    assert.equal((await session.refused({ type: 'subscribe' })).code, 'DW4010')
    assert.equal((await session.refused({ ...watch, since: 3 })).code, 'DW4000')
    assert.equal((await session.refused({ type: 'hello', client: 'again', versions: [1] })).code, 'DW4000')
    assert.equal((await session.refused({ type: 'unwatch', id: 'nobody' })).code, 'DW4015')
    session.send('{"type":')
    assert.equal((await session.closed).code, 4000)
    for (const frame of session.frames) assert.equal(frameFault('server', frame), undefined)
  })

  it('S3: the first frame is hello, in a version both sides speak', async () => {
    const open = async (frame: unknown): Promise<number> => {
      await using session = (await RawSession.open(stack.url, ['deltawatch.v1.json'])) as RawSession
      session.send(frame)
      return (await session.closed).code
    }
    assert.equal(await open(watch), 4002)
    assert.equal(await open({ type: 'hello', client: 'c', versions: [99] }), 4001)
    assert.equal(await open('nonsense'), 4000)
    assert.equal(await open(Buffer.from([1, 2, 3])), 4000)
    assert.equal(await open({ type: 'hello', client: 'c', versions: [1], token: 'not-a-dev-token' }), 4003)
  })

  it('S1: an unknown subprotocol is refused before it is a connection', async () => {
    assert.equal(await RawSession.open(stack.url, ['graphql-ws']), 400)
    assert.equal(await RawSession.open(stack.url.replace('/v1/watch', '/v1/other'), ['deltawatch.v1.json']), 404)
  })

  it('X3: a frame above the limit closes the connection, and the gateway lives on', async () => {
    await using session = await RawSession.welcomed(stack.url)
    session.send({ ...watch, prefix: 'x'.repeat(100_000) })
    assert.ok([1009, 4005].includes((await session.closed).code))
    await using next = await RawSession.welcomed(stack.url)
    assert.equal(next.frames[0]?.type, 'welcome')
  })

  it('Q2: a cursor that cannot be decoded is an error of that watch, and the connection lives on', async () => {
    await using session = await RawSession.welcomed(stack.url)
    for (const start of ['dw1.AAAA', 'dw1.', 'dw1.!!!', 'yesterday']) {
      const error = await session.refused({ ...watch, start })
      assert.deepEqual([error.code, error.id], ['DW4012', 'w'], start)
    }
    session.send(watch)
    await session.frame((f) => f.type === 'watching' && f.id === 'w')
  })

  it('S5: an id or an equal watch in use is refused, and free again after unwatch', async () => {
    await using session = await RawSession.welcomed(stack.url)
    session.send(watch)
    await session.frame((f) => f.type === 'watching')
    assert.equal((await session.refused({ ...watch, prefix: '/other/' })).code, 'DW4013')
    assert.equal((await session.refused({ ...watch, id: 'w2' })).code, 'DW4014')
    session.send({ type: 'unwatch', id: 'w' })
    await session.frame((f) => f.type === 'unwatched' && f.id === 'w')
    session.send({ ...watch, id: 'w3' })
    await session.frame((f) => f.type === 'watching' && f.id === 'w3')
  })

  it('V1: binary keys, binary and empty values arrive exactly, in events and in snapshots', async () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
    await using live = new Recorder(stack.url, { prefix: '/', start: 'snapshot' })
    await live.change((c) => c.kind === 'snapshot')
    await judge.writer.put([
      { op: 'put', key: `/bin/${bytes.toString('latin1')}`, value: bytes },
      { op: 'put', key: '/bin/empty', value: Buffer.alloc(0) },
      { op: 'put', key: '/bin/\xff\xfe\x00', value: Buffer.from('{"a":1,"a":2}') },
      { op: 'put', key: '/bin/"\\\n', value: Buffer.from('"\u2028\n\\') },
      { op: 'put', key: '/bin/deep', value: Buffer.from('['.repeat(200) + ']'.repeat(200)) },
      { op: 'put', key: '/bin/big', value: Buffer.from('{"n":12345678901234567890.123,"s":"é"}') },
      { op: 'put', key: '/bin/spaced', value: Buffer.from(' { "a" : 1 } ') },
      { op: 'put', key: '/bin/lines', value: Buffer.from('{\n"a": 1\r\n}') },
    ])
    acquitted(await judge.judge(live), { events: 8 }, () => stack.tail())
    await using late = new Recorder(stack.url, { prefix: '/', start: 'snapshot' })
    acquitted(await judge.judge(late), { items: 8 })
    await using exact = new Recorder(stack.url, { prefix: '/', start: 'snapshot', values: 'base64' })
    acquitted(await judge.judge(exact), { items: 8 })
  })

  it('L11: a value of 1.4 MB, larger than a message of the hub, arrives exactly', async () => {
    await using live = new Recorder(stack.url, { prefix: '/', start: 'snapshot' })
    await live.change((c) => c.kind === 'snapshot')
    const random = Buffer.alloc(1_400_000, 'deltawatch\0\xff', 'latin1')
    await judge.writer.put([{ op: 'put', key: '/large/binary', value: random }])
    await judge.writer.put([{ op: 'put', key: '/large/text', value: Buffer.alloc(1_400_000, 'é') }])
    await judge.writer.put([
      { op: 'put', key: '/large/json', value: Buffer.from(JSON.stringify({ s: 'y'.repeat(1_399_000) })) },
    ])
    acquitted(await judge.judge(live), { events: 3 }, () => stack.tail())
    await using late = new Recorder(stack.url, { prefix: '/large/', start: 'snapshot' })
    acquitted(await judge.judge(late, { view: { selects: (key) => key.startsWith('/large/') } }), { items: 3 })
    const log = await judge.judgeLog()
    acquitted(log, { chunks: 4 })
  })
})

describe('configuration', () => {
  const refused = async (file: string, args: readonly string[]): Promise<string> => {
    await using service = await startProcess({
      command: process.execPath,
      args: [join(root, file), ...args],
      env: { PATH: '/usr/bin:/bin', HOME: '/nonexistent' },
    })
    const exit = await service.exited
    assert.notEqual(exit.code, 0)
    assert.equal(exit.signal, null)
    return service.log()
  }
  const agent = [
    '--cluster',
    'sz-edge-1',
    '--region',
    'sz',
    '--etcd',
    'http://127.0.0.1:1',
    '--nats',
    'nats://127.0.0.1:1',
  ]
  const common = ['--hub-region', 'sz', '--policies', 'policies/regions']

  it('an unknown key in the file, a flag or the environment is refused with the nearest name', async () => {
    await using dir = await scratchDir('config')
    const file = join(dir.path, 'agent.yaml')
    await writeFile(file, 'uplink:\n  windw: 4\n')
    assert.match(await refused('edge-agent/main.ts', [...agent, ...common, '--config', file]), /windw[\s\S]*window/)
    await writeFile(file, 'listn: 127.0.0.1:0\n')
    assert.match(await refused('gateway/main.ts', ['--config', file, ...common]), /listn[\s\S]*listen/)
    assert.match(await refused('gateway/main.ts', [...common, '--lissten', '127.0.0.1:0']), /lissten/)
  })

  it('I10: a message about a wrong value names the field and never a secret', async () => {
    await using dir = await scratchDir('config')
    const file = join(dir.path, 'agent.yaml')
    await writeFile(file, 'etcd:\n  password: hunter2hunter2\n  keepalive: soon\n')
    const said = await refused('edge-agent/main.ts', [...agent, ...common, '--config', file])
    assert.match(said, /keepalive/)
    assert.doesNotMatch(said, /hunter2/)
  })
})

describe('nothing there at the start', () => {
  it('I7: agent and gateway start without etcd and hub, say so, and recover by themselves', async () => {
    await using stack = await Stack.start({ start: { agents: false, gateway: false } })
    const judge = await JudgedCluster.begin(stack, stack.first)
    await using _ = judge
    await stack.nats.kill()
    await stack.first.etcd.kill()
    await Promise.all([stack.startAgent(stack.first), stack.startGateway()])
    await using recorder = new Recorder(stack.url, { prefix: '/', start: 'snapshot' })
    await recorder.client.connect()
    assert.equal(recorder.client.clusters.get(stack.first.cluster)?.state, 'unreachable')
    await stack.nats.restart()
    await stack.first.etcd.restart()
    await judge.writer.write(30)
    acquitted(await judge.judge(recorder), { snapshots: 1 }, () => stack.tail(40))
    assert.equal(stack.first.agent?.running, true)
    assert.equal(stack.gateway?.running, true)
  })
})
