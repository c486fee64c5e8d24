// Every code a subscriber can meet: WebSocket close codes and in-band error codes.
// Owns: numbers, names, bands and what a client does next. The table in SPEC.md and the metric labels come from here.
// Bands decide, so that a client needs no table: 4000-4099 do not reconnect unchanged, 4100-4199 back off, 4200-4299
// reconnect now with the cursor. In-band codes are `DW` + the same bands.

export type Retry = 'never' | 'backoff' | 'now'
export type Code = { readonly code: number; readonly name: string; readonly text: string }

const define = <const T extends Record<string, readonly [number, string]>>(
  table: T,
): { readonly [K in keyof T]: Code } =>
  Object.fromEntries(Object.entries(table).map(([name, [code, text]]) => [name, { code, name, text }])) as never

// Pure, so that a bundle for browsers leaves out what it does not name.
export const Close = /* @__PURE__ */ define({
  BadFrame: [4000, 'a frame could not be understood'],
  UnsupportedVersion: [4001, 'no common protocol version'],
  HelloExpected: [4002, 'the first frame must be hello'],
  Unauthorized: [4003, 'the token was refused'],
  Forbidden: [4004, 'this origin or identity may not connect'],
  FrameTooLarge: [4005, 'an inbound frame exceeded the limit'],
  Revoked: [4006, 'the token was revoked'],
  TooManyWatches: [4007, 'the connection holds too many watches'],
  InboundRate: [4100, 'too many inbound frames'],
  TooManyConnections: [4101, 'connection limit reached'],
  HelloTimeout: [4102, 'no hello in time'],
  Overloaded: [4103, 'the gateway sheds load'],
  Internal: [4104, 'the gateway met an error of its own'],
  TokenExpired: [4105, 'the token expired and was not refreshed'],
  HeartbeatTimeout: [4106, 'the peer answered no ping'],
  AuthUnavailable: [4107, 'credentials cannot be checked at the moment'],
  SlowReader: [4200, 'the reader fell too far behind'],
  Draining: [4201, 'the gateway drains'],
  MaxLifetime: [4202, 'maximum connection lifetime reached'],
  ClassChanged: [4203, 'policy for this identity changed'],
} as const)

export const ErrorCode = /* @__PURE__ */ define({
  BadFrame: [4000, 'the frame is not valid'],
  UnknownFrame: [4010, 'unknown frame type'],
  BadSelector: [4011, 'the selector is not valid'],
  BadCursor: [4012, 'the cursor cannot be decoded'],
  DuplicateWatch: [4013, 'a watch with this id is open'],
  DuplicateChannel: [4014, 'an equal watch is open on this connection'],
  UnknownWatch: [4015, 'no watch has this id'],
  TooManyWatches: [4007, 'the connection holds too many watches'],
  TooManyClusters: [4016, 'the watch names too many clusters'],
  UnknownCluster: [4017, 'no such cluster'],
  Unauthorized: [4003, 'the token was refused'],
  TooManyClasses: [4018, 'the policy distinguishes too many classes'],
  SubjectMismatch: [4019, 'the new token names another subject'],
  InboundRate: [4100, 'too many inbound frames'],
  SnapshotBusy: [4108, 'snapshot capacity is used up'],
  ReplayBusy: [4109, 'replay capacity is used up'],
  RateLimited: [4110, 'the class exceeded its rate'],
  Internal: [4104, 'the gateway met an error of its own'],
} as const)

/** What a client does after a close code; unknown and absent codes back off. */
export function retryFor(code: number): Retry {
  if (code >= 4000 && code <= 4099) return 'never'
  if (code >= 4200 && code <= 4299) return 'now'
  // 1001 (going away) and 1012 (service restart) are a drain without a goodbye.
  if (code === 1001 || code === 1012) return 'now'
  return [1002, 1003, 1007, 1008, 1009].includes(code) ? 'never' : 'backoff'
}

export const errorLabel = (code: Code): string => `DW${code.code}`
export const isTemporary = (code: Code): boolean => code.code >= 4100
