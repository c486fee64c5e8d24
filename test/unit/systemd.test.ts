// The example configuration of the systemd unit is one the agent takes, and the unit checks it before it starts.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { parse } from 'yaml'
import { agentConfig } from '#agent/config.ts'

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
