// What keeps data back, broken one piece at a time, and what must then be found downstream.
// Owns: the list. Like mutations.ts, but convicted by what leaks or is missing (test/e2e/policy-broken.test.ts), not by the judge.

import type { Edit } from './mutations.ts'

/** Signs of a breach; the whole product shows none of them. */
export type Breach =
  | 'a class sees what deliver denies'
  | 'a class sees what deliver masks'
  | 'the log holds what egress denies'
  | 'a key that left the view is not named'
  | 'a denial of deliver is not recorded'

export type PolicyMutation = {
  readonly name: string
  readonly about: string
  readonly part: 'agent' | 'gateway'
  readonly edits: readonly Edit[]
  readonly breach: Breach
}

export const POLICY_MUTATIONS: readonly PolicyMutation[] = [
  {
    name: 'deliver-open',
    about: 'the gateway shows what deliver denies',
    part: 'gateway',
    edits: [
      {
        module: 'gateway/delivery/policy-port.ts',
        find: "    case 'deny':\n      return undefined\n",
        replace:
          "    case 'deny':\n      return { op: 'put', key: entry.key, entry, value: entry.value, withheld: undefined }\n",
      },
    ],
    breach: 'a class sees what deliver denies',
  },
  {
    name: 'deliver-untransformed',
    about: 'the gateway sends the bytes of the log, not those of the decision',
    part: 'gateway',
    edits: [
      {
        module: 'gateway/delivery/policy-port.ts',
        find: 'key: decision.key, entry, value: decision.value, withheld: undefined',
        replace: 'key: decision.key, entry, value: entry.value, withheld: undefined',
      },
    ],
    breach: 'a class sees what deliver masks',
  },
  {
    name: 'egress-unconditional',
    about: 'the agent takes every condition for true',
    part: 'agent',
    edits: [
      {
        module: 'policies/engine/decider.ts',
        find: "return when.evaluate(event.op, event.key, this.#values.of(event)) ? 'yes' : 'no'",
        replace: "return when.evaluate(event.op, event.key, this.#values.of(event)) ? 'yes' : 'yes'",
      },
    ],
    breach: 'the log holds what egress denies',
  },
  {
    name: 'no-scope',
    about: 'a change of policy does not name the keys that leave',
    part: 'gateway',
    edits: [{ module: 'gateway/delivery/policy-change.ts', find: 'left.push(was.key)', replace: 'void left' }],
    breach: 'a key that left the view is not named',
  },
  {
    name: 'unrecorded',
    about: 'the gateway decides and records nothing',
    part: 'gateway',
    edits: [{ module: 'gateway/policy-record.ts', find: 'log.decided(', replace: 'void (' }],
    breach: 'a denial of deliver is not recorded',
  },
]
