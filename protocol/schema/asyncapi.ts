// The subscriber's wire as an AsyncAPI 3 document.
// Owns: putting the frame schemas into one document, ready to be served at /v1/asyncapi.json or written to a file.
// Refuses: HTTP; a gateway calls `asyncApi` once and serves what it returns.

import { Close, ErrorCode, errorLabel, retryFor } from '../codes.ts'
import { SUBPROTOCOL, WIRE_VERSION } from '../version.ts'
import { CLIENT_FRAMES } from './client-frames.ts'
import { SERVER_FRAMES, SHARED } from './server-frames.ts'
import type { Schema } from './terms.ts'

export type AsyncApiOptions = {
  /** `host:port` clients connect to. */
  readonly host: string
  readonly secure: boolean
  /** Version of the product that serves this document. */
  readonly productVersion: string
}

/** Name of a frame's schema in `components`: direction and type. */
export const schemaName = (direction: 'client' | 'server', type: string): string =>
  `${direction}${type[0]?.toUpperCase()}${type.slice(1)}`

const named = (direction: 'client' | 'server', frames: Readonly<Record<string, Schema>>): [string, Schema][] =>
  Object.entries(frames).map(([type, schema]) => [schemaName(direction, type), schema])

const messageRefs = (
  direction: 'client' | 'server',
  frames: Readonly<Record<string, Schema>>,
  base: string,
): Schema[] => Object.keys(frames).map((type) => ({ $ref: `${base}/${schemaName(direction, type)}` }))

/** Every schema by the name that references use, as one JSON Schema document's definitions. */
export const schemas = (): Readonly<Record<string, Schema>> =>
  Object.fromEntries([...Object.entries(SHARED), ...named('client', CLIENT_FRAMES), ...named('server', SERVER_FRAMES)])

export function asyncApi(options: AsyncApiOptions): Schema {
  const all = [...named('client', CLIENT_FRAMES), ...named('server', SERVER_FRAMES)]
  const messages = Object.fromEntries(
    all.map(([name]) => [
      name,
      { name, contentType: 'application/json', payload: { $ref: `#/components/schemas/${name}` } },
    ]),
  )
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'deltawatch subscriptions',
      version: options.productVersion,
      description: `Changes of many etcd clusters, exactly once and in order per cluster, over one WebSocket. Wire version ${WIRE_VERSION}.`,
    },
    defaultContentType: 'application/json',
    servers: {
      gateway: { host: options.host, protocol: options.secure ? 'wss' : 'ws' },
    },
    channels: {
      watch: {
        address: '/v1/watch',
        description: `WebSocket, subprotocol \`${SUBPROTOCOL}\`. The first frame is \`hello\`; see protocol/SPEC.md.`,
        messages: Object.fromEntries(all.map(([name]) => [name, { $ref: `#/components/messages/${name}` }])),
        'x-close-codes': Object.values(Close).map(({ code, name, text }) => ({
          code,
          name,
          text,
          retry: retryFor(code),
        })),
        'x-error-codes': Object.values(ErrorCode).map((code) => ({
          code: errorLabel(code),
          name: code.name,
          text: code.text,
        })),
      },
    },
    operations: {
      fromClient: {
        action: 'receive',
        channel: { $ref: '#/channels/watch' },
        messages: messageRefs('client', CLIENT_FRAMES, '#/channels/watch/messages'),
      },
      toClient: {
        action: 'send',
        channel: { $ref: '#/channels/watch' },
        messages: messageRefs('server', SERVER_FRAMES, '#/channels/watch/messages'),
      },
    },
    components: { schemas: schemas(), messages },
  }
}
