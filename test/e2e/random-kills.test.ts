// Kills at random moments, of anything, under policy that hides keys by place, by value and by who asks. Every transcript
// is judged against etcd's history and against a reading of that policy written here, apart from the engine.

import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import type { Held } from '../judge/truth.ts'
import type { View } from '../judge/view.ts'
import { seeded } from '../judge/writer.ts'
import { scratchDir } from '../support/process.ts'
import type { Server } from '../support/server.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'
import { acquitted, JudgedCluster } from './judged.ts'
import { Recorder } from './recorder.ts'
import { Stack } from './stack.ts'

const SEED = Number(process.env['DELTAWATCH_SEED'] ?? 7)
const KILLS = 14

const DOCUMENT = `
apiVersion: watch-policy/v1
kind: RegionPolicy
metadata: { name: kills-sz, owner: tests }
spec:
  source: { region: sz, regime: PIPL }
  mode: enforce
  rules:
    - id: most
      effect: allow
      match: { keys: ["/w/**"], except: ["/w/2/**", "/w/3/**", "/w/4/**"], to: { regions: [sz, mo] } }
      basis: { kind: no-personal-data, ref: TEST-1 }
    - id: large-numbers
      effect: allow
      match: { keys: ["/w/2/**"], to: { regions: [sz, mo] } }
      when: 'value.n >= 100000000'
      basis: { kind: no-personal-data, ref: TEST-1 }
    - id: at-home
      effect: allow
      match: { keys: ["/w/4/**"], to: { regions: [sz] } }
      basis: { kind: no-personal-data, ref: TEST-1 }
`

/** The document above, read again. */
function view(region: string): View {
  return {
    selects: () => true,
    shows: (key, held) => {
      if (key.startsWith('/w/3/')) return 'hidden'
      if (key.startsWith('/w/4/')) return region === 'sz' ? 'exact' : 'hidden'
      if (key.startsWith('/w/2/')) return isLargeNumber(held) ? 'exact' : 'hidden'
      return key.startsWith('/w/') ? 'exact' : 'hidden'
    },
  }
}

/**
 * The judge keeps long values by size and hash. With nothing to fill them up the writer's values are empty, bytes, digits,
 * or JSON of one number, of which those with nine digits are the only ones of 49 bytes.
 */
function isLargeNumber({ value }: Held): boolean {
  return value.startsWith('h:49:')
}

describe(`random kills under policy (seed ${SEED})`, { timeout: 240_000 }, () => {
  const owned = new AsyncDisposableStack()
  const random = seeded(SEED)
  let stack: Stack
  let judge: JudgedCluster
  let line: TcpProxy
  const recorders = new Map<string, Recorder>()

  before(async () => {
    const { path } = owned.use(await scratchDir('policies'))
    await writeFile(join(path, 'sz.yaml'), DOCUMENT.trimStart())
    stack = owned.use(await Stack.start({ policies: path }))
    line = owned.use(await startTcpProxy({ port: Number(new URL(stack.url).port) }))
    judge = owned.use(await JudgedCluster.begin(stack, stack.first, { seed: SEED, perSecond: 200, valueBytes: 0 }))
    for (const region of ['sz', 'mo']) {
      const url = `ws://127.0.0.1:${line.port}/v1/watch`
      const token = `dev:${region}-reader:${region}`
      recorders.set(region, owned.use(new Recorder(url, { prefix: '/', start: 'snapshot' }, { token, keep: 100 })))
    }
    for (const recorder of recorders.values()) await recorder.change((change) => change.kind === 'snapshot')
  })
  after(() => owned.disposeAsync())

  it('I1 I2 I4 I6: no kill loses, repeats, splits or shows anything', async () => {
    const victims: Readonly<Record<string, () => Promise<void>>> = {
      clients: async () => void line.cut('reset'),
      agent: () => bounce(stack.first.agent as Server),
      gateway: () => bounce(stack.gateway as Server),
      nats: () => bounce(stack.nats),
      etcd: () => bounce(stack.first.etcd),
    }
    const names = Object.keys(victims)
    // Everyone once, in an order of the seed's, then whoever comes.
    const order = names.toSorted(() => random() - 0.5)
    while (order.length < KILLS) order.push(names[Math.floor(random() * names.length)] ?? 'agent')
    judge.writer.start()
    for (const name of order) {
      await judge.writer.reached(judge.writer.acknowledged + 1 + Math.floor(random() * 80), 30_000)
      await victims[name]?.()
      // Sometimes the next kill meets those that still recover.
      if (random() < 0.3) await victims[names[Math.floor(random() * names.length)] ?? 'agent']?.()
    }
    await judge.writer.reached(judge.writer.acknowledged + 100, 30_000)
    for (const [region, recorder] of recorders) {
      // Deletes of keys shown by their value cannot be decided from a log read without their past: that is told.
      const verdict = await judge.judge(recorder, { view: view(region), resyncs: ['policy'] }, 60_000)
      acquitted(verdict, { frames: 300, connections: 4 }, () => `killed: ${order.join(' ')}\n${stack.tail()}`)
      assert.ok(!recorder.transcript.texts.some((text) => text.includes('"/w/3/')), 'a hidden key arrived')
    }
    const mo = recorders.get('mo') as Recorder
    assert.ok(!mo.transcript.texts.some((text) => text.includes('"/w/4/')), 'a key of another region arrived')
  })

  async function bounce(server: { kill(): Promise<unknown>; restart(): Promise<void> }): Promise<void> {
    await server.kill()
    await wait(Math.floor(random() * 400))
    await server.restart()
  }
})
