// Refusals of the HTTP endpoints, as RFC 9457 problem documents.
// Owns: their shape. The code is the one a WebSocket session would have been given.

import { type Code, errorLabel, isTemporary } from '#protocol/codes.ts'

export function problem(status: number, code: Code | undefined, detail: string): string {
  const body = {
    type: 'about:blank',
    title: code?.name ?? 'Refused',
    status,
    detail,
    ...(code === undefined ? {} : { code: errorLabel(code), temporary: isTemporary(code) }),
  }
  return `${JSON.stringify(body)}\n`
}
