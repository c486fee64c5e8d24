// The example configuration of the systemd unit is one the agent takes, and the unit checks it before it starts.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { parse } from 'yaml'
import { agentConfig } from '#agent/config.ts'
import { scratchDir } from '../support/process.ts'

const read = (name: string) => readFile(new URL(`../../deploy/systemd/${name}`, import.meta.url), 'utf8')

test('the example configuration is valid once its files exist', async () => {
  const example = parse(await read('agent.yaml')) as { etcd: Record<string, unknown> }
  delete example.etcd['passwordFile']
  const outcome = agentConfig.schema.safeParse(example)
  assert.equal(outcome.success, true, JSON.stringify(outcome.error?.issues))
})

test('the unit checks the configuration first, restarts for ever, and may write nothing', async () => {
  const unit = await read('deltawatch-agent.service')
  const lines = unit.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  const has = (line: string): void => assert.ok(lines.includes(line), line)
  assert.match(unit, /^ExecStartPre=\S+\/deltawatch config check (\S+) --service agent/m)
  const checked = /config check (\S+)/.exec(unit)?.[1]
  assert.equal(checked, /^ExecStart=.* --config (\S+)/m.exec(unit)?.[1], 'what is checked is what is started')
  for (const line of [
    'Restart=always',
    'StartLimitIntervalSec=0',
    'ProtectSystem=strict',
    'NoNewPrivileges=yes',
    'CapabilityBoundingSet=',
    'User=deltawatch',
    'ExecReload=/bin/kill -HUP $MAINPID',
  ])
    has(line)
  assert.doesNotMatch(unit, /^(ReadWritePaths|StateDirectory|MemoryDenyWriteExecute)=/m)
})

test('systemd itself understands every line of the unit, and finds little left to shut off', async (t) => {
  const run = promisify(execFile)
  const here = await run('systemd-analyze', ['--version']).then(
    () => true,
    () => false,
  )
  if (!here) return t.skip('no systemd-analyze here; any Linux with systemd 252 or later shows it')
  await using dir = await scratchDir('unit')
  const copy = join(dir.path, 'deltawatch-agent.service')
  // Nothing is installed where it would be on the edge machine.
  const unit = (await read('deltawatch-agent.service')).replace(/\/usr\/local\/bin\/\S+/g, '/bin/true')
  await writeFile(copy, unit)
  const said = await run('systemd-analyze', ['verify', copy])
  assert.equal(said.stdout + said.stderr, '', 'a line it does not understand is a line it leaves out')
  const { stdout } = await run('systemd-analyze', ['security', '--offline=true', copy])
  const exposure = Number(/exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1])
  assert.ok(exposure <= 2, stdout.slice(-200))
})
