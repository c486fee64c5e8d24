// A client context for tests that need no socket: time stands still, jitter is zero.

import type { Context } from '#client/context.ts'
import type { Notice } from '#client/errors.ts'

export const testContext = (notice: (notice: Notice) => void): Context => ({
  url: 'ws://127.0.0.1:1/v1/watch',
  client: 'test',
  token: undefined,
  renewable: false,
  // Never constructed.
  WebSocket: Object as never,
  backoff: { baseMs: 1, maxMs: 1, stableMs: 1 },
  maxQueue: 1_000_000,
  maxSnapshot: 1_000_000,
  maxConnections: 1,
  dialMs: 1_000,
  welcomeMs: 1_000,
  clock: { now: () => 0, wall: () => 0, after: () => () => undefined },
  random: () => 0,
  notice,
})
