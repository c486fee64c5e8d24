// The bundle in force of a process: when another takes its place, and when none does.

import assert from 'node:assert/strict'
import { cp, rename, rm, symlink, writeFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { EnginePolicy } from '#gateway/delivery/engine-policy.ts'
import { systemClock } from '#kit/clock.ts'
import { silentLogger } from '#kit/logger.ts'
import type { PolicyClass } from '#policies/engine/types.ts'
import { type LiveBundle, openLiveBundle } from '#policies/node/live-bundle.ts'
import { readBundleFiles } from '#policies/node/bundle-files.ts'
import { type BundleOrigin, bundleOrigin } from '#policies/node/origin.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { scratchDir } from '../../support/process.ts'
import { allow, bundleOf, NOW, subscriber } from './fixture.ts'

const document = (id: string): string =>
  `apiVersion: watch-policy/v1\nkind: RegionPolicy\nmetadata: { name: n, owner: o }\nspec:\n  source: { region: sz, regime: PIPL }\n  mode: enforce\n  rules:\n    - { id: ${id}, effect: allow, match: { keys: ["/a/**"], to: { regions: [sz] } }, transform: [{ field: /p, action: hmac, key: k1 }] }\n`

const never = () => {
  throw new Error('a directory needs no hub')
}

async function open(path: string, keys?: string): Promise<LiveBundle> {
  const origin = bundleOrigin(path, never)
  const options = { origin, keys, publicKeyFile: undefined, pollMs: 20, role: 'live' }
  return openLiveBundle(options, { logger: silentLogger(), clock: systemClock() })
}
const changed = (live: LiveBundle): Promise<void> =>
  new Promise((resolve) => {
    const listening = live.onChange(() => {
      listening[Symbol.dispose]()
      resolve()
    })
  })

describe('a bundle in a directory', () => {
  it('is swapped when the mount is, and stays when what comes is bad', async () => {
    await using dir = await scratchDir('live')
    const [one, two, at] = ['one', 'two', 'live'].map((name) => join(dir.path, name)) as [string, string, string]
    await mkdir(one)
    await writeFile(join(one, 'sz.yaml'), document('first'))
    await cp(one, two, { recursive: true })
    await writeFile(join(two, 'sz.yaml'), document('second'))
    await symlink(one, at)
    await using live = await open(at)
    const before = live.bundle.revision
    const swapped = changed(live)
    await symlink(two, `${at}.new`)
    await rename(`${at}.new`, at)
    await swapped
    assert.notEqual(live.bundle.revision, before)
    const { revision } = live.bundle
    await writeFile(join(two, 'sz.yaml'), document('third').replace('allow', 'perhaps'))
    await assert.rejects(live.reload(), /is not usable: sz.yaml/)
    assert.equal(live.bundle.revision, revision)
    assert.match(live.problem, /sz.yaml/)
    await rm(two, { recursive: true })
    await assert.rejects(live.reload())
    assert.equal(live.bundle.revision, revision)
  })

  it('is another one when a key under an old name is', async () => {
    await using dir = await scratchDir('live-keys')
    const [policies, keys] = [join(dir.path, 'policies'), join(dir.path, 'keys')]
    await mkdir(policies)
    await mkdir(keys)
    await writeFile(join(policies, 'sz.yaml'), document('first'))
    await writeFile(join(keys, 'k1'), 'a'.repeat(32))
    await using live = await open(policies, keys)
    const before = live.bundle
    const swapped = changed(live)
    await writeFile(join(keys, 'k1'), 'b'.repeat(32))
    await swapped
    assert.equal(live.bundle.revision, before.revision)
    assert.notEqual(live.bundle.compiled.deps.keyFingerprint('k1'), before.compiled.deps.keyFingerprint('k1'))
  })

  for (const name of ['kv://bucket/key', 'a path'])
    it(`${name}: is read again when reading failed after somebody wrote, and not when what was read is bad`, async () => {
      await using dir = await scratchDir('live-again')
      await writeFile(join(dir.path, 'sz.yaml'), document('wide').replace(/, transform.*}\]/, ''))
      let mark = 1
      let reads = 0
      let failures = 0
      const origin: BundleOrigin = {
        name,
        mark: async () => `${mark}`,
        async *candidates() {
          reads++
          const failed = failures-- > 0
          if (failed && name !== 'a path') throw new Error('TIMEOUT')
          yield await readBundleFiles(failed ? join(dir.path, 'away') : dir.path)
        },
      }
      const options = { origin, keys: undefined, publicKeyFile: undefined, pollMs: 20, role: 'live' }
      const signal = AbortSignal.timeout(10_000)
      await using live = await openLiveBundle(options, { logger: silentLogger(), clock: systemClock() }, signal)
      const before = live.bundle.revision
      const swapped = changed(live)
      const narrow = document('narrow')
        .replace(/, transform.*}\]/, '')
        .replace('allow', 'deny')
      await writeFile(join(dir.path, 'sz.yaml'), narrow)
      reads = 0
      failures = 2
      mark++
      await Promise.race([swapped, sleep(5_000)])
      assert.notEqual(live.bundle.revision, before)
      assert.deepEqual([reads, live.problem], [3, ''])
      await writeFile(join(dir.path, 'sz.yaml'), narrow.replace('deny', 'perhaps'))
      reads = 0
      mark++
      await sleep(300)
      assert.match(live.problem, /sz.yaml/)
      assert.equal(reads, 1)
    })

  it('a place that is neither a path nor a bucket entry is named', () => {
    assert.throws(() => bundleOrigin('kv://only-a-bucket', never), /write kv:\/\/<bucket>\/<key>/)
  })
})

describe('the policy of a gateway', () => {
  const lapsing = () =>
    bundleOf([
      allow('stays', ['/a/**'], { match: { keys: ['/a/**'], to: { regions: ['sz'] } } }),
      allow('lapses', ['/b/**'], {
        match: { keys: ['/b/**'], to: { regions: ['sz'] } },
        basis: { kind: 'contract', ref: 'C-1', expires: new Date(NOW + 3_600_000).toISOString() },
      }),
    ])

  it('says so at the instant a basis lapses that some class depends on, also when the wall clock jumped there', async () => {
    for (const jump of [0, 3_000_000]) {
      const clock = new ManualClock(NOW)
      using policy = new EnginePolicy(lapsing(), clock, () => [])
      let changes = 0
      policy.onChange(() => changes++)
      assert.ok(policy.current.classOf(subscriber({ region: 'sz' })) !== undefined)
      await clock.advance(500_000)
      assert.equal(changes, 0)
      clock.jumpWall(jump)
      await clock.advance(3_100_001 - jump)
      assert.equal(changes, 1, `jump ${jump}`)
    }
  })

  it('classes nobody is served under give their place up, those in use keep it', () => {
    const clock = new ManualClock(NOW)
    const rules = Array.from({ length: 300 }, (_, i) =>
      allow(`r${i}`, ['/a/**'], { match: { keys: ['/a/**'], to: { regions: ['sz'], audience: [`org:o${i}`] } } }),
    )
    const inUse = new Set<PolicyClass>()
    using policy = new EnginePolicy(bundleOf(rules), clock, () => inUse)
    const classOf = (i: number): PolicyClass | undefined =>
      policy.current.classOf(subscriber({ region: 'sz', org: `o${i}` }))
    const kept = classOf(0)
    assert.ok(kept !== undefined)
    inUse.add(kept)
    for (let i = 1; i < 300; i++) assert.ok(classOf(i) !== undefined, `class ${i}`)
    assert.equal(classOf(0), kept)
    for (let i = 0; i < 256; i++) {
      const made = classOf(i)
      if (made !== undefined) inUse.add(made)
    }
    assert.equal(classOf(290), undefined, 'the cap holds when all are in use')
  })
})
