// Dev mode: everybody is let in, as whoever they say they are.
// Owns: an identity from a readable stand-in for a token (`dev:<subject>:<region>[:scope,scope[:org[:label=value,label=value]]]`).
// Refuses: hiding. It is shown in welcome, in /readyz?verbose and in the log, and config.ts allows it on loopback only.

import { Close, ErrorCode } from '#protocol/codes.ts'
import { parseRegion } from '#protocol/subjects.ts'
import type { Authenticator, AuthOutcome } from './principal.ts'

const pairOf = (text: string): readonly [string, string] => {
  const [name = '', ...value] = text.split('=')
  return [name, value.join('=')]
}

export function devAuthenticator(defaultRegion: string): Authenticator {
  return {
    dev: true,
    authenticate: (token) => Promise.resolve(read(token, defaultRegion)),
  }
}

function read(token: string | undefined, defaultRegion: string): AuthOutcome {
  const [kind, subject = 'anonymous', region = defaultRegion, scopes = '', org = '', labels = ''] = (
    token ?? 'dev'
  ).split(':')
  if (kind !== 'dev' || parseRegion(region) === undefined) {
    const reason = 'in dev mode a token is dev:<subject>:<region>[:scope,scope[:org[:label=value]]]'
    return { ok: false, close: Close.Unauthorized, error: ErrorCode.Unauthorized, reason }
  }
  return {
    ok: true,
    principal: {
      subscriber: {
        subject,
        region,
        ...(org === '' ? {} : { org }),
        ...(labels === '' ? {} : { labels: Object.fromEntries(labels.split(',').map(pairOf)) }),
        audiences: [],
        scopes: scopes === '' ? [] : scopes.split(','),
        anonymous: token === undefined,
      },
      expiresAt: undefined,
      tokenId: undefined,
      issuedAt: undefined,
      clusters: undefined,
      dev: true,
    },
  }
}
