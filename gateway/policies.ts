// The policy bundle in force at this gateway, from a directory on disk.
// Owns: loading, noticing changes, swapping atomically, keeping the old bundle when the new one is bad.
// Refuses: starting without a valid bundle: a gateway that cannot say who may see what shows nothing.

import { createPublicKey } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '#kit/clock.ts'
import { DeltawatchError, errorMessage } from '#kit/errors.ts'
import type { Logger } from '#kit/logger.ts'
import type { PolicyBundle, PolicyClass, PolicyIssue } from '#policies/engine/types.ts'
import { policyDeps } from '#policies/node/hashing.ts'
import { emptyKeyring, loadKeyring } from '#policies/node/keyring.ts'
import { openBundle } from '#policies/node/open-bundle.ts'
import { EnginePolicy } from './delivery/engine-policy.ts'

export type PolicyOptions = {
  readonly path: string
  readonly keys: string | undefined
  readonly publicKeyFile: string | undefined
  readonly pollMs: number
}

export interface PolicyDirectory extends AsyncDisposable {
  readonly policy: EnginePolicy
  /** Why the newest attempt to load was refused; empty when the newest bundle is in force. */
  readonly problem: string
  /** Loads again; throws and keeps the old bundle when the new one is bad. */
  reload(): Promise<void>
}

export class PolicyLoadError extends DeltawatchError {}

export async function openPolicies(
  options: PolicyOptions,
  deps: { readonly logger: Logger; readonly clock: Clock; readonly classes: () => Iterable<PolicyClass> },
): Promise<PolicyDirectory> {
  const { logger, clock } = deps
  const policy = new EnginePolicy(await load(options), clock, deps.classes)
  const stop = new AbortController()
  let problem = ''
  let seen = await fingerprint(options.path)

  const reload = async (): Promise<void> => {
    const from = policy.bundle.revision
    try {
      const next = await load(options)
      problem = ''
      if (next.revision === from) return
      logger.info('policy bundle swapped', { from, to: next.revision, rules: next.ruleCount })
      policy.replace(next)
    } catch (e) {
      problem = errorMessage(e)
      throw e
    }
  }
  const poll = async (): Promise<void> => {
    for (;;) {
      await clock.sleep(options.pollMs, stop.signal)
      const now = await fingerprint(options.path)
      if (now === seen) continue
      seen = now
      await reload().catch((err: unknown) => logger.error('policy bundle refused, the old one stays', { err }))
    }
  }
  const polling = poll().catch(() => undefined)
  return {
    policy,
    get problem() {
      return problem
    },
    reload,
    async [Symbol.asyncDispose]() {
      stop.abort()
      await polling
      policy[Symbol.dispose]()
    },
  }
}

async function load(options: PolicyOptions): Promise<PolicyBundle> {
  const keyring = options.keys === undefined ? emptyKeyring() : await loadKeyring(options.keys)
  const publicKey =
    options.publicKeyFile === undefined ? undefined : createPublicKey(await readFile(options.publicKeyFile))
  const deps = policyDeps(keyring)
  const opened = await openBundle(options.path, publicKey === undefined ? { deps } : { deps, publicKey })
  if (opened.ok) return opened.value
  throw new PolicyLoadError(
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

/** Names, sizes and times of what lies there: cheap, and different whenever somebody wrote. */
async function fingerprint(path: string): Promise<string> {
  try {
    const names = await readdir(path, { recursive: true })
    const parts = await Promise.all(
      names.toSorted().map(async (name) => {
        const info = await stat(join(path, name))
        return `${name}:${info.size}:${info.mtimeMs}:${info.ino}`
      }),
    )
    return parts.join('\n')
  } catch {
    // A directory being replaced; the next look sees what it became.
    return ''
  }
}
