// Creating the log's stream, for development only.
// Owns: the one JetStream management call an agent may be told to make.
// Refuses: changing or deleting a stream. In production `deltawatch hub apply` owns streams and the agent may not do this.

import type { NatsConnection } from '@nats-io/transport-node'
import type { Logger } from '#kit/logger.ts'
import { configFor, streamConfig, withoutMetadata } from '#protocol/log/stream.ts'
import { type ClusterId, streamName } from '#protocol/subjects.ts'

const DEV_LOG_BYTES = 256 * 1024 * 1024
const ALREADY = 10_058

/** True when the stream exists afterwards. An old server that cannot keep the region is worth a warning. */
export async function createLogStream(
  nc: NatsConnection,
  cluster: ClusterId,
  hubRegion: string | undefined,
  logger: Pick<Logger, 'warn'>,
): Promise<boolean> {
  const maxMessageBytes = nc.info?.max_payload ?? 1024 * 1024
  const stated = hubRegion === undefined ? {} : { hubRegion }
  const version = nc.info?.version ?? 'of unknown version'
  const wanted = streamConfig({ cluster, maxBytes: DEV_LOG_BYTES, maxMessageBytes, replicas: 1, ...stated })
  const config = configFor(version, wanted)
  if (config !== wanted) logger.warn(withoutMetadata(version), { cluster })
  const reply = await nc.request(`$JS.API.STREAM.CREATE.${streamName(cluster)}`, JSON.stringify(config), {
    timeout: 5_000,
  })
  const answer = reply.json<{ error?: { err_code?: number } }>()
  return answer.error === undefined || answer.error.err_code === ALREADY
}
