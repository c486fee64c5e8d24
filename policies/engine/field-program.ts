// The fields of all matching rules as one automaton over names: each state is a place in the value, with the merged action for it.
// Owns: JSON Pointers with `*` and `**`, and the merging per place (subset construction, done lazily, bounded).
// Does not own: reading JSON (field-transform.ts).

import { MAX_FIELD_STATES, MAX_POINTER_SEGMENTS } from './bounds.ts'
import { actionOf, fieldDescriptor, strictest } from './field-action.ts'
import type { FieldAction, FieldTransform } from './field-action.ts'

export type FieldUse = { readonly rule: string; readonly transform: FieldTransform }

/** What applies at one place. `rule` is the smallest id that asks for it. */
export type PlaceAction = {
  readonly action: FieldAction
  readonly rule: string
  readonly descriptors: readonly string[]
  /** What each rule alone would do there. */
  readonly owners: readonly { readonly rule: string; readonly action: FieldAction }[]
}

type Node = {
  readonly names: Map<string, Node>
  star: Node | undefined
  /** A `**` that starts here: may take nothing, hence part of this node's closure. */
  deep: Node | undefined
  /** Only on a `**`: where it is after taking a name (itself, plus what a trailing `**` does). */
  loop: Node | undefined
  readonly uses: FieldUse[]
  readonly required: number[]
}

export type Place = {
  readonly nodes: readonly Node[]
  readonly here: PlaceAction | undefined
  readonly required: readonly number[]
  /** Names with a place of their own, as UTF-8, for comparing with the source without decoding it. */
  readonly names: readonly Uint8Array[]
  readonly places: (Place | undefined)[]
  readonly byName: ReadonlyMap<string, number>
  /** Every other name; false until computed. */
  other: Place | undefined | false
}

export type Required = { readonly pointer: string; readonly rule: string; readonly descriptor: string }

const node = (): Node => ({
  names: new Map(),
  star: undefined,
  deep: undefined,
  loop: undefined,
  uses: [],
  required: [],
})

/** Decoded segments of a pointer; `undefined` stands for `*`, `null` for `**`. */
export function pointerSegments(pointer: string): readonly (string | undefined | null)[] {
  return pointer
    .slice(1)
    .split('/')
    .map((part) => (part === '*' ? undefined : part === '**' ? null : part.replaceAll('~1', '/').replaceAll('~0', '~')))
}

/** A sentence when the transform's pointer cannot be used, else undefined. */
export function refusePointer(transform: FieldTransform): string | undefined {
  const segments = pointerSegments(transform.field)
  if (segments.length > MAX_POINTER_SEGMENTS) return `has more than ${MAX_POINTER_SEGMENTS} segments`
  if (segments.some((s, i) => s === null && segments[i + 1] === null)) return 'has ** twice in a row'
  if (segments.filter((s) => s === null).length > 2) return 'has more than two **'
  if (transform.required === true && segments.some((s) => typeof s !== 'string'))
    return 'cannot be required, because it has wildcards'
  return undefined
}

export class FieldProgram {
  readonly root: Place
  readonly required: readonly Required[]
  /** Sorted, without repeats. */
  readonly descriptors: readonly string[]
  /** The smallest rule id that needs the value to be JSON. */
  readonly rule: string
  readonly #known = new Map<string, Place>()
  readonly #ids = new Map<Node, number>()
  #placeCount = 0

  constructor(uses: readonly FieldUse[]) {
    const root = node()
    const required: Required[] = []
    for (const use of uses) {
      const end = reach(root, pointerSegments(use.transform.field))
      end.uses.push(use)
      if (use.transform.required === true) {
        end.required.push(required.length)
        required.push({ pointer: use.transform.field, rule: use.rule, descriptor: fieldDescriptor(use.transform) })
      }
    }
    this.required = required
    this.descriptors = [...new Set(uses.map((use) => fieldDescriptor(use.transform)))].sort()
    this.rule = uses.reduce((least, use) => (use.rule < least ? use.rule : least), uses[0]?.rule ?? '')
    this.root = this.#place(closure([root])) as Place
  }

  /** The place of a named member, given by its index in `place.names`, or of any other name (-1). Undefined: nothing applies below. */
  child(place: Place, index: number): Place | undefined {
    if (index >= 0) return place.places[index]
    if (place.other === false) place.other = this.#place(step(place.nodes, undefined))
    return place.other
  }

  #place(nodes: readonly Node[]): Place | undefined {
    if (nodes.length === 0) return undefined
    const id = nodes
      .map((n) => this.#idOf(n))
      .sort((a, b) => a - b)
      .join(',')
    const known = this.#known.get(id)
    if (known !== undefined) return known
    if (++this.#placeCount > MAX_FIELD_STATES)
      throw new Error('the fields of the matching rules make too many combinations')
    const texts = [...new Set(nodes.flatMap((n) => [...n.names.keys()]))]
    const place: Place = {
      nodes,
      here: merged(nodes.flatMap((n) => n.uses)),
      required: nodes.flatMap((n) => n.required),
      names: texts.map((text) => encoder.encode(text)),
      places: [],
      byName: new Map(texts.map((text, i) => [text, i])),
      other: false,
    }
    this.#known.set(id, place)
    for (const text of texts) place.places.push(this.#place(step(nodes, text)))
    return place
  }

  #idOf(n: Node): number {
    let id = this.#ids.get(n)
    if (id === undefined) this.#ids.set(n, (id = this.#ids.size))
    return id
  }
}

const encoder = new TextEncoder()

function reach(root: Node, segments: readonly (string | undefined | null)[]): Node {
  let at = root
  for (const [i, segment] of segments.entries()) {
    if (segment === null) {
      at.deep ??= deepNode()
      // A trailing `**` speaks of every place below, never of the place it starts from.
      at = i === segments.length - 1 ? (at.deep.loop as Node) : at.deep
    } else if (segment === undefined) at = at.star ??= node()
    else {
      let next = at.names.get(segment)
      if (next === undefined) at.names.set(segment, (next = node()))
      at = next
    }
  }
  return at
}

function deepNode(): Node {
  const start = node()
  const loop = node()
  // After a name the `**` may stop or go on: its start is in the closure of its loop.
  loop.deep = start
  start.loop = loop
  return start
}

/** Adds the `**` nodes reachable without taking a name. */
function closure(nodes: readonly Node[]): readonly Node[] {
  const all = new Set(nodes)
  for (const n of all) if (n.deep !== undefined) all.add(n.deep)
  return [...all]
}

function step(nodes: readonly Node[], name: string | undefined): readonly Node[] {
  const next = new Set<Node>()
  for (const n of nodes) {
    const named = name === undefined ? undefined : n.names.get(name)
    if (named !== undefined) next.add(named)
    if (n.star !== undefined) next.add(n.star)
    if (n.loop !== undefined) next.add(n.loop)
  }
  return closure([...next])
}

function merged(uses: readonly FieldUse[]): PlaceAction | undefined {
  const [first, ...rest] = uses
  if (first === undefined) return undefined
  let action = actionOf(first.transform)
  for (const use of rest) action = strictest(action, actionOf(use.transform))
  const owners = new Map<string, FieldAction>()
  for (const use of uses) {
    const [own, known] = [actionOf(use.transform), owners.get(use.rule)]
    owners.set(use.rule, known === undefined ? own : strictest(known, own))
  }
  // A withheld value names a rule that asked for exactly that.
  const asking = action.kind === 'withhold' ? uses.filter((use) => use.transform.action === 'withhold') : uses
  return {
    action,
    rule: asking.reduce((least, use) => (use.rule < least ? use.rule : least), asking[0]?.rule ?? ''),
    descriptors: [...new Set(uses.map((use) => fieldDescriptor(use.transform)))],
    owners: [...owners].map(([rule, own]) => ({ rule, action: own })),
  }
}
