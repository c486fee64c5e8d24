// What a cluster's state is called: every fact that decides, one by one.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ClusterState } from '#protocol/frames.ts'
import { clusterState, DEFAULT_STATUS_LIMITS, type StatusFacts } from '#gateway/view/status.ts'

const NOW = 100_000
const proven: StatusFacts = {
  removed: false,
  log: 'open',
  resyncing: false,
  behind: false,
  provenAt: NOW,
  heardAt: NOW,
  eventAt: NOW,
  agent: 'live',
}

const table: readonly (readonly [string, Partial<StatusFacts>, ClusterState])[] = [
  ['events and proof', {}, 'live'],
  ['proof, no event for long', { eventAt: NOW - 15_001 }, 'idle-proved'],
  ['proof, never an event', { eventAt: undefined }, 'idle-proved'],
  ['no proof for 5 s', { provenAt: NOW - 5_001, heardAt: NOW - 5_001, agent: undefined }, 'lagging'],
  ['no proof for 15 s', { provenAt: NOW - 15_001, agent: undefined }, 'unreachable'],
  ['nothing heard for 15 s', { heardAt: NOW - 15_001 }, 'unreachable'],
  ['never any proof', { provenAt: undefined }, 'unreachable'],
  ['a backlog in the log', { behind: true }, 'lagging'],
  ['the agent lags', { agent: 'lagging' }, 'lagging'],
  ['the agent says that it holds, for long', { agent: 'lagging', provenAt: NOW - 900_000 }, 'lagging'],
  ['the agent lags and was never proven', { agent: 'lagging', provenAt: undefined }, 'unreachable'],
  ['the hub is too small for its checkpoint', { agent: 'hub-too-small' }, 'lagging'],
  ['the agent has lost etcd', { agent: 'unreachable' }, 'unreachable'],
  ['the agent was refused by etcd', { agent: 'refused' }, 'unreachable'],
  ['the agent writes a checkpoint', { agent: 'resyncing' }, 'resyncing'],
  ['a checkpoint is being read', { resyncing: true, provenAt: undefined }, 'resyncing'],
  ['a checkpoint is awaited, nobody speaks', { resyncing: true, heardAt: NOW - 15_001 }, 'unreachable'],
  ['NATS is down', { log: 'down', resyncing: true }, 'unreachable'],
  ['the log says something unknown', { log: 'blocked' }, 'unreachable'],
  ['removed, whatever else', { removed: true, log: 'down', resyncing: true }, 'removed'],
]

test('I9: silence is never called live or idle', () => {
  for (const [what, facts, state] of table) {
    assert.equal(clusterState({ ...proven, ...facts }, DEFAULT_STATUS_LIMITS, NOW), state, what)
  }
})
