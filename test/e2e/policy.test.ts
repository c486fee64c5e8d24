// The product's own region documents, end to end: what crosses a border arrives masked, what may not leave never does.
// Expectations are written out here, apart from the policy engine.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { readLog } from '../judge/log-reader.ts'
import { Recorder } from './recorder.ts'
import { JudgedCluster } from './judged.ts'
import { Stack, THREE } from './stack.ts'

const policies = fileURLToPath(new URL('../../policies/regions', import.meta.url))
const ID = '440305199001011234'
const PHONE = '13800138000'
const order = {
  state: 'paid',
  class: 'personal',
  idNumber: ID,
  phone: PHONE,
  address: 'Nanshan 1',
  name: 'Chan Tai Man',
}
const secrets = [ID, PHONE, 'Nanshan', 'Chan Tai Man']
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

describe('region policy', () => {
  let stack: Stack
  let judge: JudgedCluster
  const recorders = new Map<string, Recorder>()
  const of = (region: string): Recorder => recorders.get(region) as Recorder
  const cluster = 'sz-edge-1'

  before(async () => {
    stack = await Stack.start({ clusters: THREE, policies })
    judge = await JudgedCluster.begin(stack, stack.first)
    for (const region of ['sz', 'mo', 'hk']) {
      const token = `dev:${region}-reader:${region}`
      recorders.set(region, new Recorder(stack.url, { prefix: '/', start: 'snapshot', clusters: [cluster] }, { token }))
    }
    for (const recorder of recorders.values()) await recorder.change((c) => c.kind === 'snapshot')
    const revision = await judge.writer.put([
      { op: 'put', key: '/orders/17/status', value: json(order) },
      { op: 'put', key: '/orders/17/detail', value: json({ ...order, items: 3 }) },
      { op: 'put', key: '/orders/18/status', value: json({ ...order, class: 'sensitive' }) },
      { op: 'put', key: '/health/41/record', value: json({ diagnosis: 'none-of-your-business' }) },
      { op: 'put', key: '/config/app/flags', value: json({ on: true, n: 1 }) },
      { op: 'put', key: '/config/app/secrets/db', value: Buffer.from('hunter2hunter2') },
      { op: 'put', key: '/microservices/pay/1', value: json({ addr: '10.0.0.1:80' }) },
    ])
    for (const recorder of recorders.values()) await recorder.reached(cluster, revision)
  })
  after(async () => {
    for (const recorder of recorders.values()) await recorder[Symbol.asyncDispose]()
    await judge?.[Symbol.asyncDispose]()
    await stack?.[Symbol.asyncDispose]()
  })

  const seen = (region: string): Map<string, unknown> => {
    const found = new Map<string, unknown>()
    for (const change of of(region).changes) {
      if (change.kind === 'events')
        for (const e of change.events) if (e.op === 'put') found.set(e.key, e.json ?? e.text)
    }
    return found
  }
  const raw = (region: string): string => of(region).transcript.texts.join('\n')

  it('I6: an order reaches its own region cut down, and another region with everything personal masked', () => {
    const home = seen('sz').get('/orders/17/status') as typeof order
    assert.equal(home.state, 'paid')
    assert.match(home.idNumber, /1234$/)
    assert.notEqual(home.idNumber, ID)
    for (const region of ['mo', 'hk']) {
      const away = seen(region).get('/orders/17/status') as Partial<typeof order>
      assert.equal(away.state, 'paid')
      assert.equal(away.address, undefined)
      for (const secret of secrets) assert.ok(!raw(region).includes(secret), `${secret} reached ${region}`)
    }
  })

  it('I6: details and sensitive orders do not cross the border at all', () => {
    assert.ok(seen('sz').has('/orders/17/detail'))
    for (const region of ['mo', 'hk']) {
      assert.ok(!seen(region).has('/orders/17/detail'))
      assert.ok(!seen(region).has('/orders/18/status'))
      assert.ok(!raw(region).includes('/orders/18'))
    }
  })

  it('I6: health and secrets reach nobody, not even the hub’s log', async () => {
    const log = await readLog(stack.nats.directUrl, cluster)
    const bytes = Buffer.concat(log.map((message) => message.data)).toString('latin1')
    for (const hidden of ['/health/41', 'none-of-your-business', '/secrets/db', 'hunter2hunter2', ID]) {
      assert.ok(!bytes.includes(hidden), `${hidden} is in the log`)
      for (const region of recorders.keys()) assert.ok(!raw(region).includes(hidden), `${hidden} reached ${region}`)
    }
    assert.ok(bytes.includes('/microservices/pay/1'))
  })

  it('I6: what names no person is everywhere, and the visible part of a transaction is one frame', () => {
    for (const region of recorders.keys()) {
      assert.deepEqual(seen(region).get('/config/app/flags'), { on: true, n: 1 })
      assert.ok(seen(region).has('/microservices/pay/1'))
      assert.equal(of(region).changes.filter((c) => c.kind === 'events').length, 1)
    }
  })

  it('I1: a revision that shows nothing is proved by a bookmark, without a frame', async () => {
    const frames = of('hk').changes.filter((c) => c.kind === 'events').length
    const revision = await judge.writer.put([{ op: 'put', key: '/health/42/record', value: json({ secret: 1 }) }])
    await of('hk').reached(cluster, revision)
    assert.equal(of('hk').changes.filter((c) => c.kind === 'events').length, frames)
  })

  it('I6: a delete of an order reaches who could see it, and of a health record nobody', async () => {
    const revision = await judge.writer.put([
      { op: 'delete', key: '/orders/17/status' },
      { op: 'delete', key: '/health/41/record' },
    ])
    for (const recorder of recorders.values()) {
      await recorder.reached(cluster, revision)
      const gone = recorder.changes.flatMap((c) => (c.kind === 'events' ? c.events.filter((e) => e.op !== 'put') : []))
      assert.deepEqual(
        gone.map((e) => `${e.op} ${e.key}`),
        ['delete /orders/17/status'],
      )
    }
  })

  it('the documents under test are the ones of the product', () => {
    assert.match(readFileSync(`${policies}/sz.yaml`, 'utf8'), /never-health/)
  })
})
