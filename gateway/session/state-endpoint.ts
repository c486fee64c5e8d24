// `GET /v1/state`: the current state of a cluster in pages pinned to one revision.
// Owns: parameters, ETag, the answer's shape and statuses. Refuses: walking (state-page.ts) and watching.
//
//   200 {cluster, epoch, revision, items, next?, cursor?}   304 nothing newer than the ETag   400 bad parameters
//   401 no identity   404 no such cluster, for you   410 the pinned revision is gone: start again   503 not yet, or too much

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { HttpRequest } from '#kit/http/router.ts'
import { type Code, ErrorCode } from '#protocol/codes.ts'
import { encodeCursor } from '#protocol/cursor.ts'
import { parseClusterId } from '#protocol/subjects.ts'
import { visibleHead } from '../delivery/activity.ts'
import { type ChannelSpec, viewTagOf } from '../delivery/channel.ts'
import type { Position } from '../delivery/encoder.ts'
import type { ClusterSource } from '../delivery/ports.ts'
import { type Credentials, identify } from './credentials.ts'
import type { Cross } from './cross-origin.ts'
import { problem } from './problem.ts'
import { watchFromQuery } from './query.ts'
import type { SessionContext } from './sessions.ts'
import {
  decodePageToken,
  encodePageToken,
  type PageToken,
  type PageView,
  type Pin,
  pinOf,
  readPage,
} from './state-page.ts'

export interface StateDeps {
  readonly context: SessionContext
  readonly credentials: Credentials
  readonly cross: Cross
  readonly maxValueBytes: number
  readonly source: (cluster: string) => ClusterSource | undefined
  /** False: the gateway has enough to do. */
  readonly admit: () => boolean
}

const DEFAULT_LIMIT = 500
const MAX_LIMIT = 5_000
const MAX_PAGE_BYTES = 1024 * 1024

class Refused extends Error {
  readonly status: number
  readonly code: Code | undefined

  constructor(status: number, code: Code | undefined, message: string) {
    super(message)
    this.status = status
    this.code = code
  }
}

export function stateEndpoint(deps: StateDeps) {
  return async (request: HttpRequest, response: ServerResponse, message: IncomingMessage): Promise<void> => {
    const headers = { ...deps.cross.headers(message), 'cache-control': 'no-store' }
    try {
      const { status, etag, cursor, body } = await answer(deps, request, message)
      const extra = cursor === undefined ? {} : { 'deltawatch-cursor': cursor }
      response.writeHead(status, { ...headers, etag, ...extra, 'content-type': 'application/json' })
      for (const part of body) response.write(part)
      response.end()
    } catch (e) {
      if (!(e instanceof Refused)) throw e
      if (e.code !== undefined) deps.context.countError(e.code)
      response.writeHead(e.status, { ...headers, 'content-type': 'application/problem+json' })
      response.end(problem(e.status, e.code, e.message))
    }
  }
}

type Answer = {
  readonly status: number
  readonly etag: string
  readonly cursor?: string
  readonly body: readonly (Buffer | string)[]
}

async function answer(deps: StateDeps, request: HttpRequest, message: IncomingMessage): Promise<Answer> {
  if (!deps.cross.allowed(message)) throw new Refused(403, undefined, 'this origin or host is not allowed here')
  const { query } = request
  const outcome = await identify(deps.credentials, message, query)
  if (!outcome.ok) throw new Refused(outcome.close.code === 4107 ? 503 : 401, outcome.close, outcome.reason)
  // Only now: strangers must not use up what subscribers are owed.
  if (!deps.admit()) throw new Refused(503, ErrorCode.SnapshotBusy, 'too many state requests; try later')
  const { principal } = outcome
  const { context } = deps
  const policyClass = context.policy().classOf(principal.subscriber)
  if (policyClass === undefined) throw new Refused(503, ErrorCode.TooManyClasses, ErrorCode.TooManyClasses.text)
  const wanted = watchFromQuery(query, principal.clusters)
  if (!wanted.ok) throw new Refused(400, wanted.code, wanted.message)
  const limit = limitOf(query.get('limit'))
  const cluster = parseClusterId(query.get('cluster'))
  const source = cluster === undefined ? undefined : deps.source(cluster)
  const narrowed = principal.clusters !== undefined && !principal.clusters.includes(query.get('cluster') ?? '')
  const decider = source === undefined ? undefined : context.policy().decider(source.region, policyClass)
  if (source === undefined || decider === undefined || decider.blind || narrowed) {
    throw new Refused(404, ErrorCode.UnknownCluster, 'cluster is missing or names no cluster')
  }
  const spec: ChannelSpec = { ...wanted.spec, policyClass, format: 'json' }
  const now = context.now()
  const viewTag = viewTagOf(spec, context.policy(), now)
  const ctx = {
    ch: 0,
    cluster: source.cluster,
    region: source.region,
    values: spec.values,
    viewTag,
    hideActivity: decider.hideActivity,
    maxValueBytes: deps.maxValueBytes,
  }
  const view: PageView = { decider, range: spec.range, ctx, now }
  const token = tokenOf(query.get('page'), source, viewTag)
  const pin = token === undefined ? await firstPin(source, view) : continuePin(source, token.at)
  const etag = `"${pin.at.epoch}:${pin.at.revision}:${viewTag}"`
  if (token === undefined && message.headers['if-none-match'] === etag) return { status: 304, etag, body: [] }
  const page = await readPage(source, view, pin, token?.after, limit, MAX_PAGE_BYTES)
  if (page === undefined) throw gone()
  const { epoch, revision } = pin.at
  const next =
    page.after === undefined
      ? undefined
      : encodePageToken({ at: pin.at, after: page.after, viewTag, cluster: source.cluster })
  const cursor = encodeCursor({ viewTag, positions: new Map([[source.cluster, pin.at]]) })
  const head = `{"cluster":"${source.cluster}","epoch":"${epoch}","revision":"${revision}","items":[`
  // The cursor continues after the whole state, so only the last page gives it.
  const tail = next === undefined ? `],"cursor":"${cursor}"}\n` : `],"next":"${next}"}\n`
  return { status: 200, etag, ...(next === undefined ? { cursor } : {}), body: [head, page.items, tail] }
}

async function firstPin(source: ClusterSource, view: PageView): Promise<Pin> {
  const { epoch } = source.status
  if (!source.ready || epoch === undefined)
    throw new Refused(503, ErrorCode.SnapshotBusy, 'nothing is known of the cluster yet; try later')
  if (!view.decider.hideActivity) return { at: { epoch, revision: source.status.revision }, index: source.nextIndex }
  const revision = await visibleHead(source, view)
  const index = source.nextIndex
  return source.status.epoch === epoch ? { at: { epoch, revision }, index } : firstPin(source, view)
}

function continuePin(source: ClusterSource, at: Position): Pin {
  const pin = pinOf(source, at)
  if (pin === 'gone') throw gone()
  if (pin === 'unready' || pin === 'ahead') {
    throw new Refused(
      503,
      ErrorCode.SnapshotBusy,
      'this gateway has not seen the pinned revision yet; try again in a moment',
    )
  }
  return pin
}

function tokenOf(text: string | null, source: ClusterSource, viewTag: string): PageToken | undefined {
  if (text === null) return undefined
  const token = decodePageToken(text)
  if (typeof token === 'string')
    throw new Refused(400, ErrorCode.BadCursor, `page is damaged (${token}); leave it out to start again`)
  if (token.cluster !== source.cluster) throw new Refused(400, ErrorCode.BadCursor, 'page belongs to another cluster')
  // What may be seen changed in between: two halves of different views make no state.
  if (token.viewTag !== viewTag) throw gone()
  return token
}

const gone = (): Refused =>
  new Refused(410, ErrorCode.SnapshotBusy, 'the pinned revision is gone; start again without page')

function limitOf(text: string | null): number {
  if (text === null) return DEFAULT_LIMIT
  const limit = Number(text)
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw new Refused(400, ErrorCode.BadFrame, `limit is not an integer from 1 to ${MAX_LIMIT}`)
  }
  return limit
}
