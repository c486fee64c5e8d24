// The hub, asked as its services need it: there, new enough, JetStream on, every log's stream as the protocol needs it.
// Owns: the questions and their findings, and what the user it was asked as may do.
// Refuses: creating or changing anything; the findings name the command that does.

import { errorMessage } from '#kit/errors.ts'
import { formatSize } from '#kit/config/fields.ts'
import { streamConfig, streamDifferences } from '#protocol/log/stream.ts'
import { type LogBounds, newestPolicyChange, readBegins, readLogTail } from '#protocol/log/retained.ts'
import { type ClusterId, markSubject, streamName } from '#protocol/subjects.ts'
import { ApiFailure, type HubOptions, type HubSession, isRecord, openHub, STREAM_NOT_FOUND } from '../hub/session.ts'
import { entriesOf } from '../hub/purge.ts'
import { regionOf, show } from '../hub/stream-plan.ts'
import { CommandError } from '../hub/terminal.ts'
import { type Finding, findingsAt, judgeNatsVersion, type Say } from './finding.ts'

type Settings = Readonly<Record<string, unknown>>

export async function examineHub(
  options: HubOptions & { readonly password: string | undefined; readonly timeoutMs: number },
  clusters: readonly ClusterId[],
): Promise<readonly Finding[]> {
  const say = findingsAt(`hub ${options.nats.join(',')}`)
  let hub: HubSession
  try {
    hub = await openHub(options, options.password, options.timeoutMs)
  } catch (error) {
    return [refused(say, 'reachable', error)]
  }
  await using open = hub
  const [jetStream, ...streams] = await Promise.all([
    examineJetStream(say, open),
    ...clusters.map((cluster) => examineLog(say, open, cluster)),
  ])
  return [say.ok('reachable', open.server), judgeNatsVersion(say, open.version), jetStream, ...streams.flat()]
}

async function examineJetStream(say: Say, hub: HubSession): Promise<Finding> {
  try {
    const { streams, storage } = await hub.call('INFO')
    const used = typeof storage === 'number' ? `, ${formatSize(storage)} on disk` : ''
    return say.ok('jetstream', `on, ${show(streams ?? 0)} streams${used}`)
  } catch (error) {
    if (error instanceof CommandError && error.code === 'DW_HUB_DENIED') {
      return say.warn(
        'jetstream',
        'this user may not ask',
        'nothing, if the streams below are fine; services do not ask',
      )
    }
    return refused(say, 'jetstream', error)
  }
}

async function examineLog(say: Say, hub: HubSession, cluster: ClusterId): Promise<readonly Finding[]> {
  const stream = streamName(cluster)
  const check = `log ${cluster}`
  const found: Finding[] = []
  try {
    const { config, state } = await hub.call(`STREAM.INFO.${stream}`)
    found.push(...judgeStream(say, cluster, isRecord(config) ? config : {}))
    const last = isRecord(state) ? state['last_seq'] : undefined
    const [entries, marks] = await Promise.all([reads(hub, stream, last), hub.hears(markSubject(cluster))])
    const can = ['see the stream', ...(entries ? ['read entries'] : []), ...(marks ? ['hear bookmarks'] : [])]
    found.push(say.ok(`rights ${cluster}`, `this user can ${can.join(', ')}`))
    const first = isRecord(state) ? state['first_seq'] : undefined
    if (entries && typeof first === 'number' && typeof last === 'number') {
      found.push(...(await examineRetained(say, hub, cluster, { firstSeq: first, lastSeq: last })))
    }
  } catch (error) {
    const missing = error instanceof ApiFailure && error.errCode === STREAM_NOT_FOUND
    const next = `deltawatch hub apply --nats … --clusters ${cluster}`
    found.push(
      missing ? say.fail(check, `there is no stream ${stream}`, `create it: ${next}`) : refused(say, check, error),
    )
  }
  return found
}

/** Checkpoints looked back over, one read each. */
const MOST_BEGINS = 1_000

/** Silent where there is no log yet to judge, or none that can be: the agents say more about that. */
async function examineRetained(
  say: Say,
  hub: HubSession,
  cluster: ClusterId,
  bounds: LogBounds,
): Promise<readonly Finding[]> {
  const check = `retained-wider ${cluster}`
  const read = entriesOf(hub, streamName(cluster))
  const tail = await readLogTail(bounds, read)
  if (tail.kind !== 'known') return []
  const begins = await readBegins(tail.newestCompleteBeginSeq, bounds.firstSeq, read, MOST_BEGINS)
  const change = newestPolicyChange(begins)
  if (change !== undefined && bounds.firstSeq < change.seq) {
    const what = `${change.seq - bounds.firstSeq} entries from before the policy changed at ${change.seq}; they may say more than it allows`
    const next = `if it became narrower: deltawatch hub purge --nats … --clusters ${cluster} --dry-run`
    return [say.warn(check, what, next)]
  }
  if (begins.stopped === 'broken') {
    const next = 'restart its agent; it begins a new epoch when it finds no position'
    return [say.warn(check, 'unknown: no checkpoint stands where the log says that one does', next)]
  }
  const looked = begins.stopped === 'bound' ? `no change of policy within ${MOST_BEGINS} checkpoints` : 'nothing'
  return [say.ok(check, looked)]
}

/** Exported for its test. */
export function judgeStream(say: Say, cluster: ClusterId, config: Settings): readonly Finding[] {
  const check = `log ${cluster}`
  const target = streamConfig({ cluster, maxBytes: 0, maxMessageBytes: 0, replicas: 1 })
  const differences = streamDifferences(target, config)
  if (differences.length > 0) {
    const what = differences.map((name) => `${name} is ${show(config[name])}`).join(', ')
    return [
      say.fail(
        check,
        what,
        `see what would change: deltawatch hub apply --nats … --clusters ${cluster} --repair --dry-run`,
      ),
    ]
  }
  const { max_bytes: bytes, max_msg_size: message, num_replicas: replicas } = config
  const sizes = [bytes, message].every((size) => typeof size === 'number' && size > 0)
  if (!sizes) {
    const next = `bound it: deltawatch hub apply --nats … --clusters ${cluster} --max-bytes …`
    return [say.warn(check, 'without a bound on its size or on its messages', next)]
  }
  const region = regionOf(config)
  const facts = [
    formatSize(Number(bytes)),
    `${show(replicas)} replica${replicas === 1 ? ' (3 advised in production)' : 's'}`,
  ]
  return [say.ok(check, [...facts, ...(region === undefined ? [] : [`hub region ${region}`])].join(', '))]
}

async function reads(hub: HubSession, stream: string, last: unknown): Promise<boolean> {
  try {
    await hub.call(`STREAM.MSG.GET.${stream}`, { seq: typeof last === 'number' && last > 0 ? last : 1 })
    return true
  } catch (error) {
    // An answer that there is no such message is an answer.
    return error instanceof ApiFailure
  }
}

/** Errors of the hub already say what to do behind their semicolon. */
function refused(say: Say, check: string, error: unknown): Finding {
  const text = errorMessage(error)
  const at = text.lastIndexOf('; ')
  return at < 0
    ? say.fail(check, text, 'look into the log of nats-server')
    : say.fail(check, text.slice(0, at), text.slice(at + 2))
}
