// One connection to NATS for a command: it answers soon or fails with a sentence.
// Owns: the options the commands share, credentials, and naming what went wrong. Refuses: reconnecting; a command is
// started again. The services' own connection is kit/nats.ts.

import { ErrorCode, NoRespondersError, RequestError, TimeoutError } from '@nats-io/nats-core'
export { ErrorCode, NoRespondersError, RequestError, TimeoutError }
