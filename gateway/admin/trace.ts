// A live trace of one subject: which frames go in and out, when and how large; never what they carry.
// Owns: attaching to a subject's connections, present and new, for a bounded time, and reading frame heads.
// Refuses: the frames of anybody else, and costing anything while nobody traces.

import type { Clock } from '#kit/clock.ts'
import type { Sessions } from '../session/sessions.ts'
import type { TraceLine } from './target.ts'

const LOOK_MS = 500

export async function traceOf(
  sessions: Sessions,
  subject: string,
  onLine: (line: TraceLine) => void,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const attached = new Map<object, Disposable>()
  const attach = (): void => {
    for (const one of [...sessions, ...sessions.followers]) {
      const { subscriber, principal, id } = one
      if (attached.has(one) || subscriber === undefined || principal?.subscriber.subject !== subject) continue
      const out = (bytes: Buffer): void => {
        for (const line of linesOf(bytes, subscriber.encoder.format)) {
          onLine({ at: new Date(clock.now()).toISOString(), session: id, direction: 'out', ...line })
        }
      }
      const inbound = (type: string, bytes: number): void =>
        onLine({ at: new Date(clock.now()).toISOString(), session: id, direction: 'in', type, bytes })
      attached.set(one, tap(one, out, inbound))
    }
  }
  try {
    while (!signal.aborted) {
      attach()
      await clock.sleep(LOOK_MS, signal).catch(() => undefined)
    }
  } finally {
    for (const one of attached.values()) one[Symbol.dispose]()
  }
}

type Tappable = {
  readonly subscriber: { readonly outlet: { tap: ((bytes: Buffer) => void) | undefined } } | undefined
  onInbound?: ((type: string, bytes: number) => void) | undefined
}

function tap(one: Tappable, out: (bytes: Buffer) => void, inbound: (type: string, bytes: number) => void): Disposable {
  const outlet = one.subscriber?.outlet
  if (outlet !== undefined) outlet.tap = out
  if ('onInbound' in one) one.onInbound = inbound
  return {
    [Symbol.dispose]: () => {
      if (outlet?.tap === out) outlet.tap = undefined
      if (one.onInbound === inbound) one.onInbound = undefined
    },
  }
}

type Head = Pick<TraceLine, 'type' | 'ch' | 'cluster' | 'revision' | 'bytes'>

/** Heads of the frames in one write; the first bytes of a body hold type, channel, cluster and revision. */
export function linesOf(bytes: Buffer, format: string): Head[] {
  const heads: Head[] = []
  if (format === 'event-stream') {
    for (const block of bytes.toString('utf8').split('\n\n')) {
      const data = /^data: (.*)$/m.exec(block)?.[1]
      if (data !== undefined) heads.push(headOf(data, block.length))
    }
    return heads
  }
  let at = 0
  while (at + 2 <= bytes.length) {
    const short = bytes[at + 1] as number
    const head = short === 126 ? 4 : short === 127 ? 10 : 2
    const length =
      short === 126 ? bytes.readUInt16BE(at + 2) : short === 127 ? Number(bytes.readBigUInt64BE(at + 2)) : short
    const end = at + head + length
    heads.push(headOf(bytes.toString('latin1', at + head, Math.min(end, at + head + 256)), length))
    at = end
  }
  return heads
}

function headOf(text: string, bytes: number): Head {
  const type = /"type":"([\w.-]{1,64})"/.exec(text)?.[1] ?? 'unknown'
  const ch = /"ch":(\d{1,15})/.exec(text)?.[1]
  const cluster = /"cluster":"([a-z0-9-]{1,32})"/.exec(text)?.[1]
  const revision = /"revision":"(\d{1,19})"/.exec(text)?.[1]
  return {
    type,
    ...(ch === undefined ? {} : { ch: Number(ch) }),
    ...(cluster === undefined ? {} : { cluster }),
    ...(revision === undefined ? {} : { revision }),
    bytes,
  }
}
