// What the hooks look at: creations, updates and deletions of one revision against the store's recent past.
// Owns: the pre-check of creations, the counts of changed keys over a window of store revisions, the patterns found.
// Refuses: time, I/O and keys in what it reports. Windows are counted in revisions, so that a replay of the same history
// gives the same verdicts, however fast it comes. Overflow rule: at most `window` revisions and HOT_KEYS keys are held.

import type { Key } from '#protocol/bytes.ts'
import { compareRevisions, type Revision, revisionDistance } from '#protocol/revision.ts'
import type { Change, ChangedRevision } from '../egress/change.ts'

export type HookName = 'onCreate' | 'onUpdate' | 'onDelete'

/** annotate: count and log; delay: wait a little, then go on; hold: wait for an operator, or for the time to run out. */
export type HookAction = 'annotate' | 'delay' | 'hold'

export type MassRule = {
  /** More changed keys than this within the window; 0: never. */
  readonly maxKeys: number
  readonly action: HookAction
}

export type GuardOptions = {
  readonly range: { readonly from: Key; readonly to: Key | undefined }
  /** Revisions of the store, those without a change in the range included. */
  readonly window: number
  readonly onCreate: MassRule & { readonly preCheck: boolean }
  readonly onUpdate: MassRule & {
    /** Updates of one key within a window that are worth a note; 0: never. */ readonly hotKey: number
  }
  readonly onDelete: MassRule
}

export type Pattern =
  | 'mass-create'
  | 'mass-update'
  | 'mass-delete'
  /** One key takes a large share of all changes: a counter or a heartbeat kept in etcd. */
  | 'hot-key'
  /** A put of the bytes that were there; seen only when policy asks for previous values. */
  | 'rewrite'
  | 'outside-range'
  | 'foreign-revision'
  | 'duplicate-key'

export type Finding = {
  readonly hook: HookName
  readonly pattern: Pattern
  /** resync: no etcd can mean this; what it stands for is repaired by a checkpoint. */
  readonly action: HookAction | 'resync'
  readonly revision: Revision
  /** Keys or events it took. */
  readonly count: number
}

/** Up to where the mass of a hook's changes has been let through. */
export type Decided = Readonly<Partial<Record<HookName, Revision>>>

type Counts = Record<HookName, number>
type Slot = { readonly revision: Revision; readonly counts: Readonly<Counts> }

const MASS: Readonly<Record<HookName, Pattern>> = {
  onCreate: 'mass-create',
  onUpdate: 'mass-update',
  onDelete: 'mass-delete',
}
const HOOKS: readonly HookName[] = ['onCreate', 'onUpdate', 'onDelete']
const HOT_KEYS = 4_096

export class Guards {
  readonly #options: GuardOptions
  #slots: Slot[] = []
  #head = 0
  readonly #sums: Counts = { onCreate: 0, onUpdate: 0, onDelete: 0 }
  readonly #hot = new Map<Key, number>()
  #hotSince: Revision | undefined

  constructor(options: GuardOptions) {
    this.#options = options
  }

  /** What is decided is neither judged for its mass nor counted: the next finding needs as many keys again. */
  judge(source: ChangedRevision, decided: Decided): readonly Finding[] {
    const counts: Counts = { onCreate: 0, onUpdate: 0, onDelete: 0 }
    for (const change of source.changes) counts[hookOf(change)]++
    for (const hook of HOOKS) {
      const upTo = decided[hook]
      if (upTo !== undefined && compareRevisions(source.revision, upTo) <= 0) counts[hook] = 0
    }
    this.#rewind(source.revision)
    this.#forget(source.revision)
    const findings: Finding[] = []
    this.#preCheck(source, findings)
    this.#mass(source.revision, counts, findings)
    this.#notes(source, findings)
    if (!findings.some(stops)) this.#remember(source.revision, counts)
    return findings
  }

  /** Events were skipped: what was counted says nothing any more. */
  forget(): void {
    this.#slots = []
    this.#head = 0
    for (const hook of HOOKS) this.#sums[hook] = 0
    this.#hot.clear()
    this.#hotSince = undefined
  }

  #preCheck({ revision, changes }: ChangedRevision, findings: Finding[]): void {
    const { range, onCreate } = this.#options
    if (!onCreate.preCheck) return
    const say = (pattern: Pattern, hook: HookName): unknown =>
      findings.push({ hook, pattern, action: 'resync', revision, count: 1 })
    const seen = changes.length > 1 ? new Set<Key>() : undefined
    for (const change of changes) {
      const { key } = change
      if (key < range.from || (range.to !== undefined && key >= range.to)) say('outside-range', hookOf(change))
      if (change.op === 'put' && change.version === '1' && change.createRevision !== revision) {
        say('foreign-revision', 'onCreate')
      }
      if (seen?.has(key) === true) say('duplicate-key', hookOf(change))
      seen?.add(key)
    }
  }

  #mass(revision: Revision, counts: Readonly<Counts>, findings: Finding[]): void {
    for (const hook of HOOKS) {
      const { maxKeys, action } = this.#options[hook]
      const count = this.#sums[hook] + counts[hook]
      if (maxKeys === 0 || counts[hook] === 0 || count <= maxKeys) continue
      findings.push({ hook, pattern: MASS[hook], action, revision, count })
      // Told once; the next finding needs as many keys again.
      this.#clear(hook)
    }
  }

  #notes({ revision, changes }: ChangedRevision, findings: Finding[]): void {
    const { hotKey } = this.#options.onUpdate
    let rewrites = 0
    for (const change of changes) {
      if (hookOf(change) !== 'onUpdate') continue
      if (change.prevValue !== undefined && equalBytes(change.prevValue, change.value)) rewrites++
      if (hotKey > 0 && this.#isHot(change.key, hotKey)) {
        findings.push({ hook: 'onUpdate', pattern: 'hot-key', action: 'annotate', revision, count: hotKey })
      }
    }
    if (rewrites > 0) {
      findings.push({ hook: 'onUpdate', pattern: 'rewrite', action: 'annotate', revision, count: rewrites })
    }
  }

  #isHot(key: Key, limit: number): boolean {
    const count = (this.#hot.get(key) ?? 0) + 1
    if (count > 1 || this.#hot.size < HOT_KEYS) this.#hot.set(key, count)
    return count === limit
  }

  /** Read again, as after a lost hub: what was counted from here on comes once more. */
  #rewind(revision: Revision): void {
    for (let newest = this.#slots.at(-1); this.#slots.length > this.#head; newest = this.#slots.at(-1)) {
      if (newest === undefined || compareRevisions(newest.revision, revision) < 0) return
      for (const hook of HOOKS) this.#sums[hook] -= newest.counts[hook]
      this.#slots.pop()
      this.#hot.clear()
      this.#hotSince = revision
    }
  }

  #forget(revision: Revision): void {
    const { window } = this.#options
    for (let oldest = this.#slots[this.#head]; oldest !== undefined; oldest = this.#slots[this.#head]) {
      if (revisionDistance(revision, oldest.revision) < window) break
      for (const hook of HOOKS) this.#sums[hook] = Math.max(0, this.#sums[hook] - oldest.counts[hook])
      this.#head++
    }
    if (this.#head > 1_024 && this.#head * 2 > this.#slots.length) {
      this.#slots = this.#slots.slice(this.#head)
      this.#head = 0
    }
    this.#hotSince ??= revision
    if (revisionDistance(revision, this.#hotSince) < window) return
    this.#hot.clear()
    this.#hotSince = revision
  }

  #remember(revision: Revision, counts: Readonly<Counts>): void {
    this.#slots.push({ revision, counts })
    for (const hook of HOOKS) this.#sums[hook] += counts[hook]
  }

  #clear(hook: HookName): void {
    this.#sums[hook] = 0
    this.#slots = this.#slots.slice(this.#head).map((slot) => ({ ...slot, counts: { ...slot.counts, [hook]: 0 } }))
    this.#head = 0
  }
}

/** The revision is not taken now: it will be read again. */
export const stops = ({ action }: Finding): boolean => action === 'hold' || action === 'delay'

function hookOf(change: Change): HookName {
  if (change.op === 'delete') return 'onDelete'
  return change.version === '1' ? 'onCreate' : 'onUpdate'
}

const equalBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, i) => byte === b[i])
