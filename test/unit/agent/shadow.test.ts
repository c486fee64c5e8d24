// The shadow bundle of an agent: one that comes after the start is asked, and one that never comes holds up nothing.

import assert from 'node:assert/strict'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type BundleHolder, openPolicies } from '#agent/egress/bundle.ts'
import { Destination } from '#agent/egress/destination.ts'
import { systemClock } from '#kit/clock.ts'
import { silentLogger } from '#kit/logger.ts'
import { createMetrics, type Metrics } from '#kit/metrics.ts'
import type { NatsLink } from '#kit/nats.ts'
import { seededRandom } from '#kit/random.ts'
import type { ClusterId } from '#protocol/subjects.ts'
import { scratchDir } from '../../support/process.ts'
import { key } from './fixtures.ts'

const document = (effect: string): string =>
  `apiVersion: watch-policy/v1\nkind: RegionPolicy\nmetadata: { name: n, owner: o }\nspec:\n  source: { region: sz, regime: PIPL }\n  mode: enforce\n  rules:\n    - { id: one, effect: ${effect}, match: { keys: ["/a/**"], to: { regions: [sz] } } }\n`

async function put(at: string, effect: string): Promise<string> {
  await mkdir(`${at}.new`)
  await writeFile(join(`${at}.new`, 'sz.yaml'), document(effect))
  await rename(`${at}.new`, at)
  return at
}

const NO_HUB = { state: () => ({ kind: 'connecting', sinceMs: 0, attempt: 0 }) } as unknown as NatsLink

const open = (place: string, shadow: string, metrics: Metrics): Promise<BundleHolder> =>
  openPolicies(
    {
      place,
      shadow,
      pollMs: 50,
      decisions: { stage: 'egress', nats: false, file: undefined, share: 0, perSecond: 1, keyFile: undefined },
    },
    { link: NO_HUB, logger: silentLogger(), clock: systemClock(), random: seededRandom(1), metrics },
  )

/** Whether a decision of the live bundle is held against the shadow. */
async function compared(policies: BundleHolder, metrics: Metrics): Promise<boolean> {
  const { decider, observe } = policies.sourceFor('sz-edge-1' as ClusterId, 'sz', new Destination('sz')).current()
  const event = { op: 'put', key: key('/a/1'), value: new Uint8Array(), revision: '1' } as never
  observe?.(event, decider.decide(event, 0), 0)
  return /shadow_differences_total\{/.test(await metrics.expose())
}

describe('a shadow bundle', () => {
  it('missing at the start is looked for until it is there, and then asked', async () => {
    await using dir = await scratchDir('shadow')
    const metrics = createMetrics()
    const shadow = join(dir.path, 'shadow')
    await using policies = await open(await put(join(dir.path, 'live'), 'allow'), shadow, metrics)
    assert.notEqual(policies.problem, '')
    await policies.reload()
    assert.equal(await compared(policies, metrics), false)
    await put(shadow, 'deny')
    const until = performance.now() + 10_000
    while (!(await compared(policies, metrics))) {
      assert.ok(performance.now() < until, 'never looked for again')
      await sleep(20)
    }
    assert.equal(policies.problem, '')
  })

  it('is looked for at once by a reload; one that turns bad stays as it was and fails no reload', async () => {
    await using dir = await scratchDir('shadow-reload')
    const metrics = createMetrics()
    const shadow = join(dir.path, 'shadow')
    await using policies = await open(await put(join(dir.path, 'live'), 'allow'), shadow, metrics)
    await put(shadow, 'deny')
    await policies.reload()
    assert.equal(await compared(policies, metrics), true)
    await writeFile(join(shadow, 'sz.yaml'), 'nothing')
    await policies.reload()
    assert.match(policies.problem, /sz.yaml/)
    await writeFile(join(dir.path, 'live', 'sz.yaml'), 'nothing')
    await assert.rejects(policies.reload(), /not usable/)
  })
})
