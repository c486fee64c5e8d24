// Silence is not trouble: an etcd that nobody writes to stays proved, by progress alone, without a single reconnect.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { EtcdHttp } from '../judge/etcd-http.ts'
import { Recorder } from './recorder.ts'
import { Stack } from './stack.ts'

it('I9: a cluster nobody writes to stays idle-proved, and its watch is never taken for deaf', async () => {
  await using stack = await Stack.start()
  const { cluster, etcd, agent } = stack.first
  const states: string[] = []
  await using recorder = new Recorder(stack.url, { prefix: '/', start: 'snapshot' })
  recorder.client.on('cluster', (info) => states.push(info.state))
  await recorder.change((c) => c.kind === 'snapshot')
  /** Idle bookmarks come every five seconds: longer than an agent waits for an answer before it calls a watch deaf. */
  const quiet = async (bookmarks: number): Promise<void> => {
    const from = recorder.changes.length
    await recorder.until(
      () => recorder.changes.slice(from).filter((c) => c.kind === 'bookmark').length >= bookmarks,
      () => `${recorder.changes.length - from} changes`,
      30_000,
    )
    const marks = recorder.changes.slice(from).filter((c) => c.kind === 'bookmark')
    for (const mark of marks) assert.ok((mark.clusters[cluster]?.ageMs ?? Infinity) < 5_000, JSON.stringify(mark))
  }
  await quiet(2)
  using http = new EtcdHttp(etcd.directUrl)
  await http.write([{ op: 'put', key: '/k', value: Buffer.from('1') }])
  await quiet(1)
  assert.ok(!states.includes('unreachable'), states.join(' '))
  assert.doesNotMatch(agent?.log() ?? '', /"event":"etcd detached"/)
})
