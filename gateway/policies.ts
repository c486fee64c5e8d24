// The policy bundles in force at this gateway: the stable one, a canary for some subscribers, a shadow that is only compared.
// Owns: which bundles there are, swapping them in at one instant, the revisions an operator sees.
// Refuses: starting without a stable bundle. A canary or shadow that is not usable is left out and said to be; it never stops anybody.

import type { Clock } from '#kit/clock.ts'
import { errorMessage } from '#kit/errors.ts'
import type { Logger } from '#kit/logger.ts'
import type { BoundGauge, Family, Metrics } from '#kit/metrics.ts'
import type { NatsLink } from '#kit/nats.ts'
import type { PolicyClass } from '#policies/engine/types.ts'
import { type LiveBundle, openLiveBundle } from '#policies/node/live-bundle.ts'
import { bundleOrigin } from '#policies/node/origin.ts'
import { declareBundleRules } from './policy-metrics.ts'
import { type Bundles, EnginePolicy } from './delivery/engine-policy.ts'

export type PolicyOptions = {
  /** A directory, a bundle file, or `kv://bucket/key`; likewise the others. */
  readonly place: string
  readonly canary:
    | { readonly place: string; readonly share: number; readonly labels: Readonly<Record<string, string>> }
    | undefined
  readonly shadow: string | undefined
  readonly keys: string | undefined
  readonly publicKeyFile: string | undefined
  readonly pollMs: number
}

export type PolicyDeps = {
  readonly logger: Logger
  readonly clock: Clock
  readonly metrics: Metrics
  readonly link: () => NatsLink
  readonly classes: () => Iterable<PolicyClass>
}

export interface GatewayPolicies extends AsyncDisposable {
  readonly policy: EnginePolicy
  /** Why the newest attempt to load was refused, per role; empty when everything newest is in force. */
  readonly problem: string
  /** Loads again; throws and keeps what is in force when the stable bundle is bad. Of the others `problem` tells. */
  reload(): Promise<void>
}

export type Role = 'live' | 'canary' | 'shadow'

export async function openPolicies(
  options: PolicyOptions,
  deps: PolicyDeps,
  signal: AbortSignal,
): Promise<GatewayPolicies> {
  await using stack = new AsyncDisposableStack()
  const { logger, clock } = deps
  const held = new Map<Role, LiveBundle>()
  const absent = new Map<Role, string>()
  const stop = new AbortController()
  stack.defer(() => stop.abort())

  const open = (role: Role, place: string, until: AbortSignal | undefined): Promise<LiveBundle> => {
    const { keys, publicKeyFile, pollMs } = options
    const origin = bundleOrigin(place, deps.link)
    return openLiveBundle({ origin, keys, publicKeyFile, pollMs, role }, { logger, clock }, until)
  }
  const stable = stack.use(await open('live', options.place, signal))
  held.set('live', stable)

  const bundles = (): Bundles => {
    const canary = held.get('canary')?.bundle
    const rollout = options.canary
    return {
      stable: stable.bundle,
      canary: canary === undefined || rollout === undefined ? undefined : { bundle: canary, rollout },
      shadow: held.get('shadow')?.bundle,
    }
  }
  const policy = stack.use(new EnginePolicy(bundles(), clock, deps.classes))
  const swap = (): void => policy.replace(bundles())
  // Takes in what comes after the start too, when the outer stack has been handed on.
  const kept = stack.use(new AsyncDisposableStack())
  const follow = (role: Role, bundle: LiveBundle): void => {
    kept.use(bundle.onChange(swap))
    held.set(role, bundle)
    absent.delete(role)
  }
  follow('live', stable)

  const places: readonly (readonly [Role, string | undefined])[] = [
    ['canary', options.canary?.place],
    ['shadow', options.shadow],
  ]
  /** Tries until there is a usable one; rejects when the gateway stops. */
  const found = async (role: Role, place: string): Promise<LiveBundle> => {
    for (;;) {
      try {
        return await open(role, place, undefined)
      } catch (e) {
        const reason = errorMessage(e)
        if (absent.get(role) !== reason)
          logger.error('policy bundle refused, everybody stays with the live one', { role, reason })
        absent.set(role, reason)
        await clock.sleep(Math.max(1_000, options.pollMs), stop.signal)
      }
    }
  }
  const joining = places.map(async ([role, place]) => {
    if (place === undefined) return
    const bundle = await found(role, place)
    try {
      stop.signal.throwIfAborted()
      follow(role, bundle)
      kept.use(bundle)
    } catch (e) {
      await bundle[Symbol.asyncDispose]()
      throw e
    }
    swap()
  })
  // Both are looked for in the background: a path is there at once, so a start does not pass without it.
  const settled = Promise.allSettled(joining)
  await Promise.race([settled, clock.sleep(500, stop.signal).catch(() => undefined)])

  stack.use(showRevisions(declareBundleRules(deps.metrics), policy))
  const whole = stack.move()
  return {
    policy,
    get problem() {
      const told = [...held].flatMap(([role, { problem }]) => (problem === '' ? [] : [`${role}: ${problem}`]))
      return [...told, ...[...absent].map(([role, reason]) => `${role}: ${reason}`)].join('; ')
    },
    reload: async () => {
      await stable.reload()
      for (const [role, bundle] of held) {
        if (bundle === stable) continue
        await bundle.reload().catch((err: unknown) => {
          logger.error('policy bundle refused, the old one stays', { role, err })
        })
      }
    },
    async [Symbol.asyncDispose]() {
      stop.abort()
      await settled
      await whole.disposeAsync()
    },
  }
}

function showRevisions(family: Family<'role' | 'revision', BoundGauge>, policy: EnginePolicy): Disposable {
  let shown: { role: string; revision: string }[] = []
  const show = (): void => {
    for (const labels of shown) family.remove(labels)
    const { stable, canary, shadow } = policy.current.bundles
    const all = [
      { role: 'live', bundle: stable },
      ...(canary === undefined ? [] : [{ role: 'canary', bundle: canary.bundle }]),
      ...(shadow === undefined ? [] : [{ role: 'shadow', bundle: shadow }]),
    ]
    shown = all.map(({ role, bundle }) => {
      const labels = { role, revision: bundle.revision.slice(0, 12) }
      family.with(labels).set(bundle.ruleCount)
      return labels
    })
  }
  show()
  return policy.onChange(show)
}
