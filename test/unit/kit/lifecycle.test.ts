// Starting in order, stopping in reverse, one deadline. Signals and exit codes are in service.test.ts.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLifecycle } from '#kit/lifecycle.ts'
import { createLogger } from '#kit/logger.ts'
import { ManualClock } from '#test/support/manual-clock.ts'

function setup(deadlineMs?: number) {
  const clock = new ManualClock()
  const log: Record<string, unknown>[] = []
  const logger = createLogger({
    service: 'test',
    format: 'json',
    destination: (line) => log.push(JSON.parse(line) as Record<string, unknown>),
  })
  const events: string[] = []
  const lifecycle = createLifecycle({ logger, clock, ...(deadlineMs === undefined ? {} : { deadlineMs }) })
  const resource = (name: string): AsyncDisposable => {
    events.push(`+${name}`)
    return {
      [Symbol.asyncDispose]: async () => {
        events.push(`-${name}`)
      },
    }
  }
  return { clock, log, events, lifecycle, resource }
}

test('resources stop in the reverse order of their start, each before the next', async () => {
  const { lifecycle, events, resource } = setup()
  await lifecycle.start('a', () => resource('a'))
  await lifecycle.start('b', async () => resource('b'))
  await lifecycle.start(
    'c',
    () => 'plain',
    (it) => async () => {
      await new Promise((resolve) => setImmediate(resolve))
      events.push(`-${it}`)
    },
  )
  const sync: Disposable = { [Symbol.dispose]: () => events.push('-d') }
  await lifecycle.start('d', () => sync)
  assert.equal(lifecycle.stopping.aborted, false)
  assert.equal(await lifecycle.stop('test'), 0)
  assert.deepEqual(events, ['+a', '+b', '-d', '-plain', '-b', '-a'])
  assert.equal(await lifecycle.stopped, 0)
})

test('everyone is told before anything closes; asking twice stops once', async () => {
  const { lifecycle, events, resource } = setup()
  await lifecycle.start('a', () => resource('a'))
  lifecycle.stopping.addEventListener('abort', () => events.push('told'))
  const [first, second] = [lifecycle.stop('one', 3), lifecycle.stop('two', 4)]
  assert.deepEqual(await Promise.all([first, second]), [3, 3])
  assert.deepEqual(events, ['+a', 'told', '-a'])
})

test('a failed start leaves the earlier resources to the stop', async () => {
  const { lifecycle, events, resource } = setup()
  await lifecycle.start('a', () => resource('a'))
  await assert.rejects(
    lifecycle.start('b', () => Promise.reject(new Error('port taken'))),
    /port taken/,
  )
  await lifecycle.stop('start failed', 1)
  assert.deepEqual(events, ['+a', '-a'])
})

test('a stop during a start waits for it, closes it, and its caller learns why', async () => {
  const { lifecycle, events, resource } = setup()
  const gate = Promise.withResolvers<void>()
  let told = false
  const starting = lifecycle.start('slow', async (signal) => {
    signal.addEventListener('abort', () => (told = true))
    await gate.promise
    return resource('slow')
  })
  const stopping = lifecycle.stop('test')
  gate.resolve()
  await assert.rejects(starting, { code: 'DW_STOPPING' })
  assert.equal(await stopping, 0)
  assert.deepEqual(events, ['+slow', '-slow'])
  assert.equal(told, true)
  await assert.rejects(
    lifecycle.start('late', () => resource('late')),
    { code: 'DW_STOPPING' },
  )
})

test('a resource that hangs meets the deadline: it and the rest are abandoned by name, and the code is 1', async () => {
  const { lifecycle, clock, log, events, resource } = setup(5_000)
  let told = false
  await lifecycle.start('first', () => resource('first'))
  await lifecycle.start(
    'hanging',
    () => 0,
    () => (signal) => {
      signal.addEventListener('abort', () => (told = true))
      return new Promise(() => undefined)
    },
  )
  const stopping = lifecycle.stop('test')
  await clock.advance(4_999)
  assert.equal(told, false)
  await clock.advance(1)
  assert.equal(await stopping, 1)
  assert.equal(told, true)
  assert.deepEqual(events, ['+first'])
  const errors = log
    .filter((line) => line['level'] === 'error')
    .map((line) => `${String(line['event'])}: ${String(line['resource'])}`)
  assert.deepEqual(errors, ['resource did not stop in time: hanging', 'resource abandoned: first'])
})

test('a start that hangs does not hold the stop beyond the deadline', async () => {
  const { lifecycle, clock } = setup(5_000)
  void lifecycle.start('hanging', () => new Promise<Disposable>(() => undefined)).catch(() => undefined)
  const stopping = lifecycle.stop('test')
  await clock.advance(5_000)
  assert.equal(await stopping, 0)
})

test('a resource that fails to stop is named, the others still stop, and the code is 1', async () => {
  const { lifecycle, log, events, resource } = setup()
  await lifecycle.start('a', () => resource('a'))
  await lifecycle.start(
    'bad',
    () => 0,
    () => () => Promise.reject(new Error('refuses')),
  )
  await lifecycle.start(
    'worse',
    () => 0,
    () => () => {
      throw new Error('throws')
    },
  )
  assert.equal(await lifecycle.stop('test'), 1)
  assert.deepEqual(events, ['+a', '-a'])
  assert.deepEqual(
    log.filter((l) => l['event'] === 'resource failed to stop').map((l) => l['resource']),
    ['worse', 'bad'],
  )
})

test('no timer survives a stop', async () => {
  const { lifecycle, clock, resource } = setup()
  await lifecycle.start('a', () => resource('a'))
  await lifecycle.stop('test')
  assert.equal(clock.pending, 0)
})
