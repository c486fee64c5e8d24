// One revision, expected against received.
// Owns: telling which rule a difference breaks. Refuses: state; what came before is the subscription's matter.

import type { SeenEntry, SeenEvent } from './seen.ts'
import type { Held } from './truth.ts'
import type { Rule } from './verdict.ts'
import type { Expected, ExpectedRevision, View } from './view.ts'

export type Difference = { readonly rule: Rule; readonly detail: string }

export const printable = (key: string): string => JSON.stringify(key.length > 60 ? `${key.slice(0, 60)}…` : key)

/** Everything wrong with the received events of one revision; empty when they are what happened. */
export function compareRevision(expected: ExpectedRevision, received: readonly SeenEvent[], view: View): Difference[] {
  const found: Difference[] = []
  const at = `revision ${expected.revision}`
  const byKey = new Map<string, SeenEvent>()
  for (const event of received) {
    if (!view.selects(event.key))
      found.push({ rule: 'Filter', detail: `${at}: key ${printable(event.key)} is not selected` })
    if (byKey.has(event.key))
      found.push({ rule: 'Unique', detail: `${at}: key ${printable(event.key)} twice in one frame` })
    byKey.set(event.key, event)
  }
  for (const event of expected.events) {
    const got = byKey.get(event.key)
    byKey.delete(event.key)
    if (got === undefined) {
      found.push({ rule: 'Atomic', detail: `${at}: ${event.op} of ${printable(event.key)} is missing from the frame` })
    } else found.push(...compareEvent(at, event, got, expected.revision))
  }
  for (const key of byKey.keys()) {
    if (view.selects(key))
      found.push({ rule: 'Reliable', detail: `${at}: an event of ${printable(key)} that never was` })
  }
  if (found.length === 0 && expected.ordered) {
    const [wanted, got] = [expected.events, received].map((list) => list.map((event) => event.key).join('\0'))
    if (wanted !== got) found.push({ rule: 'Ordered', detail: `${at}: events not in the order of the transaction` })
  }
  return found
}

function compareEvent(at: string, expected: Expected, got: SeenEvent, revision: number): Difference[] {
  if (expected.op !== got.op) {
    return [{ rule: 'Reliable', detail: `${at}: ${printable(got.key)} arrived as ${got.op}, was ${expected.op}` }]
  }
  if (expected.op !== 'put' || got.op !== 'put') return []
  return compareEntry(at, expected, expected.masked, got, revision)
}

/** A put or a snapshot item against what etcd held. */
export function compareEntry(at: string, held: Held, masked: boolean, got: SeenEntry, revision?: number): Difference[] {
  const found: Difference[] = []
  const key = printable(got.key)
  if (got.value.kind === 'exact' && (got.value.value === held.value) === masked) {
    found.push({ rule: 'Reliable', detail: `${at}: value of ${key} ${masked ? 'arrived unmasked' : 'differs'}` })
  }
  if (got.value.kind === 'absent' && !masked) {
    found.push({ rule: 'Reliable', detail: `${at}: value of ${key} did not arrive (${got.value.why})` })
  }
  if (revision !== undefined && got.create !== undefined && (got.create === revision) !== (held.create === revision)) {
    found.push({ rule: 'IsCreate', detail: `${at}: ${key} created at ${held.create}, arrived as ${got.create}` })
  } else if (got.create !== undefined && got.create !== held.create) {
    found.push({ rule: 'PrevKV', detail: `${at}: ${key} created at ${held.create}, arrived as ${got.create}` })
  }
  if (got.version !== undefined && got.version !== held.version) {
    found.push({ rule: 'PrevKV', detail: `${at}: ${key} has version ${held.version}, arrived as ${got.version}` })
  }
  if (got.lease !== undefined && got.lease !== held.lease) {
    found.push({ rule: 'PrevKV', detail: `${at}: ${key} has lease ${held.lease}, arrived as ${got.lease}` })
  }
  if (revision === undefined && got.revision !== undefined && got.revision !== held.mod) {
    found.push({ rule: 'Snapshot', detail: `${at}: ${key} was written at ${held.mod}, arrived as ${got.revision}` })
  }
  return found
}
