// Whether a condition at the gateway reads what the source wrote. Egress may have masked, cut or dropped the very field a rule decides
// by; judged by what is left, a deny would not match and an allow would.
// Owns: saying so for one value and the transforms its log entry lists. Errs towards "changed": a transform it does not know, a place a
// pointer may have covered, a text that may hold the marks of a detector. Does not own: what follows for a rule (decider.ts).

import { maskText } from './detect/detect.ts'
import type { ReadPath } from './condition-reads.ts'
import { DETECTORS } from './document.ts'
import { pointerSegments } from './field-program.ts'

/** What one listed transform may have done to a place that is read. */
type Touch = 'nothing' | 'below' | 'the place' | 'detection'

const MARK = '*'
const MAX_KNOWN = 4096
const ALL = new Set(DETECTORS)

export class Readable {
  readonly #reads: readonly ReadPath[]
  /** Per listed transform, for each path; log entries repeat the same few. */
  readonly #touches = new Map<string, readonly Touch[]>()

  constructor(reads: readonly ReadPath[]) {
    this.#reads = reads
  }

  /** Throws when egress may have changed what the condition reads. `value` gives the decoded value, and is called only when needed. */
  check(applied: readonly string[], value: () => unknown): void {
    // Every detector leaves the same marks, so that looking once is enough.
    let looked = false
    for (const descriptor of applied) {
      const touches = this.#touch(descriptor)
      for (const [i, touch] of touches.entries()) {
        if (touch === 'nothing' || (touch === 'detection' && looked)) continue
        const path = this.#reads[i] as ReadPath
        if (touch === 'the place' || (touch === 'below' ? holdsMore : holdsMarks)(value(), path))
          throw new Error(`egress may have changed what the condition reads: ${descriptor}`)
      }
      looked ||= touches.includes('detection')
    }
  }

  /** Whether an action on a field changes what is read, where there is something. Places below what is read are not counted. */
  changedBy(pointer: string, action: string): boolean {
    return action !== 'withhold' && this.#reads.some((path) => pointerTouches(pointer, path) === 'the place')
  }

  #touch(descriptor: string): readonly Touch[] {
    let known = this.#touches.get(descriptor)
    if (known === undefined) {
      known = this.#reads.map((path) => touchOf(descriptor, path))
      if (this.#touches.size >= MAX_KNOWN) this.#touches.clear()
      this.#touches.set(descriptor, known)
    }
    return known
  }
}

function touchOf(descriptor: string, path: ReadPath): Touch {
  const cut = descriptor.lastIndexOf('=')
  const [subject, action] = [descriptor.slice(0, cut), descriptor.slice(cut + 1)]
  // A value that is there was not withheld: whoever asks for it saw nothing.
  if (action === 'withhold' || subject.startsWith('key:')) return 'nothing'
  if (subject.startsWith('/')) return pointerTouches(subject, path)
  if (!subject.startsWith('detect:') || action !== 'mask') return 'the place'
  return path.some((name) => name.includes(MARK) || maskText(name, ALL) !== undefined) ? 'the place' : 'detection'
}

/** Whether the transform of a field may have changed the place, one it stands in, or one below it. */
export function pointerTouches(pointer: string, path: ReadPath): Touch {
  const segments = pointerSegments(pointer)
  const go = (s: number, p: number): Touch => {
    if (s === segments.length) return 'the place'
    if (p === path.length) return 'below'
    const segment = segments[s]
    if (segment === null) {
      // A trailing `**` speaks of every place below where it stands, elsewhere any number of names.
      if (s === segments.length - 1) return 'the place'
      const [none, one] = [go(s + 1, p), go(s, p + 1)]
      return none === 'the place' || one === 'the place' ? 'the place' : none === 'below' ? none : one
    }
    return segment === undefined || segment === path[p] ? go(s + 1, p + 1) : 'nothing'
  }
  return go(0, 0)
}

/** Where the path leads: as far as there are objects and lists. */
function reach(value: unknown, path: ReadPath): { readonly at: unknown; readonly whole: boolean } {
  let at = value
  for (const name of path) {
    if (typeof at !== 'object' || at === null) return { at, whole: false }
    if (!Object.hasOwn(at, name)) return { at: undefined, whole: false }
    at = (at as Record<string, unknown>)[name]
  }
  return { at, whole: true }
}

/** Only what has an inside can have been changed below itself. */
function holdsMore(value: unknown, path: ReadPath): boolean {
  const { at, whole } = reach(value, path)
  return whole && typeof at === 'object' && at !== null
}

/** A detector leaves a mark for every character it takes, in texts and in names. */
function holdsMarks(value: unknown, path: ReadPath): boolean {
  return marked(reach(value, path).at)
}

function marked(value: unknown): boolean {
  if (typeof value === 'string') return value.includes(MARK)
  if (typeof value !== 'object' || value === null) return false
  return Object.entries(value).some(([name, item]) => name.includes(MARK) || marked(item))
}
