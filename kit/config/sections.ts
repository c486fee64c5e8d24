// Sections that both services have, so that the same thing has the same name and default in both files.
// Owns: the hub connection, logging, tracing, circuit breakers, and the process itself. Services nest these in their own
// schema.

import * as z from 'zod'
import type { NatsOptions } from '../nats-options.ts'
import { DEFAULT_BREAKER, type PolicyOptions } from '../resilience.ts'
import { duration, field, secret } from './fields.ts'

const MINUTE_MS = 60_000

export const logSection = z
  .strictObject({
    level: z
      .enum(['debug', 'info', 'warn', 'error', 'silent'])
      .default('info')
      .describe('least severe level that is written'),
    format: z
      .enum(['auto', 'json', 'pretty'])
      .default('auto')
      .describe('JSON lines, or one readable line each; auto is readable on a terminal and JSON otherwise'),
  })
  .prefault({})

/** `share`: what the ratio means to this service, and its default. */
export function tracingSection(share: { readonly fallback: number; readonly means: string }) {
  return z
    .strictObject({
      endpoint: field(z.url({ protocol: /^https?$/ }), {
        expect: 'the http(s) address of a collector that takes OTLP',
        example: 'http://127.0.0.1:4318/v1/traces',
      })
        .optional()
        .describe('collector that spans are sent to by OTLP over HTTP; absent: nothing is traced'),
      sample: field(z.number().min(0).max(1), { expect: 'a share from 0 to 1', example: '0.01' })
        .default(share.fallback)
        .describe(share.means),
      env: field(z.string().regex(/^[\w.-]{1,64}$/), { expect: '1 to 64 of A-Z a-z 0-9 . _ -', example: 'production' })
        .optional()
        .describe('attribute `env` of every span'),
      canary: z.boolean().default(false).describe('attribute `canary` of every span'),
      headers: secret().optional().describe('headers for the collector, one `name: value` a line'),
    })
    .prefault({})
}

const natsTls = z.strictObject({
  caFile: z
    .string()
    .optional()
    .describe('PEM file of the authorities that may sign the server, besides the system ones'),
  certFile: z.string().optional().describe('PEM file of the client certificate'),
  keyFile: z.string().optional().describe('PEM file of the key of the client certificate'),
  handshakeFirst: z.boolean().optional().describe('start TLS before the protocol, where the server is set up for it'),
})

const backoff = z
  .strictObject({
    base: duration({ min: 1 }).default(250).describe('upper bound of the first wait; it doubles with every attempt'),
    cap: duration({ min: 1 }).default(15_000).describe('upper bound of every wait; the wait is random below the bound'),
  })
  .prefault({})

const server = field(z.string().regex(/^(nats|tls):\/\/[^\s/@]+$/), {
  expect: 'nats://host:port or tls://host:port, without user and password',
  example: 'nats://127.0.0.1:7422',
})

export const natsSection = z.strictObject({
  servers: field(z.array(server).min(1), {
    expect: 'one or more of nats://host:port or tls://host:port, without user and password',
    example: 'nats://127.0.0.1:7422',
  }).describe('servers of the hub, tried in random order'),
  user: z.string().optional().describe('user name'),
  password: secret().optional().describe('password of the user'),
  token: secret().optional().describe('token, instead of user and password'),
  credsFile: z.string().optional().describe('credentials file (JWT and seed), read again at every connect'),
  nkeySeedFile: z.string().optional().describe('file with an nkey seed, read again at every connect'),
  tls: natsTls.optional(),
  pingInterval: duration({ min: 500, max: 5 * MINUTE_MS })
    .default(5_000)
    .describe('a connection that leaves two pings unanswered is given up'),
  connectTimeout: duration({ min: 100, max: 5 * MINUTE_MS })
    .default(5_000)
    .describe('for TCP, TLS and login together'),
  backoff,
})

export const breakerSection = z
  .strictObject({
    failureRatio: field(z.number().gt(0).lt(1), { expect: 'a share between 0 and 1', example: '0.35' })
      .default(DEFAULT_BREAKER.failureRatio)
      .describe('share of failed calls within the window that opens the breaker'),
    sampling: duration({ min: 1_000 }).default(DEFAULT_BREAKER.samplingMs).describe('length of the window'),
    minimumCalls: z
      .int()
      .min(1)
      .default(DEFAULT_BREAKER.minimumCalls)
      .describe('calls in a window before the share counts'),
    halfOpenAfter: duration({ min: 100 })
      .default(DEFAULT_BREAKER.halfOpenAfterMs)
      .describe('wait before one call may probe'),
  })
  .prefault({})

export const processSection = z
  .strictObject({
    stopDeadline: duration({ min: 100, max: 10 * MINUTE_MS })
      .default(10_000)
      .describe('time for a clean stop, all parts together'),
    exitWithParent: z.boolean().default(false).describe('stop when the parent process or its pipe to stdin is gone'),
  })
  .prefault({})

export type LogSection = z.output<typeof logSection>
export type TracingSection = z.output<ReturnType<typeof tracingSection>>
export type NatsSection = z.output<typeof natsSection>
export type BreakerSection = z.output<typeof breakerSection>

/** `{...DEFAULT_POLICIES.etcdRead, breaker: breakerOptions(config.breaker)}` */
export function breakerOptions(section: BreakerSection): PolicyOptions['breaker'] {
  return {
    failureRatio: section.failureRatio,
    samplingMs: section.sampling,
    minimumCalls: section.minimumCalls,
    halfOpenAfterMs: section.halfOpenAfter,
  }
}

export function natsOptions(
  section: NatsSection,
  who: { readonly name: string; readonly inboxPrefix: string },
): NatsOptions {
  const { backoff, pingInterval, connectTimeout, ...same } = section
  return {
    ...same,
    ...who,
    pingIntervalMs: pingInterval,
    connectTimeoutMs: connectTimeout,
    backoff: { baseMs: backoff.base, capMs: backoff.cap },
  }
}
