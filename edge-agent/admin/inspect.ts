// /debug/profile and /debug/heap: what the process spends its time and its memory on, for the browser's developer tools.
// Owns: one inspection at a time, its bounds. Refuses: anybody the guard refuses; a heap snapshot holds keys and values.
// A snapshot stops the process for as long as it takes and needs memory of its own: on a small node it is a last resort.

import type { Session } from 'node:inspector/promises'
import { pipeline } from 'node:stream/promises'
import type { Clock } from '#kit/clock.ts'
import type { HttpReply, Router } from '#kit/http/router.ts'
import { pause } from '../pause.ts'
import { type GuardRule, guarded, guardedRaw } from './guard.ts'

const MOST_SECONDS = 60
const BUSY: HttpReply = { status: 409, body: 'another inspection is under way; try again when it is done\n' }

export function mountInspection(router: Router, rule: GuardRule, clock: Clock): Router {
  let busy = false
  const profile = guarded(rule, async ({ query, signal }) => {
    const seconds = Number(query.get('seconds') ?? '10')
    if (!Number.isInteger(seconds) || seconds < 1 || seconds > MOST_SECONDS) {
      return { status: 400, body: `seconds is a whole number from 1 to ${MOST_SECONDS}\n` }
    }
    if (busy) return BUSY
    busy = true
    try {
      return file(`cpu-${seconds}s.cpuprofile`, await profileFor(seconds * 1_000, clock, signal))
    } finally {
      busy = false
    }
  })
  const heap = guardedRaw(rule, async (_request, response) => {
    if (busy) return void response.writeHead(BUSY.status).end(BUSY.body)
    busy = true
    try {
      // Loaded on demand: nobody pays for it at the start.
      const { getHeapSnapshot } = process.getBuiltinModule('node:v8')
      response.writeHead(200, headersOf('heap.heapsnapshot'))
      await pipeline(getHeapSnapshot(), response)
    } catch {
      response.destroy()
    } finally {
      busy = false
    }
  })
  return router.on('GET', '/debug/profile', profile).raw('GET', '/debug/heap', heap)
}

async function profileFor(ms: number, clock: Clock, signal: AbortSignal): Promise<string> {
  const { Session: Inspector } = process.getBuiltinModule('node:inspector/promises')
  const session: Session = new Inspector()
  session.connect()
  try {
    await session.post('Profiler.enable')
    await session.post('Profiler.start')
    await pause(clock, ms, signal)
    const { profile } = await session.post('Profiler.stop')
    return JSON.stringify(profile)
  } finally {
    session.disconnect()
  }
}

const headersOf = (name: string) => ({
  'content-type': 'application/json',
  'content-disposition': `attachment; filename="${name}"`,
})

const file = (name: string, body: string): HttpReply => ({ status: 200, headers: headersOf(name), body })
