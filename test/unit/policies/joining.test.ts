// Bundles beside the stable one of a gateway: when one that comes after the start joins.

import assert from 'node:assert/strict'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type GatewayPolicies, openPolicies } from '#gateway/policies.ts'
import { type Clock, systemClock } from '#kit/clock.ts'
import { silentLogger } from '#kit/logger.ts'
import { createMetrics } from '#kit/metrics.ts'
import { scratchDir } from '../../support/process.ts'

const document = (id: string): string =>
  `apiVersion: watch-policy/v1\nkind: RegionPolicy\nmetadata: { name: n, owner: o }\nspec:\n  source: { region: sz, regime: PIPL }\n  mode: enforce\n  rules:\n    - { id: ${id}, effect: allow, match: { keys: ["/a/**"], to: { regions: [sz] } } }\n`

const POLL_MS = 100

/** How many bundles poll at this moment: each sleeps its interval, over and over. */
function pollers(): { readonly clock: Clock; readonly polling: () => number } {
  const system = systemClock()
  let polling = 0
  const clock: Clock = {
    now: () => system.now(),
    monotonic: () => system.monotonic(),
    setTimeout: (fn, ms) => system.setTimeout(fn, ms),
    sleep: async (ms, signal) => {
      if (ms === POLL_MS) polling++
      try {
        await system.sleep(ms, signal)
      } finally {
        if (ms === POLL_MS) polling--
      }
    },
  }
  return { clock, polling: () => polling }
}

async function within(ms: number, holds: () => boolean): Promise<boolean> {
  for (const until = performance.now() + ms; performance.now() < until; await sleep(20)) if (holds()) return true
  return holds()
}

async function put(dir: string, name: string, id: string): Promise<string> {
  const at = join(dir, name)
  await mkdir(`${at}.new`)
  await writeFile(join(`${at}.new`, 'sz.yaml'), document(id))
  await rename(`${at}.new`, at)
  return at
}

const canaryOf = ({ policy }: GatewayPolicies): string | undefined => policy.current.bundles.canary?.bundle.revision

describe('a canary and a shadow', () => {
  it('written after the start come into force, follow what is written there, and poll once each', async () => {
    await using dir = await scratchDir('joining')
    const { clock, polling } = pollers()
    const canary = { place: join(dir.path, 'canary'), share: 1, labels: {} }
    const shadow = join(dir.path, 'shadow')
    const place = await put(dir.path, 'stable', 'stable')
    {
      await using opened = await openPolicies(
        { place, canary, shadow, keys: undefined, publicKeyFile: undefined, pollMs: POLL_MS },
        { logger: silentLogger(), clock, metrics: createMetrics(), link: () => assert.fail(), classes: () => [] },
        AbortSignal.timeout(20_000),
      )
      await sleep(700)
      assert.match(opened.problem, /canary: .*; shadow: /s)
      await put(dir.path, 'canary', 'first')
      await put(dir.path, 'shadow', 'first')
      const { bundles } = opened.policy.current
      assert.deepEqual([bundles.canary, bundles.shadow], [undefined, undefined])
      const joined = (): boolean => canaryOf(opened) !== undefined && opened.policy.current.bundles.shadow !== undefined
      assert.ok(await within(5_000, joined), opened.problem)
      assert.equal(opened.problem, '')
      const first = canaryOf(opened)
      await writeFile(join(canary.place, 'sz.yaml'), document('another'))
      assert.ok(await within(5_000, () => canaryOf(opened) !== first), 'the canary is not followed')
      // Longer than the wait between two attempts to join.
      await sleep(1_200)
      assert.ok(await within(2_000, () => polling() === 3), `${polling()} bundles poll`)
      assert.equal(await within(500, () => polling() > 3), false, 'more than one bundle polls for a role')
    }
    assert.equal(polling(), 0)
  })

  it('that are bad hold up no reload of the stable bundle, which alone may fail it', async () => {
    await using dir = await scratchDir('joining-reload')
    const place = await put(dir.path, 'stable', 'stable')
    const canary = { place: await put(dir.path, 'canary', 'canary'), share: 1, labels: {} }
    const shadow = await put(dir.path, 'shadow', 'shadow')
    // Nothing is taken up but by a reload.
    await using opened = await openPolicies(
      { place, canary, shadow, keys: undefined, publicKeyFile: undefined, pollMs: 3_600_000 },
      {
        logger: silentLogger(),
        clock: systemClock(),
        metrics: createMetrics(),
        link: () => assert.fail(),
        classes: () => [],
      },
      AbortSignal.timeout(20_000),
    )
    const { bundles: before } = opened.policy.current
    assert.ok(before.canary !== undefined)
    await writeFile(join(canary.place, 'sz.yaml'), document('bad').replace('allow', 'perhaps'))
    await writeFile(join(shadow, 'sz.yaml'), document('another'))
    await writeFile(join(place, 'sz.yaml'), document('newer'))
    await opened.reload()
    const { bundles: after } = opened.policy.current
    assert.notEqual(after.stable.revision, before.stable.revision)
    assert.notEqual(after.shadow?.revision, before.shadow?.revision)
    assert.equal(after.canary?.bundle.revision, before.canary.bundle.revision)
    assert.match(opened.problem, /^canary: .*sz.yaml/)
    await writeFile(join(place, 'sz.yaml'), document('bad').replace('allow', 'perhaps'))
    await assert.rejects(opened.reload(), /is not usable: sz.yaml/)
    assert.equal(opened.policy.current.bundles.stable.revision, after.stable.revision)
  })
})
