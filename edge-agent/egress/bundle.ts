// The policy bundle in force, from a directory on disk.
// Owns: loading at start and at reload, swapping atomically, keeping the old bundle when the new one is bad.
// Refuses: starting without a valid bundle: an agent that cannot say what may leave lets nothing leave.

import { createPublicKey } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { DeltawatchError } from '#kit/errors.ts'
import type { Logger } from '#kit/logger.ts'
import { egress } from '#policies/engine/egress.ts'
import type { PolicyBundle, PolicyIssue } from '#policies/engine/types.ts'
import { policyDeps } from '#policies/node/hashing.ts'
import { emptyKeyring, loadKeyring } from '#policies/node/keyring.ts'
import { openBundle } from '#policies/node/open-bundle.ts'
import type { Destination } from './destination.ts'
import type { PolicyInForce, PolicySource } from './policy.ts'

export type BundleOptions = {
  readonly path: string
  readonly keys?: string | undefined
  readonly publicKeyFile?: string | undefined
}

export interface BundleHolder {
  readonly revision: string
  /** Why the newest attempt to load was refused; empty when the newest bundle is in force. */
  readonly problem: string
  sourceFor(region: string, destination: Destination): PolicySource
  /** Loads again; throws and keeps the old bundle when the new one is bad. */
  reload(): Promise<void>
}

export async function openPolicies(options: BundleOptions, logger: Logger): Promise<BundleHolder> {
  let bundle = await load(options)
  let problem = ''
  const listeners = new Set<() => void>()
  return {
    get revision() {
      return bundle.revision
    },
    get problem() {
      return problem
    },
    sourceFor: (region, destination) => {
      let made: { readonly of: PolicyBundle; readonly to: string; readonly inForce: PolicyInForce } | undefined
      return {
        current: () => {
          const to = destination.region
          if (made?.of !== bundle || made.to !== to) {
            made = { of: bundle, to, inForce: { decider: egress(bundle, region, to), revision: bundle.revision } }
          }
          return made.inForce
        },
        onChange: (fn) => {
          listeners.add(fn)
          return { [Symbol.dispose]: () => void listeners.delete(fn) }
        },
      }
    },
    reload: async () => {
      try {
        const next = await load(options)
        problem = ''
        if (next.revision === bundle.revision) return
        logger.info('policy bundle swapped', { from: bundle.revision, to: next.revision, rules: next.ruleCount })
        bundle = next
      } catch (e) {
        problem = e instanceof Error ? e.message : 'unknown'
        throw e
      }
      for (const fn of [...listeners]) fn()
    },
  }
}

async function load(options: BundleOptions): Promise<PolicyBundle> {
  const keyring = options.keys === undefined ? emptyKeyring() : await loadKeyring(options.keys)
  const publicKey =
    options.publicKeyFile === undefined ? undefined : createPublicKey(await readFile(options.publicKeyFile))
  const opened = await openBundle(options.path, {
    deps: policyDeps(keyring),
    ...(publicKey === undefined ? {} : { publicKey }),
  })
  if (opened.ok) return opened.value
  throw new DeltawatchError(
    'DW_POLICY',
    `the policy bundle in ${options.path} is not usable: ${describe(opened.error)}`,
  )
}

const describe = (issues: readonly PolicyIssue[]): string =>
  issues
    .filter((issue) => issue.level === 'error')
    .slice(0, 5)
    .map((issue) => `${issue.file}${issue.at === undefined ? '' : ` ${issue.at}`} ${issue.message}`)
    .join('; ')
