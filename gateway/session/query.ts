// A watch from a query string, for connections that cannot send frames.
// Owns: the names of the parameters and their translation into the same checked request a `watch` frame gives.
// Refuses: unknown parameters: a misspelt `prefx` must not become "everything".

import { type Code, ErrorCode } from '#protocol/codes.ts'
import type { Cursor } from '#protocol/cursor.ts'
import { decodeClientFrame } from '#protocol/decode.ts'
import type { WatchFrame } from '#protocol/frames.ts'
import { isEpoch } from '#protocol/log/entry.ts'
import { parseRevision } from '#protocol/revision.ts'
import { parseClusterId } from '#protocol/subjects.ts'
import { toWatch, type Wanted } from './watch-request.ts'

const TEXTS = 'key keyBase64 prefix prefixBase64 from fromBase64 to toBase64 start default mode values'.split(' ')
const LISTS = ['clusters', 'regions']
const OTHERS = new Set(['cluster', 'ticket', 'lastEventId', 'limit', 'page'])

export type QueryRefusal = { readonly ok: false; readonly code: Code; readonly message: string }

/** The watch a query names; `cluster=` stands for `clusters=` with one name. */
export function watchFromQuery(query: URLSearchParams, allowed: readonly string[] | undefined): Wanted {
  const frame: Record<string, unknown> = { type: 'watch', id: 'query', start: 'snapshot' }
  for (const name of new Set(query.keys())) {
    const values = query.getAll(name)
    if (values.length > 1) return refuse(`parameter ${JSON.stringify(name.slice(0, 40))} is given twice`)
    if (TEXTS.includes(name)) frame[name] = values[0]
    else if (LISTS.includes(name)) frame[name] = values[0] === '*' ? '*' : (values[0] ?? '').split(',')
    else if (!OTHERS.has(name)) return refuse(`parameter ${JSON.stringify(name.slice(0, 40))} is not known`)
  }
  const cluster = query.get('cluster')
  if (cluster !== null) {
    if (frame['clusters'] !== undefined) return refuse('cluster and clusters exclude each other')
    frame['clusters'] = [cluster]
  }
  // Without a selector everything is meant, which a frame has to say.
  if (!TEXTS.slice(0, 6).some((name) => frame[name] !== undefined)) frame['from'] = ''
  const decoded = decodeClientFrame(JSON.stringify(frame))
  if (!decoded.ok) return decoded
  return toWatch(decoded.frame as WatchFrame, allowed)
}

/** `epoch:revision:tag`, the id of an event-stream event, as a cursor of one cluster. */
export function cursorFromEventId(id: string, cluster: string): Cursor | undefined {
  const [epoch, digits, viewTag, rest] = id.split(':')
  const revision = parseRevision(digits)
  const name = parseClusterId(cluster)
  if (!isEpoch(epoch) || revision === undefined || name === undefined || rest !== undefined) return undefined
  if (viewTag === undefined || !/^[0-9a-f]{16}$/.test(viewTag)) return undefined
  return { viewTag, positions: new Map([[name, { epoch, revision }]]) }
}

const refuse = (message: string): QueryRefusal => ({ ok: false, code: ErrorCode.BadFrame, message })
