// What happens to a value: the field rules and detectors of all matching allow rules, applied in one pass that splices the source.
// Owns: the walk over JSON, the splices (everything untouched stays byte for byte), detection in strings, numbers and names, and the
// reasons to withhold. Fails closed: what is not understood is never passed on.

import { MAX_JSON_DEPTH, MAX_TRANSFORM_VALUE_BYTES } from './bounds.ts'
import { copyBytes } from './bytes-out.ts'
import type { BytesOut } from './bytes-out.ts'
import { maskNumber, maskText } from './detect/detect.ts'
import type { Wanted } from './detect/detect.ts'
import type { Detector } from './document.ts'
import { actOn } from './field-action.ts'
import type { FieldProgram, Place, PlaceAction } from './field-program.ts'
import { foreseeName, foreseeScalar } from './foreseen.ts'
import type { RuleDetection } from './foreseen.ts'
import { CLOSE_ARRAY, CLOSE_OBJECT, COLON, COMMA, JsonScan, OPEN_ARRAY, OPEN_OBJECT, QUOTE } from './json-scan.ts'
import type { PolicyDeps, WithholdReason } from './types.ts'

export type Transformed =
  /** The very same bytes when nothing had to change. */
  | { readonly ok: true; readonly value: Uint8Array }
  | { readonly ok: false; readonly reason: WithholdReason; readonly rule: string }

export type Detection = {
  readonly wanted: Wanted
  /** Detectors whose hit withholds the value instead of masking it, each with the smallest rule id that asks for it; by rule id. */
  readonly withholding: readonly { readonly wanted: Wanted; readonly rule: string }[]
  /** The same by rule, in the order of their ids. */
  readonly rules: readonly RuleDetection[]
  /** Smallest rule id that asks for detection at all. */
  readonly rule: string
}

/** The rule that withholds a text or number for what is found in it. */
function withholdingRule({ withholding }: Detection, hits: (wanted: Wanted) => boolean): string | undefined {
  return withholding.length === 0 ? undefined : withholding.find(({ wanted }) => hits(wanted))?.rule
}

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const MASKED = encoder.encode('"***"')
const NULL = encoder.encode('null')
const NOTHING = new Uint8Array(0)
const OPEN: readonly string[] = []
/** Covered by rules whose names do not matter, because nothing withholds for what it finds. */
const COVERED: readonly string[] = ['']

type Failure = { readonly reason: WithholdReason; readonly rule: string }

/** One value through one set of rules. `program` undefined: detection only. `applied`: what egress did already. */
export function transformValue(
  value: Uint8Array,
  program: FieldProgram | undefined,
  detection: Detection | undefined,
  applied: readonly string[],
  deps: PolicyDeps,
  out: BytesOut,
): Transformed {
  const rule = program?.rule ?? detection?.rule ?? ''
  if (value.length > MAX_TRANSFORM_VALUE_BYTES) return { ok: false, reason: 'too-large', rule }
  const walk = new Walk(value, program, detection, applied, deps)
  // What is no JSON says so, whatever was met before the place where it breaks.
  if (!walk.document()) {
    if (program !== undefined) return { ok: false, reason: 'not-json', rule: program.rule }
    return detection === undefined ? { ok: true, value } : plainText(value, detection)
  }
  if (walk.failure !== undefined) return { ok: false, ...walk.failure }
  return { ok: true, value: walk.result(out) }
}

/** A value that is no JSON, for rules that only detect: text is masked as one string, anything else is withheld. */
function plainText(value: Uint8Array, detection: Detection): Transformed {
  const withhold: Transformed = { ok: false, reason: 'not-text', rule: detection.rule }
  let text: string
  try {
    text = decoder.decode(value)
  } catch {
    return withhold
  }
  // Control characters can part digits, and entities or escapes can spell them.
  if (/[^\P{Cc}\t\n\r]/u.test(text) || /&#|\\x[0-9a-fA-F]{2}/.test(text)) return withhold
  const withholder = withholdingRule(detection, (wanted) => maskText(text, wanted) !== undefined)
  if (withholder !== undefined) return { ok: false, reason: 'detected', rule: withholder }
  const masked = maskText(text, detection.wanted)
  return { ok: true, value: masked === undefined ? value : encoder.encode(masked) }
}

class Walk {
  readonly #scan: JsonScan
  readonly #program: FieldProgram | undefined
  readonly #detection: Detection | undefined
  readonly #applied: readonly string[]
  readonly #deps: PolicyDeps
  /** Pairs of start and end, ascending, and what stands there instead. */
  readonly #cuts: number[] = []
  readonly #fills: Uint8Array[] = []
  #seen: Set<number> | undefined
  failure: Failure | undefined

  constructor(
    value: Uint8Array,
    program: FieldProgram | undefined,
    detection: Detection | undefined,
    applied: readonly string[],
    deps: PolicyDeps,
  ) {
    this.#scan = new JsonScan(value)
    this.#program = program
    this.#detection = detection
    this.#applied = applied
    this.#deps = deps
  }

  document(): boolean {
    const scan = this.#scan
    scan.space()
    if (!this.#value(this.#program?.root, undefined, 0, OPEN)) return false
    scan.space()
    if (scan.at !== scan.bytes.length) return false
    this.#complete()
    return true
  }

  result(pool: BytesOut): Uint8Array {
    const source = this.#scan.bytes
    const cuts = this.#cuts
    if (cuts.length === 0) return source
    let size = source.length
    for (let i = 0; i < this.#fills.length; i++)
      size += (this.#fills[i] as Uint8Array).length - ((cuts[2 * i + 1] as number) - (cuts[2 * i] as number))
    const out = pool.take(size)
    let from = 0
    let to = 0
    for (let i = 0; i < this.#fills.length; i++) {
      const start = cuts[2 * i] as number
      const fill = this.#fills[i] as Uint8Array
      copyBytes(source, from, start, out, to)
      to += start - from
      copyBytes(fill, 0, fill.length, out, to)
      to += fill.length
      from = cuts[2 * i + 1] as number
    }
    copyBytes(source, from, source.length, out, to)
    return out
  }

  #complete(): void {
    const required = this.#program?.required ?? []
    for (const [i, need] of required.entries()) {
      if (this.#seen?.has(i) === true || this.#handled(need.pointer)) continue
      this.#fail('missing-field', need.rule)
    }
  }

  /** Egress already did something to that very field, so that its absence is egress's doing. */
  #handled(pointer: string): boolean {
    const applied = this.#applied
    for (const descriptor of applied) if (descriptor.slice(0, descriptor.lastIndexOf('=')) === pointer) return true
    return false
  }

  /** The first reason stays; the walk goes on, because only its end says whether the value is JSON at all. */
  #fail(reason: WithholdReason, rule: string): void {
    this.failure ??= { reason, rule }
  }

  /** The action still to be done at a place: none when egress did all of what the rules ask there. */
  #action(place: Place | undefined): PlaceAction | undefined {
    const here = place?.here
    if (here === undefined || this.#applied.length === 0) return here
    return here.descriptors.every((descriptor) => this.#applied.includes(descriptor)) ? undefined : here
  }

  /**
   * Walks the value at the scan. `above`: the rules that replace it from above, so that only what withholds matters. What is to be
   * dropped is dropped by the caller. False: not JSON.
   */
  #value(place: Place | undefined, action: PlaceAction | undefined, depth: number, above: readonly string[]): boolean {
    if (place !== undefined) for (const id of place.required) (this.#seen ??= new Set()).add(id)
    if (action?.action.kind === 'withhold') this.#fail('rule', action.rule)
    const scan = this.#scan
    const start = scan.at
    const byte = scan.peek()
    if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      if (depth >= MAX_JSON_DEPTH) return false
      const mark = this.#fills.length
      const inner =
        action === undefined ? above : this.#withholds() ? [...above, ...action.owners.map((o) => o.rule)] : COVERED
      if (!(byte === OPEN_OBJECT ? this.#object(place, depth + 1, inner) : this.#array(place, depth + 1, inner)))
        return false
      if (action !== undefined && action.action.kind !== 'drop' && above.length === 0) {
        // Any action on a whole object or list masks it: nothing weaker has a meaning there.
        this.#fills.length = mark
        this.#cuts.length = 2 * mark
        this.#cut(start, scan.at, MASKED)
      }
      return true
    }
    if (!scan.scalar()) return false
    if (this.failure !== undefined) return true
    if (above.length > 0 || action?.action.kind === 'drop') {
      if (this.#withholds()) this.#foresee(action, start, byte === QUOTE, above)
    } else if (action !== undefined) this.#act(action, start, byte === QUOTE)
    else if (this.#detection !== undefined) {
      if (byte === QUOTE) this.#detectString(start, scan.at, this.#detection)
      else this.#detectNumber(start, this.#detection)
    }
    return true
  }

  #act(place: PlaceAction, start: number, quoted: boolean): void {
    const scan = this.#scan
    const { action } = place
    if (action.kind === 'mask') {
      if (this.#withholds()) this.#foresee(place, start, quoted, OPEN)
      this.#cut(start, scan.at, MASKED)
      return
    }
    if (this.#foresee(place, start, quoted, OPEN)) return this.#cut(start, scan.at, MASKED)
    const text = quoted ? scan.decoded(start, scan.at) : scan.text(start, scan.at)
    let result = actOn(action, text, this.#deps)
    if (result === undefined) return this.#fail('missing-key', place.rule)
    const detection = this.#detection
    // What a hash or HMAC left is ours, and masking parts of it would only break joins.
    if (detection !== undefined && action.kind !== 'hash' && action.kind !== 'hmac') {
      const shown = result
      const withholder = withholdingRule(detection, (wanted) => maskText(shown, wanted) !== undefined)
      if (withholder !== undefined) return this.#fail('detected', withholder)
      result = maskText(result, detection.wanted) ?? result
    }
    if (result !== text || !quoted) this.#cut(start, scan.at, quotedBytes(result))
  }

  #withholds(): boolean {
    return this.#detection !== undefined && this.#detection.withholding.length > 0
  }

  /** True when a detector finds at this place what other rules' actions would hide from it; withholds when that is what it asks for. */
  #foresee(place: PlaceAction | undefined, start: number, quoted: boolean, above: readonly string[]): boolean {
    const detection = this.#detection
    if (detection === undefined) return false
    const scan = this.#scan
    const text = quoted ? scan.decoded(start, scan.at) : scan.text(start, scan.at)
    const { withheldBy, hit } = foreseeScalar({ text, quoted }, detection.rules, place, above, this.#deps)
    if (withheldBy !== undefined) this.#fail('detected', withheldBy)
    return hit
  }

  /** The string token in [start, end), a value or a name. */
  #detectString(start: number, end: number, detection: Detection): void {
    const scan = this.#scan
    if (!scan.suspicious) return
    const text = scan.decoded(start, end)
    const withholder = withholdingRule(detection, (wanted) => maskText(text, wanted) !== undefined)
    if (withholder !== undefined) return this.#fail('detected', withholder)
    const masked = maskText(text, detection.wanted)
    if (masked !== undefined) this.#cut(start, end, quotedBytes(masked))
  }

  #detectNumber(start: number, detection: Detection): void {
    const scan = this.#scan
    if (scan.at - start < 6) return
    const text = scan.text(start, scan.at)
    const withholder = withholdingRule(detection, (wanted) => maskNumber(text, wanted) !== undefined)
    if (withholder !== undefined) return this.#fail('detected', withholder)
    const masked = maskNumber(text, detection.wanted)
    if (masked !== undefined) this.#cut(start, scan.at, quotedBytes(masked))
  }

  #object(place: Place | undefined, depth: number, above: readonly string[]): boolean {
    const scan = this.#scan
    scan.at++
    scan.space()
    if (scan.peek() === CLOSE_OBJECT) {
      scan.at++
      return true
    }
    let kept = false
    let comma = -1
    for (;;) {
      const start = scan.at
      if (!scan.string()) return false
      const nameEnd = scan.at
      const child = place === undefined ? undefined : this.#named(place, start, nameEnd)
      const action = this.#action(child)
      const dropped = above.length === 0 && action?.action.kind === 'drop'
      if (this.#detection !== undefined) {
        if (above.length === 0 && !dropped) this.#detectString(start, nameEnd, this.#detection)
        else if (this.#withholds() && scan.suspicious) {
          const withholder = foreseeName(scan.decoded(start, nameEnd), this.#detection.rules, action, above)
          if (withholder !== undefined) this.#fail('detected', withholder)
        }
      }
      scan.space()
      if (scan.peek() !== COLON) return false
      scan.at++
      scan.space()
      if (!this.#value(child, action, depth, above)) return false
      const end = scan.at
      scan.space()
      const next = scan.peek()
      if (next !== COMMA && next !== CLOSE_OBJECT) return false
      if (dropped) {
        if (kept) this.#cut(comma, end, NOTHING)
        else this.#cut(start, next === COMMA ? scan.at + 1 : end, NOTHING)
      } else kept = true
      comma = scan.at
      scan.at++
      if (next === CLOSE_OBJECT) return true
      scan.space()
    }
  }

  #array(place: Place | undefined, depth: number, above: readonly string[]): boolean {
    const scan = this.#scan
    scan.at++
    scan.space()
    if (scan.peek() === CLOSE_ARRAY) {
      scan.at++
      return true
    }
    for (let index = 0; ; index++) {
      const start = scan.at
      const child = place === undefined ? undefined : this.#indexed(place, index)
      const action = this.#action(child)
      const dropped = above.length === 0 && action?.action.kind === 'drop'
      if (!this.#value(child, action, depth, above)) return false
      // Removing it would move its neighbours to other indexes, which other rules name.
      if (dropped) this.#cut(start, scan.at, NULL)
      scan.space()
      const next = scan.peek()
      scan.at++
      if (next === CLOSE_ARRAY) return true
      if (next !== COMMA) return false
      scan.space()
    }
  }

  #named(place: Place, start: number, end: number): Place | undefined {
    const scan = this.#scan
    const program = this.#program as FieldProgram
    if (scan.escaped) return program.child(place, place.byName.get(scan.decoded(start, end)) ?? -1)
    const names = place.names
    for (let i = 0; i < names.length; i++)
      if (sameBytes(scan.bytes, start + 1, end - 1, names[i] as Uint8Array)) return program.child(place, i)
    return program.child(place, -1)
  }

  #indexed(place: Place, index: number): Place | undefined {
    const found = place.names.length === 0 ? undefined : place.byName.get(String(index))
    return (this.#program as FieldProgram).child(place, found ?? -1)
  }

  #cut(start: number, end: number, fill: Uint8Array): void {
    this.#cuts.push(start, end)
    this.#fills.push(fill)
  }
}

/** The JSON string of a text. */
function quotedBytes(text: string): Uint8Array {
  const plain = new Uint8Array(text.length + 2)
  plain[0] = QUOTE
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code < 0x20 || code >= 0x7f || code === QUOTE || code === 0x5c) return encoder.encode(JSON.stringify(text))
    plain[i + 1] = code
  }
  plain[text.length + 1] = QUOTE
  return plain
}

function sameBytes(bytes: Uint8Array, start: number, end: number, name: Uint8Array): boolean {
  if (end - start !== name.length) return false
  for (let i = 0; i < name.length; i++) if (bytes[start + i] !== name[i]) return false
  return true
}

export const detectDescriptor = (detector: Detector, action: 'mask' | 'withhold'): string =>
  `detect:${detector}=${action}`
