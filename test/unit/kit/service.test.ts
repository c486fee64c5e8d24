// Every way a service process can end, each with a real process: signals, errors nobody caught, the parent's death.

import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { type RunningProcess, startProcess } from '#test/support/process.ts'

const FIXTURE = fileURLToPath(new URL('fixtures/service.ts', import.meta.url))

async function start(mode: string, stdin: 'ignore' | 'pipe' = 'ignore'): Promise<RunningProcess> {
  return await startProcess({ name: `fixture ${mode}`, command: process.execPath, args: [FIXTURE, mode], stdin })
}

/** The `event` of every line, in order. */
function events(service: RunningProcess): string[] {
  return service
    .lines()
    .flatMap((line) => (line.startsWith('{') ? [String((JSON.parse(line) as { event: unknown }).event)] : []))
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`${signal} drains and exits 0`, async () => {
    await using service = await start('plain')
    await service.waitForLine(/"running"/)
    service.kill(signal)
    assert.deepEqual(await service.exited, { code: 0, signal: null })
    assert.deepEqual(events(service).slice(-3), ['stopping', 'closed first', 'stopped'])
  })
}

test('a second signal exits 1 at once', async () => {
  await using service = await start('slow')
  await service.waitForLine(/"running"/)
  service.kill('SIGINT')
  await service.waitForLine(/"stopping"/)
  service.kill('SIGTERM')
  assert.deepEqual(await service.exited, { code: 1, signal: null })
  assert.equal(events(service).at(-1), 'second signal, exiting at once')
})

test('a stop that hangs ends at the deadline with 1 and says who hung', async () => {
  await using service = await start('hang')
  await service.waitForLine(/"running"/)
  service.kill('SIGTERM')
  assert.deepEqual(await service.exited, { code: 1, signal: null })
  assert.match(service.log(), /"resource":"second".*"event":"resource did not stop in time"/)
})

test('a failed start closes what was open, says why, and exits 1', async () => {
  await using service = await start('start-fails')
  assert.deepEqual(await service.exited, { code: 1, signal: null })
  assert.match(service.log(), /"code":"EADDRINUSE","message":"port 1 is taken".*"event":"start failed"/)
  assert.ok(events(service).includes('closed first'))
})

for (const [mode, code] of [
  ['rejection', 'DW_STRAY'],
  ['rejects-nothing', 'UNKNOWN'],
  ['socket-error', 'ECONNRESET'],
] as const) {
  test(`I10: survived and counted: ${mode}`, async () => {
    await using service = await start(mode)
    await service.waitForLine(new RegExp(`"code":"${code}".*"event":"stray"`))
    await service.waitForLine(/"running"/)
    service.kill('SIGTERM')
    assert.deepEqual(await service.exited, { code: 0, signal: null })
  })
}

test('any other uncaught exception drains and exits 1, without a secret in the log', async () => {
  await using service = await start('exception')
  assert.deepEqual(await service.exited, { code: 1, signal: null })
  assert.ok(events(service).includes('closed first'))
  assert.match(service.log(), /"code":"TypeError".*"stack":\[".*"event":"uncaught exception, stopping"/)
  assert.ok(!service.log().includes('hunter2'))
})

test('SIGHUP reloads; several at once never overlap and the last one is not lost', async () => {
  await using service = await start('plain')
  await service.waitForLine(/"running"/)
  service.kill('SIGHUP')
  await service.waitForLine(/"reloads":1/)
  service.kill('SIGHUP')
  await service.waitForLine(/"reloads":2/)
  const between = events(service)
  assert.ok(between.indexOf('reloaded') < between.lastIndexOf('reloading'), 'the second began after the first ended')
  await service.waitForLine(/"event":"reloaded"/, { since: service.lineCount() })
  service.kill('SIGTERM')
  assert.equal((await service.exited).code, 0)
})

test('a refused reload leaves the service running, and without a reload SIGHUP is harmless', async () => {
  for (const [mode, line] of [
    ['reload-fails', /is not an address.*"event":"reload refused/],
    ['no-reload', /"event":"reload ignored"/],
  ] as const) {
    await using service = await start(mode)
    await service.waitForLine(/"running"/)
    service.kill('SIGHUP')
    await service.waitForLine(line)
    service.kill('SIGTERM')
    assert.equal((await service.exited).code, 0)
  }
})

test('with parentDeath the end of stdin drains', async () => {
  await using service = await start('parent', 'pipe')
  await service.waitForLine(/"running"/)
  service.stdin?.end()
  assert.deepEqual(await service.exited, { code: 0, signal: null })
  assert.match(service.log(), /"reason":"parent went away"/)
})

test('with parentDeath the end of the IPC channel drains', async () => {
  const child = fork(FIXTURE, ['parent'], { stdio: ['ignore', 'pipe', 'inherit', 'ipc'], execArgv: [] })
  let log = ''
  for await (const chunk of child.stdout ?? []) {
    log += String(chunk)
    if (log.includes('"running"') && child.connected) child.disconnect()
  }
  if (child.exitCode === null) await once(child, 'exit')
  assert.equal(child.exitCode, 0)
  assert.match(log, /"reason":"parent went away"/)
})

test('without parentDeath the end of stdin means nothing', async () => {
  await using service = await start('plain', 'pipe')
  await service.waitForLine(/"running"/)
  service.stdin?.end()
  service.kill('SIGHUP')
  await service.waitForLine(/"event":"reloaded"/)
  service.kill('SIGTERM')
  assert.equal((await service.exited).code, 0)
  assert.match(service.log(), /"reason":"SIGTERM"/)
})
