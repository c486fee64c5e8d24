// The words of the policy oracle: rules, worlds, events, answers, and the personal data the cases contain.
// Owns: shapes and constants that the oracle's parts and its generator share. Refuses: imports from policies/.

export type Cond =
  | { is: 'field'; name: string; to: string; not: boolean }
  | { is: 'above'; name: string; than: number }
  | { is: 'has'; name: string }
  | { is: 'tagged'; tag: string }
  | { is: 'op'; op: string }
  | { is: 'keyStarts'; prefix: string }
  | { is: 'const'; value: boolean }
  | { is: 'not'; of: Cond }
  | { is: 'and' | 'or'; left: Cond; right: Cond }
export type SubCond =
  | { is: 'scope'; scope: string }
  | { is: 'anonymous'; not: boolean }
  | { is: 'label'; name: string; value: string }
  | { is: 'org'; org: string }

export type OTransform = {
  field?: string
  detect?: string[]
  action: string
  n?: number
  key?: string
  required?: boolean
}
export type ORule = {
  id: string
  effect: 'allow' | 'deny'
  keys: string[]
  except: string[]
  ops: string[] | undefined
  regions: string[] | undefined
  audience: string[] | undefined
  when: Cond | undefined
  whenSubscriber: SubCond | undefined
  transform: OTransform[]
  keyTransform: { segment: number; key: string } | undefined
  expires: number | undefined
}
/** The one schema used says: an object with the name `c`. */
export type OSchema = { keys: string[]; id: string; onInvalid: 'withhold' | 'quarantine' }
export type OWorld = { rules: ORule[]; schemas: OSchema[]; hub: string }
export type OSubscriber = {
  region: string
  org: string
  audiences: string[]
  scopes: string[]
  anonymous: boolean
  labels: Record<string, string>
}
export type OEvent = {
  op: 'put' | 'delete'
  key: string
  value: string | undefined
  prev: string | undefined
  prevKnown: boolean
  withheld: string | undefined
  applied: OTransform[]
}

export type OAnswer =
  | { effect: 'allow'; key: string; value: unknown; raw: string | undefined; rules: string[]; transforms: OTransform[] }
  | { effect: 'withhold'; key: string; causes: string[]; rules: string[]; transforms: OTransform[] }
  /** Each cause is `reason rule`. Any of them may be the one reported. */
  | { effect: 'deny'; causes: string[] }

/** Texts that hold personal data, by kind. Nothing else the cases contain does. */
export const PERSONAL: readonly { kind: string; text: string }[] = [
  { kind: 'cn-id', text: '11010519491231002X' },
  { kind: 'phone', text: '13800138000' },
  { kind: 'phone', text: '+86 139 0013 9000' },
  { kind: 'hkid', text: 'A123456(3)' },
  { kind: 'mo-id', text: '1234567(8)' },
  { kind: 'email', text: 'tai.man@example.com' },
  { kind: 'bank-card', text: '6222021234567890128' },
]
export const KNOWN_KEYS = ['k1', 'k2']
export const secretOf = (id: string): string => `oracle key ${id} with more than thirty-two bytes`
