// One thing broken at a time, the scenario that trips it, and what the judge must then find.
// Owns: the list. A mutation swaps a module for one of this folder, or edits named text of one while it is loaded.
// Refuses: switches in the product: what is shipped knows nothing of this. Anchors are short, and a unit test holds that each
// stands in its file exactly once, so that moved code is noticed at once and not by a suite that breaks nothing.

import { fileURLToPath } from 'node:url'
import type { Rule } from '../judge/verdict.ts'

export type Edit = {
  /** Path from the root of the tree. */
  readonly module: string
  readonly find: string
  readonly replace: string
}

export type Mutation = {
  readonly name: string
  /** What is broken, as a sentence. */
  readonly about: string
  /** The process that runs broken. */
  readonly part: 'agent' | 'gateway'
  readonly edits?: readonly Edit[]
  readonly swap?: { readonly module: string; readonly by: string }
  /** Name of the scenario that must end in a violation; the unbroken product passes the very same one. */
  readonly scenario: string
  /** At least one of these must be among what the judge reports. */
  readonly rules: readonly Rule[]
  /** Violations that do not count here: the mutation's own uniform, as against what it does. */
  readonly except?: RegExp
  /** Rounds of the scenario, where one may be too lucky. Default 1. */
  readonly rounds?: number
  /** Needs this etcd; skipped where it is not to be had. */
  readonly etcd?: string
  /** Part of `npm test`. */
  readonly quick?: boolean
}

export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'etcd3-watcher',
    about: "etcd3's own Watcher behind the watch port",
    part: 'agent',
    swap: { module: 'edge-agent/watch/etcd.ts', by: 'test/mutation/etcd3-watcher.ts' },
    scenario: 'broken-catch-up',
    rules: ['Reliable', 'Complete', 'Resync', 'Bookmarkable'],
    quick: true,
  },
  {
    name: 'header-revision',
    about: 'the cursor follows the revision of the response header',
    part: 'agent',
    swap: { module: 'edge-agent/watch/etcd.ts', by: 'test/mutation/header-revision.ts' },
    scenario: 'backlog',
    rules: ['Reliable', 'Bookmarkable', 'Complete'],
    quick: true,
  },
  {
    name: 'manual-bookmark',
    about: 'manual bookmarks are trusted on a server where they overtake events',
    part: 'agent',
    swap: { module: 'edge-agent/watch/etcd.ts', by: 'test/mutation/manual-bookmark.ts' },
    scenario: 'backlog',
    rules: ['Reliable', 'Bookmarkable', 'Complete', 'Epoch'],
    etcd: '3.4.23',
    rounds: 3,
  },
  {
    name: 'no-lineage',
    about: 'the watch goes on at the position without proof that the history is the same',
    part: 'agent',
    edits: [
      {
        module: 'edge-agent/attach.ts',
        find: '  const { clusterId, raftTerm, revision: head } = facts.head\n',
        replace: `  const unproved = openFeed(member, facts, addRevision(from.position, 1), options, deps, deps.onOutputs)
  deps.onAttached({ feed: unproved, reproduced: [], unchangedTo: from.position, state: undefined })
  void unproved.start()
  if (unproved !== undefined) return { kind: 'attached', feed: unproved }
  const { clusterId, raftTerm, revision: head } = facts.head
`,
      },
    ],
    scenario: 'restore-past',
    rules: ['Reliable', 'Complete', 'Bookmarkable'],
  },
  {
    name: 'message-id',
    about: 'a message id instead of compare-and-append, duplicates taken for success',
    part: 'agent',
    edits: [
      {
        module: 'edge-agent/uplink/hub.ts',
        find: 'expectation.set(EXPECTED_LAST, String(expectedSeq))',
        replace: `const { decodeEntry } = await import('#protocol/log/decode.ts')
      const sent = decodeEntry(entry)
      const value = sent.ok ? sent.value : undefined
      const place = value !== undefined && 'prevRevision' in value ? value.prevRevision : value?.entryId
      expectation.set('Nats-Msg-Id', [value?.epoch, place, value?.kind === 'chunk' ? value.index : ''].join(':'))`,
      },
      {
        module: 'edge-agent/uplink/hub.ts',
        find: 'if (reply.duplicate === true)',
        replace: 'if (Number(reply.seq) < 0)',
      },
      { module: 'edge-agent/uplink/window.ts', find: 'if (entry.seq !== seq) {', replace: 'if (seq < 0) {' },
    ],
    scenario: 'two-leaders',
    rules: ['Reliable', 'Complete', 'Chain', 'Bookmarkable'],
    except: /carries Nats-Msg-Id|without an expected last sequence/,
  },
  {
    name: 'no-chain-rule',
    about: 'the reader accepts every entry, whatever it continues',
    part: 'gateway',
    edits: [
      {
        module: 'protocol/log/chain.ts',
        find: "  if (entry.prevEntryId !== state.entryId) return { kind: 'void', reason: 'chain' }\n",
        replace: '',
      },
    ],
    scenario: 'straggler',
    rules: ['Resync', 'Reliable', 'Bookmarkable', 'Unique', 'Ordered'],
    quick: true,
  },
  {
    name: 'resume-at-head',
    about: 'after a reconnect only what is newer than the head is relayed',
    part: 'agent',
    edits: [
      {
        module: 'edge-agent/attach.ts',
        find: 'if (compareRevisions(output.revision.revision, from.position) > 0) fresh.push(output)',
        replace: 'if (compareRevisions(output.revision.revision, facts.head.revision) > 0) fresh.push(output)',
      },
    ],
    scenario: 'kill-agent',
    rules: ['Reliable', 'Bookmarkable', 'Complete'],
    quick: true,
  },
  {
    name: 'half-a-transaction',
    about: 'a piece of a response counts as a whole one',
    part: 'agent',
    edits: [
      {
        module: 'edge-agent/watch/state.ts',
        find: 'if (!message.fragment && this.#openRevision !== undefined)',
        replace: 'if (this.#openRevision !== undefined)',
      },
    ],
    scenario: 'fragments',
    rules: ['Atomic', 'Reliable', 'Complete'],
    quick: true,
  },
  {
    name: 'no-chain-rule-at-the-tail',
    about: 'the agent takes the last entry for its position, whatever it continues',
    part: 'agent',
    edits: [
      {
        module: 'protocol/log/chain.ts',
        find: "  if (entry.prevEntryId !== state.entryId) return { kind: 'void', reason: 'chain' }\n",
        replace: '',
      },
    ],
    scenario: 'straggler',
    rules: ['Resync', 'Reliable', 'Bookmarkable', 'Complete', 'Chain'],
  },
]

/** Throws when an anchor is not there exactly once. */
export function applyEdits(source: string, edits: readonly Edit[]): string {
  let text = source
  for (const { module, find, replace } of edits) {
    const times = text.split(find).length - 1
    if (times !== 1) throw new Error(`${module} holds ${times} times, not once: ${JSON.stringify(find)}`)
    text = text.replace(find, () => replace)
  }
  return text
}

export const moduleUrl = (module: string): string => new URL(`../../${module}`, import.meta.url).href
export const modulePath = (module: string): string => fileURLToPath(moduleUrl(module))

/** Node's option that makes a program run under the mutation. */
export const importOption = (mutation: { readonly name: string }): string =>
  `--import=${moduleUrl('test/mutation/preload.ts')}?mutation=${mutation.name}`
