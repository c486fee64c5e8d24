// Where a bundle in force comes from, and how one notices that there may be another: a directory or file, or a NATS KV entry.
// Owns: the port, the cheap mark that differs whenever somebody wrote, and the order in which candidates are tried.
// Refuses: judging what it reads (open-bundle.ts) and swapping (live-bundle.ts). Reading a bucket takes two subjects without wildcards,
// so that an agent's credentials stay narrow: STREAM.INFO and STREAM.MSG.GET of the bucket's stream.

import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DeltawatchError } from '#kit/errors.ts'
import type { NatsLink } from '#kit/nats.ts'
import type { PolicyIssue, Result } from '../engine/types.ts'
import { type BundleFiles, readBundleFile, readBundleFiles } from './bundle-files.ts'

export type Candidate = Result<BundleFiles, PolicyIssue[]>

export interface BundleOrigin {
  /** As configured, for messages. */
  readonly name: string
  /** Differs whenever there may be another bundle. Rejects when nobody can say. */
  mark(signal: AbortSignal): Promise<string>
  /** Newest first. A directory has one; a bucket also has what stood there before. */
  candidates(signal: AbortSignal): AsyncIterable<Candidate>
}

export class OriginError extends DeltawatchError {}

const BUCKET = /^kv:\/\/([A-Za-z0-9_-]{1,64})\/([A-Za-z0-9_-][A-Za-z0-9_.-]{0,127})$/
const READ_MS = 5_000
/** Older entries looked at when a process starts and the newest is not usable. */
const MAX_OLDER = 16
/** JetStream's own codes; its words differ between versions. */
const NO_STREAM = 10_059
const NO_MESSAGE = 10_037

/** The two subjects a reader of the bucket publishes to. */
export const bucketSubjects = (bucket: string): readonly string[] => [
  `$JS.API.STREAM.INFO.KV_${bucket}`,
  `$JS.API.STREAM.MSG.GET.KV_${bucket}`,
]

/** `kv://bucket/key`, else a path. */
export function bundleOrigin(place: string, link: () => NatsLink): BundleOrigin {
  if (!place.startsWith('kv://')) return pathOrigin(place)
  const [, bucket, key] = BUCKET.exec(place) ?? []
  if (bucket === undefined || key === undefined) {
    throw new OriginError(
      'DW_POLICY_ORIGIN',
      `policies ${JSON.stringify(place)} is no bucket entry; write kv://<bucket>/<key>`,
    )
  }
  return bucketOrigin(place, bucket, key, link)
}

function pathOrigin(path: string): BundleOrigin {
  return {
    name: path,
    mark: () => fingerprint(path),
    async *candidates() {
      yield await readBundleFiles(path)
    },
  }
}

/** Names, sizes and times of what lies there, at most a few folders deep. A mount that is being replaced has no print. */
export async function fingerprint(path: string): Promise<string> {
  const parts: string[] = []
  const look = async (at: string, name: string, depth: number): Promise<void> => {
    const info = await stat(at)
    parts.push(`${name}:${info.size}:${info.mtimeMs}:${info.ino}`)
    if (!info.isDirectory() || depth > 4 || parts.length > 4096) return
    for (const entry of (await readdir(at)).sort()) await look(join(at, entry), `${name}/${entry}`, depth + 1)
  }
  await look(path, '', 0)
  return parts.join('\n')
}

function bucketOrigin(name: string, bucket: string, key: string, link: () => NatsLink): BundleOrigin {
  const [infoSubject = '', getSubject = ''] = bucketSubjects(bucket)
  const subject = `$KV.${bucket}.${key}`
  const call = async (api: string, payload: unknown, signal: AbortSignal): Promise<Fields> => {
    const nc = await link().connected(AbortSignal.any([signal, AbortSignal.timeout(READ_MS)]))
    const reply = await nc.request(api, payload === undefined ? '' : JSON.stringify(payload), { timeout: READ_MS })
    return fieldsOf(JSON.parse(new TextDecoder().decode(reply.data)))
  }
  const failureOf = (reply: Fields): number | undefined => {
    if (reply['error'] === undefined) return undefined
    const code = fieldsOf(reply['error'])['err_code']
    return typeof code === 'number' ? code : 0
  }
  /** Undefined when nothing of the entry stands there. */
  const message = async (query: object, signal: AbortSignal): Promise<Stored | undefined> => {
    const reply = await call(getSubject, query, signal)
    const failure = failureOf(reply)
    if (failure === NO_MESSAGE) return undefined
    if (failure !== undefined) throw unreadable(name, failure)
    return storedOf(fieldsOf(reply['message']))
  }
  return {
    name,
    mark: async (signal) => {
      const reply = await call(infoSubject, undefined, signal)
      const failure = failureOf(reply)
      if (failure !== undefined) throw unreadable(name, failure)
      return `${String(reply['created'])} ${String(fieldsOf(reply['state'])['last_seq'])}`
    },
    async *candidates(signal) {
      const newest = await message({ last_by_subj: subject }, signal)
      if (newest === undefined) throw new OriginError('DW_POLICY_ORIGIN', `${name} holds no bundle: put one there`)
      if (newest.removed) throw new OriginError('DW_POLICY_ORIGIN', `${name} was deleted; what is in force stays`)
      yield readBundleFile(newest.data, name)
      for (let seq = newest.seq - 1, n = 0; seq > 0 && n < MAX_OLDER; seq--, n++) {
        const older = await message({ seq }, signal)
        if (older?.subject === subject && !older.removed) yield readBundleFile(older.data, name)
      }
    },
  }
}

const unreadable = (name: string, code: number): OriginError =>
  new OriginError(
    'DW_POLICY_ORIGIN',
    code === NO_STREAM
      ? `${name}: the hub has no such bucket; make it with nats kv add`
      : `${name} cannot be read (${code})`,
  )

type Fields = Readonly<Record<string, unknown>>
type Stored = { readonly seq: number; readonly subject: string; readonly data: Uint8Array; readonly removed: boolean }

const fieldsOf = (value: unknown): Fields =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}

function storedOf({ seq, subject, data, hdrs }: Fields): Stored {
  const headers = typeof hdrs === 'string' ? Buffer.from(hdrs, 'base64').toString('latin1') : ''
  return {
    seq: typeof seq === 'number' ? seq : 0,
    subject: typeof subject === 'string' ? subject : '',
    data: typeof data === 'string' ? Buffer.from(data, 'base64') : new Uint8Array(0),
    removed: /^KV-Operation:\s*(?:DEL|PURGE)/im.test(headers),
  }
}
