// kill -9 of each process under write load: a reconnecting client ends with exactly etcd's history, judged apart.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { acquitted, JudgedCluster } from './judged.ts'
import { Recorder } from './recorder.ts'
import { Stack } from './stack.ts'
import type { Server } from '../support/server.ts'

type Victim = {
  readonly name: string
  readonly of: (stack: Stack) => { kill(): Promise<unknown>; restart(): Promise<void> }
}
const victims: readonly Victim[] = [
  { name: 'the agent', of: (stack) => stack.first.agent as Server },
  { name: 'the gateway', of: (stack) => stack.gateway as Server },
  { name: 'nats-server', of: (stack) => stack.nats },
  { name: 'etcd', of: (stack) => stack.first.etcd },
]

describe('killed under write load', () => {
  let stack: Stack
  let judge: JudgedCluster
  let recorder: Recorder

  before(async () => {
    stack = await Stack.start()
    judge = await JudgedCluster.begin(stack, stack.first, { seed: 5, perSecond: 300 })
    recorder = new Recorder(stack.url, { prefix: '/', start: 'snapshot' })
    await recorder.change((c) => c.kind === 'snapshot')
  })
  after(async () => {
    await recorder?.[Symbol.asyncDispose]()
    await judge?.[Symbol.asyncDispose]()
    await stack?.[Symbol.asyncDispose]()
  })

  /** Waits until `count` more writes were acknowledged, as far as the writer can write at all. */
  const written = async (count: number): Promise<void> => {
    const goal = judge.writer.acknowledged + count
    await judge.writer.reached(goal, 20_000)
  }

  for (const victim of victims) {
    it(`I4 L8: kill -9 of ${victim.name} loses, repeats and reorders nothing`, async () => {
      const frames = recorder.transcript.texts.length
      judge.writer.start()
      await written(100)
      const process = victim.of(stack)
      await process.kill()
      if (victim.name !== 'etcd') await written(150)
      await process.restart()
      await written(100)
      const verdict = await judge.judge(recorder)
      acquitted(verdict, { frames: 100 }, () => stack.tail())
      assert.ok(recorder.transcript.texts.length > frames + 100)
      acquitted(await judge.judgeLog(), { revisions: 100, checkpoints: 1 }, () => stack.tail())
    })
  }

  it('I2: one subscription lived through all of it: no resync, no second snapshot', async () => {
    const verdict = await judge.judge(recorder)
    acquitted(verdict, { frames: 1000, connections: 2 })
    assert.equal(verdict.total('snapshots'), 1)
    assert.equal(verdict.total('resyncs'), 0)
  })
})
