// One direction of a simulated line, shared by every connection that uses it.
// Owns: the plan (when may these bytes arrive?), and carrying one connection's bytes, its end or its reset by that plan.
// Does not own: listening, connecting, or which faults happen when (tcp-proxy.ts).
// Order is kept, nothing is lost or altered; what is in flight is bounded, and beyond the bound the sender feels back-pressure.

import type { Socket } from 'node:net'

const WINDOW = 4 * 1024 * 1024
const MIN_WINDOW = 64 * 1024
const MAX_SLICE = 16 * 1024

/** Times are milliseconds of one monotonic clock. */
export interface Line {
  delayMs: number
  bytesPerSecond: number
  /** A hole swallows nothing: it keeps everything, the end of a connection included, until it is closed again. */
  hole: boolean
  /** When the last byte planned so far has left; the next one queues behind it. */
  busyUntil: number
}

export const createLine = (): Line => ({ delayMs: 0, bytesPerSecond: Infinity, hole: false, busyUntil: 0 })

/** When bytes handed in at `at` arrive at the far end. Books the line, so the order of calls is the order of arrival. */
export function planArrival(line: Line, at: number, bytes: number): number {
  line.busyUntil = Math.max(line.busyUntil, at) + (bytes / line.bytesPerSecond) * 1_000
  return line.busyUntil + line.delayMs
}

/** Bytes in flight per connection before its sender has to wait: the bandwidth-delay product and a little buffer. */
export function windowOf(line: Line): number {
  if (line.bytesPerSecond === Infinity) return WINDOW
  return Math.max(MIN_WINDOW, Math.min(WINDOW, (line.bytesPerSecond * (2 * line.delayMs + 200)) / 1_000))
}

/** Small enough that a throttled line is smooth (10 ms a slice), never below one byte. */
function sliceOf(line: Line): number {
  if (line.bytesPerSecond === Infinity) return Number.MAX_SAFE_INTEGER
  return Math.max(1, Math.min(MAX_SLICE, Math.floor(line.bytesPerSecond / 100)))
}

type Parcel = { readonly at: number; due: number } & (
  | { readonly kind: 'data'; readonly chunk: Buffer }
  | { readonly kind: 'end' }
  | { readonly kind: 'reset' }
)

export interface Flow extends Disposable {
  /** The line's settings changed: parcels under way follow the new ones. Call for all flows of a line, in one go. */
  refresh(): void
}

/** Carries everything read from `source` to `sink`. `onDelivered` counts bytes handed to the sink. */
export function carry(
  source: Socket,
  sink: Socket,
  line: Line,
  onDelivered: (bytes: number) => void,
  now: () => number = () => performance.now(),
): Flow {
  const queue: Parcel[] = []
  let inFlight = 0
  let draining = false
  let timer: NodeJS.Timeout | undefined

  const throttleSource = (): void => {
    if (inFlight >= windowOf(line)) source.pause()
    else source.resume()
  }

  const accept = (parcel: { kind: 'end' } | { kind: 'reset' } | { kind: 'data'; chunk: Buffer }): void => {
    const at = now()
    const bytes = parcel.kind === 'data' ? parcel.chunk.length : 0
    inFlight += bytes
    queue.push({ ...parcel, at, due: planArrival(line, at, bytes) })
  }

  const pump = (): void => {
    clearTimeout(timer)
    timer = undefined
    if (line.hole || draining) return
    for (let head = queue[0]; head !== undefined; head = queue[0]) {
      const wait = head.due - now()
      if (wait > 0) {
        timer = setTimeout(pump, Math.ceil(wait))
        return
      }
      queue.shift()
      if (!deliver(head)) return
    }
    throttleSource()
  }

  /** false when the sink asks for a pause or is gone. */
  const deliver = (parcel: Parcel): boolean => {
    if (sink.destroyed) return false
    if (parcel.kind === 'reset') {
      sink.resetAndDestroy()
      return false
    }
    if (parcel.kind === 'end') {
      sink.end()
      return true
    }
    inFlight -= parcel.chunk.length
    onDelivered(parcel.chunk.length)
    if (sink.write(parcel.chunk)) return true
    draining = true
    sink.once('drain', () => {
      draining = false
      pump()
    })
    return false
  }

  source.on('data', (chunk: Buffer) => {
    const slice = sliceOf(line)
    for (let from = 0; from < chunk.length; from += slice) {
      accept({ kind: 'data', chunk: chunk.subarray(from, from + slice) })
    }
    throttleSource()
    pump()
  })
  source.on('end', () => {
    accept({ kind: 'end' })
    pump()
  })
  source.on('error', () => {
    accept({ kind: 'reset' })
    pump()
  })
  throttleSource()

  return {
    refresh: () => {
      for (const parcel of queue)
        parcel.due = planArrival(line, parcel.at, parcel.kind === 'data' ? parcel.chunk.length : 0)
      throttleSource()
      pump()
    },
    [Symbol.dispose]: () => {
      clearTimeout(timer)
      queue.length = 0
    },
  }
}
