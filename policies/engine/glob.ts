// Key globs: `*` is any run of bytes inside one segment, `**` is whole segments. Segments are what `/` separates.
// Owns: parsing (strict: characters other glob dialects give a meaning are refused, never taken literally), matching one glob,
// and whether two globs can meet. Matching many globs at once is glob-index.ts.
// A trailing `**` takes one or more segments (`/a/**` does not match `/a`), elsewhere none or more (`/a/**/b` matches `/a/b`).

import { keyFromText } from '#protocol/bytes.ts'
import type { Key } from '#protocol/bytes.ts'
import { MAX_DEEP_PER_GLOB, MAX_GLOB_BYTES, MAX_GLOB_SEGMENTS, MAX_STARS_PER_SEGMENT } from './bounds.ts'
import type { Result } from './types.ts'

export type Segment =
  | { readonly kind: 'literal'; readonly bytes: string }
  /** `pieces` are the literal runs around the stars: `a*b` is ['a', 'b'], `*` alone is ['', '']. */
  | { readonly kind: 'pattern'; readonly pieces: readonly string[] }
  | { readonly kind: 'deep' }

export type Glob = {
  readonly text: string
  readonly segments: readonly Segment[]
  /** Every matching key starts with these bytes. */
  readonly prefix: Key
}

const RESERVED = /[?[\]{}\\!\p{Cc}]/u

export function parseGlob(text: string): Result<Glob, string> {
  const reserved = RESERVED.exec(text)
  if (reserved !== null) {
    return bad(
      `${JSON.stringify(reserved[0])} has no meaning here; only * and ** are wildcards, and * stands for any bytes of a segment`,
    )
  }
  const bytes = keyFromText(text)
  if (bytes.length === 0) return bad('is empty')
  if (bytes.length > MAX_GLOB_BYTES) return bad(`is longer than ${MAX_GLOB_BYTES} bytes`)
  const parts = bytes.split('/')
  if (parts.length > MAX_GLOB_SEGMENTS) return bad(`has more than ${MAX_GLOB_SEGMENTS} segments`)
  const segments: Segment[] = []
  let deep = 0
  for (const part of parts) {
    if (part === '**') {
      if (segments.at(-1)?.kind === 'deep') return bad('has ** twice in a row')
      if (++deep > MAX_DEEP_PER_GLOB) return bad(`has more than ${MAX_DEEP_PER_GLOB} **`)
      segments.push({ kind: 'deep' })
    } else if (part.includes('**')) {
      return bad('has ** inside a segment; ** must stand alone between slashes')
    } else if (part.includes('*')) {
      const pieces = part.split('*')
      if (pieces.length - 1 > MAX_STARS_PER_SEGMENT)
        return bad(`has more than ${MAX_STARS_PER_SEGMENT} * in one segment`)
      segments.push({ kind: 'pattern', pieces })
    } else segments.push({ kind: 'literal', bytes: part })
  }
  return { ok: true, value: { text, segments, prefix: literalPrefix(segments) } }
}

const bad = (message: string): Result<never, string> => ({ ok: false, error: message })

function literalPrefix(segments: readonly Segment[]): Key {
  let prefix = ''
  for (const [i, segment] of segments.entries()) {
    // `a/**/b` matches `a/b`, and a leading `**` matches nothing at all, so a deep segment ends what is certain.
    if (segment.kind === 'deep') return prefix as Key
    if (segment.kind === 'pattern') return (prefix + (segment.pieces[0] ?? '')) as Key
    prefix += segment.bytes
    if (i < segments.length - 1) prefix += '/'
  }
  return prefix as Key
}

export function globMatches(glob: Glob, key: string): boolean {
  return matchFrom(glob.segments, 0, key.split('/'), 0)
}

function matchFrom(segments: readonly Segment[], s: number, parts: readonly string[], p: number): boolean {
  for (; s < segments.length; s++, p++) {
    const segment = segments[s] as Segment
    if (segment.kind === 'deep') {
      if (s === segments.length - 1) return p < parts.length
      for (let rest = p; rest <= parts.length; rest++) if (matchFrom(segments, s + 1, parts, rest)) return true
      return false
    }
    const part = parts[p]
    if (part === undefined) return false
    if (segment.kind === 'literal' ? part !== segment.bytes : !piecesMatch(segment.pieces, part, 0, part.length))
      return false
  }
  return p === parts.length
}

/** Whether text[start, end) is the pieces in order, with anything between them. Leftmost placement is enough: linear tries. */
export function piecesMatch(pieces: readonly string[], text: string, start: number, end: number): boolean {
  const first = pieces[0] as string
  const last = pieces[pieces.length - 1] as string
  if (end - start < first.length + last.length || !text.startsWith(first, start)) return false
  if (last !== '' && !text.startsWith(last, end - last.length)) return false
  let at = start + first.length
  const limit = end - last.length
  for (let i = 1; i < pieces.length - 1; i++) {
    const piece = pieces[i] as string
    const found = text.indexOf(piece, at)
    if (found < 0 || found + piece.length > limit) return false
    at = found + piece.length
  }
  return true
}

/** Whether some key matches both. Exact, by walking the two patterns together. */
export function globsMeet(a: Glob, b: Glob): boolean {
  const left = a.segments
  const right = b.segments
  const seen = new Map<number, boolean>()
  const meet = (i: number, j: number): boolean => {
    if (i === left.length && j === right.length) return true
    const id = i * (right.length + 1) + j
    const known = seen.get(id)
    if (known !== undefined) return known
    seen.set(id, false)
    const x = left[i]
    const y = right[j]
    let result = false
    if (x?.kind === 'deep') result = deepMeets(left, i, right, j, meet)
    if (!result && y?.kind === 'deep') result = deepMeets(right, j, left, i, (jj, ii) => meet(ii, jj))
    if (!result && x !== undefined && y !== undefined && x.kind !== 'deep' && y.kind !== 'deep') {
      result = segmentsMeet(x, y) && meet(i + 1, j + 1)
    }
    seen.set(id, result)
    return result
  }
  return meet(0, 0)
}

/** The pattern with `**` at i either stops taking segments, or takes one more of the other's (whatever it is). */
function deepMeets(
  own: readonly Segment[],
  i: number,
  other: readonly Segment[],
  j: number,
  meet: (i: number, j: number) => boolean,
): boolean {
  const trailing = i === own.length - 1
  if (!trailing && meet(i + 1, j)) return true
  if (j >= other.length) return false
  // A trailing `**` needs one segment and may stop after it.
  return (
    meet(i, j + 1) ||
    (trailing && other[j]?.kind !== 'deep' && meet(i + 1, j + 1)) ||
    (trailing && trailingDeep(other, j))
  )
}

const trailingDeep = (segments: readonly Segment[], j: number): boolean =>
  j === segments.length - 1 && segments[j]?.kind === 'deep'

type Plain = Exclude<Segment, { kind: 'deep' }>

/** Whether one segment can match both. Patterns meet when their fixed ends agree; the middles can always be laid out one after the other. */
function segmentsMeet(x: Plain, y: Plain): boolean {
  if (x.kind === 'literal')
    return y.kind === 'literal' ? x.bytes === y.bytes : piecesMatch(y.pieces, x.bytes, 0, x.bytes.length)
  if (y.kind === 'literal') return piecesMatch(x.pieces, y.bytes, 0, y.bytes.length)
  const [a, b] = [x.pieces[0] as string, y.pieces[0] as string]
  const [c, d] = [x.pieces.at(-1) as string, y.pieces.at(-1) as string]
  return (a.startsWith(b) || b.startsWith(a)) && (c.endsWith(d) || d.endsWith(c))
}

/** Whether the glob can tell two keys apart by the bytes of segment `index` (0 = before the first slash). */
export function looksAtSegment(glob: Glob, index: number): boolean {
  for (const [i, segment] of glob.segments.entries()) {
    // Behind a `**` positions shift: anything but a bare star may land on the segment.
    if (segment.kind === 'deep') return glob.segments.slice(i + 1).some((s) => s.kind !== 'deep' && !bareStar(s))
    if (i === index) return !bareStar(segment)
  }
  return false
}

const bareStar = (segment: Plain): boolean =>
  segment.kind === 'pattern' && segment.pieces.every((piece) => piece === '')
