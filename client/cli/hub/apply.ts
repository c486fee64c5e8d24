// The plan carried out: each stream asked for, judged, made or changed, and looked at again.
// Owns: the order of calls for one stream, and that one stream's failure does not keep the others from being applied.
// Refuses: decisions (stream-plan.ts), and the two calls that could lose entries: delete and purge.

import { errorMessage } from '#kit/errors.ts'
import { streamConfig, streamDifferences } from '#protocol/log/stream.ts'
import { type ClusterId, streamName } from '#protocol/subjects.ts'
import { ApiFailure, type HubSession, isRecord, NAME_IN_USE, STREAM_NOT_FOUND } from './session.ts'
import { type Change, type Defaults, planStream, type Standing, type Step, type Wanted } from './stream-plan.ts'

export type Applied = {
  readonly cluster: ClusterId
  readonly stream: string
  /** `would-…` in a dry run: what the same command would do without --dry-run. */
  readonly outcome: Step['outcome'] | 'would-create' | 'would-update' | 'failed'
  readonly changes: readonly Change[]
  /** Why it was refused or failed, each with what to do next. */
  readonly reasons: readonly string[]
}

export async function applyStream(
  hub: HubSession,
  wanted: Wanted,
  defaults: Defaults,
  dryRun: boolean,
): Promise<Applied> {
  const stream = streamName(wanted.cluster)
  const base = { cluster: wanted.cluster, stream, changes: [], reasons: [] }
  try {
    const step = planStream(wanted, await readStream(hub, stream), defaults)
    if (!dryRun) await carryOut(hub, stream, wanted, step)
    switch (step.outcome) {
      case 'created':
        return { ...base, outcome: dryRun ? 'would-create' : 'created' }
      case 'unchanged':
        return { ...base, outcome: 'unchanged' }
      case 'updated':
        return { ...base, outcome: dryRun ? 'would-update' : 'updated', changes: step.changes }
      case 'refused':
        return { ...base, outcome: 'refused', reasons: step.reasons }
      default: {
        const never: never = step
        return never
      }
    }
  } catch (error) {
    return { ...base, outcome: 'failed', reasons: [errorMessage(error)] }
  }
}

export async function readStream(hub: HubSession, stream: string): Promise<Standing | undefined> {
  try {
    const { config, state } = await hub.call(`STREAM.INFO.${stream}`)
    const bytes = isRecord(state) && typeof state['bytes'] === 'number' ? state['bytes'] : 0
    return { config: isRecord(config) ? config : {}, bytes }
  } catch (error) {
    if (error instanceof ApiFailure && error.errCode === STREAM_NOT_FOUND) return undefined
    throw error
  }
}

async function carryOut(hub: HubSession, stream: string, wanted: Wanted, step: Step): Promise<void> {
  if (step.outcome !== 'created' && step.outcome !== 'updated') return
  const verb = step.outcome === 'created' ? 'CREATE' : 'UPDATE'
  let reply: Readonly<Record<string, unknown>>
  try {
    reply = await hub.call(`STREAM.${verb}.${stream}`, step.config)
  } catch (error) {
    throw error instanceof ApiFailure ? new ApiFailure(error.errCode, `${error.message}; ${remedy(error)}`) : error
  }
  const config = isRecord(reply['config']) ? reply['config'] : {}
  const target = streamConfig({ cluster: wanted.cluster, maxBytes: 0, maxMessageBytes: 0, replicas: 1 })
  const left = streamDifferences(target, config)
  if (left.length > 0)
    throw new ApiFailure(0, `the server kept its own ${left.join(', ')}; it may be too old: use 2.10 or newer`)
}

function remedy(failure: ApiFailure): string {
  const { errCode, message } = failure
  if (errCode === NAME_IN_USE) return 'somebody made it just now: run the command again'
  if (/overlap/i.test(message))
    return 'another stream stores these subjects: find it with "nats stream find", free them'
  if (/replicas|peers|placement/i.test(message)) return 'give --replicas no more than the hub has servers'
  if (/storage|resources|limit/i.test(message)) return 'give a smaller --max-bytes, or the hub more storage'
  return "the message is the server's own"
}
