// What has to happen to one log's stream so that it is as the protocol needs it.
// Owns: the decision, as plain data: create, keep, change, or refuse. Refuses: talking to a server (streams.ts).
// Shrinking max_bytes deletes the oldest entries at once, so it is refused unless it was asked for.

import { type LogStreamConfig, streamDifferences } from '#protocol/log/stream.ts'

export type StreamPlan =
  | { readonly action: 'create'; readonly wanted: LogStreamConfig }
  | { readonly action: 'keep' }
  | {
      readonly action: 'change'
      readonly wanted: LogStreamConfig
      /** `max_bytes: 1073741824 -> 4294967296` */
      readonly changes: readonly string[]
    }
  | { readonly action: 'refuse'; readonly why: string; readonly next: string }

export type Existing = Readonly<Record<string, unknown>>

/** Sizes and replicas: the operator's, changed only to what was asked for. */
const SIZES = ['max_bytes', 'max_msg_size', 'num_replicas'] as const
/** A server never changes these on an existing stream. */
const FIXED: ReadonlySet<string> = new Set(['storage', 'retention'])

export function planStream(
  wanted: LogStreamConfig,
  actual: Existing | undefined,
  asked: { readonly sizes: ReadonlySet<string>; readonly allowShrink: boolean },
): StreamPlan {
  if (actual === undefined) return { action: 'create', wanted }
  const required = streamDifferences(wanted, actual)
  const fixed = required.filter((name) => FIXED.has(name))
  if (fixed.length > 0) {
    const what = fixed.map((name) => `${name} is ${show(actual[name])}`).join(', ')
    return {
      action: 'refuse',
      why: `${what}, which no server changes on an existing stream`,
      next: `stop the agents of this cluster, delete the stream (nats stream rm ${wanted.name}) and apply again; subscribers get a resync`,
    }
  }
  const sizes = SIZES.filter((name) => asked.sizes.has(name) && show(actual[name]) !== show(wanted[name]))
  const shrinks = sizes.includes('max_bytes') && Number(actual['max_bytes']) > wanted.max_bytes
  if (shrinks && !asked.allowShrink) {
    return {
      action: 'refuse',
      why: `max_bytes is ${show(actual['max_bytes'])}, and less would delete the oldest entries at once`,
      next: 'add --allow-shrink if that is meant, or leave --max-bytes out',
    }
  }
  const differing = [...required, ...sizes]
  if (differing.length === 0) return { action: 'keep' }
  // What nobody asked to change stays as it is.
  const kept = SIZES.filter((name) => !sizes.includes(name) && typeof actual[name] === 'number')
  const merged = { ...wanted, ...Object.fromEntries(kept.map((name) => [name, actual[name]])) }
  const changes = differing.map(
    (name) => `${name}: ${show(actual[name])} -> ${show(wanted[name as keyof LogStreamConfig])}`,
  )
  return { action: 'change', wanted: merged, changes }
}

const show = (value: unknown): string => (value === undefined ? 'unset' : JSON.stringify(value))
