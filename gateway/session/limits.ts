// Every limit a subscriber can meet, in one place, with what happens beyond it.
// Owns: names, defaults and the code each is answered with. Refuses: enforcing (the file named beside each does).

export type SessionLimits = {
  /** Bytes of one inbound message; beyond: close 4005 (transport.ts). */
  readonly maxInboundBytes: number
  /** Fragments of one inbound message; beyond: close 1008/1009 by the transport, counted as 4005. */
  readonly maxFragments: number
  /** Watches of one connection; beyond: error DW4007 (session.ts). */
  readonly maxWatches: number
  /** Inbound frames per second and burst; beyond: close 4100 (inbound-rate.ts). */
  readonly inboundPerSecond: number
  readonly inboundBurst: number
  /** Frames kept while a token is being checked; beyond: close 4100 (session.ts). */
  readonly maxBacklog: number
  /** From connecting to the end of the request's headers; beyond: HTTP 408 and closed (kit/http). */
  readonly headersTimeoutMs: number
  /** From upgrade to a valid hello; beyond: close 4102 (session.ts). */
  readonly helloTimeoutMs: number
  /** Pings without any inbound frame for two intervals; beyond: reset, counted as 4106 (session.ts). */
  readonly heartbeatMs: number
  /** Age of the oldest unanswered mark with data behind it; beyond: reset, counted as 4200 (session.ts). */
  readonly slowReaderMs: number
  /** Connection lifetime, jittered down by a tenth; beyond: close 4202 (session.ts). */
  readonly maxLifetimeMs: number
  readonly closeTimeoutMs: number
  /** Bytes past the last pong (delivery/outlet.ts); beyond: the reader waits as an index. */
  readonly maxInFlight: number
  readonly markBytes: number
  /** Largest frame a client must be ready for; told in `welcome`. */
  readonly maxFrameBytes: number
  /** Bytes in flight over all connections (delivery/outlet.ts); beyond: everybody waits as an index. */
  readonly maxBytesInFlight: number
  /** Sockets on this process; beyond: HTTP 503, counted as 4101 (admission.ts). */
  readonly maxConnections: number
  /** Sockets that have not said a valid hello; beyond: HTTP 503, counted as 4103 (admission.ts). */
  readonly maxUnauthenticated: number
  /** Sockets per address; beyond: HTTP 429, counted as 4101 (admission.ts). */
  readonly maxPerAddress: number
  /** Sockets that have not said a valid hello, per address (admission.ts). */
  readonly maxUnauthenticatedPerAddress: number
  /** Sessions per subject; beyond: close 4101 (admission.ts). */
  readonly maxPerSubject: number
  /** New connections per second on this process; beyond: HTTP 503, counted as 4103 (admission.ts). */
  readonly connectsPerSecond: number
  /** `/v1/state` requests per second on this process; beyond: HTTP 503, code DW4108 (routes.ts). */
  readonly statePerSecond: number
}

export const DEFAULT_LIMITS: SessionLimits = {
  maxInboundBytes: 64 * 1024,
  maxFragments: 64,
  maxWatches: 32,
  inboundPerSecond: 50,
  inboundBurst: 200,
  maxBacklog: 64,
  headersTimeoutMs: 10_000,
  helloTimeoutMs: 10_000,
  heartbeatMs: 15_000,
  slowReaderMs: 30_000,
  maxLifetimeMs: 24 * 3_600_000,
  closeTimeoutMs: 5_000,
  maxInFlight: 256 * 1024,
  markBytes: 64 * 1024,
  maxFrameBytes: 24 * 1024 * 1024,
  maxBytesInFlight: 256 * 1024 * 1024,
  maxConnections: 100_000,
  maxUnauthenticated: 10_000,
  maxPerAddress: 20_000,
  maxUnauthenticatedPerAddress: 2_000,
  maxPerSubject: 1_000,
  connectsPerSecond: 5_000,
  statePerSecond: 200,
}
