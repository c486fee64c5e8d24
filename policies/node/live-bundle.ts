// The bundle in force of one process: loaded at start, loaded again whenever its origin changed, swapped at one instant.
// Owns: when to look, what a good bundle is (verified, compiled, its own tests passed), keeping the old one when the new one is bad,
// and saying which is in force and why another is not. Refuses: starting without one: who cannot say what may be seen shows nothing.

import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Clock } from '#kit/clock.ts'
import { DeltawatchError, errorMessage } from '#kit/errors.ts'
import type { Logger } from '#kit/logger.ts'
import type { PolicyBundle, PolicyIssue } from '../engine/types.ts'
import { policyDeps } from './hashing.ts'
import { emptyKeyring, loadKeyring } from './keyring.ts'
import { openFiles } from './open-bundle.ts'
import { type BundleOrigin, type Candidate, fingerprint } from './origin.ts'
import { readPublicKey } from './signature.ts'

export type LiveBundleOptions = {
  readonly origin: BundleOrigin
  /** Directory of HMAC keys. */
  readonly keys: string | undefined
  /** When given, the bundle must be signed. */
  readonly publicKeyFile: string | undefined
  readonly pollMs: number
  /** What it is for, in the log: `live`, `canary`, `shadow`. */
  readonly role: string
}

export type LiveBundleDeps = { readonly logger: Logger; readonly clock: Clock }

export interface LiveBundle extends AsyncDisposable {
  readonly bundle: PolicyBundle
  /** Why the newest attempt to load was refused; empty when the newest bundle is in force. */
  readonly problem: string
  /** After another bundle, or another key under an old name, took effect. */
  onChange(fn: () => void): Disposable
  /** Loads again; throws and keeps the old bundle when the new one is bad. */
  reload(): Promise<void>
}

export class PolicyLoadError extends DeltawatchError {}

/** What lies there was read and judged: as long as nobody writes, looking again would say the same. */
class PolicyRefusedError extends PolicyLoadError {}

/** Looks of one load at a directory somebody is writing into. */
const SETTLE_LOOKS = 20
const SETTLE_MS = 50

/** Resolves once a bundle is in force. A path is read once and must be good; a bucket is waited for until the signal aborts. */
export async function openLiveBundle(
  options: LiveBundleOptions,
  deps: LiveBundleDeps,
  signal?: AbortSignal,
): Promise<LiveBundle> {
  const { origin, role } = options
  const { logger, clock } = deps
  const stop = new AbortController()
  const listeners = new Set<() => void>()
  let seen = ''
  let problem = ''
  let loading: Promise<unknown> = Promise.resolve()

  /** One after the other: two loads at a time could swap in the wrong order. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const mine = loading.then(work, work)
    loading = mine.catch(() => undefined)
    return mine
  }
  const markNow = async (): Promise<string> => {
    const keys = options.keys === undefined ? '' : await fingerprint(options.keys)
    return `${await origin.mark(stop.signal)}\n${keys}`
  }
  let current = await first()
  problem = current.passedOver
  if (problem !== '') logger.error('policy bundle refused, an older one is in force', { role, reason: problem })

  async function first(): Promise<Loaded> {
    for (;;) {
      try {
        seen = await markNow().catch(() => '')
        return await load(options, clock, signal ?? stop.signal, 'older too')
      } catch (e) {
        if (!origin.name.startsWith('kv://') || signal === undefined) throw e
        logger.warn('no policy bundle yet', { role, origin: origin.name, reason: errorMessage(e) })
        await clock.sleep(1_000, signal)
      }
    }
  }
  const take = async (): Promise<void> => {
    try {
      const next = await load(options, clock, stop.signal, 'newest only')
      if (problem !== '') logger.info('policy bundle is good again', { role, revision: next.bundle.revision })
      problem = ''
      if (next.print === current.print) return
      const { revision: from } = current.bundle
      current = next
      logger.info('policy bundle swapped', { role, from, to: next.bundle.revision, rules: next.bundle.ruleCount })
    } catch (e) {
      problem = errorMessage(e)
      throw e
    }
    for (const fn of [...listeners]) fn()
  }
  const poll = async (): Promise<void> => {
    for (;;) {
      await clock.sleep(options.pollMs, stop.signal)
      const now = await markNow().catch(() => undefined)
      // Nobody can say at the moment (the hub is away, a mount is being replaced): what is in force stays.
      if (now === undefined || now === seen) continue
      const before = problem
      try {
        await inTurn(take)
        seen = now
      } catch (err) {
        // Anything else may have passed by the next look, and nobody need write for it to.
        if (err instanceof PolicyRefusedError) seen = now
        if (!stop.signal.aborted && (seen === now || problem !== before))
          logger.error('policy bundle refused, the old one stays', { role, err })
      }
    }
  }
  const polling = poll().catch(() => undefined)
  logger.info('policy bundle in force', { role, revision: current.bundle.revision, rules: current.bundle.ruleCount })
  return {
    get bundle() {
      return current.bundle
    },
    get problem() {
      return problem
    },
    onChange: (fn) => {
      listeners.add(fn)
      return { [Symbol.dispose]: () => void listeners.delete(fn) }
    },
    reload: () => inTurn(take),
    async [Symbol.asyncDispose]() {
      stop.abort()
      await polling
      await loading
    },
  }
}

/** `print` differs when the files do, or the keys their transforms run under. */
type Loaded = {
  readonly bundle: PolicyBundle
  readonly print: string
  /** Why a newer one was passed over. */
  readonly passedOver: string
}

async function load(
  options: LiveBundleOptions,
  clock: Clock,
  signal: AbortSignal,
  which: 'newest only' | 'older too',
): Promise<Loaded> {
  const { origin } = options
  const keyring = options.keys === undefined ? emptyKeyring() : await loadKeyring(options.keys)
  const deps = policyDeps(keyring)
  const publicKey =
    options.publicKeyFile === undefined ? undefined : readPublicKey(await readFile(options.publicKeyFile, 'utf8'))
  let why: string | undefined
  let judged = true
  for await (const files of settled(origin, clock, signal)) {
    const opened = files.ok ? openFiles(files.value, { deps, publicKey }) : files
    if (opened.ok) {
      const keys = [...keyring.keys.keys()].map((id) => `${id} ${deps.keyFingerprint(id)}`)
      const print = createHash('sha256')
        .update(JSON.stringify([opened.value.revision, keys]))
        .digest('hex')
      return { bundle: opened.value, print, passedOver: why ?? '' }
    }
    why ??= describe(opened.error)
    // Of a path this may be the disk's word, not one about the bundle; what a bucket yields was fetched in full.
    if (!files.ok && !origin.name.startsWith('kv://')) judged = false
    if (which === 'newest only') break
  }
  const message = `the policy bundle in ${origin.name} is not usable: ${why ?? 'there is none'}`
  throw judged ? new PolicyRefusedError('DW_POLICY', message) : new PolicyLoadError('DW_POLICY', message)
}

/** Candidates read while nobody wrote: half of a directory could lack the very document that denies. */
async function* settled(origin: BundleOrigin, clock: Clock, signal: AbortSignal) {
  if (origin.name.startsWith('kv://')) return yield* origin.candidates(signal)
  const mark = (): Promise<string> => origin.mark(signal).catch(() => '')
  for (let look = 0; ; look++) {
    const before = await mark()
    const read: Candidate[] = []
    for await (const candidate of origin.candidates(signal)) read.push(candidate)
    if ((await mark()) === before) return yield* read
    if (look >= SETTLE_LOOKS) throw new PolicyLoadError('DW_POLICY', `${origin.name} is being written all the time`)
    await clock.sleep(SETTLE_MS, signal)
  }
}

const describe = (issues: readonly PolicyIssue[]): string =>
  issues
    .filter((issue) => issue.level === 'error')
    .slice(0, 5)
    .map(({ file, at, message, code }) =>
      [file, at, message, `[${code}]`].filter((part) => part !== undefined && part !== '').join(' '),
    )
    .join('; ')
