// The lock file is complete for every platform; otherwise `npm ci`, the first thing a fresh clone does, refuses it.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { completeLock, isLock, type Lock, platformOf } from '#deploy/tasks/lockfile.ts'

test('package-lock.json holds everything it asks for, on every platform', async () => {
  const lock: unknown = JSON.parse(await readFile(new URL('../../package-lock.json', import.meta.url), 'utf8'))
  assert.ok(isLock(lock))
  const { added, missing } = completeLock(lock)
  assert.deepEqual(
    { added, missing },
    { added: [], missing: [] },
    'run: node deploy/bootstrap/run.cjs deploy/tasks/lock.ts',
  )
})

test('package-lock.json names no registry', async () => {
  const text = await readFile(new URL('../../package-lock.json', import.meta.url), 'utf8')
  assert.doesNotMatch(text, /"resolved"/)
})

test('optional packages of other platforms are added, anything else that is missing is reported', () => {
  const lock: Lock = {
    packages: {
      '': { dependencies: { tool: '^1.0.0', gone: '^2.0.0' } },
      'node_modules/tool': {
        version: '1.0.0',
        dev: true,
        dependencies: { inner: '^1.0.0' },
        optionalDependencies: { '@t/tool-linux-x64-musl': '1.0.0', '@t/tool-loose-darwin-x64': '^1.0.0' },
      },
      'node_modules/tool/node_modules/inner': { version: '1.0.0' },
    },
  }
  const { added, missing } = completeLock(lock)
  assert.deepEqual(added, ['@t/tool-linux-x64-musl'])
  assert.deepEqual(missing, [
    'gone@^2.0.0 (for the project)',
    '@t/tool-loose-darwin-x64@^1.0.0 (for node_modules/tool)',
  ])
  assert.deepEqual(lock.packages['node_modules/@t/tool-linux-x64-musl'], {
    version: '1.0.0',
    os: ['linux'],
    cpu: ['x64'],
    libc: ['musl'],
    dev: true,
    optional: true,
  })
})

test('platforms are read from names', () => {
  assert.deepEqual(platformOf('@oxlint/binding-linux-arm-gnueabihf'), { os: ['linux'], cpu: ['arm'], libc: ['glibc'] })
  assert.deepEqual(platformOf('@biomejs/cli-win32-arm64'), { os: ['win32'], cpu: ['arm64'] })
  assert.equal(platformOf('left-pad'), undefined)
})
