// POST /debug/holds/<cluster>: an operator lets go of what a hook holds.
// Owns: reading the request and the words of the answers. Refuses: a release of anything but the revision it names, and
// requests a browser could be tricked into (they cannot say that their body is JSON without asking first).

import * as z from 'zod'
import type { HttpReply, HttpRequest, Router } from '#kit/http/router.ts'
import { parseRevision, type Revision } from '#protocol/revision.ts'
import type { RunningLog } from '../app.ts'
import { type GuardRule, guarded } from './guard.ts'

const Release = z.discriminatedUnion('as', [
  z.strictObject({
    revision: z.string(),
    as: z.literal('events'),
    upTo: z.custom<Revision>((text) => parseRevision(text) !== undefined).optional(),
  }),
  z.strictObject({ revision: z.string(), as: z.literal('resync') }),
])
const HOW =
  'send JSON: {"revision": "<the held one, see /debug/status>", "as": "events" | "resync"}; ' +
  'events may name "upTo", the last revision to let through (the head known now if absent)\n'

export function mountHolds(router: Router, logs: readonly RunningLog[], rule: GuardRule): Router {
  return router.on(
    'POST',
    '/debug/holds/:cluster',
    guarded(rule, (request) => release(logs, request)),
  )
}

async function release(logs: readonly RunningLog[], request: HttpRequest): Promise<HttpReply> {
  const { cluster = '' } = request.params
  const log = logs.find((one) => one.cluster === cluster)
  if (log === undefined) return { status: 404, body: `this agent serves no cluster ${JSON.stringify(cluster)}\n` }
  if (!/^application\/json\b/.test(request.headers['content-type'] ?? '')) return { status: 415, body: HOW }
  const read = Release.safeParse(parse(await request.body()))
  if (!read.success) return { status: 400, body: HOW }
  const { revision, as } = read.data
  const result = log.hooks.release(revision, as, read.data.as === 'events' ? read.data.upTo : undefined)
  switch (result) {
    case 'released':
      return { status: 200, body: `released from revision ${revision} on, as ${as}\n` }
    case 'ends-before':
      return { status: 400, body: `upTo lies before the held revision ${revision}\n` }
    case 'nothing-held':
      return { status: 409, body: 'nothing is held\n' }
    case 'another-revision':
      return { status: 409, body: `another revision is held: ${log.hooks.hold?.revision}\n` }
    default: {
      const never: never = result
      return never
    }
  }
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes))
  } catch {
    return undefined
  }
}
