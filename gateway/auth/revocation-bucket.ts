// Revocations from a NATS KV bucket: one key per revocation, its value as in the file.
// Owns: the watch, starting again whenever it ends, and saying when the store was last heard of.
// Refuses: writing. The bucket is made and filled by whoever revokes (the admin API's revoke does when it may).

import { createHash } from 'node:crypto'
import { Kvm } from '@nats-io/kv'
import type { Clock } from '#kit/clock.ts'
import { errorMessage } from '#kit/errors.ts'
import type { NatsLink } from '#kit/nats.ts'
import { parseRevocation, type Revocation, type Revocations } from './revocations.ts'

const RETRY_MS = 2_000
const PROBE_MS = 5_000
const WRITE_MS = 5_000

export function followRevocationBucket(
  bucket: string,
  into: Revocations,
  link: NatsLink,
  clock: Clock,
): AsyncDisposable {
  const stop = new AbortController()
  into.fail(`bucket ${bucket}: not read yet`)
  const loop = (async () => {
    while (!stop.signal.aborted) {
      try {
        await follow(bucket, into, link, clock, stop.signal)
      } catch (e) {
        if (stop.signal.aborted) return
        into.fail(`bucket ${bucket}: ${errorMessage(e)}`)
      }
      await clock.sleep(RETRY_MS, stop.signal).catch(() => undefined)
    }
  })()
  return {
    async [Symbol.asyncDispose]() {
      stop.abort()
      await loop
    },
  }
}

/** Writes one revocation for every gateway to see; rejects when the bucket cannot be written. */
export async function publishRevocation(bucket: string, link: NatsLink, revocation: Revocation): Promise<void> {
  const kv = await new Kvm(await link.connected(AbortSignal.timeout(WRITE_MS))).open(bucket)
  const text = 'tokenId' in revocation ? revocation : { subject: revocation.subject, before: revocation.before }
  // Any text may be a subject; a KV key may not.
  const name = 'tokenId' in revocation ? `t.${revocation.tokenId}` : `s.${revocation.subject}`
  await kv.put(createHash('sha256').update(name).digest('hex'), JSON.stringify(text))
}

async function follow(
  bucket: string,
  into: Revocations,
  link: NatsLink,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const kv = await new Kvm(await link.connected(signal)).open(bucket)
  const watch = await kv.watch()
  const end = (): void => watch.stop()
  signal.addEventListener('abort', end, { once: true })
  const probing = probe()
  // Every key in force; the list is replaced once its end was seen, and with every later change.
  const held = new Map<string, Revocation>()
  let complete = (await kv.status()).values === 0
  if (complete) into.replace([])
  try {
    for await (const entry of watch) {
      const one = entry.operation === 'PUT' ? parseRevocation(entry.string()) : undefined
      if (one === undefined) held.delete(entry.key)
      else held.set(entry.key, one)
      if (entry.delta === 0) complete = true
      if (complete) into.replace(held.values())
    }
  } finally {
    signal.removeEventListener('abort', end)
    await probing
  }

  /** A quiet watch looks like a dead one, so the store is asked. */
  async function probe(): Promise<void> {
    try {
      for (;;) {
        await clock.sleep(PROBE_MS, signal)
        await kv.status()
        if (complete) into.confirm()
      }
    } catch (e) {
      if (!signal.aborted) into.fail(`bucket ${bucket}: ${errorMessage(e)}`)
      watch.stop()
    }
  }
}
