// The command line of npm start, and what it says while it runs.

import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { once } from 'node:events'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { createDisplay } from '#deploy/local/display.ts'
import { PortBusyError, requireFreePorts } from '#deploy/local/free-ports.ts'
import { parseOptions } from '#deploy/local/options.ts'
import { explainTrouble, newestWarning } from '#deploy/local/trouble.ts'
import { createProgress } from '#deploy/toolchain/progress.ts'
import { scratchDir } from '../../support/process.ts'

test('what keeps a cluster from being live is its newest warning, with the log it stands in', async () => {
  await using dir = await scratchDir('trouble')
  const [agent, gateway] = [join(dir.path, 'agent.log'), join(dir.path, 'gateway.log')]
  const line = (level: string, second: number, fields: object): string =>
    `${JSON.stringify({ level, time: `2030-01-01T00:00:0${second}.000Z`, ...fields })}\n`
  const general = line('warn', 1, { event: 'lineage key is the public development key' })
  await writeFile(agent, general + line('warn', 2, { cluster: 'sz-edge-1', event: 'phase', reason: 'no stream' }))
  await writeFile(
    gateway,
    `not JSON\n${line('warn', 3, { cluster: 'gz-edge-1', event: 'other' })}` +
      line('warn', 4, { cluster: 'sz-edge-1', event: 'log not readable', err: { code: 'X', message: 'denied' } }) +
      line('info', 5, { cluster: 'sz-edge-1', event: 'fine' }),
  )
  const said = await explainTrouble('sz-edge-1', 'unreachable', [agent, gateway])
  assert.match(said, /sz-edge-1: unreachable; log not readable: denied\n +\(log: .*gateway\.log\)/)
  assert.match(await explainTrouble('sz-edge-1', 'unreachable', [agent]), /phase: no stream\n +\(log: .*agent\.log\)/)
  assert.match(
    await explainTrouble('mo-edge-1', 'lagging', [agent, gateway]),
    /lagging; no warning in .*agent\.log, .*/,
  )
  assert.equal(newestWarning(line('error', 1, { event: 'crashed' }), 'mo-edge-1')?.text, 'crashed')
})

test('defaults are the documented ports, with the writer', () => {
  const options = parseOptions([])
  assert.deepEqual(
    [options.gatewayPort, options.natsPort, ...options.etcdPorts, options.writer, options.once, options.fresh],
    [7400, 7422, 7501, 7502, 7503, true, false, false],
  )
  assert.equal(parseOptions(['--no-writer']).writer, false)
})

test('mistakes are named with their option', () => {
  assert.throws(() => parseOptions(['--gateway-port', '0']), /--gateway-port 0/)
  assert.throws(() => parseOptions(['--etcd-ports', '1,2']), /--etcd-ports 1,2: give three ports/)
  assert.throws(() => parseOptions(['--nats-port', '7400']), /port 7400 is given to two parts/)
  assert.throws(() => parseOptions(['--frehs']), /--frehs/)
})

test('a busy port is named with its part and the option that moves it', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  const wanted = [{ port: address.port, part: 'gateway', option: '--gateway-port N' }]
  await assert.rejects(requireFreePorts(wanted), (error: unknown) => {
    assert.ok(error instanceof PortBusyError)
    assert.match(error.message, new RegExp(`port ${address.port} \\(gateway\\) is in use.*--gateway-port N`))
    return true
  })
  server.close()
  await once(server, 'close')
  await requireFreePorts(wanted)
})

function collect(isTTY: boolean): { sink: { isTTY: boolean; write(text: string): void }; text: () => string } {
  let text = ''
  return { sink: { isTTY, write: (chunk) => void (text += chunk) }, text: () => text }
}

test('a pipe gets one JSON object per line', () => {
  const { sink, text } = collect(false)
  const display = createDisplay(sink, ['gateway'], () => new Date(0))
  display.part('gateway', { kind: 'restarting', why: 'was ended by SIGKILL', inMs: 250 })
  display.cluster('sz-edge-1', 'live')
  display.ready(1_200, [{ label: 'console', command: 'http://x' }])
  const lines = text()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
  assert.deepEqual(lines[0], {
    at: '1970-01-01T00:00:00.000Z',
    part: 'gateway',
    state: 'restarting',
    why: 'was ended by SIGKILL',
    inMs: 250,
  })
  assert.equal(lines.length, 3)
})

test('a terminal gets a table, and after it is ready one line per event that names the part', () => {
  const { sink, text } = collect(true)
  const display = createDisplay(sink, ['etcd sz-edge-1', 'gateway'])
  display.part('gateway', { kind: 'starting' })
  display.ready(1_000, [])
  const before = text().length
  display.part('gateway', { kind: 'restarting', why: 'was ended by SIGKILL', inMs: 250 })
  const line = text().slice(before)
  assert.match(line, /gateway .*restarting.*it was ended by SIGKILL; next try in 0\.25 s\n$/)
  assert.equal(line.split('\n').length, 2)
})

test('a row of the table never wraps', () => {
  const { sink, text } = collect(true)
  const display = createDisplay({ ...sink, columns: 40 }, ['gateway'])
  display.part('gateway', { kind: 'failed', why: `ended with ${'x'.repeat(100)}`, tail: [] })
  const row = stripVTControlCharacters(text()).split('\n')[0] ?? ''
  assert.equal(row.length, 39)
})

test('progress is one live line on a terminal and a line per step elsewhere', () => {
  const terminal = collect(true)
  const live = createProgress(terminal.sink)
  live.step('building')
  live.update('3 packages')
  live.end()
  assert.equal(terminal.text().split('\n').length, 2)
  const pipe = collect(false)
  let now = 0
  const plain = createProgress(pipe.sink, () => now)
  plain.step('building')
  plain.update('too soon')
  now = 6_000
  plain.update('3 packages')
  plain.warn('old')
  assert.equal(pipe.text(), 'building\nbuilding  3 packages\nwarning: old\n')
})
